package conformance_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func httpChecks() []check {
	return []check{
		{"support", []string{"support-1"}, support},
		{"http: not modified", []string{"http-1"}, notModified},
		{"http: methods", []string{"http-2"}, methods},
		{"proxy: ns", []string{"proxy-1"}, namespaceParameter},
		{"extensions: discover", []string{"ext-1"}, discover},
	}
}

func support(t *testing.T, r *registry) {
	r.do(t, http.MethodGet, r.path("")).want(t, http.StatusOK)
	a := r.do(t, http.MethodGet, strings.TrimSuffix(r.path(""), "/"))
	if a.status >= 300 && a.status < 400 {
		a = r.do(t, http.MethodGet, a.location(t))
	}
	a.want(t, http.StatusOK, http.StatusNotFound)
}

func notModified(t *testing.T, r *registry) {
	repo := r.repo()
	m := r.pushed(t, repo, "v1")
	digest := r.push(t, repo, noise(100))
	for _, path := range []string{"manifests/v1", "manifests/" + m.Digest, "blobs/" + digest} {
		target := r.path("%s/%s", repo, path)
		accept := with("Accept", imageType+", */*")
		tag := r.do(t, http.MethodGet, target, accept).want(t, http.StatusOK).header.Get("Etag")
		if tag == "" {
			r.optional(t, "%s has no ETag", path)
		}
		if !strings.HasPrefix(tag, `"`) && !strings.HasPrefix(tag, `W/"`) || !strings.HasSuffix(tag, `"`) {
			t.Errorf("%s: ETag %s is not a quoted string", path, tag)
		}
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			for _, match := range []string{tag, `"another", ` + tag, "W/" + strings.TrimPrefix(tag, "W/"), "*"} {
				a := r.do(t, method, target, accept, with("If-None-Match", match))
				if a.status != http.StatusNotModified || len(a.body) != 0 {
					t.Errorf("%s, If-None-Match %s: got %d with %d bytes, want 304 with none", a.what, match, a.status, len(a.body))
				}
				if got := a.header.Get("Etag"); a.status == http.StatusNotModified && got != tag {
					t.Errorf("%s: 304 with ETag %q, want %q", a.what, got, tag)
				}
			}
			r.do(t, method, target, accept, with("If-None-Match", `"another"`)).want(t, http.StatusOK)
		}
	}
	// A tag that moved is modified.
	tag := r.getManifest(t, repo, "v1").header.Get("Etag")
	moved := r.pushed(t, repo, "v1")
	r.getManifest(t, repo, "v1", with("Accept", imageType), with("If-None-Match", tag)).want(t, http.StatusOK).same(t, moved.body)
}

func methods(t *testing.T, r *registry) {
	repo := r.repo()
	m := r.pushed(t, repo, "v1")
	for path, allowed := range map[string][]string{
		"manifests/v1":           {http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete},
		"blobs/" + sha256Of(nil): {http.MethodGet, http.MethodHead, http.MethodDelete},
		"tags/list":              {http.MethodGet},
		"referrers/" + m.Digest:  {http.MethodGet},
		"blobs/uploads/":         {http.MethodPost},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, "BREW"} {
			if slices.Contains(allowed, method) {
				continue
			}
			a := r.do(t, method, r.path("%s/%s", repo, path))
			if a.status != http.StatusMethodNotAllowed {
				if r.ours || a.status < 400 || a.status > 499 && a.status != http.StatusNotImplemented {
					t.Errorf("%s: got %d, want 405; body: %s", a.what, a.status, short(a.body))
				}
				continue
			}
			var listed []string
			for _, line := range a.header.Values("Allow") {
				for _, name := range strings.Split(line, ",") {
					listed = append(listed, strings.TrimSpace(name))
				}
			}
			for _, want := range allowed {
				if !slices.Contains(listed, want) {
					t.Errorf("%s: 405 with Allow %q, %s is missing", a.what, listed, want)
				}
			}
			if slices.Contains(listed, method) {
				t.Errorf("%s: 405 with Allow %q, which has the method itself", a.what, listed)
			}
		}
	}
	r.getManifest(t, repo, "v1").want(t, http.StatusOK).same(t, m.body)
}

func namespaceParameter(t *testing.T, r *registry) {
	repo := r.repo()
	m := r.pushed(t, repo, "v1")
	blob := noise(30)
	digest := r.push(t, repo, blob)
	for path, want := range map[string][]byte{"manifests/v1": m.body, "manifests/" + m.Digest: m.body, "blobs/" + digest: blob} {
		a := r.do(t, http.MethodGet, r.path("%s/%s?ns=docker.example.com", repo, path), with("Accept", imageType)).want(t, http.StatusOK).same(t, want)
		if got := a.header.Get("OCI-Namespace"); got != "" && got != "docker.example.com" {
			t.Errorf("%s: OCI-Namespace %q, want the ns that was sent, or none", a.what, got)
		}
	}
	a := r.do(t, http.MethodGet, r.path("%s/manifests/none?ns=docker.example.com", repo)).want(t, http.StatusNotFound)
	if got := a.header.Get("OCI-Namespace"); got != "" && got != "docker.example.com" {
		t.Errorf("%s: OCI-Namespace %q, want the ns that was sent, or none", a.what, got)
	}
}

var extensionName = regexp.MustCompile(`^_[a-z0-9]+([._-][a-z0-9]+)*$`)

func discover(t *testing.T, r *registry) {
	repo := r.repo()
	r.pushed(t, repo, "v1")
	for _, path := range []string{"_oci/ext/discover", repo + "/_oci/ext/discover"} {
		a := r.do(t, http.MethodGet, r.path("%s", path))
		if a.status != http.StatusOK {
			r.optional(t, "%s: got %d, want 200; body: %s", a.what, a.status, short(a.body))
		}
		if got := a.header.Get("Content-Type"); !isJSON(a.header) {
			t.Errorf("%s: Content-Type %q, want JSON", a.what, got)
		}
		var doc struct {
			Extensions *[]map[string]json.RawMessage `json:"extensions"`
		}
		a.decode(t, &doc)
		if doc.Extensions == nil {
			t.Fatalf("%s: extensions is not a list: %s", a.what, short(a.body))
		}
		for _, e := range *doc.Extensions {
			for _, field := range []string{"name", "url", "endpoints"} {
				if _, ok := e[field]; !ok {
					t.Errorf("%s: an extension has no %s: %s", a.what, field, short(a.body))
				}
			}
			var name string
			if err := json.Unmarshal(e["name"], &name); err != nil || !extensionName.MatchString(name) {
				t.Errorf("%s: extension name %s, want _ and then letters and digits", a.what, e["name"])
			}
		}
	}
	r.do(t, http.MethodGet, r.path("%s/_oci/ext/discover", r.repo())).want(t, http.StatusNotFound, http.StatusOK)
}
