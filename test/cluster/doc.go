// Package cluster runs three berthds on one PostgreSQL and one S3 server, behind a load balancer that sends every request
// to another replica, and takes away whatever can be taken away while clients work.
//
// TestStorm is the main thing. Writers push, mount, upload in chunks, move and delete tags and delete content; movers fight
// for a few tags; pullers read what was acknowledged. Meanwhile replicas are killed (SIGKILL) and started again, PostgreSQL
// crashes or is restarted, the S3 server hangs, or dies and comes back. Then replicas are restarted one by one as an
// operator does it. What is asked, while it runs and at the end, through every replica:
//
//   - every acknowledged write is there, byte for byte, and every acknowledged delete is not;
//   - the tags that many move at once behave as one register: no acknowledged move is lost, and no read is older than
//     two seconds, or than the beginning of an outage of the database (history_test.go says how that is decided);
//   - the outbox has every acknowledged move once, in an order that agrees with what clients saw, and ends with what the tag
//     is; the endpoint of notifications was told all of it, what is about one tag in its order;
//   - berthd answers 5xx only with 503, with Retry-After and a text, and only while a dependency is away; never in a rolling
//     restart;
//   - nothing stays behind: after the sweep, the bucket and the database have nothing that no row explains.
//
// The distribution API has no conditional move of a tag, so in the storm a lost update is looked for in the histories. The
// management API has one (expect), and TestExpectedMoves races it: what was acknowledged has to be the steps of the tag's
// history, each once. The other tests take one dependency away and hold the answers against the documentation.
//
// It knows nothing of the inside of berthd, except the names of tables, which docs/reference/database.md has, and of keys in
// the bucket. Start reading at TestStorm.
//
// Environment:
//
//	BERTH_CLUSTER_SECONDS  how long the storm lasts (30)
//	BERTH_CLUSTER_SEED     the seed of a run to repeat: the same operations, though not the same moments
//	BERTH_CLUSTER_S3       minio or versitygw (versitygw)
package cluster
