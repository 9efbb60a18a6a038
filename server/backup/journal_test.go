package backup_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/backup"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/metadb"
)

// plan is what these tests take for a manifest: JSON with its children.
func plan(_ context.Context, mediaType string, d oci.Digest, body []byte) (metadb.Manifest, []metadb.Edge, []oci.Digest, error) {
	var m struct {
		Layers  []oci.Digest `json:"layers"`
		Subject oci.Digest   `json:"subject,omitzero"`
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return metadb.Manifest{}, nil, nil, err
	}
	row := metadb.Manifest{Digest: d, MediaType: mediaType, Size: int64(len(body)), Subject: m.Subject}
	var edges []metadb.Edge
	for _, l := range m.Layers {
		edges = append(edges, metadb.Edge{Child: l, Kind: metadb.LayerEdge})
	}
	if !m.Subject.IsZero() {
		edges = append(edges, metadb.Edge{Child: m.Subject, Kind: metadb.SubjectEdge})
	}
	return row, edges, m.Layers, nil
}

// push is what a push does to the metadata, its events included.
func (r *registry) push(tag string, subject oci.Digest, layers ...oci.Digest) oci.Digest {
	r.t.Helper()
	body, err := json.Marshal(map[string]any{"layers": layers, "subject": subject, "is": tag})
	if subject.IsZero() {
		body, err = json.Marshal(map[string]any{"layers": layers, "is": tag})
	}
	if err != nil {
		r.t.Fatal(err)
	}
	d := oci.FromBytes(oci.SHA256, body)
	ctx := r.t.Context()
	row, edges, _, err := plan(ctx, "media/type", d, body)
	if err != nil {
		r.t.Fatal(err)
	}
	r.update(func(tx *metadb.Tx) error {
		row.RepoID, row.PushedBy = r.repo, "nobody"
		if err := tx.PutBlob(metadb.Blob{Digest: d, Size: int64(len(body)), LeaseUntil: tx.Now().Add(time.Hour)}, body); err != nil {
			return err
		}
		created, err := tx.PutManifest(row, edges)
		if err != nil {
			return err
		}
		if err := tx.SetListed(r.repo, true); err != nil {
			return err
		}
		if created {
			if err := tx.Emit(event.ManifestPushed(ctx, "team/app", d).WithDetail(ctx, event.Detail{MediaType: "media/type"})); err != nil {
				return err
			}
		}
		if tag == "" {
			return nil
		}
		if err := putTag(tx, r.repo, tag, d); err != nil {
			return err
		}
		return tx.Emit(event.TagMoved(ctx, "team/app", tag, d))
	})
	return d
}

