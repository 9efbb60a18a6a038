// Package crash ends berthd in the worst moments and asks for everything that it had acknowledged.
//
// TestCrash kills it (SIGKILL; every fifth time SIGTERM) under pushes, tag moves and deletes by several clients, starts
// it again on the same data and compares what it serves with a ledger of its answers. TestDiskFull fills its disk.
// Both are black-box tests: they speak HTTP to a berthd as it is shipped, and know nothing of its inside.
//
// Start reading at TestCrash. What they cannot show is a power loss, since a killed process leaves the kernel's page
// cache behind; the order of syncs that decides it is proved in server/blob/fs.
//
// Environment:
//
//	BERTH_CRASH_ROUNDS  how many times to end the daemon, for each database (12)
//	BERTH_CRASH_SEED    the seed of a run to repeat: the same operations, though not the same moments
package crash
