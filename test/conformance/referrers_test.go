package conformance_test

import (
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func referrerChecks() []check {
	return []check{
		{"referrers: list", []string{"ref-1", "ref-4", "ref-5", "ref-6", "ref-7", "ref-8", "ref-9", "enable-2"}, referrerList},
		{"referrers: none", []string{"ref-1", "ref-2", "ref-4", "ref-5", "ref-10"}, noReferrers},
		{"referrers: bad digests", []string{"ref-3"}, referrersOfNothing},
		{"referrers: filter", []string{"ref-13", "ref-14", "ref-15"}, referrerFilter},
		{"referrers: pages", []string{"ref-11", "ref-12"}, referrerPages},
		{"referrers: come and go", []string{"enable-2", "ref-10", "push-1"}, referrersChange},
		{"referrers: fallback tag", []string{"enable-1", "schema-1"}, fallbackTag},
	}
}

// referrerPage gets one page, and fails the check when its form is not the specification's.
func (r *registry) referrerPage(t *testing.T, target string) ([]descriptor, *answer) {
	t.Helper()
	a := r.do(t, http.MethodGet, target)
	if a.status == http.StatusNotFound {
		r.optional(t, "%s: 404, the registry has no referrers API", a.what)
	}
	a.want(t, http.StatusOK)
	if mt, _, err := mime.ParseMediaType(a.header.Get("Content-Type")); err != nil || mt != indexType {
		t.Errorf("%s: Content-Type %q, want %s", a.what, a.header.Get("Content-Type"), indexType)
	}
	var doc struct {
		SchemaVersion int           `json:"schemaVersion"`
		MediaType     string        `json:"mediaType"`
		Manifests     *[]descriptor `json:"manifests"`
	}
	a.decode(t, &doc)
	if doc.SchemaVersion != 2 || doc.MediaType != indexType || doc.Manifests == nil {
		t.Errorf("%s: body is not an image index: %s", a.what, short(a.body))
		return nil, a
	}
	return *doc.Manifests, a
}

// referrers returns all referrers of a digest, over as many pages as it takes.
func (r *registry) referrers(t *testing.T, repo, digest string, pairs ...string) []descriptor {
	t.Helper()
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		q.Add(pairs[i], pairs[i+1])
	}
	var all []descriptor
	walk(t, r.path("%s/referrers/%s?%s", repo, digest, q.Encode()), func(target string) *answer {
		page, a := r.referrerPage(t, target)
		all = append(all, page...)
		return a
	})
	return all
}

func digests(ds []descriptor) []string {
	var out []string
	for _, d := range ds {
		out = append(out, d.Digest)
	}
	slices.Sort(out)
	return out
}

// attached pushes an artifact with the given subject and returns how the referrers API must describe it.
func (r *registry) attached(t *testing.T, repo string, subject descriptor, artifactType string, annotations map[string]string) descriptor {
	t.Helper()
	m := r.image(t, repo, func(i *image) {
		i.Subject, i.ArtifactType, i.Annotations = &subject, artifactType, annotations
	})
	r.put(t, repo, m.Digest, m).want(t, http.StatusCreated)
	d := m.descriptor
	d.ArtifactType, d.Annotations = artifactType, annotations
	if artifactType == "" {
		d.ArtifactType = configType
	}
	return d
}

func referrerList(t *testing.T, r *registry) {
	repo := r.repo()
	subject := r.pushed(t, repo, "v1").descriptor
	notes := map[string]string{"org.example.note": "eins & <zwei> \u00e4", "org.opencontainers.image.created": "2022-01-01T14:42:55Z"}
	want := []descriptor{
		r.attached(t, repo, subject, "application/vnd.example.sbom.v1", notes),
		r.attached(t, repo, subject, "", nil), // described with its config's media type
		r.attached(t, repo, subject, "application/vnd.example.signature.v1", nil),
	}
	// An artifact with the empty config, as tools make it; an index with and without artifactType.
	r.push(t, repo, []byte("{}"))
	empty := r.image(t, repo, func(i *image) {
		i.Config, i.Subject, i.ArtifactType = describe(emptyType, []byte("{}")), &subject, "application/vnd.example.empty"
	})
	plain := made(t, indexType, index{SchemaVersion: 2, MediaType: indexType, Manifests: []descriptor{}, Subject: &subject, Annotations: notes})
	typed := made(t, indexType, index{SchemaVersion: 2, MediaType: indexType, Manifests: []descriptor{}, Subject: &subject, ArtifactType: "application/vnd.example.index"})
	for _, m := range []manifest{empty, plain, typed} {
		r.put(t, repo, m.Digest, m).want(t, http.StatusCreated)
	}
	empty.ArtifactType, typed.ArtifactType, plain.Annotations = "application/vnd.example.empty", "application/vnd.example.index", notes
	want = append(want, empty.descriptor, plain.descriptor, typed.descriptor)
	// Not a referrer: no subject, another subject, another repository.
	r.pushed(t, repo, "v2")
	r.attached(t, repo, r.pushed(t, repo).descriptor, "application/vnd.example.other", nil)
	r.attached(t, r.repo(), subject, "application/vnd.example.elsewhere", nil)

	got := r.referrers(t, repo, subject.Digest)
	if !slices.Equal(digests(got), digests(want)) {
		t.Errorf("referrers are %v, want %v", digests(got), digests(want))
	}
	for _, w := range want {
		i := slices.IndexFunc(got, func(d descriptor) bool { return d.Digest == w.Digest })
		if i < 0 {
			continue
		}
		g := got[i]
		if g.MediaType != w.MediaType || g.Size != w.Size || g.ArtifactType != w.ArtifactType || !maps.Equal(g.Annotations, w.Annotations) {
			t.Errorf("referrer is described as\n%+v, want\n%+v", g, w)
		}
	}
}

