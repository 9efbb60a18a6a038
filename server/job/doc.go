// Package job is the durable queue and schedule of all background work: gc, scrub, scan, replication, webhooks, migration.
//
// A job is enqueued inside the transaction that causes it ([Queue.Enqueue]), so it exists exactly when the change does. A
// [Service] on any replica claims it, runs its handler, and records how it went: succeeded, to be tried again after a
// pause that doubles, dead after its last attempt, cancelled. All of that is rows, the same on SQLite and PostgreSQL; the
// room metadb has the statements.
//
// # What a handler may rely on
//
// A job runs at least once. One worker has it at a time, as far as its claim tells: the claim is renewed in the background
// and has a token, and a worker that lost it (its machine stood still, the database was away) has its context ended and
// cannot record anything under it any more. What a handler writes to the database it writes with [Work.Update], which
// refuses a worker that lost the job; or it ends the job in the same transaction with [Work.SucceedIn], and then the effect
// happens exactly once. What it does elsewhere must bear repetition.
//
// A handler stops when its context ends: the job is cancelled, another worker has it, its time is over, or the process
// stops ([context.Cause] tells which). In the last case the job is returned and goes on elsewhere, from the position that
// was saved ([Work.Save]), and the attempt does not count. Work over many things is one job with a position, not many jobs.
//
// # Order and fairness
//
// Within a kind a smaller priority goes first, and then projects take turns, so one with ten thousand jobs does not keep
// another waiting. Between kinds the workers of a replica go round. A job that runs is never interrupted for another.
//
// # Clocks
//
// Whether a job is due and whether a claim has run out is decided in transactions by the database's clock. The Service's
// own clock only tells when to look; when the two are a few seconds apart, so late is a look.
//
// Start reading at [Service.Run] in worker.go.
package job
