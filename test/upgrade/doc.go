// Package upgrade runs the berthd of the version before beside today's, on one database: what a rolling replacement of
// replicas does, and a new version that is taken back.
//
// The version before is built from git's history: the newest release tag, or else the last commit before the schema's
// second migration. In a clone without it the test is skipped, and says so; what the schema may change is held by
// server/metadb in every clone.
//
// Start reading at TestVersionBefore.
package upgrade
