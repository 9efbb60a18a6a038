package registry_test

import (
	"context"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/access"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/registry"
)

// gated calls every method that acts for a caller. A method of Service is here, or in ungated with the reason.
func gated() map[string]func(ctx context.Context, h *house) error {
	name, some := repo("team/app"), digestOf("nothing has this content")
	none := registry.Chunk{Start: -1, Length: 0, Body: strings.NewReader("")}
	drop := func(_ any, err error) error { return err }
	return map[string]func(ctx context.Context, h *house) error{
		"StatBlob":       func(ctx context.Context, h *house) error { return drop(h.StatBlob(ctx, name, some)) },
		"OpenBlob":       func(ctx context.Context, h *house) error { _, _, err := h.OpenBlob(ctx, name, some); return err },
		"BlobURL":        func(ctx context.Context, h *house) error { _, _, err := h.BlobURL(ctx, name, some); return err },
		"DeleteBlob":     func(ctx context.Context, h *house) error { return h.DeleteBlob(ctx, name, some) },
		"Mount":          func(ctx context.Context, h *house) error { return drop(h.Mount(ctx, name, some, repo("team/other"))) },
		"PutBlob":        func(ctx context.Context, h *house) error { return h.PutBlob(ctx, name, digestOf(""), none) },
		"Commit":         func(ctx context.Context, h *house) error { return h.Commit(ctx, name, "id", some, none) },
		"StartUpload":    func(ctx context.Context, h *house) error { return drop(h.StartUpload(ctx, name, oci.SHA256)) },
		"UploadStatus":   func(ctx context.Context, h *house) error { return drop(h.UploadStatus(ctx, name, "id")) },
		"CancelUpload":   func(ctx context.Context, h *house) error { return h.CancelUpload(ctx, name, "id") },
		"Append":         func(ctx context.Context, h *house) error { return drop(h.Append(ctx, name, "id", none)) },
		"Manifest":       func(ctx context.Context, h *house) error { return drop(h.Manifest(ctx, name, tagged("1"))) },
		"StatManifest":   func(ctx context.Context, h *house) error { return drop(h.StatManifest(ctx, name, tagged("1"))) },
		"PutManifest":    func(ctx context.Context, h *house) error { return drop(h.PutManifest(ctx, name, index("1", ""))) },
		"DeleteManifest": func(ctx context.Context, h *house) error { return drop(h.DeleteManifest(ctx, name, tagged("1"))) },
		"Tags":           func(ctx context.Context, h *house) error { return drop(h.Tags(ctx, name, "", -1)) },
		"Referrers": func(ctx context.Context, h *house) error {
			return drop(h.Referrers(ctx, name, registry.ReferrersQuery{Subject: some}))
		},
		"Attached":   func(ctx context.Context, h *house) error { return drop(h.Attached(ctx, name, some)) },
		"TagHistory": func(ctx context.Context, h *house) error { return drop(h.TagHistory(ctx, name, "1", time.Time{}, 0)) },
		"TagAt":      func(ctx context.Context, h *house) error { return drop(h.TagAt(ctx, name, "1", time.Now())) },
		"ListTags": func(ctx context.Context, h *house) error {
			_, _, err := h.ListTags(ctx, name, metadb.Order{By: metadb.ByMoved}, "", 0)
			return err
		},
		"TagsAt":      func(ctx context.Context, h *house) error { return drop(h.TagsAt(ctx, name, time.Now(), "", 0)) },
		"DeletedTags": func(ctx context.Context, h *house) error { return drop(h.DeletedTags(ctx, name, "", 0)) },
		"RollbackTag": func(ctx context.Context, h *house) error {
			return drop(h.RollbackTag(ctx, name, "1", registry.Rollback{Digest: some}))
		},
		"RestoreTag": func(ctx context.Context, h *house) error { return drop(h.RestoreTag(ctx, name, "1")) },
		"Trash": func(ctx context.Context, h *house) error {
			if err := drop(h.Trash(ctx, name, registry.TrashQuery{})); !fault.Is(err, fault.Denied) {
				return err
			}
			return drop(h.Trash(ctx, repo0(), registry.TrashQuery{}))
		},
		"RestoreManifest": func(ctx context.Context, h *house) error {
			return drop(h.RestoreManifest(ctx, name, registry.RestoreManifest{Digest: some}))
		},
		"TrimHistory": func(ctx context.Context, h *house) error { return h.TrimHistory(ctx, time.Hour) },
		"PurgeTrash":  func(ctx context.Context, h *house) error { return drop(h.PurgeTrash(ctx, name, some)) },
		"Signatures":  func(ctx context.Context, h *house) error { return drop(h.Signatures(ctx, name, some)) },
		"PutSignature": func(ctx context.Context, h *house) error {
			return h.PutSignature(ctx, name, some, registry.Signature{Name: strings.Repeat("a", 32), Content: []byte("x")})
		},
		"Repository":      func(ctx context.Context, h *house) error { return drop(h.Repository(ctx, name)) },
		"EmptyRepository": func(ctx context.Context, h *house) error { return drop(h.EmptyRepository(ctx, name)) },
		"Manifests":       func(ctx context.Context, h *house) error { return drop(h.Manifests(ctx, name, oci.Digest{}, 10)) },
		"ManifestRow":     func(ctx context.Context, h *house) error { return drop(h.ManifestRow(ctx, name, some)) },
		"Retag":           func(ctx context.Context, h *house) error { return drop(h.Retag(ctx, name, "1", some, oci.Digest{})) },
		"Catalog":         func(ctx context.Context, h *house) error { return drop(h.Catalog(ctx, "", -1)) },
		"Search":          func(ctx context.Context, h *house) error { return drop(h.Search(ctx, "app", 10)) },
		"Repositories": func(ctx context.Context, h *house) error {
			return drop(h.Repositories(ctx, "", metadb.Order{}, "", 10))
		},
		"Base": func(ctx context.Context, h *house) error { return h.Base(ctx, false) },
	}
}

