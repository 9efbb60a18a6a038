package registry_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/registry"
)

func TestPutManifestNeedsItsBlobs(t *testing.T) {
	eachDatabase(t, func(t *testing.T, database func(*options)) {
		h := newHouse(t, database)
		h.pushBlob(t, admin(), "team/app", "{}")
		h.pushBlob(t, admin(), "team/other", "layer") // there, but not in this repository
		push := registry.PutManifest{Reference: tagged("1"), MediaType: oci.MediaTypeManifest, Body: imageOf("{}", "layer", "")}
		_, err := h.PutManifest(admin(), repo("team/app"), push)
		if !fault.Has(err, fault.ManifestBlobUnknown) || !strings.Contains(err.Error(), digestOf("layer").String()) || !strings.Contains(err.Error(), "1 missing") {
			t.Fatalf("%v", err)
		}
		// Nothing of a refused push stays.
		if got := h.tags(t, "team/app"); len(got) > 0 {
			t.Errorf("tags %v", got)
		}
		h.has(t, "team/app", byDigest(digestOf(string(push.Body))), oci.Digest{})
		if ok, err := h.Mount(admin(), repo("team/app"), digestOf("layer"), repo("team/other")); err != nil || !ok {
			t.Fatalf("%v, %v", ok, err)
		}
		h.put(t, admin(), "team/app", push)
	})
}

func TestPutManifestWithoutBlobs(t *testing.T) {
	h := newHouse(t)
	h.pushBlob(t, admin(), "team/app", "{}")
	absent := digestOf("absent").String()
	layer := func(fields string) string {
		return `{"schemaVersion":2,"config":{"mediaType":"a/b","digest":"` + digestOf("{}").String() + `","size":2},"layers":[{"digest":"` + absent + `","size":1,` + fields + `}]}`
	}
	for name, p := range map[string]registry.PutManifest{
		"layer with URLs":           {MediaType: oci.MediaTypeManifest, Body: []byte(layer(`"mediaType":"a/b","urls":["https://example.com/x"]`))},
		"layer that is foreign":     {MediaType: oci.MediaTypeDockerManifest, Body: []byte(layer(`"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"`))},
		"index of absent manifests": {MediaType: oci.MediaTypeIndex, Body: []byte(`{"schemaVersion":2,"manifests":[{"mediaType":"` + oci.MediaTypeManifest + `","digest":"` + absent + `","size":1}]}`)},
		"absent subject":            {MediaType: oci.MediaTypeManifest, Body: []byte(`{"schemaVersion":2,"config":{"mediaType":"a/b","digest":"` + digestOf("{}").String() + `","size":2},"layers":[],"subject":{"mediaType":"a/b","digest":"` + absent + `","size":1}}`)},
		"type of its own":           {MediaType: "application/vnd.example+json", Body: []byte(`{"hello":"world"}`)},
	} {
		p.Reference = tagged("1")
		out, err := h.PutManifest(admin(), repo("team/app"), p)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if m, err := h.Manifest(admin(), repo("team/app"), tagged("1")); err != nil || string(m.Body) != string(p.Body) || m.MediaType != p.MediaType || m.Digest != out.Digest {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
		if subject := name == "absent subject"; out.Subject.IsZero() == subject {
			t.Errorf("%s: subject %s", name, out.Subject)
		}
	}
}

func TestPutManifestByDigest(t *testing.T) {
	eachDatabase(t, func(t *testing.T, database func(*options)) {
		h := newHouse(t, database)
		p := index("", "x")
		for _, a := range []oci.Algorithm{oci.SHA256, oci.SHA512} {
			d := oci.FromBytes(a, p.Body)
			p.Reference = byDigest(d)
			p.Tags = []string{"b", "a", "b"}
			out, err := h.PutManifest(admin(), repo("team/app"), p)
			if err != nil || out.Digest != d || !slices.Equal(out.Tags, []string{"a", "b"}) {
				t.Fatalf("%+v, %v", out, err)
			}
			h.has(t, "team/app", byDigest(d), d)
			h.has(t, "team/app", tagged("a"), d)
			h.has(t, "team/app", tagged("b"), d)
		}
		// A tag push may ask for the algorithm.
		p.Reference, p.Tags, p.Algorithm = tagged("c"), nil, oci.SHA512
		if out, err := h.PutManifest(admin(), repo("team/app"), p); err != nil || out.Digest.Algorithm() != oci.SHA512 {
			t.Errorf("%+v, %v", out, err)
		}
	})
}

func TestPutManifestRefuses(t *testing.T) {
	h := newHouse(t, func(o *options) { o.registry.Limits = registry.Limits{Manifest: 1000} })
	valid := index("1", "x")
	tags := func(n int) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprint("t", i))
		}
		return out
	}
	with := func(change func(*registry.PutManifest)) registry.PutManifest {
		p := valid
		change(&p)
		return p
	}
	own := digestOf(string(valid.Body))
	for name, test := range map[string]struct {
		push   registry.PutManifest
		kind   fault.Kind
		reason fault.Reason
	}{
		"other digest":   {with(func(p *registry.PutManifest) { p.Reference = byDigest(digestOf("other")) }), fault.Invalid, fault.DigestInvalid},
		"101 tags":       {with(func(p *registry.PutManifest) { p.Reference, p.Tags = byDigest(own), tags(101) }), fault.Invalid, fault.TagInvalid},
		"malformed tag":  {with(func(p *registry.PutManifest) { p.Reference, p.Tags = byDigest(own), []string{"ok", "../x"} }), fault.Invalid, fault.TagInvalid},
		"too large":      {with(func(p *registry.PutManifest) { p.Body = index("1", strings.Repeat("x", 1000)).Body }), fault.TooLarge, fault.ManifestInvalid},
		"malformed":      {with(func(p *registry.PutManifest) { p.Body = []byte("{") }), fault.Invalid, fault.ManifestInvalid},
		"no media type":  {with(func(p *registry.PutManifest) { p.MediaType = "" }), fault.Invalid, fault.ManifestInvalid},
		"other document": {with(func(p *registry.PutManifest) { p.MediaType = oci.MediaTypeManifest }), fault.Invalid, fault.ManifestInvalid},
	} {
		if _, err := h.PutManifest(admin(), repo("team/app"), test.push); !fault.Is(err, test.kind) || !fault.Has(err, test.reason) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := h.Tags(admin(), repo("team/app"), "", -1); !fault.Has(err, fault.NameUnknown) {
		t.Errorf("a refused push made the repository: %v", err)
	}
	if _, err := h.PutManifest(admin(), repo("team/app"), with(func(p *registry.PutManifest) { p.Reference, p.Tags = byDigest(own), tags(100) })); err != nil {
		t.Errorf("as many tags as are allowed: %v", err)
	}
	// Limits change while the daemon runs.
	h.SetLimits(registry.Limits{Manifest: 10})
	if _, err := h.PutManifest(admin(), repo("team/app"), valid); !fault.Is(err, fault.TooLarge) || h.ManifestLimit() != 10 {
		t.Errorf("%v", err)
	}
}

