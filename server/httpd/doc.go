// Package httpd is how requests come in and answers go out: listeners, certificates, the middleware chain and the one
// error writer. It knows nothing of repositories; faces hand it an http.Handler and tell it what they did through a
// [Record].
//
// One port speaks two protocols: the first byte of a connection decides between TLS and plain HTTP (listen.go). What
// plain HTTP may do is decided in one place (plain.go). The chain is a single handler (chain.go) instead of a nest of
// them, because it stands in front of every manifest that is pulled: one allocation for its state, one for the
// request id, and the answer's io.ReaderFrom is kept, so that files leave by sendfile.
//
// Limits of net/http that are stated here because they cannot be changed from outside: a request that it cannot parse
// (bad request line, malformed percent-encoding, headers beyond MaxHeaderBytes) is answered by net/http itself, as
// plain text with Connection: close; over plain HTTP canned.go turns that answer into an OCI error, over TLS it stays
// text. A request with both Content-Length and Transfer-Encoding: chunked is read as chunked, and net/http does not
// show that there was a Content-Length; a proxy in front must refuse such requests or forward them re-framed (nginx,
// HAProxy, Envoy, Caddy and Traefik do).
//
// Start reading at [New] and [Server.Run], then chain.go.
package httpd
