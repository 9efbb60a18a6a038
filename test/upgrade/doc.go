// Package upgrade runs the berthd of the version before beside today's, on one database: what a rolling replacement of
// replicas does, and a new version that is taken back.
//
// The version before is built from git's history: the newest release tag, or else the last commit before the schema's
// second migration. A plain clone has it. In a shallow one the test is skipped, or fails where skipping is not allowed
// (internal/testkit), and says what to do; what the schema may change is held by server/metadb in every clone.
//
// Start reading at TestVersionBefore.
package upgrade
