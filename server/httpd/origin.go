package httpd

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// Origin knows where requests come from and under which address the clients see us. What proxies say is believed only
// when the peer is one of the configured ones: a stranger's X-Forwarded-Host would otherwise decide where our clients
// send their credentials.
type Origin struct {
	scheme, host string // from the setting; "" when there is none
	prefix       string // path below which the registry is reached, without a trailing slash
	trusted      []netip.Prefix
	allowPlain   bool
}

// OriginOptions describes how the registry is reached.
type OriginOptions struct {
	Host           string   // http.host: "https://registry.example.com[/prefix]" or "registry.example.com"; "" is "ask the request"
	TrustedProxies []string // http.trustedproxies: addresses and CIDR ranges
	AllowPlain     bool     // http.allowplain: credentials over plain HTTP from anywhere
}

// NewOrigin checks the options. All problems are in the error.
func NewOrigin(o OriginOptions) (*Origin, error) {
	origin := &Origin{allowPlain: o.AllowPlain}
	if o.Host != "" {
		text := o.Host
		if !strings.Contains(text, "://") {
			text = "https://" + text
		}
		u, err := url.Parse(text)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || !validHost(u.Host) || u.User != nil || u.RawQuery != "" {
			return nil, fmt.Errorf("http.host %q is not an address; use a form like https://registry.example.com", o.Host)
		}
		origin.host, origin.prefix = u.Host, strings.TrimRight(u.Path, "/")
		if strings.Contains(o.Host, "://") {
			origin.scheme = u.Scheme
		}
	}
	var bad []string
	for _, text := range o.TrustedProxies {
		prefix, err := parseRange(text)
		if err != nil {
			bad = append(bad, text)
			continue
		}
		origin.trusted = append(origin.trusted, prefix)
	}
	if len(bad) > 0 {
		return nil, fmt.Errorf("http.trustedproxies has entries that are no address and no CIDR range: %q; use a form like 10.0.0.0/8 or 192.0.2.7", bad)
	}
	return origin, nil
}

func parseRange(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	return prefix.Masked(), err
}

// Peer is the address at the other end of the connection.
func (o *Origin) Peer(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return peer.Addr().Unmap().WithZone("")
}

// Trusts reports whether the address is one of the configured proxies.
func (o *Origin) Trusts(a netip.Addr) bool {
	for _, p := range o.trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// ClientIP is who is calling: the peer, or, when the peer is a trusted proxy, the last address in X-Forwarded-For
// that is not one. The invalid address means that the connection has none.
func (o *Origin) ClientIP(r *http.Request) netip.Addr {
	peer := o.Peer(r)
	if len(o.trusted) == 0 || !o.Trusts(peer) {
		return peer
	}
	client := peer
	hops := r.Header.Values("X-Forwarded-For")
	for i := len(hops) - 1; i >= 0; i-- {
		for rest := hops[i]; rest != ""; {
			var hop string
			if comma := strings.LastIndexByte(rest, ','); comma >= 0 {
				rest, hop = rest[:comma], rest[comma+1:]
			} else {
				rest, hop = "", rest
			}
			addr, err := parseHop(strings.TrimSpace(hop))
			if err != nil {
				return client // what stands before a broken entry is anyone's invention
			}
			client = addr
			if !o.Trusts(addr) {
				return client
			}
		}
	}
	return client
}

func parseHop(text string) (netip.Addr, error) {
	if with, err := netip.ParseAddrPort(text); err == nil { // some proxies add the port
		return with.Addr().Unmap().WithZone(""), nil
	}
	addr, err := netip.ParseAddr(strings.Trim(text, "[]"))
	return addr.Unmap().WithZone(""), err
}

// ExternalURL is scheme://host[/prefix] under which the caller reaches us: the setting http.host, else what a trusted
// proxy forwarded, else the request's own Host. "" means that the request names no usable host; a relative Location is
// then the right answer. There is never a trailing slash.
func (o *Origin) ExternalURL(r *http.Request) string {
	scheme, host, prefix := o.external(r)
	if host == "" {
		return ""
	}
	return scheme + "://" + host + prefix
}

// ExternalHost is the host[:port] of ExternalURL, for the token service's name; "" when there is none.
func (o *Origin) ExternalHost(r *http.Request) string {
	_, host, _ := o.external(r)
	return host
}

func (o *Origin) external(r *http.Request) (scheme, host, prefix string) {
	scheme, host, prefix = "http", r.Host, o.prefix
	if r.TLS != nil {
		scheme = "https"
	}
	if len(o.trusted) > 0 && o.Trusts(o.Peer(r)) {
		// The first value is what the outermost proxy saw.
		if proto, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ","); proto != "" {
			if proto = strings.ToLower(strings.TrimSpace(proto)); proto == "https" || proto == "http" {
				scheme = proto
			}
		}
		if forwarded, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Host"), ","); forwarded != "" {
			host = strings.TrimSpace(forwarded)
		}
	}
	if o.host != "" {
		host = o.host
		if o.scheme != "" {
			scheme = o.scheme
		}
	}
	if !validHost(host) {
		return "", "", ""
	}
	return scheme, host, prefix
}

// Local reports whether the request comes from this machine and from nobody behind it: peer and Host are loopback and
// no proxy has left a trace. Metrics on the main port ask this.
func (o *Origin) Local(r *http.Request) bool {
	if !o.Peer(r).IsLoopback() || !loopbackHost(r.Host) {
		return false
	}
	for _, name := range [...]string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "Via", "X-Real-Ip"} {
		if _, there := r.Header[name]; there {
			return false
		}
	}
	return true
}

// validHost accepts name, name:port, 192.0.2.1:5000 and [2001:db8::1]:5000. It exists because the result is written
// into Location, realm and redirect targets.
func validHost(host string) bool {
	if host == "" || len(host) > 255+6 {
		return false
	}
	for i := 0; i < len(host); i++ {
		switch c := host[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '-', c == '_', c == ':', c == '[', c == ']':
		default:
			return false
		}
	}
	if strings.HasPrefix(host, "[") {
		end := strings.IndexByte(host, ']')
		if end < 0 {
			return false
		}
		if addr, err := netip.ParseAddr(host[1:end]); err != nil || !addr.Is6() {
			return false
		}
		return end == len(host)-1 || validPort(host[end+1:])
	}
	if strings.ContainsAny(host, "[]") {
		return false
	}
	name, _, found := strings.Cut(host, ":")
	return name != "" && (!found || validPort(host[len(name):]))
}

func validPort(text string) bool {
	if len(text) < 2 || len(text) > 6 || text[0] != ':' {
		return false
	}
	for _, c := range text[1:] {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// loopbackHost reports whether a Host header names this machine to itself: localhost, *.localhost, 127/8 or ::1.
func loopbackHost(host string) bool {
	if !validHost(host) {
		return false
	}
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	if addr, err := netip.ParseAddr(name); err == nil {
		return addr.Unmap().IsLoopback()
	}
	return strings.EqualFold(name, "localhost") || (len(name) > 10 && strings.EqualFold(name[len(name)-10:], ".localhost"))
}
