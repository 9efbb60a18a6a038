// Package oracle holds berthd against a small model of a registry, with random operations.
//
// Walkers, each with repositories of its own and all with the same content, push (at once, in two requests, in chunks,
// never to the end), mount, put images, indexes and referrers, move and delete tags, delete manifests and blobs, roll
// back and restore, while collection runs without a pause with a grace of one second. They walk in rounds, and each
// round is about something that happens meanwhile or after it, in an order by the dice: a collection that somebody asks
// for, a replica that is killed, content that rots until a scrub has found it and a push has repaired it (rot_test.go,
// damage_test.go), a backup from which everything is restored after it was lost (restore_test.go), and a database that
// is made again from the store (rebuild_test.go).
//
// The model of a repository (state_test.go) says of everything whether it must be there (something needs it, or an
// answer has promised it), must not (it was deleted), or may be either (nothing needs it any more). After each round all
// that a repository answers is compared with it; at the end what nothing needs must be gone, from the store, too.
//
// A difference is told with the operations that touched what it is about, and nothing else. A run that has not done
// enough fails, too: of every kind of step it takes one at least, and 2000 in all (steps_test.go). What it did is
// printed with its seed.
//
// Start reading at TestOracle.
//
// Environment:
//
//	BERTH_ORACLE_SECONDS  how long to walk at least, for each kind of registry (30)
//	BERTH_ORACLE_SEED     the seed of a run to repeat: the same operations, as long as the answers are the same, though not the same moments
package oracle
