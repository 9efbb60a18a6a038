package conformance_test

import (
	"net/http"
	"slices"
	"testing"
)

func deleteChecks() []check {
	return []check{
		{"delete: tag", []string{"del-1", "cat-3"}, deleteTag},
		{"delete: manifest", []string{"del-3", "cat-3"}, deleteManifest},
		{"delete: manifest that is not there", []string{"del-4"}, deleteMissing},
		{"delete: blob", []string{"del-6", "del-7", "cat-3"}, deleteBlob},
		{"delete: switched off", []string{"del-2", "del-5", "del-8"}, deleteOff},
	}
}

func deleteTag(t *testing.T, r *registry) {
	repo := r.repo()
	m := r.pushed(t, repo, "a", "b")
	a := r.do(t, http.MethodDelete, r.path("%s/manifests/a", repo))
	if a.status == http.StatusBadRequest || a.status == http.StatusMethodNotAllowed {
		r.optional(t, "%s: %d, tags cannot be deleted", a.what, a.status)
	}
	a.want(t, http.StatusAccepted)
	r.getManifest(t, repo, "a").want(t, http.StatusNotFound)
	r.do(t, http.MethodHead, r.path("%s/manifests/a", repo)).want(t, http.StatusNotFound)
	// Only that tag: the manifest and its other tag stay.
	r.getManifest(t, repo, "b").want(t, http.StatusOK).same(t, m.body)
	r.getManifest(t, repo, m.Digest).want(t, http.StatusOK).same(t, m.body)
	if got := r.tags(t, repo); !slices.Equal(got, []string{"b"}) {
		t.Errorf("tags are %q, want b", got)
	}
	r.do(t, http.MethodDelete, r.path("%s/manifests/a", repo)).want(t, http.StatusNotFound).says(t, "MANIFEST_UNKNOWN")
	r.put(t, repo, "a", m).want(t, http.StatusCreated)
	r.getManifest(t, repo, "a").want(t, http.StatusOK).same(t, m.body)
}

func deleteManifest(t *testing.T, r *registry) {
	repo := r.repo()
	m := r.pushed(t, repo, "a", "b")
	other := r.pushed(t, repo, "c")
	a := r.do(t, http.MethodDelete, r.path("%s/manifests/%s", repo, m.Digest))
	if a.status == http.StatusBadRequest || a.status == http.StatusMethodNotAllowed {
		r.optional(t, "%s: %d, manifests cannot be deleted", a.what, a.status)
	}
	a.want(t, http.StatusAccepted)
	for _, ref := range []string{m.Digest, "a", "b"} {
		r.getManifest(t, repo, ref).want(t, http.StatusNotFound)
		r.do(t, http.MethodHead, r.path("%s/manifests/%s", repo, ref)).want(t, http.StatusNotFound)
	}
	if got := r.tags(t, repo); !slices.Equal(got, []string{"c"}) {
		t.Errorf("tags are %q, want c", got)
	}
	r.getManifest(t, repo, "c").want(t, http.StatusOK).same(t, other.body)
	// It can come back.
	r.put(t, repo, "a", m).want(t, http.StatusCreated)
	r.getManifest(t, repo, "a").want(t, http.StatusOK).same(t, m.body)
}

func deleteMissing(t *testing.T, r *registry) {
	nothing := sha256Of(noise(8))
	r.do(t, http.MethodDelete, r.path("%s/manifests/%s", r.repo(), nothing)).want(t, http.StatusNotFound)
	r.do(t, http.MethodDelete, r.path("%s/manifests/v1", r.repo())).want(t, http.StatusNotFound)
	repo := r.repo()
	m := r.pushed(t, repo, "v1")
	r.do(t, http.MethodDelete, r.path("%s/manifests/%s", repo, nothing)).want(t, http.StatusNotFound).says(t, "MANIFEST_UNKNOWN")
	// What only another repository has is not there, and stays where it is.
	other := r.repo()
	r.pushed(t, other, "v1")
	r.do(t, http.MethodDelete, r.path("%s/manifests/%s", other, m.Digest)).want(t, http.StatusNotFound)
	r.getManifest(t, repo, "v1").want(t, http.StatusOK).same(t, m.body)
}

func deleteBlob(t *testing.T, r *registry) {
	repo, other := r.repo(), r.repo()
	for _, blob := range [][]byte{noise(200), noise(100_000), {}} {
		digest := r.push(t, repo, blob)
		r.push(t, other, blob)
		a := r.do(t, http.MethodDelete, r.path("%s/blobs/%s", repo, digest))
		if a.status == http.StatusBadRequest || a.status == http.StatusMethodNotAllowed {
			r.optional(t, "%s: %d, blobs cannot be deleted", a.what, a.status)
		}
		a.want(t, http.StatusAccepted)
		r.getBlob(t, repo, digest).want(t, http.StatusNotFound)
		r.do(t, http.MethodHead, r.path("%s/blobs/%s", repo, digest)).want(t, http.StatusNotFound)
		r.do(t, http.MethodDelete, r.path("%s/blobs/%s", repo, digest)).want(t, http.StatusNotFound).says(t, "BLOB_UNKNOWN")
		// A blob belongs to a repository: the other one still has it. And it can come back.
		r.getBlob(t, other, digest).want(t, http.StatusOK).same(t, blob)
		r.push(t, repo, blob)
		r.getBlob(t, repo, digest).want(t, http.StatusOK).same(t, blob)
	}
	r.do(t, http.MethodDelete, r.path("%s/blobs/%s", repo, sha256Of(noise(8)))).want(t, http.StatusNotFound).says(t, "BLOB_UNKNOWN")
	r.do(t, http.MethodDelete, r.path("%s/blobs/%s", r.repo(), sha256Of(noise(8)))).want(t, http.StatusNotFound)
}

func deleteOff(t *testing.T, r *registry) {
	r = r.start(t, "BERTH_ANONYMOUS=delete", "REGISTRY_STORAGE_DELETE_ENABLED=false")
	repo, blob := r.repo(), noise(20)
	m := r.pushed(t, repo, "v1")
	digest := r.push(t, repo, blob)
	for _, path := range []string{"manifests/v1", "manifests/" + m.Digest, "blobs/" + digest} {
		r.do(t, http.MethodDelete, r.path("%s/%s", repo, path)).
			want(t, http.StatusMethodNotAllowed, http.StatusBadRequest).says(t, "UNSUPPORTED")
	}
	r.getManifest(t, repo, "v1").want(t, http.StatusOK).same(t, m.body)
	r.getBlob(t, repo, digest).want(t, http.StatusOK).same(t, blob)
	// An upload can be given up all the same: that deletes nothing anybody has.
	at, _ := r.open(t, repo)
	r.do(t, http.MethodDelete, at).want(t, http.StatusNoContent)
}
