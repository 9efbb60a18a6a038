package conformance_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func pushManifestChecks() []check {
	return []check{
		{"push manifest", []string{"put-5", "put-6", "put-7"}, pushManifest},
		{"push manifest: bytes are kept", []string{"put-4"}, bytesAreKept},
		{"push manifest: content type with parameters", []string{"put-1"}, pushedParameters},
		{"push manifest: no blobs", []string{"put-3"}, noBlobs},
		{"push manifest: blobs that are missing", []string{"push-2"}, missingBlobs},
		{"push manifest: layers that may not be distributed", []string{"put-13"}, foreignLayers},
		{"push manifest: size", []string{"put-9", "put-10", "put-11"}, manifestSize},
		{"push manifest: other media types", []string{"put-12"}, otherMediaTypes},
		{"push manifest: JSON that readers disagree about", []string{"put-14"}, ambiguousManifests},
		{"push manifest: subject that does not exist", []string{"push-1", "subject-1"}, subjectMissing},
		{"push manifest: subject", []string{"subject-1"}, subjectHeader},
	}
}

func tagParameterChecks() []check {
	return []check{
		{"tag parameters", []string{"tag-1", "tag-2", "tag-3"}, tagParameters},
		{"tag parameters: too many, and bad ones", []string{"tag-4"}, tooManyTags},
	}
}

func pushManifest(t *testing.T, r *registry) {
	repo := r.repo()
	for _, m := range []manifest{
		r.image(t, repo, nil),
		made(t, indexType, index{SchemaVersion: 2, MediaType: indexType, Manifests: []descriptor{r.pushed(t, repo).descriptor}}),
	} {
		for _, ref := range []string{"v1", m.Digest, "v1", m.Digest} { // the second time is no different
			a := r.put(t, repo, ref, m).want(t, http.StatusCreated)
			if d := a.digest(); d != m.Digest && (d != "" || ref != "v1" || r.ours) {
				t.Errorf("%s: Docker-Content-Digest %q, want %s", a.what, d, m.Digest)
			}
			r.do(t, http.MethodGet, a.location(t), with("Accept", m.MediaType)).want(t, http.StatusOK).same(t, m.body)
			r.getManifest(t, repo, ref).want(t, http.StatusOK).same(t, m.body)
		}
	}
}

func bytesAreKept(t *testing.T, r *registry) {
	repo := r.repo()
	config, layer := r.parts(t, repo)
	c, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	l, err := json.Marshal(layer)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"no white space":      `{"schemaVersion":2,"mediaType":"` + imageType + `","config":%s,"layers":[%s]}`,
		"much white space":    "\n\t{ \"schemaVersion\" :\r\n2,\"mediaType\": \"" + imageType + "\",  \"config\":\t%s,\"layers\":[ %s ] }\n\n",
		"another order":       `{"layers":[%[2]s],"config":%[1]s,"mediaType":"` + imageType + `","schemaVersion":2}`,
		"fields nobody knows": `{"schemaVersion":2,"mediaType":"` + imageType + `","config":%s,"layers":[%s],"x-own":{"b":[1,2.50,1e3],"a":null}}`,
		"escapes":             `{"schemaVersion":2,"mediaType":"application\/vnd.oci.image.manifest.v1+json","config":%s,"layers":[%s],"annotations":{"k":"\u00e4 ä <>&\u2028"}}`,
	} {
		body := fmt.Appendf(nil, text, c, l)
		m := manifest{describe(imageType, body), body}
		a := r.put(t, repo, m.Digest, m)
		if a.status != http.StatusCreated {
			t.Errorf("%s: got %d, want 201; body: %s", name, a.status, short(a.body))
			continue
		}
		r.getManifest(t, repo, m.Digest).want(t, http.StatusOK).same(t, body)
	}
}

func pushedParameters(t *testing.T, r *registry) {
	repo := r.repo()
	m := r.image(t, repo, nil)
	r.do(t, http.MethodPut, r.path("%s/manifests/v1", repo), content(imageType+"; charset=utf-8", m.body)).want(t, http.StatusCreated)
	a := r.getManifest(t, repo, "v1").want(t, http.StatusOK).same(t, m.body)
	if got := a.header.Get("Content-Type"); got != imageType {
		t.Errorf("%s: Content-Type %q, want %q without parameters", a.what, got, imageType)
	}
}

