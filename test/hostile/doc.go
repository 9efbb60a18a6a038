// Package hostile sends berthd what no client should: more than a thousand malformed requests, over bare TCP, so that no
// HTTP library repairs them on the way. Whatever comes, the answer is a 4xx in the specification's error form (or a
// plain answer where the request turns out to mean something), nothing of the inside shows, memory stays bounded, and
// the store is afterwards what it was.
//
// It may assume a berthd that can be built, on SQLite and on PostgreSQL: the two refuse different texts. Start reading
// at hostile_test.go; the requests are in cases_test.go and manifests_test.go, one function per part of a request.
package hostile
