package httpd_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/berth-registry/berth/server/httpd"
)

func TestExternalURLAndClientIP(t *testing.T) {
	for name, c := range map[string]struct {
		options httpd.OriginOptions
		peer    string
		host    string
		tls     bool
		header  []string
		url     string
		client  string
	}{
		"plain":                         {peer: "192.0.2.7:1", host: "reg:5000", url: "http://reg:5000", client: "192.0.2.7"},
		"tls":                           {peer: "192.0.2.7:1", host: "reg:5000", tls: true, url: "https://reg:5000", client: "192.0.2.7"},
		"ipv6":                          {peer: "[2001:db8::1]:9", host: "[2001:db8::2]:5000", url: "http://[2001:db8::2]:5000", client: "2001:db8::1"},
		"a stranger forwards":           {peer: "192.0.2.7:1", host: "reg", header: []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "evil", "X-Forwarded-For", "198.51.100.1"}, url: "http://reg", client: "192.0.2.7"},
		"a trusted proxy forwards":      {options: httpd.OriginOptions{TrustedProxies: []string{"192.0.2.0/24"}}, peer: "192.0.2.7:1", host: "inner:5000", header: []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "reg.example.com", "X-Forwarded-For", "198.51.100.1"}, url: "https://reg.example.com", client: "198.51.100.1"},
		"a chain of proxies":            {options: httpd.OriginOptions{TrustedProxies: []string{"192.0.2.7", "10.0.0.0/8"}}, peer: "192.0.2.7:1", host: "reg", header: []string{"X-Forwarded-For", "6.6.6.6, 198.51.100.1", "X-Forwarded-For", "10.1.1.1"}, url: "http://reg", client: "198.51.100.1"},
		"an invented hop":               {options: httpd.OriginOptions{TrustedProxies: []string{"192.0.2.7"}}, peer: "192.0.2.7:1", host: "reg", header: []string{"X-Forwarded-For", "unknown"}, url: "http://reg", client: "192.0.2.7"},
		"host setting":                  {options: httpd.OriginOptions{Host: "https://reg.example.com/base/"}, peer: "192.0.2.7:1", host: "other", url: "https://reg.example.com/base", client: "192.0.2.7"},
		"host setting without scheme":   {options: httpd.OriginOptions{Host: "reg.example.com"}, peer: "192.0.2.7:1", host: "other", url: "http://reg.example.com", client: "192.0.2.7"},
		"a proxy that forwards rubbish": {options: httpd.OriginOptions{TrustedProxies: []string{"192.0.2.7"}}, peer: "192.0.2.7:1", host: "reg", header: []string{"X-Forwarded-Host", "a b\"<>"}, url: "", client: "192.0.2.7"},
		"a host with a path":            {peer: "192.0.2.7:1", host: "reg/evil", url: "", client: "192.0.2.7"},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := httpd.NewOrigin(c.options)
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest("GET", "/v2/", nil)
			r.RemoteAddr, r.Host = c.peer, c.host
			if c.tls {
				r.TLS = &tls.ConnectionState{}
			}
			for i := 0; i < len(c.header); i += 2 {
				r.Header.Add(c.header[i], c.header[i+1])
			}
			if got := o.ExternalURL(r); got != c.url {
				t.Errorf("ExternalURL is %q, want %q", got, c.url)
			}
			if got := o.ClientIP(r).String(); got != c.client {
				t.Errorf("ClientIP is %s, want %s", got, c.client)
			}
		})
	}
}