func noBlobs(t *testing.T, r *registry) {
	repo := r.repo()
	m := r.image(t, repo, func(i *image) { i.Layers = []descriptor{} })
	empty := made(t, indexType, index{SchemaVersion: 2, MediaType: indexType, Manifests: []descriptor{}, Annotations: map[string]string{"for": repo}})
	for _, m := range []manifest{m, empty} {
		r.put(t, repo, "v1", m).want(t, http.StatusCreated)
		r.getManifest(t, repo, "v1").want(t, http.StatusOK).same(t, m.body)
	}
}

func missingBlobs(t *testing.T, r *registry) {
	repo, elsewhere := r.repo(), r.repo()
	nothing := describe(layerType, noise(20))
	there := noise(30)
	r.push(t, elsewhere, there)
	for name, m := range map[string]manifest{
		"layer":                       r.image(t, repo, func(i *image) { i.Layers = append(i.Layers, nothing) }),
		"config":                      r.image(t, repo, func(i *image) { i.Config = describe(configType, noise(20)) }),
		"layer of another repository": r.image(t, repo, func(i *image) { i.Layers = append(i.Layers, describe(layerType, there)) }),
		"manifest of an index":        made(t, indexType, index{SchemaVersion: 2, MediaType: indexType, Manifests: []descriptor{describe(imageType, noise(20))}}),
	} {
		a := r.put(t, repo, "v1", m)
		if a.status == http.StatusCreated { // a registry may accept it, and then has it
			r.getManifest(t, repo, "v1").want(t, http.StatusOK).same(t, m.body)
			continue
		}
		if a.refused(t).code() != "MANIFEST_BLOB_UNKNOWN" {
			t.Errorf("%s missing: %d with code %q, want MANIFEST_BLOB_UNKNOWN; body: %s", name, a.status, a.code(), short(a.body))
		}
		r.getManifest(t, repo, m.Digest).want(t, http.StatusNotFound)
	}
}

func foreignLayers(t *testing.T, r *registry) {
	repo := r.repo()
	for _, mediaType := range []string{
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "application/vnd.oci.image.layer.nondistributable.v1.tar",
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
	} {
		far := describe(mediaType, noise(20))
		far.URLs = []string{"https://example.com/" + far.Digest}
		m := r.image(t, repo, func(i *image) { i.Layers = append(i.Layers, far) })
		a := r.put(t, repo, "v1", m)
		if a.status != http.StatusCreated {
			r.optional(t, "%s: %d for a %s that is not there; body: %s", a.what, a.status, mediaType, short(a.body))
		}
		r.getManifest(t, repo, "v1").want(t, http.StatusOK).same(t, m.body)
	}
}

// sized makes an image manifest of exactly n bytes.
func (r *registry) sized(t *testing.T, repo string, n int) manifest {
	t.Helper()
	small := r.image(t, repo, func(i *image) { i.Annotations = map[string]string{"filler": ""} })
	filler := bytes.Repeat([]byte("x"), n-len(small.body))
	body := bytes.Replace(small.body, []byte(`"filler": "`), append([]byte(`"filler": "`), filler...), 1)
	if len(body) != n {
		t.Fatalf("made a manifest of %d bytes, wanted %d", len(body), n)
	}
	return manifest{describe(imageType, body), body}
}

// overLimit is a size that no manifest may have: for ours the first one, for others one that is surely too much.
func (r *registry) overLimit() int {
	if r.ours {
		return 4<<20 + 1
	}
	return 64 << 20
}

func manifestSize(t *testing.T, r *registry) {
	repo := r.repo()
	fits := 4_000_000
	if r.ours {
		fits = 4 << 20
	}
	m := r.sized(t, repo, fits)
	r.put(t, repo, "big", m).want(t, http.StatusCreated)
	r.getManifest(t, repo, "big").want(t, http.StatusOK).same(t, m.body)

	m = r.sized(t, repo, r.overLimit())
	r.put(t, repo, "too-big", m).want(t, http.StatusRequestEntityTooLarge)
	r.do(t, http.MethodPut, r.path("%s/manifests/too-big", repo), streamed(m.body), func(req *http.Request) {
		req.Header.Set("Content-Type", imageType)
	}).want(t, http.StatusRequestEntityTooLarge)
	r.getManifest(t, repo, "too-big").want(t, http.StatusNotFound)
}

