package registry_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/access"
	"github.com/berth-registry/berth/server/blob/mem"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/metadb/metadbtest"
	"github.com/berth-registry/berth/server/project"
	"github.com/berth-registry/berth/server/registry"
)

// house is an engine with real neighbours: SQLite in a folder (or PostgreSQL), blobs in memory.
type house struct {
	*registry.Service
	db *metadb.DB
}

// options are what a test may change of a house.
type options struct {
	registry registry.Options
	access   access.Options
	database string // DSN; "" is SQLite
}

func newHouse(t testing.TB, change ...func(*options)) *house {
	t.Helper()
	o := options{access: access.Options{Anonymous: access.Pull, Users: access.Push}}
	for _, c := range change {
		c(&o)
	}
	log := slog.New(slog.DiscardHandler)
	if o.registry.Now == nil {
		o.registry.Now = time.Now
	}
	db, err := metadb.Open(t.Context(), metadb.Options{URL: o.database, Path: metadbtest.File(t), Log: log, Now: o.registry.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	projects, err := project.NewDirectory(t.Context(), project.DirectoryOptions{DB: db})
	if err != nil {
		t.Fatal(err)
	}
	o.access.Projects = projects
	r := o.registry
	r.DB, r.Access, r.Projects, r.Log = db, access.New(o.access), projects, log
	if r.Blobs == nil {
		r.Blobs = mem.New()
	}
	return &house{registry.New(r), db}
}

// eachDatabase runs a test on SQLite and on PostgreSQL.
func eachDatabase(t *testing.T, test func(t *testing.T, database func(*options))) {
	t.Run("sqlite", func(t *testing.T) { test(t, func(*options) {}) })
	t.Run("postgres", func(t *testing.T) {
		if testing.Short() {
			t.Skip("PostgreSQL takes seconds to start")
		}
		dsn := metadbtest.Postgres(t)
		test(t, func(o *options) { o.database = dsn })
	})
}

func with(p identity.Principal) context.Context { return identity.With(context.Background(), p) }
func admin() context.Context {
	return with(identity.Principal{Kind: identity.User, Name: "admin", Admin: true})
}
func anonymous() context.Context { return with(identity.Principal{Kind: identity.Anonymous}) }
func user(name string) context.Context {
	return with(identity.Principal{Kind: identity.User, Name: name})
}
func repo0() ref.Name                     { return ref.Name{} }
func digestOf(content string) oci.Digest  { return oci.FromBytes(oci.SHA256, []byte(content)) }
func tagged(t string) ref.Reference       { return ref.Reference{Tag: t} }
func byDigest(d oci.Digest) ref.Reference { return ref.Reference{Digest: d} }

// token narrows the caller to verbs on the repository; further repositories may stand among the verbs.
func token(ctx context.Context, repository string, verbs ...identity.Verb) context.Context {
	p := identity.From(ctx)
	p.Grants = &identity.Grants{}
	names := []string{repository}
	var kept []identity.Verb
	for _, v := range verbs {
		if strings.Contains(string(v), "/") {
			names = append(names, string(v))
		} else {
			kept = append(kept, v)
		}
	}
	for _, n := range names {
		p.Grants.List = append(p.Grants.List, identity.Grant{Repository: n, Verbs: kept})
	}
	return with(p)
}

func repo(s string) ref.Name {
	n, err := ref.ParseName(s)
	if err != nil {
		panic(err)
	}
	return n
}

// index is a push of an index without children; note makes it another one.
func index(tag, note string) registry.PutManifest {
	return registry.PutManifest{Reference: tagged(tag), MediaType: oci.MediaTypeIndex, Body: []byte(`{"schemaVersion":2,"manifests":[],"annotations":{"note":"` + note + `"}}`)}
}

func (h *house) pushBlob(t testing.TB, ctx context.Context, name, content string) oci.Digest {
	t.Helper()
	d := digestOf(content)
	if err := h.PutBlob(ctx, repo(name), d, registry.Chunk{Start: -1, Length: int64(len(content)), Body: strings.NewReader(content)}); err != nil {
		t.Fatal(err)
	}
	return d
}

// imageOf is the manifest of an image with one layer.
func imageOf(config, layer string, more string) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]%s}`,
		oci.MediaTypeManifest, digestOf(config), len(config), digestOf(layer), len(layer), more)
}

// pushImage pushes an image whose layer is the content, and returns its digest and bytes.
func (h *house) pushImage(t testing.TB, ctx context.Context, name, tag, content string) (oci.Digest, []byte) {
	t.Helper()
	h.pushBlob(t, ctx, name, "{}")
	h.pushBlob(t, ctx, name, content)
	body := imageOf("{}", content, "")
	return h.put(t, ctx, name, registry.PutManifest{Reference: tagged(tag), MediaType: oci.MediaTypeManifest, Body: body}), body
}

func (h *house) put(t testing.TB, ctx context.Context, name string, p registry.PutManifest) oci.Digest {
	t.Helper()
	out, err := h.PutManifest(ctx, repo(name), p)
	if err != nil {
		t.Fatal(err)
	}
	return out.Digest
}

// has asserts what a reference names; the zero digest is nothing.
func (h *house) has(t testing.TB, name string, r ref.Reference, want oci.Digest) {
	t.Helper()
	m, err := h.Manifest(admin(), repo(name), r)
	switch {
	case want.IsZero() && !fault.Has(err, fault.ManifestUnknown):
		t.Errorf("%s of %s: %+v, %v; want MANIFEST_UNKNOWN", r, name, m, err)
	case !want.IsZero() && (err != nil || m.Digest != want):
		t.Errorf("%s of %s: %+v, %v; want %s", r, name, m, err, want)
	}
}

func (h *house) tags(t testing.TB, name string) []string {
	t.Helper()
	page, err := h.Tags(admin(), repo(name), "", -1)
	if err != nil {
		t.Fatal(err)
	}
	return page.Names
}

func TestPushPullRetagDelete(t *testing.T) {
	eachDatabase(t, func(t *testing.T, database func(*options)) {
		h := newHouse(t, database)
		one, body := h.pushImage(t, admin(), "team/app", "1", "first")
		for _, r := range []ref.Reference{tagged("1"), byDigest(one)} {
			m, err := h.Manifest(user("alice"), repo("team/app"), r)
			if err != nil || m.Digest != one || string(m.Body) != string(body) || m.MediaType != oci.MediaTypeManifest {
				t.Fatalf("%s: %+v, %v", r, m, err)
			}
		}
		two, _ := h.pushImage(t, user("alice"), "team/app", "1", "second")
		h.put(t, admin(), "team/app", registry.PutManifest{Reference: tagged("latest"), MediaType: oci.MediaTypeManifest, Body: body})
		h.has(t, "team/app", tagged("1"), two)
		h.has(t, "team/app", byDigest(one), one) // a tag that moves on leaves what it named
		h.has(t, "team/app", tagged("latest"), one)
		h.has(t, "team/app", tagged("absent"), oci.Digest{})
		if got := h.tags(t, "team/app"); !slices.Equal(got, []string{"1", "latest"}) {
			t.Errorf("tags %v", got)
		}

		if _, err := h.DeleteManifest(user("alice"), repo("team/app"), tagged("1")); !fault.Is(err, fault.Denied) {
			t.Errorf("a user who may push deletes: %v", err)
		}
		if _, err := h.DeleteManifest(admin(), repo("team/app"), tagged("1")); err != nil {
			t.Fatal(err)
		}
		h.has(t, "team/app", tagged("1"), oci.Digest{})
		h.has(t, "team/app", byDigest(two), two) // a tag is deleted alone
		if _, err := h.DeleteManifest(admin(), repo("team/app"), tagged("1")); !fault.Has(err, fault.ManifestUnknown) {
			t.Errorf("deleted twice: %v", err)
		}
		h.put(t, admin(), "team/app", registry.PutManifest{Reference: tagged("also"), MediaType: oci.MediaTypeManifest, Body: body})
		if _, err := h.DeleteManifest(admin(), repo("team/app"), byDigest(one)); err != nil {
			t.Fatal(err)
		}
		for _, r := range []ref.Reference{byDigest(one), tagged("latest"), tagged("also")} {
			h.has(t, "team/app", r, oci.Digest{}) // a manifest takes its tags with it
		}
		if got := h.tags(t, "team/app"); len(got) > 0 {
			t.Errorf("tags %v", got)
		}
		h.has(t, "team/app", byDigest(two), two)

		// The same bytes come back when they are pushed again, without their blobs.
		if got := h.put(t, admin(), "team/app", registry.PutManifest{Reference: tagged("back"), MediaType: oci.MediaTypeManifest, Body: body}); got != one {
			t.Errorf("%s, want %s", got, one)
		}
		h.has(t, "team/app", tagged("back"), one)
	})
}

func TestManifestOfAnotherRepository(t *testing.T) {
	h := newHouse(t)
	d, _ := h.pushImage(t, admin(), "secret/app", "1", "secret")
	h.pushImage(t, admin(), "library/open", "1", "open")
	h.has(t, "secret/app", byDigest(d), d)
	h.has(t, "library/open", byDigest(d), oci.Digest{})
	// A manifest is a blob of its repository, as old clients read it, or not at all; never one of another.
	if _, err := h.StatBlob(admin(), repo("library/open"), d); !fault.Has(err, fault.BlobUnknown) {
		t.Errorf("%v", err)
	}
	if _, err := h.Manifest(admin(), repo("secret/none"), tagged("1")); !fault.Has(err, fault.NameUnknown) || !fault.Is(err, fault.NotFound) {
		t.Errorf("a repository that is not there: %v", err)
	}
}

func TestUnknownTagNamesTheNewest(t *testing.T) {
	h := newHouse(t)
	for i := range 5 {
		h.put(t, admin(), "team/app", index(fmt.Sprint("v", i), fmt.Sprint(i)))
	}
	_, err := h.Manifest(admin(), repo("team/app"), tagged("v9"))
	if want := "tag v9 is not in team/app; newest: v4, v3, v2"; err == nil || err.Error() != want {
		t.Errorf("%v; want %s", err, want)
	}
	for i := range 5 {
		if _, err := h.DeleteManifest(admin(), repo("team/app"), tagged(fmt.Sprint("v", i))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.Manifest(admin(), repo("team/app"), tagged("v9")); err == nil || err.Error() != "tag v9 is not in team/app; it has no tags" {
		t.Errorf("%v", err)
	}
}

func TestSwitchedOff(t *testing.T) {
	off := newHouse(t, func(o *options) { o.registry.NoDelete = true })
	d, _ := off.pushImage(t, admin(), "team/app", "1", "content")
	for what, err := range map[string]error{ // all three: CVE-2026-41888 of distribution forgot one
		"tag":    second(off.DeleteManifest(admin(), repo("team/app"), tagged("1"))),
		"digest": second(off.DeleteManifest(admin(), repo("team/app"), byDigest(d))),
		"blob":   off.DeleteBlob(admin(), repo("team/app"), digestOf("content")),
	} {
		if !fault.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), "storage.delete.enabled") {
			t.Errorf("delete of a %s: %v", what, err)
		}
	}
	off.has(t, "team/app", tagged("1"), d)
	if _, err := off.StatBlob(admin(), repo("team/app"), digestOf("content")); err != nil {
		t.Error(err)
	}

	h := newHouse(t, func(o *options) { o.registry.ReadOnly = true })
	for name, call := range gated() {
		err := call(admin(), h)
		writes := slices.Contains([]string{"DeleteBlob", "Mount", "PutBlob", "Commit", "StartUpload", "Append", "CancelUpload", "PutManifest", "DeleteManifest", "UploadStatus",
			"RollbackTag", "RestoreTag", "RestoreManifest", "PurgeTrash", "PutSignature", "EmptyRepository", "Retag"}, name)
		if fault.Is(err, fault.Unsupported) != writes {
			t.Errorf("%s while the registry is read-only: %v", name, err)
		}
	}
}

// What is pushed and deleted is announced in the order in which it happened, and nothing else is.
func TestEvents(t *testing.T) {
	eachDatabase(t, func(t *testing.T, database func(*options)) {
		h := newHouse(t, database)
		one := h.put(t, user("alice"), "team/app", index("1", "a"))
		h.put(t, user("alice"), "team/app", index("1", "a")) // nothing new
		two := h.put(t, admin(), "team/app", index("1", "b"))
		_, _ = h.PutManifest(admin(), repo("team/app"), registry.PutManifest{Reference: tagged("2"), MediaType: oci.MediaTypeManifest, Body: imageOf("x", "y", "")}) // refused
		if _, err := h.DeleteManifest(admin(), repo("team/app"), byDigest(two)); err != nil {
			t.Fatal(err)
		}
		events, err := h.db.Events(t.Context(), event.Cursor{}, 100)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range events {
			got = append(got, strings.Join([]string{e.Kind, e.Repository, e.Digest.String(), e.Tag, e.Principal}, " "))
		}
		want := []string{
			"manifest.pushed team/app " + one.String() + "  alice",
			"tag.moved team/app " + one.String() + " 1 alice",
			"manifest.pushed team/app " + two.String() + "  admin",
			"tag.moved team/app " + two.String() + " 1 admin",
			"tag.deleted team/app " + two.String() + " 1 admin",
			"manifest.deleted team/app " + two.String() + "  admin",
		}
		if !slices.Equal(got, want) {
			t.Errorf("\n got %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		}
	})
}
