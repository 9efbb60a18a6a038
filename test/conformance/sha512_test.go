package conformance_test

import (
	"net/http"
	"testing"
)

func sha512Checks() []check {
	return []check{
		{"sha512: blobs", []string{"chunk-2", "blob-3", "head-2", "put-7"}, sha512Blobs},
		{"sha512: manifests", []string{"pull-10", "put-7", "tag-1"}, sha512Manifests},
		{"sha512: referrers", []string{"subject-1", "ref-1", "enable-2"}, sha512Referrers},
		{"sha512: algorithms that are none", []string{"push-4"}, badAlgorithms},
	}
}

// push512 uploads a blob under its sha512 digest, in two chunks.
func (r *registry) push512(t *testing.T, repo string, blob []byte) string {
	t.Helper()
	digest := sha512Of(blob)
	at, least := r.open(t, repo, query("digest-algorithm", "sha512"))
	cut := min(len(blob), least)
	at = r.patch(t, at, 0, blob[:cut]).want(t, http.StatusAccepted).location(t)
	if cut < len(blob) {
		at = r.patch(t, at, cut, blob[cut:]).want(t, http.StatusAccepted).location(t)
	}
	a := r.do(t, http.MethodPut, at, query("digest", digest), octets(nil))
	if a.status == http.StatusBadRequest {
		r.optional(t, "%s: 400, the registry does not know sha512; body: %s", a.what, short(a.body))
	}
	a.want(t, http.StatusCreated)
	if d := a.digest(); d != "" && d != digest && r.ours {
		t.Errorf("%s: Docker-Content-Digest %s, want %s", a.what, d, digest)
	}
	r.do(t, http.MethodGet, a.location(t)).want(t, http.StatusOK).same(t, blob)
	return digest
}

func sha512Blobs(t *testing.T, r *registry) {
	repo, other := r.repo(), r.repo()
	blob := noise(100_000)
	digest := r.push512(t, repo, blob)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		a := r.do(t, method, r.path("%s/blobs/%s", repo, digest)).want(t, http.StatusOK)
		if a.digest() != digest && (r.ours || a.digest() == "") { // it may say a digest of another algorithm
			t.Errorf("%s: Docker-Content-Digest %q, want %s", a.what, a.digest(), digest)
		}
	}
	r.getBlob(t, repo, digest).same(t, blob)
	r.getBlob(t, repo, digest, with("Range", "bytes=10-19")).want(t, http.StatusPartialContent).same(t, blob[10:20])

	// The other ways to push.
	single := func(b []byte, more ...string) *answer {
		digest := query(append(more, "digest", sha512Of(b))...)
		a := r.do(t, http.MethodPost, r.path("%s/blobs/uploads/", repo), digest, octets(b))
		if a.status == http.StatusAccepted && !r.ours {
			a = r.do(t, http.MethodPut, a.location(t), digest, octets(b))
		}
		return a
	}
	for name, push := range map[string]func(blob []byte) *answer{
		"single POST":                    func(b []byte) *answer { return single(b) },
		"single POST with the algorithm": func(b []byte) *answer { return single(b, "digest-algorithm", "sha512") },
		"POST then PUT": func(b []byte) *answer {
			at, _ := r.open(t, repo, query("digest-algorithm", "sha512"))
			return r.do(t, http.MethodPut, at, query("digest", sha512Of(b)), octets(b))
		},
		"POST then PUT, not said before": func(b []byte) *answer {
			at, _ := r.open(t, repo)
			return r.do(t, http.MethodPut, at, query("digest", sha512Of(b)), octets(b))
		},
	} {
		b := noise(500)
		a := push(b)
		if a.status != http.StatusCreated {
			t.Errorf("%s: got %d, want 201; body: %s", name, a.status, short(a.body))
			continue
		}
		r.getBlob(t, repo, sha512Of(b)).want(t, http.StatusOK).same(t, b)
	}

	a := r.do(t, http.MethodPost, r.path("%s/blobs/uploads/", other), query("mount", digest, "from", repo), octets(nil)).want(t, http.StatusCreated, http.StatusAccepted)
	if a.status == http.StatusCreated {
		r.getBlob(t, other, digest).want(t, http.StatusOK).same(t, blob)
	}
	at, _ := r.open(t, repo, query("digest-algorithm", "sha512"))
	r.do(t, http.MethodPut, at, query("digest", sha512Of(noise(8))), octets(noise(100))).want(t, http.StatusBadRequest).says(t, "DIGEST_INVALID")
	r.do(t, http.MethodDelete, r.path("%s/blobs/%s", repo, digest)).want(t, http.StatusAccepted)
	r.getBlob(t, repo, digest).want(t, http.StatusNotFound)
}

