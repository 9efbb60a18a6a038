package registry_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/registry"
)

// attach pushes an artifact with a subject and returns its digest.
func (h *house) attach(t *testing.T, name string, subject oci.Digest, artifactType, note string) oci.Digest {
	t.Helper()
	h.pushBlob(t, admin(), name, "{}")
	body := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"artifactType":%q,"config":{"mediaType":%q,"digest":%q,"size":2},"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":7},"annotations":{"note":%q}}`,
		oci.MediaTypeManifest, artifactType, oci.MediaTypeEmpty, digestOf("{}"), oci.MediaTypeManifest, subject, note)
	return h.put(t, admin(), name, registry.PutManifest{Reference: byDigest(digestOf(string(body))), MediaType: oci.MediaTypeManifest, Body: body})
}

// referrers walks all pages and returns the descriptors.
func (h *house) referrers(t *testing.T, name string, q registry.ReferrersQuery) (all []oci.Descriptor) {
	t.Helper()
	for range 1000 {
		page, err := h.Referrers(anonymous(), repo(name), q)
		if err != nil {
			t.Fatal(err)
		}
		var ds []oci.Descriptor
		if err := json.Unmarshal([]byte("["+string(page.Descriptors)+"]"), &ds); err != nil {
			t.Fatalf("%v in %s", err, page.Descriptors)
		}
		all = append(all, ds...)
		if page.Next.IsZero() {
			return all
		}
		if q.Limit > 0 && len(ds) != q.Limit {
			t.Fatalf("a page of %d has %d descriptors and is not the last", q.Limit, len(ds))
		}
		q.After = page.Next
	}
	t.Fatal("the pages have no end")
	return nil
}

func digests(ds []oci.Descriptor) []string {
	out := make([]string, len(ds))
	for i, d := range ds {
		out[i] = d.Digest.String()
	}
	slices.Sort(out)
	return out
}

func mustDigest(t *testing.T, s string) oci.Digest {
	t.Helper()
	d, err := oci.ParseDigest(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestReferrers(t *testing.T) {
	eachDatabase(t, func(t *testing.T, database func(*options)) {
		h := newHouse(t, database)
		subject, _ := h.pushImage(t, admin(), "library/app", "1", "content")
		var sboms, all []string
		for i := range 25 {
			kind := "application/vnd.example.signature"
			if i%5 == 0 {
				kind = "application/spdx+json"
			}
			d := h.attach(t, "library/app", subject, kind, fmt.Sprint(i)).String()
			all = append(all, d)
			if i%5 == 0 {
				sboms = append(sboms, d)
			}
		}
		h.attach(t, "library/other", subject, "application/spdx+json", "of another repository")
		h.attach(t, "library/app", digestOf("another subject"), "application/spdx+json", "of another subject")
		slices.Sort(all)
		slices.Sort(sboms)
		for _, limit := range []int{0, 1, 7, 24, 25, 26, 1 << 30} {
			if got := digests(h.referrers(t, "library/app", registry.ReferrersQuery{Subject: subject, Limit: limit})); !slices.Equal(got, all) {
				t.Errorf("pages of %d: %d descriptors %v", limit, len(got), got)
			}
		}
		for _, limit := range []int{0, 2, 5} {
			got := h.referrers(t, "library/app", registry.ReferrersQuery{Subject: subject, ArtifactType: "application/spdx+json", Limit: limit})
			if !slices.Equal(digests(got), sboms) {
				t.Errorf("filtered, pages of %d: %v", limit, digests(got))
			}
			for _, d := range got {
				if d.ArtifactType != "application/spdx+json" || d.MediaType != oci.MediaTypeManifest || d.Size < 100 || d.Annotations["note"] == "" {
					t.Errorf("%+v", d)
				}
			}
		}
		if got := h.referrers(t, "library/app", registry.ReferrersQuery{Subject: subject, ArtifactType: "application/%"}); len(got) > 0 {
			t.Errorf("the filter is a pattern: %v", got)
		}
		// Deleted ones go; the subject need not be there.
		if _, err := h.DeleteManifest(admin(), repo("library/app"), byDigest(mustDigest(t, all[0]))); err != nil {
			t.Fatal(err)
		}
		if _, err := h.DeleteManifest(admin(), repo("library/app"), byDigest(subject)); err != nil {
			t.Fatal(err)
		}
		if got := digests(h.referrers(t, "library/app", registry.ReferrersQuery{Subject: subject})); !slices.Equal(got, all[1:]) {
			t.Errorf("after the deletes: %v", got)
		}
		if got := h.referrers(t, "library/absent", registry.ReferrersQuery{Subject: subject}); len(got) > 0 {
			t.Errorf("a repository that is not there: %v", got)
		}
	})
}

// What a client without the referrers API kept under the fallback tag, and what was pushed before this registry knew
// subjects, is in the same answer, once, and only what is there.
func TestReferrersMergesFallback(t *testing.T) {
	for _, algorithm := range []oci.Algorithm{oci.SHA256, oci.SHA512} {
		t.Run(string(algorithm), func(t *testing.T) {
			h := newHouse(t)
			subject := oci.FromBytes(algorithm, []byte("subject"))
			listed := h.attach(t, "library/app", subject, "application/spdx+json", "in both")
			old := h.put(t, admin(), "library/app", index("old", "pushed without a subject"))
			gone := digestOf("was deleted")
			fallback := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[
				{"mediaType":%q,"digest":%q,"size":1,"artifactType":"application/spdx+json"},
				{"mediaType":%q,"digest":%q,"size":9,"artifactType":"application/vnd.example.old","x-kept":"as it is"},
				{"mediaType":%q,"digest":%q,"size":1}]}`, oci.MediaTypeIndex, oci.MediaTypeManifest, listed, oci.MediaTypeIndex, old, oci.MediaTypeIndex, gone)
			tag := registry.FallbackTag(subject)
			if want := string(algorithm) + "-" + subject.Hex()[:64]; tag != want {
				t.Fatalf("tag %s, want %s", tag, want)
			}
			h.put(t, admin(), "library/app", registry.PutManifest{Reference: tagged(tag), MediaType: oci.MediaTypeIndex, Body: []byte(fallback)})
			want := []string{listed.String(), old.String()}
			slices.Sort(want)
			for _, limit := range []int{0, 1} {
				if got := digests(h.referrers(t, "library/app", registry.ReferrersQuery{Subject: subject, Limit: limit})); !slices.Equal(got, want) {
					t.Errorf("limit %d: %v, want %v", limit, got, want)
				}
			}
			for kind, want := range map[string]oci.Digest{"application/spdx+json": listed, "application/vnd.example.old": old} {
				if got := h.referrers(t, "library/app", registry.ReferrersQuery{Subject: subject, ArtifactType: kind}); len(got) != 1 || got[0].Digest != want {
					t.Errorf("%s: %+v", kind, got)
				}
			}
			page, err := h.Referrers(admin(), repo("library/app"), registry.ReferrersQuery{Subject: subject})
			if err != nil || !strings.Contains(string(page.Descriptors), `"x-kept":"as it is"`) {
				t.Errorf("a descriptor was made anew: %s, %v", page.Descriptors, err)
			}
			// The tag may name anything.
			h.put(t, admin(), "library/app", registry.PutManifest{Reference: tagged(tag), MediaType: "application/vnd.example+json", Body: []byte(`{"hello":[]}`)})
			if got := h.referrers(t, "library/app", registry.ReferrersQuery{Subject: subject}); len(got) != 1 || got[0].Digest != listed {
				t.Errorf("with an odd fallback: %+v", got)
			}
		})
	}
}

// A page stays below what clients read, however large the annotations are.
func TestReferrersPageIsBounded(t *testing.T) {
	h := newHouse(t)
	subject := digestOf("subject")
	for i := range 12 {
		h.attach(t, "library/app", subject, "application/x", fmt.Sprint(i)+strings.Repeat("x", 900<<10))
	}
	var q registry.ReferrersQuery
	q.Subject = subject
	seen := 0
	for range 20 {
		page, err := h.Referrers(admin(), repo("library/app"), q)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Descriptors) > 4<<20 {
			t.Errorf("a page has %d bytes", len(page.Descriptors))
		}
		seen += strings.Count(string(page.Descriptors), `"digest"`)
		if q.After = page.Next; q.After.IsZero() {
			break
		}
	}
	if seen != 12 {
		t.Errorf("%d descriptors, want 12", seen)
	}
}
