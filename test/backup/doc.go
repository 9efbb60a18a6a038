// Package backup saves, loses, restores and rebuilds registries as an operator does: with the commands of berthd, beside
// daemons that are pushed to and killed, on SQLite with files and on PostgreSQL with a bucket, and from one to the other.
//
// Nothing here looks into berthd: what was acknowledged is in a ledger, and what there is afterwards is pulled. Each test
// writes less than 100 MB.
//
// Start reading at TestBackup.
package backup