// image512 makes an image whose blobs and whose own digest are sha512.
func (r *registry) image512(t *testing.T, repo string, edit func(*image)) manifest {
	t.Helper()
	config, layer := []byte(`{"for":"`+r.repo()+`"}`), noise(64)
	doc := image{
		SchemaVersion: 2, MediaType: imageType,
		Config: descriptor{MediaType: configType, Digest: r.push512(t, repo, config), Size: len(config)},
		Layers: []descriptor{{MediaType: layerType, Digest: r.push512(t, repo, layer), Size: len(layer)}},
	}
	if edit != nil {
		edit(&doc)
	}
	m := made(t, imageType, doc)
	m.Digest = sha512Of(m.body)
	return m
}

func sha512Manifests(t *testing.T, r *registry) {
	repo := r.repo()
	m := r.image512(t, repo, nil)
	a := r.put(t, repo, m.Digest, m, query("tag", "v1", "tag", "v2")).want(t, http.StatusCreated)
	if a.digest() != m.Digest {
		t.Errorf("%s: Docker-Content-Digest %q, want the client's %s", a.what, a.digest(), m.Digest)
	}
	r.do(t, http.MethodGet, a.location(t)).want(t, http.StatusOK).same(t, m.body)
	refs := []string{m.Digest}
	if len(ociTags(a)) == 2 {
		refs = append(refs, "v1", "v2")
	} else if r.ours {
		t.Errorf("%s: OCI-Tag lists %q, want v1 and v2", a.what, ociTags(a))
	}
	for _, ref := range refs {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			a := r.do(t, method, r.path("%s/manifests/%s", repo, ref), with("Accept", imageType)).want(t, http.StatusOK)
			if a.digest() != m.Digest && (r.ours || a.digest() == "") {
				t.Errorf("%s: Docker-Content-Digest %q, want %s", a.what, a.digest(), m.Digest)
			}
		}
		r.getManifest(t, repo, ref).same(t, m.body)
	}
	r.put(t, repo, sha512Of(noise(8)), m).want(t, http.StatusBadRequest).says(t, "DIGEST_INVALID")

	list := made(t, indexType, index{SchemaVersion: 2, MediaType: indexType, Manifests: []descriptor{m.descriptor}})
	r.put(t, repo, sha512Of(list.body), list).want(t, http.StatusCreated)
	r.getManifest(t, repo, sha512Of(list.body)).want(t, http.StatusOK).same(t, list.body)

	r.do(t, http.MethodDelete, r.path("%s/manifests/%s", repo, m.Digest)).want(t, http.StatusAccepted)
	for _, ref := range refs {
		r.getManifest(t, repo, ref).want(t, http.StatusNotFound)
	}
}

func sha512Referrers(t *testing.T, r *registry) {
	repo := r.repo()
	subject := r.image512(t, repo, nil)
	r.put(t, repo, subject.Digest, subject).want(t, http.StatusCreated)
	m := r.image512(t, repo, func(i *image) {
		i.Subject, i.ArtifactType = &subject.descriptor, "application/vnd.example.sha512"
	})
	a := r.put(t, repo, m.Digest, m).want(t, http.StatusCreated)
	r.wantSubject(t, a, subject.Digest)
	found := r.referrers(t, repo, subject.Digest)
	if len(found) != 1 || found[0].Digest != m.Digest || found[0].ArtifactType != "application/vnd.example.sha512" {
		t.Errorf("referrers of %s are %+v, want %s", subject.Digest, found, m.Digest)
	}
}

func badAlgorithms(t *testing.T, r *registry) {
	repo := r.repo()
	for _, algorithm := range []string{"md5", "sha1", "nothing", "SHA512", "sha512:", "../x"} {
		r.do(t, http.MethodPost, r.path("%s/blobs/uploads/", repo), query("digest-algorithm", algorithm), octets(nil)).want(t, http.StatusBadRequest)
	}
}