func ungated() map[string]string {
	return map[string]string{
		"ManifestLimit": "a number of the configuration",
		"SendBlob":      "writes what OpenBlob has opened",
		"Forget":        "drops memory",
		"Deletable":     "says what the configuration lets nobody do",
		"SetLimits":     "called by the assembly at a reload",
		"Run":           "a loop of the daemon's own",
		"Sweep":         "a step of Run",
		"Settle":        "a job of the registry's own",
	}
}

// TestEveryMethodAsks walks the engine by reflection: what is called without a principal, or with the empty one, is
// denied before anything else is looked at, in an engine that lets everybody else do everything.
func TestEveryMethodAsks(t *testing.T) {
	h := newHouse(t, func(o *options) { o.access = access.Options{Anonymous: access.Delete, Users: access.Delete} })
	h.pushImage(t, admin(), "team/app", "1", "content")
	calls := gated()
	typ := reflect.TypeFor[*registry.Service]()
	for i := range typ.NumMethod() {
		name := typ.Method(i).Name
		call, ok := calls[name]
		delete(calls, name)
		if _, open := ungated()[name]; open == ok {
			t.Errorf("method %s of registry.Service needs a row in gated, or its reason in ungated", name)
			continue
		}
		if !ok {
			continue
		}
		t.Run(name, func(t *testing.T) {
			for who, ctx := range map[string]context.Context{
				"no principal":    t.Context(),
				"empty principal": identity.With(t.Context(), identity.Principal{}),
				"unknown kind":    identity.With(t.Context(), identity.Principal{Kind: 99, Name: "mallory", Admin: true}),
				"nobody as admin": identity.With(t.Context(), identity.Principal{Admin: true, Name: "admin"}),
			} {
				err := call(ctx, h)
				if !fault.Is(err, fault.Denied) && !(name == "Base" && fault.Is(err, fault.Unauthenticated)) {
					t.Errorf("%s: %v; want a denial", who, err)
				}
			}
			if err := call(admin(), h); fault.Is(err, fault.Denied) || fault.Is(err, fault.Unauthenticated) {
				t.Errorf("an administrator is refused: %v", err)
			}
		})
	}
	for name := range calls {
		t.Errorf("gated has a row for %s, which Service does not have", name)
	}
}

// A digest opens nothing by itself: what one repository has is not in another, whatever was read before.
func TestBlobByDigestThroughAnotherRepository(t *testing.T) {
	for name, size := range map[string]int{"small": 100, "large": 100 << 10} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			content := strings.Repeat("secret", size)
			d := h.pushBlob(t, admin(), "secret/app", content)
			h.pushImage(t, admin(), "library/open", "1", "content")
			check := func(when string) {
				t.Helper()
				if size, err := h.StatBlob(admin(), repo("secret/app"), d); err != nil || size != int64(len(content)) {
					t.Errorf("%s, its own repository: %d, %v", when, size, err)
				}
				for _, ctx := range []context.Context{admin(), user("alice"), anonymous()} {
					_, err := h.StatBlob(ctx, repo("library/open"), d)
					_, _, oerr := h.OpenBlob(ctx, repo("library/open"), d)
					if !fault.Has(err, fault.BlobUnknown) || !fault.Has(oerr, fault.BlobUnknown) {
						t.Errorf("%s, as %s: %v, %v", when, identity.From(ctx), err, oerr)
					}
				}
			}
			check("at first")
			check("after it was read")
			if err := h.DeleteBlob(admin(), repo("secret/app"), d); err != nil {
				t.Fatal(err)
			}
			// CVE-2026-35172 of distribution: deleted in one repository, readable again when another one touches it.
			h.pushBlob(t, admin(), "library/open", content)
			if c, _, err := h.OpenBlob(anonymous(), repo("library/open"), d); err != nil {
				t.Error(err)
			} else {
				got, _ := io.ReadAll(c)
				_ = c.Close()
				if string(got) != content {
					t.Error("other content")
				}
			}
			if _, err := h.StatBlob(admin(), repo("secret/app"), d); !fault.Has(err, fault.BlobUnknown) {
				t.Errorf("a deleted blob came back in its repository: %v", err)
			}
		})
	}
}

