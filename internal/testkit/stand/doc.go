// Package stand is what the tests of collection, history and integrity stand on: berthds of every make (SQLite and files,
// PostgreSQL and a bucket; one replica or several) that collect without a pause, a client of the distribution API that keeps
// the answer apart from its absence, content that can be made again from a number, what a store weighs, content that rots,
// and backups that a registry is restored from.
//
// It sees the product from outside: HTTP, its commands, the files of a data directory, the keys of a bucket and the names of
// tables, which docs/reference/database.md has. It decides nothing: test/oracle and test/collect do.
//
// Start reading at Start in fleet.go.
package stand
