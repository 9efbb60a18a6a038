package conformance_test

import (
	"net/http"
	"testing"
)

func mountChecks() []check {
	return []check{
		{"mount: with from", []string{"mount-1", "mount-2"}, mountFrom},
		{"mount: without from", []string{"mount-3"}, mountAnywhere},
		{"mount: what is not there", []string{"mount-4"}, mountMissing},
	}
}

func mountFrom(t *testing.T, r *registry) {
	from, to := r.repo(), r.repo()
	for _, blob := range [][]byte{noise(400), noise(100_000)} {
		digest := r.push(t, from, blob)
		r.getBlob(t, to, digest).want(t, http.StatusNotFound)
		a := r.do(t, http.MethodPost, r.path("%s/blobs/uploads/", to), query("mount", digest, "from", from), octets(nil))
		if a.status == http.StatusAccepted {
			r.optional(t, "%s: 202, the registry does not mount", a.what)
		}
		a.want(t, http.StatusCreated)
		r.do(t, http.MethodGet, a.location(t)).want(t, http.StatusOK).same(t, blob)
		r.getBlob(t, to, digest).want(t, http.StatusOK).same(t, blob)
		r.do(t, http.MethodHead, r.path("%s/blobs/%s", to, digest)).want(t, http.StatusOK)
		// A mount of what is there already, also from itself, is a success.
		r.do(t, http.MethodPost, r.path("%s/blobs/uploads/", to), query("mount", digest, "from", from), octets(nil)).want(t, http.StatusCreated)
		r.do(t, http.MethodPost, r.path("%s/blobs/uploads/", to), query("mount", digest, "from", to), octets(nil)).want(t, http.StatusCreated)
	}
}

func mountAnywhere(t *testing.T, r *registry) {
	blob, to := noise(400), r.repo()
	digest := r.push(t, r.repo(), blob)
	a := r.do(t, http.MethodPost, r.path("%s/blobs/uploads/", to), query("mount", digest), octets(nil))
	if a.status == http.StatusAccepted {
		r.optional(t, "%s: 202, the registry mounts only with from", a.what)
	}
	a.want(t, http.StatusCreated)
	r.do(t, http.MethodGet, a.location(t)).want(t, http.StatusOK).same(t, blob)
}

func mountMissing(t *testing.T, r *registry) {
	from := r.repo()
	r.push(t, from, noise(10))
	for name, source := range map[string][]string{
		"not in that repository":         {"from", from},
		"that repository does not exist": {"from", r.repo()},
		"not anywhere":                   nil,
	} {
		to, blob := r.repo(), noise(500)
		digest := sha256Of(blob)
		a := r.do(t, http.MethodPost, r.path("%s/blobs/uploads/", to), query(append([]string{"mount", digest}, source...)...), octets(nil))
		if a.status != http.StatusAccepted {
			t.Errorf("%s: got %d, want 202; body: %s", name, a.status, short(a.body))
			continue
		}
		r.do(t, http.MethodPut, a.location(t), query("digest", digest), octets(blob)).want(t, http.StatusCreated)
		r.getBlob(t, to, digest).want(t, http.StatusOK).same(t, blob)
	}
}