// small puts a blob that the database keeps.
func (r *registry) small(text string) oci.Digest {
	r.t.Helper()
	d := oci.FromBytes(oci.SHA256, []byte(text))
	err := r.db.KeepBlob(r.t.Context(), r.repo, metadb.Blob{Digest: d, Size: int64(len(text)), LeaseUntil: now().Add(time.Hour)}, []byte(text))
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

func (r *registry) untag(tag string) {
	r.t.Helper()
	r.update(func(tx *metadb.Tx) error {
		before, existed, err := tx.DeleteTag(r.repo, tag, metadb.Origin{})
		if err != nil || !existed {
			return err
		}
		return tx.Emit(event.TagDeleted(r.t.Context(), "team/app", tag, before))
	})
}

func (r *registry) deleteManifest(d oci.Digest) {
	r.t.Helper()
	r.update(func(tx *metadb.Tx) error {
		names, err := tx.DeleteTagsOf(r.repo, d, metadb.Origin{})
		if errors.Is(err, metadb.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := tx.Emit(event.TagDeleted(r.t.Context(), "team/app", name, d)); err != nil {
				return err
			}
		}
		if existed, err := tx.DeleteManifest(r.repo, d); err != nil || !existed {
			return err
		}
		return tx.Emit(event.ManifestDeleted(r.t.Context(), "team/app", d))
	})
}

// sign puts a signature in the form of containers/image, and says so as the registry does. What is gone is not signed.
func (r *registry) sign(d oci.Digest, name, content string) {
	r.t.Helper()
	r.update(func(tx *metadb.Tx) error {
		_, added, _, err := tx.PutSignature(metadb.Signature{RepoID: r.repo, Digest: d, Name: name, Content: []byte(content), CreatedBy: "user:alice"})
		if errors.Is(err, metadb.ErrNotFound) || err == nil && !added {
			return nil
		}
		if err != nil {
			return err
		}
		return tx.Emit(event.ManifestSigned(r.t.Context(), "team/app", d, name))
	})
}

// journal runs a journal until the returned function is called, which waits for its end.
func (r *registry) journal(slack int64) (stop func()) {
	r.t.Helper()
	j, err := backup.NewJournal(r.t.Context(), backup.JournalOptions{
		DB: r.db, Blobs: r.blobs, Holder: "test", Gather: time.Millisecond, Slack: slack, Now: time.Now, Log: quiet(),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	for d := (metadb.Delivery{}); d.Holder == ""; time.Sleep(time.Millisecond) {
		if d, err = r.db.Delivery(ctx, backup.JournalReader); err != nil {
			r.t.Fatal(err)
		}
	}
	return func() {
		r.t.Helper()
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	}
}

func (r *registry) rebuild() (*registry, *backup.Rebuilt, error) {
	r.t.Helper()
	temp := r.t.TempDir()
	file := filepath.Join(temp, "berth.db")
	o := backup.Rebuilding{Store: r.blobs, File: file, Temp: temp, Plan: plan, Now: time.Now, Log: quiet(), DryRun: true}
	dry, err := backup.Rebuild(r.t.Context(), o)
	if err != nil {
		return nil, nil, err
	}
	if _, err := os.Lstat(file); err == nil {
		r.t.Error("a dry run makes a database")
	}
	o.DryRun = false
	out, err := backup.Rebuild(r.t.Context(), o)
	if err != nil {
		return nil, nil, err
	}
	if dry.Holds != out.Holds || dry.Idle != out.Idle || !slices.Equal(dry.Problems, out.Problems) {
		r.t.Errorf("the dry run says %+v, the real one %+v", dry, out)
	}
	to := &registry{t: r.t, blobs: r.blobs, temp: temp}
	if to.db, err = metadb.Open(r.t.Context(), metadb.Options{Path: file}); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = to.db.Close() })
	repo, err := to.db.Repository(r.t.Context(), "team/app")
	if err != nil {
		r.t.Fatal(err)
	}
	to.repo = repo.ID
	return to, out, nil
}

// names is all that a registry is called, as text.
func (r *registry) names() []string {
	r.t.Helper()
	ctx := r.t.Context()
	var all []string
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	repos, err := r.db.NamedRepositories(ctx, 0, 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, n := range repos {
		add("repository %s of %s, public %v, listed %v", n.Name, n.Project, n.Public, n.Listed)
	}
	manifests, err := r.db.NamedManifests(ctx, 0, 10_000)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, m := range manifests {
		add("manifest %s@%s %s by %q", m.Repository, m.Digest, m.MediaType, m.PushedBy)
		children, err := r.db.Children(ctx, r.repo, m.Digest)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, c := range children {
			_, err := r.db.Blob(ctx, r.repo, c.Child)
			add("edge %s → %s %d, in the repository %v", m.Digest.Short(), c.Child, c.Kind, err == nil)
		}
		signatures, err := r.db.Signatures(ctx, r.repo, m.Digest)
		if err != nil {
			r.t.Fatal(err)
		}
		for i, s := range signatures {
			add("signature %d of %s: %s by %q at %s: %s", i, m.Digest, s.Name, s.CreatedBy, s.CreatedAt.UTC(), s.Content)
		}
		content, err := r.db.Content(ctx, m.Digest)
		if err != nil || oci.FromBytes(oci.SHA256, content) != m.Digest {
			add("manifest %s has no content: %v", m.Digest, err)
		}
	}
	tags, err := r.db.NamedTags(ctx, 0, "", 10_000)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, n := range tags {
		add("tag %s:%s → %s", n.Repository, n.Name, n.Digest)
	}
	slices.Sort(all)
	return all
}

func requireSame(t *testing.T, got, want []string) {
	t.Helper()
	for _, x := range got {
		if !slices.Contains(want, x) {
			t.Errorf("rebuilt and never there: %s", x)
		}
	}
	for _, x := range want {
		if !slices.Contains(got, x) {
			t.Errorf("not rebuilt: %s", x)
		}
	}
}

// Whatever happens before, while and after the journal begins, and however often it begins anew, what is rebuilt is what was.
func TestRebuild(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			r := newRegistry(t)
			var layers, manifests []oci.Digest
			for i := range 4 {
				layers = append(layers, r.layer(byte(i), 200+i), r.small(fmt.Sprintf("small layer %d", i)))
			}
			tags := map[string]bool{}
			step := func(i int) {
				switch n := random.IntN(10); {
				case n < 5:
					tag := fmt.Sprintf("t%d", random.IntN(12))
					manifests = append(manifests, r.push(tag, oci.Digest{}, layers[random.IntN(len(layers))], layers[random.IntN(len(layers))], r.small(fmt.Sprintf("config %d", i))))
					tags[tag] = true
				case n < 6 && len(manifests) > 0: // a referrer
					manifests = append(manifests, r.push("", manifests[random.IntN(len(manifests))], r.small(fmt.Sprintf("signature %d", i))))
				case n < 7 && len(tags) > 0:
					r.untag(slices.Sorted(maps.Keys(tags))[random.IntN(len(tags))])
				case n < 8 && len(manifests) > 0:
					r.deleteManifest(manifests[random.IntN(len(manifests))])
				case len(manifests) > 0: // of one that may be gone; under a name that may be there, or have been there with other content
					r.sign(manifests[random.IntN(len(manifests))], fmt.Sprintf("%032x", random.IntN(3)), fmt.Sprintf("signature of step %d", i))
				}
			}
			for i := range 40 {
				step(i)
			}
			stop := r.journal(20_000) // begins anew every few steps
			for i := range 120 {
				step(1000 + i)
				if i%40 == 20 { // killed, or a restart
					stop()
					step(2000 + i)
					stop = r.journal(20_000)
				}
			}
			stop()
			to, out, err := r.rebuild()
			if err != nil {
				t.Fatal(err)
			}
			if out.Failed > 0 {
				t.Errorf("problems: %q", out.Problems)
			}
			requireSame(t, to.names(), r.names())
			if n := journalBytes(t, r); n > 300_000 {
				t.Errorf("the journal of some hundred small manifests has %d bytes", n)
			}
		})
	}
}