func otherMediaTypes(t *testing.T, r *registry) {
	repo := r.repo()
	config, layer := r.parts(t, repo)
	config.MediaType, layer.MediaType = "application/vnd.docker.container.image.v1+json", "application/vnd.docker.image.rootfs.diff.tar.gzip"
	docker := made(t, dockerImageType, image{SchemaVersion: 2, MediaType: dockerImageType, Config: config, Layers: []descriptor{layer}})
	list := made(t, dockerListType, index{SchemaVersion: 2, MediaType: dockerListType, Manifests: []descriptor{docker.descriptor}})
	for ref, m := range map[string]manifest{"docker": docker} {
		r.put(t, repo, ref, m).want(t, http.StatusCreated)
	}
	r.put(t, repo, "list", list).want(t, http.StatusCreated)
	for ref, m := range map[string]manifest{"docker": docker, "list": list} {
		for _, accept := range []string{m.MediaType, imageType + ", " + indexType, "*/*"} {
			a := r.getManifest(t, repo, ref, with("Accept", accept)).want(t, http.StatusOK, http.StatusNotFound, http.StatusNotAcceptable)
			if a.status != http.StatusOK {
				if accept == m.MediaType || r.ours {
					t.Errorf("%s, accept %s: got %d, want 200", a.what, accept, a.status)
				}
				continue
			}
			a.same(t, m.body)
			if got := a.header.Get("Content-Type"); got != m.MediaType {
				t.Errorf("%s: Content-Type %q, pushed was %q", a.what, got, m.MediaType)
			}
		}
	}
	for _, mediaType := range []string{"application/vnd.example.thing.v1+json", "application/json", "text/plain", ""} {
		m := made(t, mediaType, map[string]any{"schemaVersion": 2, "thing": repo + mediaType})
		a := r.put(t, repo, "thing", m)
		if a.status != http.StatusCreated {
			a.refused(t).says(t, "MANIFEST_INVALID", "UNSUPPORTED")
			r.getManifest(t, repo, "thing").want(t, http.StatusNotFound)
			continue
		}
		r.getManifest(t, repo, "thing", with("Accept", "*/*")).want(t, http.StatusOK).same(t, m.body)
		r.do(t, http.MethodDelete, r.path("%s/manifests/thing", repo))
	}
	// Not JSON at all, whatever it says it is.
	for _, body := range []string{"", "{", "null", "[]", `"text"`, "\x00\x01", `{"schemaVersion":2,"mediaType":"` + imageType + `"`} {
		m := manifest{describe(imageType, []byte(body)), []byte(body)}
		r.put(t, repo, "broken", m).want(t, http.StatusBadRequest).says(t, "MANIFEST_INVALID")
	}
}

func ambiguousManifests(t *testing.T, r *registry) {
	if !r.ours {
		t.Skip("the specification leaves it open")
	}
	repo := r.repo()
	m := r.pushed(t, repo, "v1")
	double := func(s string) string {
		return strings.Replace(string(m.body), `"schemaVersion"`, s+`"schemaVersion"`, 1)
	}
	for name, body := range map[string]string{
		"a key twice":               double(`"schemaVersion": 2, `),
		"a key twice, in disguise":  double(`"schema\u0056ersion": 2, `),
		"a key twice, further down": double(`"annotations": {"a": "1", "a": "2"}, `),
		"two documents":             string(m.body) + string(m.body),
		"text after the end":        string(m.body) + "x",
		"nested too deep":           double(`"x": ` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `, `),
		"nested in objects":         double(`"x": ` + strings.Repeat(`{"a":`, 50_000) + "1" + strings.Repeat("}", 50_000) + `, `),
		"not UTF-8":                 double(`"x": "` + "\xff\xfe" + `", `),
	} {
		a := r.put(t, repo, "ambiguous", manifest{describe(imageType, []byte(body)), []byte(body)})
		if a.status != http.StatusBadRequest {
			t.Errorf("%s: got %d, want 400; body: %s", name, a.status, short(a.body))
			continue
		}
		a.says(t, "MANIFEST_INVALID")
	}
	r.getManifest(t, repo, "ambiguous").want(t, http.StatusNotFound)
}

func subjectMissing(t *testing.T, r *registry) {
	repo := r.repo()
	subject := r.image(t, repo, nil)
	m := r.image(t, repo, func(i *image) { i.Subject = &subject.descriptor })
	a := r.put(t, repo, m.Digest, m).want(t, http.StatusCreated)
	r.wantSubject(t, a, subject.Digest)
	r.getManifest(t, repo, m.Digest).want(t, http.StatusOK).same(t, m.body)
	r.put(t, repo, "later", subject).want(t, http.StatusCreated)
	r.getManifest(t, repo, "later").want(t, http.StatusOK).same(t, subject.body)
}

func (r *registry) wantSubject(t *testing.T, a *answer, digest string) {
	t.Helper()
	got := a.header.Get("OCI-Subject")
	if got == "" {
		r.optional(t, "%s: no OCI-Subject, the registry has no referrers API", a.what)
	}
	if got != digest {
		t.Errorf("%s: OCI-Subject %q, want %s", a.what, got, digest)
	}
}