func noReferrers(t *testing.T, r *registry) {
	repo := r.repo()
	there := r.pushed(t, repo, "v1")
	for _, c := range []struct{ repo, digest string }{
		{repo, there.Digest}, {repo, sha256Of(noise(8))}, {repo, sha512Of(noise(8))},
	} {
		if got := r.referrers(t, c.repo, c.digest); len(got) != 0 {
			t.Errorf("%s: referrers are %+v, want none", c.digest, got)
		}
	}
	// Of a repository that does not exist the API says nothing, but not 404: a client would take that for "no API"
	// and go for the referrers tag.
	a := r.do(t, http.MethodGet, r.path("%s/referrers/%s", r.repo(), there.Digest))
	if a.status == http.StatusNotFound {
		t.Errorf("%s: 404, which means that there is no referrers API", a.what)
	}
}

func referrersOfNothing(t *testing.T, r *registry) {
	repo := r.repo()
	r.pushed(t, repo, "v1")
	for _, bad := range []string{"v1", "sha256", "sha256:", "sha256:short", "sha256:" + strings.Repeat("z", 64), "sha256:" + strings.Repeat("A", 64), sha256Of(nil) + "0", "_:x"} {
		a := r.do(t, http.MethodGet, r.path("%s/referrers/%s", repo, bad))
		if a.status != http.StatusBadRequest {
			t.Errorf("digest %q: got %d, want 400; body: %s", bad, a.status, short(a.body))
		}
	}
}

func referrerFilter(t *testing.T, r *registry) {
	repo := r.repo()
	subject := r.pushed(t, repo, "v1").descriptor
	sbom := r.attached(t, repo, subject, "application/vnd.example.sbom+json", nil)
	sig := r.attached(t, repo, subject, "application/vnd.example.sig", nil)
	bare := r.attached(t, repo, subject, "", nil)
	for artifactType, want := range map[string][]descriptor{
		"application/vnd.example.sbom+json": {sbom}, "application/vnd.example.sig": {sig},
		configType: {bare}, "application/vnd.example.none": nil,
	} {
		page, a := r.referrerPage(t, r.path("%s/referrers/%s?artifactType=%s", repo, subject.Digest, url.QueryEscape(artifactType)))
		applied := a.header.Get("OCI-Filters-Applied")
		if applied == "" {
			r.optional(t, "%s: no OCI-Filters-Applied, the registry does not filter", a.what)
		}
		if applied != "artifactType" {
			t.Errorf("%s: OCI-Filters-Applied %q, want artifactType", a.what, applied)
		}
		if !slices.Equal(digests(page), digests(want)) {
			t.Errorf("artifactType %s: referrers are %v, want %v", artifactType, digests(page), digests(want))
		}
	}
	// Without a filter none is applied; a filter that nobody knows is not claimed to be.
	for _, q := range []string{"", "?nothing=known", "?artifactType="} {
		page, a := r.referrerPage(t, r.path("%s/referrers/%s%s", repo, subject.Digest, q))
		if applied := a.header.Get("OCI-Filters-Applied"); applied != "" && len(page) == 3 {
			t.Errorf("%s: OCI-Filters-Applied %q, but nothing was filtered", a.what, applied)
		}
	}
	// There is only one kind of filter: with one more parameter the list of applied ones is still a list with commas.
	_, a := r.referrerPage(t, r.path("%s/referrers/%s?artifactType=application/vnd.example.sig&annotation=x", repo, subject.Digest))
	for _, f := range strings.Split(a.header.Get("OCI-Filters-Applied"), ",") {
		if f = strings.TrimSpace(f); f != "artifactType" && f != "annotation" {
			t.Errorf("%s: OCI-Filters-Applied has %q, which was not asked for", a.what, f)
		}
	}
}

