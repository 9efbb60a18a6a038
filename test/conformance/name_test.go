package conformance_test

import (
	"net/http"
	"strings"
	"testing"
)

func nameChecks() []check {
	return []check{
		{"names: good ones", []string{"pull-3"}, goodNames},
		{"names: bad ones", []string{"pull-3"}, badNames},
		{"tags: good ones", []string{"pull-4", "pull-5"}, goodTags},
		{"tags: bad ones", []string{"pull-2", "pull-4", "pull-5", "put-2"}, badTags},
		{"references: bad digests", []string{"pull-2", "put-2"}, badReferences},
	}
}

func goodNames(t *testing.T, r *registry) {
	for _, end := range []string{"a", "0", "a.b", "a_b", "a__b", "a-b", "a---b", "a/b/c/d/e/f", "1.2.3-4_5__6/x", strings.Repeat("n", 150)} {
		repo := r.repo() + "/" + end
		m := r.pushed(t, repo, "v1")
		r.getManifest(t, repo, "v1").want(t, http.StatusOK).same(t, m.body)
	}
}

func badNames(t *testing.T, r *registry) {
	for _, end := range []string{
		"A", "aB", "-a", "a-", ".a", "a.", "_a", "a_", "a..b", "a___b", "a._b", "a-_b", "a//b", "a/", "a b", "a%20b",
		"a%2fb%2F..%2F..%2Fc", "..", "%2e%2e", "../x", "a%00b", "ä", "a:b", "a@b", "a~b", "a+b",
	} {
		name := r.repo() + "/" + end
		for _, c := range []struct{ method, path string }{
			{http.MethodPost, "/blobs/uploads/"},
			{http.MethodGet, "/tags/list"},
			{http.MethodGet, "/manifests/v1"},
		} {
			a := r.do(t, c.method, r.base+"/v2/"+name+c.path)
			// A router may send a path that is not clean to a clean one; nothing is done for the bad one.
			if a.status < 300 || a.status > 499 {
				t.Errorf("name %q: %s: got %d, want a refusal", name, a.what, a.status)
			}
			if a.code() != "" && c.method == http.MethodPost {
				a.says(t, "NAME_INVALID", "NAME_UNKNOWN", "DENIED", "UNSUPPORTED")
			}
		}
	}
	r.do(t, http.MethodPost, r.path("%s/UPPER/blobs/uploads/", r.repo())).refused(t).says(t, "NAME_INVALID", "DENIED")
}

func goodTags(t *testing.T, r *registry) {
	repo := r.repo()
	m := r.image(t, repo, nil)
	for _, tag := range []string{"v1", "_", "A", "0", "1.0-rc.1_x", "a..b--c__d", "Z9", strings.Repeat("t", 128), "sha256", "sha256-abc"} {
		r.put(t, repo, tag, m).want(t, http.StatusCreated)
		r.getManifest(t, repo, tag).want(t, http.StatusOK).same(t, m.body)
	}
}

func badTags(t *testing.T, r *registry) {
	repo := r.repo()
	m := r.pushed(t, repo, "good")
	for _, tag := range []string{
		strings.Repeat("t", 129), strings.Repeat("t", 2000), ".a", "-a", "a%20b", "a+b", "a~b", "a%2Fb", "%C3%A4", "a%00", "@", "a@b", "%2e%2e", "a,b", "a=b",
	} {
		a := r.put(t, repo, tag, m)
		if a.status < 300 || a.status > 499 {
			t.Errorf("tag %q: push got %d, want a refusal; body: %s", tag, a.status, short(a.body))
		}
		if a := r.getManifest(t, repo, tag); a.status < 300 || a.status > 499 {
			t.Errorf("tag %q: pull got %d, want a refusal", tag, a.status)
		}
	}
	if tags := r.tags(t, repo); len(tags) != 1 || tags[0] != "good" {
		t.Errorf("after pushes to bad tags the repository has %q, want only \"good\"", tags)
	}
}

func badReferences(t *testing.T, r *registry) {
	repo := r.repo()
	m := r.pushed(t, repo, "v1")
	hex := strings.TrimPrefix(m.Digest, "sha256:")
	for _, ref := range []string{
		"sha256:", ":" + hex, "sha256:" + hex[1:], "sha256:" + hex + "0", "sha256:" + strings.ToUpper(hex), "SHA256:" + hex,
		"sha256:" + strings.Repeat("z", 64), "sha512:" + hex, "nothing:" + hex, "sha256:" + hex + ":x", "v1@" + m.Digest,
	} {
		a := r.put(t, repo, ref, m)
		if a.status < 300 || a.status > 499 {
			t.Errorf("reference %q: push got %d, want a refusal; body: %s", ref, a.status, short(a.body))
		}
		if a := r.getManifest(t, repo, ref); a.status < 300 || a.status > 499 {
			t.Errorf("reference %q: pull got %d, want a refusal", ref, a.status)
		}
	}
	// A digest of other bytes.
	r.put(t, repo, sha256Of(noise(8)), m).want(t, http.StatusBadRequest).says(t, "DIGEST_INVALID")
}