func TestDeleteBlobThatIsNeeded(t *testing.T) {
	h := newHouse(t)
	d, _ := h.pushImage(t, admin(), "team/app", "1", "layer")
	if err := h.DeleteBlob(admin(), repo("team/app"), digestOf("layer")); !fault.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), d.Short()) {
		t.Errorf("%v", err)
	}
	if _, err := h.StatBlob(admin(), repo("team/app"), digestOf("layer")); err != nil {
		t.Errorf("a refused delete deleted: %v", err)
	}
	if _, err := h.DeleteManifest(admin(), repo("team/app"), byDigest(d)); err != nil {
		t.Fatal(err)
	}
	if err := h.DeleteBlob(admin(), repo("team/app"), digestOf("layer")); err != nil {
		t.Error(err)
	}
	if err := h.DeleteBlob(admin(), repo("team/app"), digestOf("layer")); !fault.Has(err, fault.BlobUnknown) {
		t.Errorf("deleted twice: %v", err)
	}
}

// The first push to a project makes it: private for an account, public for everybody's push.
func TestPushMakesProject(t *testing.T) {
	h := newHouse(t, func(o *options) { o.access.Anonymous = 2 })
	for _, test := range []struct {
		name   string
		push   func() error
		public bool
	}{
		{"team", func() error { _, err := h.PutManifest(user("alice"), repo("team/app"), index("1", "x")); return err }, false},
		{"open", func() error { _, err := h.PutManifest(anonymous(), repo("open/app"), index("1", "x")); return err }, true},
		{"library", func() error { _, err := h.PutManifest(user("alice"), repo("app"), index("1", "x")); return err }, true},
	} {
		if err := test.push(); err != nil {
			t.Fatal(err)
		}
		p, err := h.db.Project(t.Context(), test.name)
		if err != nil || p.Public != test.public {
			t.Errorf("project %s: %+v, %v; want public %v", test.name, p, err, test.public)
		}
	}
	if _, err := h.PutManifest(anonymous(), repo("team/app"), index("2", "y")); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("anonymous push to a private project: %v", err)
	}
}