func journalBytes(t *testing.T, r *registry) (n int) {
	t.Helper()
	names, err := r.blobs.NoteNames(t.Context(), "journal")
	if err != nil {
		t.Fatal(err)
	}
	folders := map[string]bool{}
	for _, name := range names {
		text, err := r.blobs.Note(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		n += len(text)
		if parts := strings.Split(name, "/"); len(parts) == 3 {
			folders[parts[1]] = true
		}
	}
	if len(folders) != 1 {
		t.Errorf("there are %d journals, want one", len(folders))
	}
	return n
}

// What the store has not got whole is named and left out; the rest comes back.
func TestRebuildOfADamagedStore(t *testing.T) {
	r := newRegistry(t)
	lost, kept := r.layer(1, 1000), r.layer(2, 1000)
	idle := r.layer(3, 1000)
	good := r.push("good", oci.Digest{}, kept)
	bad := r.push("bad", oci.Digest{}, kept, lost)
	r.journal(0)()
	if err := r.blobs.Delete(t.Context(), lost); err != nil {
		t.Fatal(err)
	}
	to, out, err := r.rebuild()
	if err != nil {
		t.Fatal(err)
	}
	if out.Failed != 2 || !strings.Contains(strings.Join(out.Problems, "\n"), lost.String()) || !strings.Contains(strings.Join(out.Problems, "\n"), bad.String()) {
		t.Errorf("problems %q, want the manifest with what it lacks, and its tag", out.Problems)
	}
	to.requireTag("good", good)
	if _, err := to.db.Tag(t.Context(), to.repo, "bad"); err == nil {
		t.Error("a tag is there whose layers are not")
	}
	if out.Idle.Blobs != 1 {
		t.Errorf("%d idle blobs, want one", out.Idle.Blobs)
	}
	if b, err := to.db.BlobAnywhere(t.Context(), idle); err != nil || !b.LeaseUntil.After(now()) {
		t.Errorf("the idle blob is %+v, %v, want it in collection's queue", b, err)
	}
	names, err := r.blobs.NoteNames(t.Context(), "journal")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := r.blobs.Note(t.Context(), name)
		if err != nil || !strings.Contains(name, "/base-") {
			continue
		}
		if err := r.blobs.PutNote(t.Context(), name, bytes.ToUpper(text)); err != nil {
			t.Fatal(err)
		}
	}
	if _, out, err = r.rebuildAnyway(); err == nil && out.Failed == 0 {
		t.Error("a damaged page of the journal is not named")
	}
	if err := r.blobs.DeleteNotes(t.Context(), "journal/head"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.rebuild(); !fault.Is(err, fault.NotFound) {
		t.Errorf("without a journal: %v", err)
	}
}

// rebuildAnyway is a dry run.
func (r *registry) rebuildAnyway() (*registry, *backup.Rebuilt, error) {
	out, err := backup.Rebuild(r.t.Context(), backup.Rebuilding{
		Store: r.blobs, Temp: r.t.TempDir(), Plan: plan, Now: time.Now, Log: quiet(), DryRun: true,
	})
	return nil, out, err
}

// Signatures follow their manifest: those made before there was a journal, those made under it, and those of one that was in the
// trash meanwhile; those of one that is gone are not brought back, nor those that a name had before.
func TestRebuildOfSignatures(t *testing.T) {
	r := newRegistry(t)
	early, late, restored, gone := r.push("early", oci.Digest{}), r.push("late", oci.Digest{}), r.push("restored", oci.Digest{}), r.push("gone", oci.Digest{})
	r.sign(early, "b", "first")
	r.sign(early, "a", "second, whose name sorts before")
	r.sign(restored, "a", strings.Repeat("as large as one may be ", 2800))
	r.sign(gone, "a", "of what goes")
	stop := r.journal(0)
	r.sign(late, "a", "under the journal")
	r.deleteManifest(gone)
	r.update(func(tx *metadb.Tx) error {
		if _, err := tx.DeleteTagsOf(r.repo, restored, metadb.Origin{}); err != nil {
			return err
		}
		if _, err := tx.TrashManifest(r.repo, restored, metadb.Discard{Hold: time.Hour}); err != nil {
			return err
		}
		return tx.Emit(event.TagDeleted(t.Context(), "team/app", "restored", restored), event.ManifestDeleted(t.Context(), "team/app", restored))
	})
	stop()
	stop = r.journal(0)
	r.update(func(tx *metadb.Tx) error {
		trashed, err := tx.Trashed(t.Context(), r.repo, restored)
		if err != nil {
			return err
		}
		if _, err := tx.RestoreManifest(trashed); err != nil {
			return err
		}
		return tx.Emit(event.ManifestPushed(t.Context(), "team/app", restored).WithDetail(t.Context(), event.Detail{MediaType: "media/type"}))
	})
	r.push("gone", oci.Digest{}) // the same bytes again, and signed anew under the old name
	r.sign(gone, "a", "of what came again")
	stop()
	to, out, err := r.rebuild()
	if err != nil || out.Failed > 0 {
		t.Fatalf("%v, %+v", err, out)
	}
	requireSame(t, to.names(), r.names())
	for d, want := range map[oci.Digest]int{early: 2, late: 1, restored: 1, gone: 1} {
		if all, err := to.db.Signatures(t.Context(), to.repo, d); err != nil || len(all) != want {
			t.Errorf("%s has %d signatures, want %d: %v", d.Short(), len(all), want, err)
		}
	}
}

// A journal of the version before, which knew no signatures, is read, and begun anew by who writes on.
func TestJournalOfTheVersionBefore(t *testing.T) {
	r := newRegistry(t)
	d := r.push("a", oci.Digest{})
	r.journal(0)()
	head, err := r.blobs.Note(t.Context(), "journal/head")
	if err != nil {
		t.Fatal(err)
	}
	old := bytes.Replace(head, []byte(`"format":2`), []byte(`"format":1`), 1)
	if bytes.Equal(old, head) {
		t.Fatalf("the head says no format 2: %s", head)
	}
	if err := r.blobs.PutNote(t.Context(), "journal/head", old); err != nil {
		t.Fatal(err)
	}
	to, _, err := r.rebuild()
	if err != nil {
		t.Fatal(err)
	}
	to.requireTag("a", d)
	// As if the version before had taken the signature: it is in the database, and no event says so.
	r.update(func(tx *metadb.Tx) error {
		_, _, _, err := tx.PutSignature(metadb.Signature{RepoID: r.repo, Digest: d, Name: "a", Content: []byte("old")})
		return err
	})
	r.journal(0)()
	to, _, err = r.rebuild()
	if err != nil {
		t.Fatal(err)
	}
	requireSame(t, to.names(), r.names())
}

// The outbox is not trimmed under the journal, and a journal that lost events begins anew.
func TestJournalThatLostEvents(t *testing.T) {
	r := newRegistry(t)
	a := r.push("a", oci.Digest{}, r.small("x"))
	r.journal(0)()
	b := r.push("b", oci.Digest{}, r.small("y"))
	_, newest, err := r.db.EventSpan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.update(func(tx *metadb.Tx) error {
		_, lost, err := tx.DropEvents(newest+1, 1000, []string{backup.JournalReader})
		if err == nil && lost == 0 {
			t.Error("nothing was lost")
		}
		return err
	})
	r.journal(0)()
	to, _, err := r.rebuild()
	if err != nil {
		t.Fatal(err)
	}
	to.requireTag("a", a)
	to.requireTag("b", b)
}