// referrerPages makes a list of about 9 MB: twice what a client must be able to read as one manifest.
func referrerPages(t *testing.T, r *registry) {
	repo := r.repo()
	subject := r.pushed(t, repo, "v1").descriptor
	config, layer := r.parts(t, repo)
	const count, each = 90, 100_000
	var want []string
	for i := range count {
		m := made(t, imageType, image{
			SchemaVersion: 2, MediaType: imageType, ArtifactType: "application/vnd.example.big", Config: config, Layers: []descriptor{layer},
			Subject: &subject, Annotations: map[string]string{"n": fmt.Sprint(i), "filler": strings.Repeat("x", each)},
		})
		r.put(t, repo, m.Digest, m).want(t, http.StatusCreated)
		want = append(want, m.Digest)
	}
	slices.Sort(want)
	for _, q := range []string{"", "?artifactType=application/vnd.example.big"} {
		var got []descriptor
		pages := 0
		walk(t, r.path("%s/referrers/%s%s", repo, subject.Digest, q), func(target string) *answer {
			pages++
			page, a := r.referrerPage(t, target)
			if len(a.body) > 4<<20 {
				t.Errorf("%s: a page has %d bytes, more than a manifest may have", a.what, len(a.body))
			}
			if q != "" && a.header.Get("OCI-Filters-Applied") == "" && r.ours {
				t.Errorf("%s: page %d lost the filter", a.what, pages)
			}
			got = append(got, page...)
			return a
		})
		if !slices.Equal(digests(got), want) {
			t.Errorf("in %d pages there are %d referrers, want each of %d once", pages, len(got), count)
		}
		if pages < 2 {
			t.Errorf("%d referrers of %d bytes came in %d page", count, each, pages)
		}
	}
}

func referrersChange(t *testing.T, r *registry) {
	repo := r.repo()
	subject := r.image(t, repo, nil)
	// Before the subject is there, and after.
	one := r.attached(t, repo, subject.descriptor, "application/vnd.example.one", nil)
	if got := r.referrers(t, repo, subject.Digest); !slices.Equal(digests(got), []string{one.Digest}) {
		t.Errorf("before the subject is there: referrers are %v, want %s", digests(got), one.Digest)
	}
	r.put(t, repo, "v1", subject).want(t, http.StatusCreated)
	two := r.attached(t, repo, subject.descriptor, "application/vnd.example.two", nil)
	if got := r.referrers(t, repo, subject.Digest); !slices.Equal(digests(got), digests([]descriptor{one, two})) {
		t.Errorf("after the subject came: referrers are %v, want two", digests(got))
	}
	r.do(t, http.MethodDelete, r.path("%s/manifests/%s", repo, one.Digest)).want(t, http.StatusAccepted)
	if got := r.referrers(t, repo, subject.Digest); !slices.Equal(digests(got), []string{two.Digest}) {
		t.Errorf("after one was deleted: referrers are %v, want %s", digests(got), two.Digest)
	}
	// A referrer of a referrer.
	three := r.attached(t, repo, descriptor{MediaType: imageType, Digest: two.Digest, Size: two.Size}, "application/vnd.example.three", nil)
	if got := r.referrers(t, repo, two.Digest); !slices.Equal(digests(got), []string{three.Digest}) {
		t.Errorf("referrers of a referrer are %v, want %s", digests(got), three.Digest)
	}
}

// A client that met an older registry keeps the list itself, under a tag. What it lists and what the registry knows
// is one answer.
func fallbackTag(t *testing.T, r *registry) {
	repo := r.repo()
	for _, digest := range []func([]byte) string{sha256Of, sha512Of} {
		subject := r.image(t, repo, nil)
		subject.Digest = digest(subject.body)
		a := r.put(t, repo, subject.Digest, subject)
		if a.status != http.StatusCreated && strings.HasPrefix(subject.Digest, "sha512:") {
			r.optional(t, "%s: %d, the registry does not know sha512", a.what, a.status)
		}
		a.want(t, http.StatusCreated)
		listed := r.attached(t, repo, subject.descriptor, "application/vnd.example.listed", map[string]string{"k": "v"})
		known := r.attached(t, repo, subject.descriptor, "application/vnd.example.known", nil)
		list := made(t, indexType, index{SchemaVersion: 2, MediaType: indexType, Manifests: []descriptor{listed}})
		algorithm, encoded, _ := strings.Cut(subject.Digest, ":")
		tag := algorithm + "-" + encoded[:64]
		r.put(t, repo, tag, list).want(t, http.StatusCreated)

		got := r.referrers(t, repo, subject.Digest)
		if want := digests([]descriptor{listed, known}); !slices.Equal(digests(got), want) {
			t.Errorf("referrers of %s are %v, want %v", subject.Digest, digests(got), want)
		}
		filtered := r.referrers(t, repo, subject.Digest, "artifactType", "application/vnd.example.listed")
		if !slices.Equal(digests(filtered), []string{listed.Digest}) {
			t.Errorf("filtered, referrers of %s are %v, want %s", subject.Digest, digests(filtered), listed.Digest)
		}
		// The tag is the client's own: it stays as it was pushed.
		r.getManifest(t, repo, tag).want(t, http.StatusOK).same(t, list.body)
	}
}
