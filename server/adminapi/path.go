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
	path := r.URL.EscapedPath()
	if rest, ok := strings.CutPrefix(r.URL.Path, root+"repositories/"); ok {
		parts := strings.Split(rest, "/")
		end := slices.Index(parts, separator)
		if end < 0 {
			end = len(parts)
		}
		if end == 0 {
			return nil, false
		}
		for _, s := range parts[:end] {
			if s == "" || s == "." || s == ".." {
				return nil, false
			}
		}
		path = root + "repositories/" + url.PathEscape(strings.Join(parts[:end], "/"))
		for _, s := range parts[end:] {
			path += "/" + url.PathEscape(s)
		}
	}
	if !strings.HasPrefix(path, "/api/") {
		return nil, false
	}
	for s := range strings.SplitSeq(path[1:], "/") {
		if s == "" || s == "." || s == ".." {
			return nil, false
		}
	}
	q := *r
	u := *r.URL
	u.RawPath = path
	q.URL = &u
	return &q, true
}