func subjectHeader(t *testing.T, r *registry) {
	repo := r.repo()
	subject := r.pushed(t, repo, "v1")
	list := made(t, indexType, index{SchemaVersion: 2, MediaType: indexType, Manifests: []descriptor{}, Subject: &subject.descriptor})
	for _, m := range []manifest{r.image(t, repo, func(i *image) { i.Subject = &subject.descriptor }), list} {
		for _, ref := range []string{m.Digest, "attached"} {
			r.wantSubject(t, r.put(t, repo, ref, m).want(t, http.StatusCreated), subject.Digest)
		}
	}
	a := r.put(t, repo, "v2", r.image(t, repo, nil)).want(t, http.StatusCreated)
	if got := a.header.Get("OCI-Subject"); got != "" {
		t.Errorf("%s: OCI-Subject %q for a manifest without subject", a.what, got)
	}
}

// ociTags returns the tags that OCI-Tag of an answer lists, over lines and commas (RFC 9110, section 5).
func ociTags(a *answer) []string {
	var tags []string
	for _, line := range a.header.Values("OCI-Tag") {
		for _, tag := range strings.Split(line, ",") {
			if tag = strings.TrimSpace(tag); tag != "" {
				tags = append(tags, tag)
			}
		}
	}
	slices.Sort(tags)
	return tags
}

func tagParameters(t *testing.T, r *registry) {
	repo := r.repo()
	m := r.image(t, repo, nil)
	want := []string{"1", "1.2", "1.2.3", "e", "f", "g", "h", "i", "j", "latest"}
	var pairs []string
	for _, tag := range want {
		pairs = append(pairs, "tag", tag)
	}
	a := r.put(t, repo, m.Digest, m, query(pairs...)).want(t, http.StatusCreated)
	got := ociTags(a)
	if len(got) == 0 {
		r.optional(t, "%s: no OCI-Tag, the registry does not know tag parameters", a.what)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: OCI-Tag lists %q, want %q", a.what, got, want)
	}
	if d := a.digest(); d != m.Digest {
		t.Errorf("%s: Docker-Content-Digest %q, want %s", a.what, d, m.Digest)
	}
	for _, tag := range want {
		r.getManifest(t, repo, tag).want(t, http.StatusOK).same(t, m.body)
	}
	// Tags that exist move; the same tag twice is one tag.
	next := r.image(t, repo, nil)
	a = r.put(t, repo, next.Digest, next, query("tag", "latest", "tag", "latest")).want(t, http.StatusCreated)
	if got := slices.Compact(ociTags(a)); !slices.Equal(got, []string{"latest"}) {
		t.Errorf("%s: OCI-Tag lists %q, want latest", a.what, got)
	}
	r.getManifest(t, repo, "latest").want(t, http.StatusOK).same(t, next.body)
	r.getManifest(t, repo, "1").want(t, http.StatusOK).same(t, m.body)
}

func tooManyTags(t *testing.T, r *registry) {
	repo := r.repo()
	m := r.image(t, repo, nil)
	var pairs []string
	for i := range 2000 {
		pairs = append(pairs, "tag", fmt.Sprintf("t%04d", i))
	}
	a := r.put(t, repo, m.Digest, m, query(pairs...)).
		want(t, http.StatusCreated, http.StatusRequestURITooLong, http.StatusRequestHeaderFieldsTooLarge, http.StatusBadRequest)
	if a.status == http.StatusCreated && len(ociTags(a)) > 0 {
		if got := len(ociTags(a)); got != 2000 || len(r.tags(t, repo)) != 2000 {
			t.Errorf("%s: 201 with %d tags in OCI-Tag, %d tags set, want all 2000", a.what, got, len(r.tags(t, repo)))
		}
	}
	// A tag that is none is refused, or left out of OCI-Tag; it is never set.
	repo = r.repo()
	m = r.image(t, repo, nil)
	a = r.put(t, repo, m.Digest, m, query("tag", "good", "tag", "-bad"))
	if a.status == http.StatusCreated && slices.Contains(ociTags(a), "-bad") {
		t.Errorf("%s: OCI-Tag says that tag -bad was accepted", a.what)
	} else if a.status != http.StatusCreated {
		a.refused(t)
	}
	if a := r.do(t, http.MethodGet, r.path("%s/tags/list", repo)); bytes.Contains(a.body, []byte("-bad")) {
		t.Errorf("%s: a tag that is none is listed: %s", a.what, a.body)
	}
}
