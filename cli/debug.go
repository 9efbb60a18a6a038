package cli

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
)

// traced is a transport that says of every request what is asked and answered, for --debug. It names no secret: of an
// authorization the scheme alone, of an address no user, no upload and only those parameters that are known to be harmless, of
// headers those below, and of bodies nothing.
type traced struct {
	http.RoundTripper
	w       io.Writer
	now     func() time.Time
	request *atomic.Int64 // counts, so that the answers of requests side by side find theirs
}

// RoundTrip sends the request.
func (t *traced) RoundTrip(req *http.Request) (*http.Response, error) {
	n, began := t.request.Add(1), t.now()
	line := fmt.Sprintf("debug: %d > %s %s", n, req.Method, harmlessURL(req.URL)) + harmlessHeaders(req.Header, "Accept", "Content-Type", "Content-Range", "Range")
	if scheme, _, ok := strings.Cut(req.Header.Get("Authorization"), " "); ok {
		line += ", Authorization: " + printable(scheme) + " ***"
	}
	if req.ContentLength > 0 {
		line += fmt.Sprintf(", %d bytes", req.ContentLength)
	}
	_, _ = io.WriteString(t.w, line+"\n") // a trace that cannot be written ends nothing
	resp, err := t.RoundTripper.RoundTrip(req)
	took := t.now().Sub(began).Round(time.Millisecond)
	if err != nil {
		_, _ = fmt.Fprintf(t.w, "debug: %d < %s, after %s\n", n, printable(err.Error()), took)
		return nil, err
	}
	line = fmt.Sprintf("debug: %d < %d %s, after %s", n, resp.StatusCode, http.StatusText(resp.StatusCode), took) +
		harmlessHeaders(resp.Header, "Content-Type", "Docker-Content-Digest", "Content-Range", "Range", "Retry-After", "RateLimit-Limit", "RateLimit-Remaining", "OCI-Subject", "X-Request-Id")
	if resp.ContentLength >= 0 {
		line += fmt.Sprintf(", %d bytes", resp.ContentLength)
	}
	if to := resp.Header.Get("Location"); to != "" {
		if u, err := req.URL.Parse(to); err == nil {
			line += ", Location: " + harmlessURL(u)
		}
	}
	if scheme, _, _ := strings.Cut(resp.Header.Get("WWW-Authenticate"), " "); scheme != "" {
		line += ", WWW-Authenticate: " + printable(scheme)
	}
	_, _ = io.WriteString(t.w, line+"\n")
	return resp, nil
}

func harmlessHeaders(h http.Header, names ...string) string {
	var b strings.Builder
	for _, name := range names {
		if v := h.Get(name); v != "" {
			if len(v) > 120 {
				v = strings.ToValidUTF8(v[:120], "") + "…"
			}
			b.WriteString(", " + name + ": " + printable(v))
		}
	}
	return b.String()
}

// harmlessURL is an address without what may open something: the user, the id of an upload, and the value of every parameter
// but those that the distribution specification and the token specification define, in which there is no secret.
func harmlessURL(u *url.URL) string {
	c := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	if before, after, ok := strings.Cut(c.Path, "/blobs/uploads/"); ok && after != "" {
		c.Path = before + "/blobs/uploads/***"
	}
	s := c.Scheme + "://" + c.Host + c.EscapedPath()
	s = strings.ReplaceAll(s, "%2A%2A%2A", "***")
	var query []string
	for _, pair := range strings.Split(u.RawQuery, "&") {
		switch name, _, _ := strings.Cut(pair, "="); name {
		case "":
		case "n", "last", "digest", "mount", "from", "artifactType", "scope", "service", "digest-algorithm":
			query = append(query, pair)
		default:
			query = append(query, name+"=***")
		}
	}
	if len(query) > 0 {
		s += "?" + strings.Join(query, "&")
	}
	return printable(s)
}

// printable is text of the other side on one line of a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
