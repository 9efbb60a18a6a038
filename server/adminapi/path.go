package adminapi

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// oneSegment gives a copy of the request whose path has the name of a repository as one segment, whatever slashes it has
// and however they are written, as a mux wants it. It refuses paths that are not clean: a mux would send the caller
// elsewhere.
func oneSegment(r *http.Request) (*http.Request, bool) {
	path := r.URL.Path
	if !strings.HasPrefix(path, "/api/") || strings.Contains(path, "//") {
		return nil, false
	}
	segments := strings.Split(path, "/")
	for _, s := range segments {
		if s == "." || s == ".." {
			return nil, false
		}
	}
	escaped := make([]string, 0, len(segments))
	if rest, ok := strings.CutPrefix(path, root+"repositories/"); ok {
		parts := strings.Split(rest, "/")
		end := slices.Index(parts, separator)
		if end < 0 {
			end = len(parts)
		}
		if end == 0 || parts[end-1] == "" {
			return nil, false
		}
		escaped = append(escaped, strings.Split(root+"repositories", "/")...)
		escaped = append(escaped, url.PathEscape(strings.Join(parts[:end], "/")))
		segments = parts[end:]
	}
	for _, s := range segments {
		escaped = append(escaped, url.PathEscape(s))
	}
	q := *r
	u := *r.URL
	u.RawPath = strings.Join(escaped, "/")
	q.URL = &u
	return &q, true
}
