// Command load is the side-by-side benchmark behind `make bench`: it starts berthd, the registries that people compare it
// with, and three built-in ceilings, and gives all of them the same work in one run.
//
// The ceilings are what a figure is judged by, because ratios inside one run survive a busy or a slow machine and absolute
// values do not:
//
//	bare       a net/http handler that answers the same bytes with the same headers from memory (or a file)
//	bare+sync  an upload handler that hashes, writes and syncs file and folder for each blob, manifest and tag
//	nginx      the same bytes as a plain file, by sendfile
//	raw        the S3 server itself, where berthd keeps content in its bucket: its own multipart upload and download
//
// Every target is a separate process (the ceilings are this program, started again), without authentication, with its log in
// a file, on the loopback interface. Each scenario is run in rounds, target after target inside a round, and the median
// counts, so that drift of the machine touches all targets alike. The load generator speaks HTTP/1.1 over plain sockets with
// prepared requests (wire.go): it shares the processors with the server and must not be what is measured.
//
// It may write to one folder (-dir), which it makes, bounds to 4 GB (17 GB with -large) and removes, also after Ctrl-C; only
// PostgreSQL, which does not run as root, gets a folder among the temporary files when root runs this. It ends only processes
// that it started.
//
// Start reading at main.go, then bench.go (stages and rounds), target.go (who is measured), backend.go (PostgreSQL and S3 servers
// behind berthd), scenario_*.go (what is measured) and goal.go (what berthd promises).
package main