func TestOriginRefusesBadSettings(t *testing.T) {
	for _, o := range []httpd.OriginOptions{{Host: "ftp://x"}, {Host: "https://user@x"}, {Host: "https://"}, {Host: "a b"}, {TrustedProxies: []string{"10.0.0.0/33"}}, {TrustedProxies: []string{"proxy"}}} {
		if _, err := httpd.NewOrigin(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

// What plain HTTP may do, by who asks and under which name.
func TestPlainHTTPRules(t *testing.T) {
	for name, c := range map[string]struct {
		options httpd.OriginOptions
		peer    string
		host    string
		path    string
		accept  string
		status  int
	}{
		"loopback":                      {peer: "127.0.0.1:1", host: "localhost:5000", path: "/v2/", status: 200},
		"loopback by address":           {peer: "[::1]:1", host: "[::1]:5000", path: "/v2/", status: 200},
		"another loopback address":      {peer: "127.8.8.8:1", host: "127.1.2.3:5000", path: "/v2/", status: 200},
		"mapped loopback":               {peer: "[::ffff:127.0.0.1]:1", host: "127.0.0.1:5000", path: "/v2/", status: 200},
		"a rebinding page":              {peer: "127.0.0.1:1", host: "evil.example:5000", path: "/v2/", status: 400},
		"looks like localhost":          {peer: "127.0.0.1:1", host: "localhost.evil.example", path: "/v2/", status: 400},
		"looks like 127":                {peer: "127.0.0.1:1", host: "127.0.0.1.evil.example", path: "/v2/", status: 400},
		"from the network, loopback":    {peer: "192.0.2.7:1", host: "localhost:5000", path: "/v2/", status: 400},
		"from the network":              {peer: "192.0.2.7:1", host: "reg:5000", path: "/v2/", status: 400},
		"browser from the network":      {peer: "192.0.2.7:1", host: "reg:5000", path: "/ui/?a=b", accept: "text/html,*/*", status: 308},
		"browser to the API":            {peer: "192.0.2.7:1", host: "reg:5000", path: "/v2/", accept: "text/html,*/*", status: 400},
		"the token service":             {peer: "192.0.2.7:1", host: "reg:5000", path: "/token", status: 400},
		"the CA's certificate":          {peer: "192.0.2.7:1", host: "reg:5000", path: "/ca.crt", status: 200},
		"health":                        {peer: "192.0.2.7:1", host: "reg:5000", path: "/readyz", status: 200},
		"health by another spelling":    {peer: "192.0.2.7:1", host: "reg:5000", path: "/readyz/../v2/", status: 400},
		"a trusted proxy":               {options: httpd.OriginOptions{TrustedProxies: []string{"192.0.2.7"}}, peer: "192.0.2.7:1", host: "reg:5000", path: "/v2/", status: 200},
		"allowed by the operator":       {options: httpd.OriginOptions{AllowPlain: true}, peer: "192.0.2.7:1", host: "reg:5000", path: "/v2/", status: 200},
		"rubbish host from the network": {peer: "192.0.2.7:1", host: "a\"b", path: "/ui/", accept: "text/html", status: 400},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := httpd.NewOrigin(c.options)
			if err != nil {
				t.Fatal(err)
			}
			reached := false
			chain := newChain(o, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }), nil)
			r := httptest.NewRequest("GET", "/", nil)
			path, query, _ := strings.Cut(c.path, "?")
			r.URL.Path, r.URL.RawQuery, r.RequestURI = path, query, c.path
			r.RemoteAddr, r.Host = c.peer, c.host
			r.Header.Set("Accept", c.accept)
			r.SetBasicAuth("admin", "secret")
			w := httptest.NewRecorder()
			chain.ServeHTTP(w, r)
			if w.Code != c.status || reached != (c.status == 200) {
				t.Fatalf("status %d, handler reached %t; want status %d", w.Code, reached, c.status)
			}
			switch c.status {
			case 308:
				if got := w.Header().Get("Location"); got != "https://reg:5000/ui/?a=b" {
					t.Errorf("redirected to %q", got)
				}
			case 400:
				if text := oneError(t, w.Body.Bytes()).Message; !strings.Contains(text, "https") || strings.Count(text, "\n") > 3 {
					t.Errorf("message does not say how in at most four lines: %q", text)
				}
			}
		})
	}
}

func TestLocalNeedsNoTraceOfAProxy(t *testing.T) {
	o, _ := httpd.NewOrigin(httpd.OriginOptions{})
	r := httptest.NewRequest("GET", "/metrics", nil)
	r.RemoteAddr, r.Host = "127.0.0.1:1", "127.0.0.1:5000"
	if !o.Local(r) {
		t.Error("a loopback caller is not local")
	}
	r.Header.Set("X-Forwarded-For", "198.51.100.1") // nginx on this machine, with its default Host
	if o.Local(r) {
		t.Error("a caller behind a proxy on this machine is local")
	}
}

// No Host and no forwarded header may put anything into a URL that is not a host.
func FuzzExternalURL(f *testing.F) {
	f.Add("reg:5000", "https", "other")
	f.Add("[::1]:1", "javascript", "a@b")
	f.Add("a/../b", "", "\r\nX: y")
	f.Fuzz(func(t *testing.T, host, proto, forwarded string) {
		o, _ := httpd.NewOrigin(httpd.OriginOptions{TrustedProxies: []string{"192.0.2.1"}})
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr, r.Host = "192.0.2.1:1", host
		r.Header["X-Forwarded-Proto"], r.Header["X-Forwarded-Host"], r.Header["X-Forwarded-For"] = []string{proto}, []string{forwarded}, []string{host}
		got := o.ExternalURL(r)
		_ = o.ClientIP(r)
		if got == "" {
			return
		}
		rest, ok := strings.CutPrefix(got, "https://")
		if !ok {
			rest, ok = strings.CutPrefix(got, "http://")
		}
		if !ok || rest == "" || strings.ContainsAny(rest, "/@?#\\\"' \r\n\t<>") {
			t.Errorf("host %q, proto %q, forwarded %q gave %q", host, proto, forwarded, got)
		}
	})
}
