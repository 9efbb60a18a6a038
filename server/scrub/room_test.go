package scrub_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/access"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/fs"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/metadb/metadbtest"
	"github.com/berth-registry/berth/server/project"
	"github.com/berth-registry/berth/server/registry"
	"github.com/berth-registry/berth/server/scrub"
)

// house is a registry on files, with the engine that checks it.
type house struct {
	*registry.Service
	scrub *scrub.Service
	db    *metadb.DB
	dir   string // of the content
	store blob.Store

	metrics *prometheus.Registry

	database, dbFile string
	o                options
}

type options struct {
	database string // URL; "" is SQLite
	registry registry.Options
	wrap     func(blob.Store) blob.Store

	upstreams []scrub.Upstream
	now       func() time.Time // of the checks; nil is the real one
}

func newHouse(t testing.TB, change ...func(*options)) *house {
	t.Helper()
	var o options
	for _, c := range change {
		c(&o)
	}
	h := &house{dir: t.TempDir(), database: o.database, dbFile: metadbtest.File(t), o: o}
	h.open(t, nil)
	return h
}

// reopen is another process of the same registry; a SQLite database is shared with the first.
func (h *house) reopen(t testing.TB) *house {
	t.Helper()
	two := &house{dir: h.dir, database: h.database, dbFile: h.dbFile, o: h.o}
	db := h.db
	if h.database != "" {
		db = nil
	}
	two.open(t, db)
	return two
}

func (h *house) open(t testing.TB, db *metadb.DB) {
	t.Helper()
	o, log := h.o, slog.New(slog.DiscardHandler)
	files, err := fs.New(h.dir, fs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = files.Close() })
	h.store = files
	if o.wrap != nil {
		h.store = o.wrap(files)
	}
	if h.db = db; db == nil {
		h.db, err = metadb.Open(t.Context(), metadb.Options{URL: o.database, Path: h.dbFile, Log: log, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = h.db.Close() })
	}
	projects, err := project.NewDirectory(t.Context(), project.DirectoryOptions{DB: h.db})
	if err != nil {
		t.Fatal(err)
	}
	point := access.New(access.Options{Projects: projects, Anonymous: access.Pull, Users: access.Push})
	r := o.registry
	r.DB, r.Blobs, r.Access, r.Projects, r.Now, r.Log = h.db, h.store, point, projects, time.Now, log
	h.Service = registry.New(r)
	now := o.now
	if now == nil {
		now = time.Now
	}
	h.metrics = prometheus.NewRegistry()
	h.scrub = scrub.New(scrub.Options{
		DB: h.db, Blobs: h.store, Access: point, Forget: h.Forget, Upstreams: o.upstreams, Metrics: h.metrics, Now: now, Log: log,
	})
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

func admin() context.Context {
	return identity.With(context.Background(), identity.Principal{Kind: identity.User, Name: "admin", Admin: true})
}

