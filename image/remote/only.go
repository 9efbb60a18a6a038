package remote

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/berth-registry/berth/fault"
)

// Only is a transport that goes to the named hosts and to no other, wherever a registry sends its clients: for a process that
// can reach what the registry cannot. A name without a port is that host at the port of the scheme. A request to another host
// is refused with ReasonRedirect before anything is sent.
func Only(base http.RoundTripper, hosts ...string) http.RoundTripper {
	return &only{base, slices.Clone(hosts)}
}

type only struct {
	base  http.RoundTripper
	hosts []string
}

// RoundTrip refuses requests to hosts that were not named.
func (o *only) RoundTrip(r *http.Request) (*http.Response, error) {
	named := func(host string) bool {
		u := url.URL{Scheme: r.URL.Scheme, Host: host}
		return strings.EqualFold(u.Hostname(), r.URL.Hostname()) && port(&u) == port(r.URL)
	}
	if !slices.ContainsFunc(o.hosts, named) {
		return nil, fault.New(fault.Denied, ReasonRedirect, "%s sends its clients to %s, which is not among the hosts that may be asked", o.hosts[0], plain(r.URL.Host, 100))
	}
	return o.base.RoundTrip(r)
}
