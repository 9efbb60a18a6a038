// Package testkit starts real things for tests: the berthd binary, PostgreSQL and S3 servers, on loopback, in
// temporary directories, and ends them again.
//
// It may assume a Unix machine with the Go toolchain. Nothing it starts outlives the test process: daemons end in
// t.Cleanup, and what the whole process shares (the built binary, the PostgreSQL cluster, S3 servers) is watched by a keeper
// that notices the end of the process however it comes, also by a timeout or by SIGKILL.
//
// Start reading at Start in daemon.go; Postgres is in postgres.go, S3Bucket and StartS3 in s3.go.
//
// Environment:
//
//	BERTH_TEST_BERTHD    path of a berthd binary to test in place of one built from this tree
//	BERTH_TEST_BERTH     path of a berth binary, the image tool, likewise
//	BERTH_TEST_POSTGRES  DSN of a superuser of a running PostgreSQL server, in place of a throw-away cluster
//	BERTH_TEST_REQUIRE   set to 1 (or CI set to anything): what is missing on this machine fails, not skips, a test
package testkit
