package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/access"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/blobtest"
	"github.com/berth-registry/berth/server/blob/fs"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/metadb/metadbtest"
	"github.com/berth-registry/berth/server/project"
	"github.com/berth-registry/berth/server/registry"
)

// plant is a registry on real parts: a database, files in a directory behind a disk that fails on request, and a clock
// that stands still until it is moved.
type plant struct {
	*testing.T
	*registry.Service
	dir   string
	db    *metadb.DB
	disk  *blobtest.Faulty
	steps *steps
	blobs blob.Store    // what the registry uses: steps, perhaps behind a store that parks
	clock *atomic.Int64 // nanoseconds since 1970
	full  *atomic.Bool  // what Options.Room says
	age   time.Duration // Options.UploadAge
	key   []byte
	ctx   context.Context
}

const inlineLimit = 1000

func newPlant(t *testing.T, database string) *plant {
	t.Helper()
	dir := t.TempDir()
	store, err := fs.New(filepath.Join(dir, "store"), fs.Options{Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	p := &plant{T: t, dir: dir, disk: blobtest.NewFaulty(store), clock: &atomic.Int64{}, full: &atomic.Bool{}, key: []byte("of these uploads")}
	p.steps = &steps{Store: p.disk}
	p.blobs = p.steps
	p.clock.Store(time.Now().UnixNano())
	p.db, err = metadb.Open(t.Context(), metadb.Options{URL: database, Path: metadbtest.FileIn(t, dir), Now: p.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(p.db.Close(), store.Close()); err != nil {
			t.Error(err)
		}
	})
	p.ctx = as(context.Background(), "alice")
	p.restart()
	return p
}

func as(ctx context.Context, user string) context.Context {
	return identity.With(ctx, identity.Principal{Kind: identity.User, Name: user, Admin: true})
}

func (p *plant) now() time.Time { return time.Unix(0, p.clock.Load()) }

func (p *plant) later(d time.Duration) { p.clock.Add(int64(d)) }

// restart forgets what only memory knew, as the end of the process does.
func (p *plant) restart() { p.Service = p.replica() }

// replica is another process on the same database and store.
func (p *plant) replica() *registry.Service {
	p.Helper()
	projects, err := project.NewDirectory(p.ctx, project.DirectoryOptions{DB: p.db})
	if err != nil {
		p.Fatal(err)
	}
	return registry.New(registry.Options{
		DB: p.db, Blobs: p.blobs, Projects: projects, Access: access.New(access.Options{Projects: projects, Users: access.Delete}),
		Limits: registry.Limits{Inline: inlineLimit}, UploadAge: p.age, UploadKey: p.key, Now: p.now, Log: slog.New(slog.DiscardHandler),
		Room: func(context.Context, int64) error {
			if p.full.Load() {
				return blob.Full(errors.New("as the test wants it"))
			}
			return nil
		},
	})
}

// steps calls a function before a step of the store, where other things may happen.
type steps struct {
	blob.Store
	beforeCommit, afterCommit, beforeAbort atomic.Pointer[func()]
}

func (s *steps) Abort(ctx context.Context, id string, st blob.State) error {
	if f := s.beforeAbort.Swap(nil); f != nil {
		(*f)()
	}
	return s.Store.Abort(ctx, id, st)
}

func (s *steps) Commit(ctx context.Context, id string, st blob.State, d oci.Digest) error {
	if f := s.beforeCommit.Swap(nil); f != nil {
		(*f)()
	}
	err := s.Store.Commit(ctx, id, st, d)
	if f := s.afterCommit.Swap(nil); f != nil {
		(*f)()
	}
	return err
}

func (s *steps) OpenUpload(ctx context.Context, id string, st blob.State) (io.ReadCloser, error) {
	return blob.OpenUpload(ctx, s.Store, id, st)
}

func (s *steps) StaleUploads(ctx context.Context, before time.Time) ([]string, error) {
	return blob.StaleUploads(ctx, s.Store, before)
}

func named(t testing.TB, s string) ref.Name {
	t.Helper()
	n, err := ref.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// all is a body that the request says the length of.
func all(data []byte) registry.Chunk {
	return registry.Chunk{Start: -1, Length: int64(len(data)), Body: bytes.NewReader(data)}
}

// part is a body with a Content-Range.
func part(data []byte, start int) registry.Chunk {
	c := all(data)
	c.Start = int64(start)
	return c
}

// cut is a body whose sender vanishes after n bytes.
func cut(data []byte, n int) registry.Chunk {
	c := all(data)
	c.Body = io.MultiReader(bytes.NewReader(data[:n]), broken{})
	return c
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// ways are how content may arrive: at once, in two requests, in chunks, with the end in the last request or before it.
var ways = map[string]func(ctx context.Context, s *registry.Service, name ref.Name, d oci.Digest, data []byte) error{
	"at once": func(ctx context.Context, s *registry.Service, name ref.Name, d oci.Digest, data []byte) error {
		return s.PutBlob(ctx, name, d, all(data))
	},
	"without length": func(ctx context.Context, s *registry.Service, name ref.Name, d oci.Digest, data []byte) error {
		c := all(data)
		c.Length = -1
		return s.PutBlob(ctx, name, d, c)
	},
	"in two":       chunked(0),
	"in chunks":    chunked(3),
	"short start":  chunked(500),
	"end is empty": chunked(-1),
}

// chunked sends n chunks before the request that ends the upload; 500 is one of up to 500 bytes, -1 is everything.
func chunked(n int) func(ctx context.Context, s *registry.Service, name ref.Name, d oci.Digest, data []byte) error {
	return func(ctx context.Context, s *registry.Service, name ref.Name, d oci.Digest, data []byte) error {
		u, err := s.StartUpload(ctx, name, d.Algorithm())
		if err != nil {
			return err
		}
		var ends []int
		switch n {
		case 3:
			ends = []int{len(data) / 3, len(data) / 2, len(data) / 2}
		case 500:
			ends = []int{min(500, len(data))}
		case -1:
			ends = []int{len(data)}
		}
		at := 0
		for _, end := range ends {
			if u, err = s.Append(ctx, name, u.ID, part(data[at:end], at)); err != nil {
				return err
			}
			at = end
		}
		return s.Commit(ctx, name, u.ID, d, all(data[at:]))
	}
}

func (p *plant) read(s *registry.Service, name ref.Name, d oci.Digest) ([]byte, error) {
	c, size, err := s.OpenBlob(p.ctx, name, d)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	data, err := io.ReadAll(c)
	if err == nil && int64(len(data)) != size {
		err = fmt.Errorf("size %d and %d bytes", size, len(data))
	}
	return data, err
}

func (p *plant) wantBlob(name ref.Name, d oci.Digest, want []byte) {
	p.Helper()
	if got, err := p.read(p.Service, name, d); err != nil || !bytes.Equal(got, want) {
		p.Errorf("blob %s: %d bytes, %v; want %d", d.Short(), len(got), err, len(want))
	}
}

func (p *plant) wantNoBlob(name ref.Name, d oci.Digest) {
	p.Helper()
	if _, err := p.read(p.Service, name, d); !fault.Is(err, fault.NotFound) {
		p.Errorf("blob %s: %v, want none", d.Short(), err)
	}
}

// wantNoFiles fails unless no upload has left bytes.
func (p *plant) wantNoFiles() {
	p.Helper()
	if left := p.files("uploads"); len(left) > 0 {
		p.Errorf("uploads left %q", left)
	}
}

// wantClean fails unless no upload is left, in files or rows, and every file of a blob has a row. What says of an upload that
// it was cancelled may be there.
func (p *plant) wantClean() {
	p.Helper()
	p.wantNoFiles()
	rows, err := p.db.ExpiredUploads(p.ctx, p.now().Add(time.Hour), metadb.Upload{}, 1000)
	rows = slices.DeleteFunc(rows, func(u metadb.Upload) bool { return u.Algorithm == "" })
	if err != nil || len(rows) > 0 {
		p.Errorf("rows of uploads are left: %+v, %v", rows, err)
	}
	places := p.places()
	for _, hex := range p.files("blobs") {
		if places[hex] {
			continue
		}
		d, err := oci.ParseDigest("sha256:" + hex)
		if err != nil {
			d, err = oci.ParseDigest("sha512:" + hex)
		}
		if err == nil {
			_, err = p.db.BlobAnywhere(p.ctx, d)
		}
		if err != nil {
			p.Errorf("file %s in the store: %v", hex, err)
		}
	}
}

// places are the files of places that rows name.
func (p *plant) places() map[string]bool {
	p.Helper()
	all := map[string]bool{}
	blobs, err := p.db.ParkedBlobs(p.ctx, "", 10_000)
	if err != nil {
		p.Fatal(err)
	}
	for _, b := range blobs {
		all[blobtest.PlaceDigest(b.Place).Hex()] = true
	}
	moved, err := p.db.MovedPlaces(p.ctx, p.now().Add(1000*time.Hour), 10_000)
	if err != nil {
		p.Fatal(err)
	}
	for _, place := range moved {
		all[blobtest.PlaceDigest(place).Hex()] = true
	}
	return all
}

// files are the names of the files below a directory of the store.
func (p *plant) files(below string) (names []string) {
	p.Helper()
	err := filepath.WalkDir(filepath.Join(p.dir, "store", below), func(_ string, e iofs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			names = append(names, e.Name())
		}
		return err
	})
	if err != nil {
		p.Fatal(err)
	}
	return names
}

// onBoth runs a test on both databases.
func onBoth(t *testing.T, test func(p *plant)) {
	t.Run("sqlite", func(t *testing.T) { test(newPlant(t, "")) })
	t.Run("postgres", func(t *testing.T) { test(newPlant(t, metadbtest.Postgres(t))) })
	t.Run("sqlite, parked", func(t *testing.T) { test(newParkingPlant(t, "")) })
	t.Run("postgres, parked", func(t *testing.T) { test(newParkingPlant(t, metadbtest.Postgres(t))) })
}

// newParkingPlant has a store that leaves blobs where they were uploaded.
func newParkingPlant(t *testing.T, database string) *plant {
	t.Helper()
	p := newPlant(t, database)
	p.blobs = blobtest.NewParking(p.steps, 0)
	p.restart()
	return p
}

// A failure of the store, at whatever step of whatever way to push, is answered as one; the blob is not there, the same
// push works when the store does, and nothing is left behind: at once where the upload cannot go on, else when it has
// been swept.
func TestFailuresLeaveNothing(t *testing.T) {
	eio := fmt.Errorf("disk: %w", syscall.EIO)
	faults := map[string]func(*blobtest.Faulty){
		"upload":      func(f *blobtest.Faulty) { f.Fail(blobtest.Upload, 1, eio) },
		"second":      func(f *blobtest.Faulty) { f.Fail(blobtest.Upload, 2, eio) },
		"write":       func(f *blobtest.Faulty) { f.Fail(blobtest.Write, 1, eio) },
		"short write": func(f *blobtest.Faulty) { f.ShortWrite(2, 100, eio) },
		"suspend":     func(f *blobtest.Faulty) { f.Fail(blobtest.Suspend, 1, eio) },
		"suspended":   func(f *blobtest.Faulty) { f.FailAfter(blobtest.Suspend, 1, eio) },
		"commit":      func(f *blobtest.Faulty) { f.Fail(blobtest.Commit, 1, eio) },
		"committed":   func(f *blobtest.Faulty) { f.FailAfter(blobtest.Commit, 1, eio) },
		"full":        func(f *blobtest.Faulty) { f.Fill(300) },
		"twice":       func(f *blobtest.Faulty) { f.Fail(blobtest.Write, 1, eio); f.Fail(blobtest.Abort, 1, eio) },
		"delete":      func(f *blobtest.Faulty) { f.FailAfter(blobtest.Commit, 1, eio); f.Fail(blobtest.Delete, 1, eio) },
	}
	for what, plan := range faults {
		for how, push := range ways {
			for i := range 4 {
				sweepFirst, parks := i%2 == 1, i/2 == 1
				t.Run(fmt.Sprintf("%s/%s/%t/%t", what, how, sweepFirst, parks), func(t *testing.T) {
					t.Parallel()
					p := newPlant(t, "")
					if parks {
						p = newParkingPlant(t, "")
					}
					name, data := named(t, "library/app"), blobtest.Random(1, 100_000)
					d := oci.FromBytes(oci.SHA256, data)
					plan(p.disk)
					err := push(p.ctx, p.Service, name, d, data)
					p.disk.Fill(-1)
					if err == nil { // this way does not come by that step
						p.wantBlob(name, d, data)
						p.wantClean()
						return
					}
					if what == "full" && !fault.Is(err, fault.Full) {
						t.Errorf("on a full disk: %v", err)
					}
					p.wantNoBlob(name, d)
					if n := p.uploadBytes(); n > 60_000 && what != "twice" {
						t.Errorf("%d bytes are left of a push that failed", n)
					}
					p.restart()
					if sweepFirst {
						p.sweepAll()
						p.wantClean()
						if files := p.files("blobs"); len(files) > 0 {
							t.Errorf("files %q in the store", files)
						}
					}
					if err := push(p.ctx, p.Service, name, d, data); err != nil {
						t.Errorf("again: %v", err)
					}
					p.sweepAll()
					p.wantBlob(name, d, data)
					p.wantClean()
				})
			}
		}
	}
}

// uploadBytes is how much uploads hold.
func (p *plant) uploadBytes() (n int64) {
	p.Helper()
	for _, name := range p.files("uploads") {
		info, err := os.Stat(filepath.Join(p.dir, "store", "uploads", name))
		if err != nil {
			p.Fatal(err)
		}
		n += info.Size()
	}
	return n
}

// sweepAll lets everything expire and sweeps, twice: what one sweep could not do, the next one does.
func (p *plant) sweepAll() {
	p.Helper()
	for range 2 {
		p.later(8 * 24 * time.Hour)
		if err := p.Sweep(p.ctx); err != nil {
			p.Error(err)
		}
	}
}

// A client that leaves at whatever moment of its push leaves a blob or nothing.
func TestLeavingClient(t *testing.T) {
	onBoth(t, func(p *plant) {
		name := named(p, "library/app")
		for i, at := range []string{"first byte", "last byte", "commit", "committed"} {
			for how, push := range ways {
				data := blobtest.Random(byte(i), 70_000+len(how))
				d := oci.FromBytes(oci.SHA256, data)
				ctx, leave := context.WithCancel(p.ctx)
				stop := func() { leave() }
				switch at {
				case "commit":
					p.steps.beforeCommit.Store(&stop)
				case "committed":
					p.steps.afterCommit.Store(&stop)
				}
				err := push(leaving(ctx, at, leave), p.Service, name, d, data)
				leave()
				if at == "commit" || at == "committed" {
					// All bytes were there: the push is done for whoever asks next.
					if err != nil {
						p.Errorf("%s, %s: %v", how, at, err)
					}
					p.wantBlob(name, d, data)
				} else if _, readErr := p.read(p.Service, name, d); (readErr == nil) != (err == nil) {
					p.Errorf("%s, %s: push %v, read %v", how, at, err, readErr)
				}
			}
		}
		p.sweepAll()
		p.wantClean()
	})
}

// leaving ends the context after a number of looks at it, for moments that no step marks.
func leaving(ctx context.Context, at string, leave func()) context.Context {
	n := map[string]int64{"first byte": 6, "last byte": 12}[at]
	if n == 0 {
		return ctx
	}
	c := &counted{Context: ctx, leave: leave}
	c.left.Store(n)
	return c
}

type counted struct {
	context.Context
	left  atomic.Int64
	leave func()
}

func (c *counted) Err() error {
	if c.left.Add(-1) == 0 {
		c.leave()
	}
	return c.Context.Err()
}

// Replicas that push, cancel and sweep the same few digests never lose what they have acknowledged.
func TestReplicasAtWork(t *testing.T) {
	onBoth(t, func(p *plant) {
		p.age = 2 * time.Second // uploads expire while others are at work on them; claims hold for much longer
		name := named(p, "library/app")
		contents := [][]byte{blobtest.Random(1, 5_000), blobtest.Random(2, 70_000), blobtest.Random(3, 900)}
		var workers, sweepers sync.WaitGroup
		var acknowledged [3]atomic.Bool
		var swept atomic.Int64
		done := make(chan struct{})
		for w := range 4 {
			s := p.replica()
			workers.Go(func() {
				for i := range 25 {
					n := (w + i) % len(contents)
					data, d := contents[n], oci.FromBytes(oci.SHA256, contents[n])
					how := []string{"at once", "in two", "in chunks", "end is empty"}[(w*7+i)%4]
					err := ways[how](p.ctx, s, name, d, data)
					switch {
					case err == nil:
						acknowledged[n].Store(true)
						if got, err := p.read(s, name, d); err != nil || !bytes.Equal(got, data) {
							p.Errorf("%s was acknowledged: %d bytes, %v", d.Short(), len(got), err)
						}
					case fault.Is(err, fault.NotFound): // its upload was swept under its feet
						swept.Add(1)
					default:
						p.Errorf("%s: %v", how, err)
					}
				}
			})
			sweepers.Go(func() {
				for {
					select {
					case <-done:
						return
					case <-time.After(time.Millisecond):
						p.later(100 * time.Millisecond)
						if err := s.Sweep(p.ctx); err != nil {
							p.Error(err)
						}
					}
				}
			})
		}
		workers.Wait()
		close(done)
		sweepers.Wait()
		p.Logf("%d of 100 pushes were swept under their feet", swept.Load())
		p.restart()
		for n, data := range contents {
			if acknowledged[n].Load() {
				p.wantBlob(name, oci.FromBytes(oci.SHA256, data), data)
			}
		}
		p.later(time.Hour)
		p.sweepAll()
		p.wantClean()
	})
}
