package httpd

import (
	"net"
	"net/http"
	"strings"

	"github.com/berth-registry/berth/fault"
)

// What plain HTTP may do (docs: TLS). It is served in full only where nobody can listen: when the peer and the Host
// header are both loopback, when the peer is a proxy that was configured as trusted, over the socket of this machine, or when the operator said
// http.allowplain. The Host must be loopback too, because a web page anywhere can make a browser on this machine
// connect to it under a name of its own (DNS rebinding).
//
// Everywhere else: browsers are sent to https, clients are told how, and credentials are not looked at. docker with
// insecure-registries and podman with --tls-verify=false try TLS first, so nobody needs plain HTTP there.

// plainVerdict answers the request and returns true when it may not go on.
func (c *Chain) refusePlain(w *writer, r *http.Request) bool {
	o := c.origin
	if o.allowPlain {
		return false
	}
	if _, local := OverSocket(r); local {
		return false
	}
	peer := o.Peer(r)
	if peer.IsLoopback() && loopbackHost(r.Host) {
		return false
	}
	if o.Trusts(peer) || publicPath(r.URL.Path) {
		return false
	}
	host := r.Host
	if !validHost(host) {
		WriteError(w, r, fault.New(fault.Invalid, PlainHTTP, "plain http is not served here; use https"))
		return true
	}
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	if read && !strings.HasPrefix(r.URL.Path, "/v2/") && strings.Contains(r.Header.Get("Accept"), "text/html") {
		w.Header().Set("Location", "https://"+secureHost(host)+r.URL.RequestURI())
		w.WriteHeader(http.StatusPermanentRedirect)
		return true
	}
	message := "plain http is not served to " + peer.String() + "; use https://" + secureHost(host) + " (same port)\n" +
		"the CA's certificate is at https://" + secureHost(host) + "/ca.crt; docker with insecure-registries and podman with --tls-verify=false use https here too\n" +
		"behind a proxy that ends TLS: set http.trustedproxies to the proxy's address, or http.allowplain: true"
	WriteError(w, r, fault.New(fault.Invalid, PlainHTTP, "%s", message))
	return true
}

// publicPath names what may be read by anyone over anything: the CA (it is public and its fingerprint is checked),
// health, and ACME's own challenge, which never reaches us over TLS.
func publicPath(path string) bool {
	switch path {
	case "/ca.crt", "/livez", "/readyz", "/healthz":
		return true
	}
	return strings.HasPrefix(path, "/.well-known/acme-challenge/")
}

// secureHost is where https answers: the same port, since one port speaks both, except that 80 has 443 as its pair.
func secureHost(host string) string {
	if name, port, err := net.SplitHostPort(host); err == nil && port == "80" {
		if strings.Contains(name, ":") {
			return "[" + name + "]"
		}
		return name
	}
	return host
}