// A mount answers whether the caller may read the source and the source has the blob; who may not read cannot tell that
// from absence.
func TestMountIsNoOracle(t *testing.T) {
	h := newHouse(t, func(o *options) { o.access = access.Options{Anonymous: access.Push, Users: access.Push} })
	d := h.pushBlob(t, admin(), "secret/app", "secret")
	absent := digestOf("absent")
	for _, test := range []struct {
		name string
		ctx  context.Context
		d    oci.Digest
		from string
		want bool
	}{
		{"admin from the source", admin(), d, "secret/app", true},
		{"user from the source", user("alice"), d, "secret/app", true},
		{"anonymous from a private source", anonymous(), d, "secret/app", false},
		{"anonymous, absent blob of a private source", anonymous(), absent, "secret/app", false},
		{"anonymous from a repository that is not there", anonymous(), d, "absent/app", false},
		{"anonymous without a source", anonymous(), d, "", false},
		{"token that does not reach the source", token(user("alice"), "library/x", identity.Pull, identity.Push), d, "secret/app", false},
		{"token that does not reach any source", token(user("alice"), "library/x", identity.Pull, identity.Push), d, "", false},
		{"token that reaches the source", token(user("alice"), "library/x", identity.Push, identity.Pull, "secret/app"), d, "secret/app", true},
		{"admin without a source", admin(), d, "", true},
		{"admin, absent blob", admin(), absent, "", false},
		{"admin, from the wrong repository", admin(), d, "library/other", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			from := repo0()
			if test.from != "" {
				from = repo(test.from)
			}
			target := "library/x"
			ok, err := h.Mount(test.ctx, repo(target), test.d, from)
			if err != nil || ok != test.want {
				t.Errorf("%v, %v; want %v", ok, err, test.want)
			}
			_, err = h.StatBlob(admin(), repo(target), test.d)
			if (err == nil) != test.want {
				t.Errorf("afterwards: %v", err)
			}
			if test.want {
				if err := h.DeleteBlob(admin(), repo(target), test.d); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// An upload belongs to who began it and to its repository; anybody else's is like none.
func TestUploadsOfOthers(t *testing.T) {
	h := newHouse(t, func(o *options) { o.access = access.Options{Anonymous: access.Push, Users: access.Push} })
	h.pushImage(t, admin(), "team/app", "1", "x")
	body := func() registry.Chunk { return registry.Chunk{Start: -1, Length: 1, Body: strings.NewReader("x")} }
	u, err := h.StartUpload(user("alice"), repo("team/app"), oci.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	for name, where := range map[string]struct {
		ctx  context.Context
		repo string
	}{
		"another user":                        {user("bob"), "team/app"},
		"an administrator":                    {admin(), "team/app"},
		"the same user in another repository": {user("alice"), "team/other"},
		"anonymous, in a public repository":   {anonymous(), "library/app"},
	} {
		_, status := h.UploadStatus(where.ctx, repo(where.repo), u.ID)
		_, appended := h.Append(where.ctx, repo(where.repo), u.ID, body())
		committed := h.Commit(where.ctx, repo(where.repo), u.ID, digestOf("x"), body())
		cancelled := h.CancelUpload(where.ctx, repo(where.repo), u.ID)
		for what, err := range map[string]error{"status": status, "append": appended, "commit": committed, "cancel": cancelled} {
			if !fault.Has(err, fault.BlobUploadUnknown) || !fault.Is(err, fault.NotFound) {
				t.Errorf("%s, %s: %v; want BLOB_UPLOAD_UNKNOWN", name, what, err)
			}
		}
	}
	// A token of the same user is the same user.
	ctx := token(user("alice"), "team/app", identity.Push)
	if got, err := h.UploadStatus(ctx, repo("team/app"), u.ID); err != nil || got.Received != 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	if err := h.Commit(ctx, repo("team/app"), u.ID, digestOf("x"), body()); err != nil {
		t.Error(err)
	}
	// An account may have any name, also one that means somebody else in a log.
	for _, who := range []context.Context{anonymous(), user("anonymous")} {
		u, err := h.StartUpload(who, repo("library/app"), oci.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		other := anonymous()
		if identity.From(who).Kind == identity.Anonymous {
			other = user("anonymous")
		}
		if _, err := h.UploadStatus(other, repo("library/app"), u.ID); !fault.Has(err, fault.BlobUploadUnknown) {
			t.Errorf("an upload of %+v is one of %+v, too: %v", identity.From(who), identity.From(other), err)
		}
	}
}