func name(t testing.TB, text string) ref.Name {
	t.Helper()
	n, err := ref.ParseName(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func random(seed, n int) []byte {
	p := make([]byte, n)
	r := rand.New(rand.NewPCG(uint64(seed), 11))
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

func (h *house) put(t testing.TB, repo string, content []byte) oci.Digest {
	t.Helper()
	d := oci.FromBytes(oci.SHA256, content)
	err := h.PutBlob(admin(), name(t, repo), d, registry.Chunk{Start: -1, Length: int64(len(content)), Body: bytes.NewReader(content)})
	if err != nil {
		t.Fatalf("push of blob %s: %v", d, err)
	}
	return d
}

// image is what a client has of an image.
type image struct {
	repo, tag     string
	config, layer []byte // one for the database, one for the store
	manifest      []byte
}

func newImage(seed int, repo, tag string) *image {
	i := &image{repo: repo, tag: tag, config: random(seed, 900), layer: random(seed+1000, 200<<10)}
	descriptor := func(mediaType string, p []byte) map[string]any {
		return map[string]any{"mediaType": mediaType, "digest": oci.FromBytes(oci.SHA256, p).String(), "size": len(p)}
	}
	i.manifest, _ = json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": descriptor("application/vnd.oci.image.config.v1+json", i.config),
		"layers": []any{descriptor("application/vnd.oci.image.layer.v1.tar", i.layer)},
	})
	return i
}

func (i *image) digests() (config, layer, manifest oci.Digest) {
	return oci.FromBytes(oci.SHA256, i.config), oci.FromBytes(oci.SHA256, i.layer), oci.FromBytes(oci.SHA256, i.manifest)
}

// push does what clients do: what the registry says it has is not sent.
func (h *house) push(t testing.TB, i *image) {
	t.Helper()
	n := name(t, i.repo)
	for _, content := range [][]byte{i.config, i.layer} {
		if _, err := h.StatBlob(admin(), n, oci.FromBytes(oci.SHA256, content)); err != nil {
			h.put(t, i.repo, content)
		}
	}
	_, err := h.PutManifest(admin(), n, registry.PutManifest{
		Reference: ref.Reference{Tag: i.tag}, MediaType: "application/vnd.oci.image.manifest.v1+json", Body: i.manifest,
	})
	if err != nil {
		t.Fatalf("push of %s:%s: %v", i.repo, i.tag, err)
	}
}

// pull reads all of an image and says what of it failed; it never accepts wrong bytes.
func (h *house) pull(t testing.TB, i *image) error {
	t.Helper()
	n := name(t, i.repo)
	m, err := h.Manifest(admin(), n, ref.Reference{Tag: i.tag})
	if err != nil {
		return err
	}
	if !bytes.Equal(m.Body, i.manifest) {
		t.Errorf("%s:%s: a wrong manifest was answered", i.repo, i.tag)
	}
	for _, content := range [][]byte{i.config, i.layer} {
		got, err := h.read(n, oci.FromBytes(oci.SHA256, content))
		if err != nil {
			return err
		}
		if !bytes.Equal(got, content) {
			t.Errorf("%s:%s: wrong bytes were answered as a whole blob", i.repo, i.tag)
		}
	}
	return nil
}

// pullMemory is pull of what is remembered: the manifest and small blobs.
func (h *house) pullMemory(t testing.TB, i *image) error {
	t.Helper()
	config, _, manifest := i.digests()
	_, err := h.Manifest(admin(), name(t, i.repo), byDigest(manifest))
	_, statErr := h.StatBlob(admin(), name(t, i.repo), config)
	return errors.Join(err, statErr)
}

func byDigest(d oci.Digest) ref.Reference { return ref.Reference{Digest: d} }

func (h *house) read(n ref.Name, d oci.Digest) ([]byte, error) {
	c, size, err := h.OpenBlob(admin(), n, d)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if p, ok := c.(interface {
		Part(start, length int64) []byte
	}); ok {
		return p.Part(0, size), nil
	}
	var b bytes.Buffer
	sent, err := h.SendBlob(admin(), &b, d, c, size)
	if err == nil && sent != size {
		err = errors.New("short, and no error")
	}
	return b.Bytes(), err
}

func (h *house) file(d oci.Digest) string {
	return filepath.Join(h.dir, "blobs", string(d.Algorithm()), d.Hex()[:2], d.Hex())
}

// flip changes one bit of a stored file.
func (h *house) flip(t testing.TB, d oci.Digest, at int64) {
	t.Helper()
	f, err := os.OpenFile(h.file(d), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

func (h *house) check(t testing.TB, a scrub.Ask) scrub.Report {
	t.Helper()
	r, err := h.scrub.Check(admin(), a, nil)
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	return r
}

func (h *house) findings(t testing.TB) map[oci.Digest]scrub.Finding {
	t.Helper()
	all, err := h.scrub.Damaged(admin(), oci.Digest{}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	out := map[oci.Digest]scrub.Finding{}
	for _, f := range all {
		out[f.Digest] = f
	}
	return out
}

func tagsOf(f scrub.Finding) string {
	var all []string
	for _, n := range f.Needs {
		all = append(all, fmt.Sprintf("%s:%s", n.Repository, n.Tag))
	}
	return strings.Join(all, " ")
}
