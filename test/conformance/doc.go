// Package conformance holds our own tests of the OCI distribution specification: at least one for every sentence that
// says MUST, MUST NOT, SHOULD or SHOULD NOT to a registry, in v1.1.1 and in the specification's main branch, and for
// the optional parts that berthd promises.
//
// The sentences are rows of requirements_test.go: id, version, level, section and a paraphrase. The checks are in one
// file per part of the specification and name the rows they prove; a row that no check proved in a run fails the run,
// so the table can have no silent hole. Start reading at suite_test.go.
//
// The suite speaks plain HTTP with bytes it made itself and shares no code with berthd: a mistake in our own parser
// cannot hide itself here. TestConformance starts berthd on files with SQLite and with PostgreSQL. To run it against
// another registry, which must allow anonymous (or the given user's) push and delete:
//
//	BERTH_CONFORMANCE_URL=http://127.0.0.1:5000 go test ./test/conformance -v
//
// with BERTH_CONFORMANCE_USER and BERTH_CONFORMANCE_PASSWORD for Basic authentication, and BERTH_CONFORMANCE_PROJECT
// for the first part of repository names (default: conformance).
package conformance
