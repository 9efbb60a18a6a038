package copy_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/copy"
	"github.com/berth-registry/berth/image/layout"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// damage cuts a file off.
func damage(t testing.TB, name string, size int64) {
	t.Helper()
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
}

// cutter is a network in front of a registry that breaks connections after so many bytes of a blob, in either direction.
type cutter struct {
	addr       string
	down, up   atomic.Int64 // bytes after which a download or upload breaks; 0 is never
	cuts       atomic.Int64
	sent, read atomic.Int64 // bytes of blobs that passed
	ranges     atomic.Int64 // requests that went on in the middle
}

func cut(t testing.TB, host string) *cutter {
	t.Helper()
	k := &cutter{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: host})
			r.Out.Host = host
			if limit := k.up.Load(); r.In.ContentLength > limit && limit > 0 {
				r.Out.Body = &limited{r.In.Body, limit, &k.cuts, &k.sent}
			} else if r.Out.Body != nil {
				r.Out.Body = &limited{r.In.Body, 1 << 50, &k.cuts, &k.sent}
			}
			if r.In.Header.Get("Range") != "" || r.In.Header.Get("Content-Range") != "" {
				k.ranges.Add(1)
			}
		},
		ModifyResponse: func(r *http.Response) error {
			limit := int64(1 << 50)
			if n := k.down.Load(); r.ContentLength > n && n > 0 {
				limit = n
			}
			if strings.Contains(r.Request.URL.Path, "/blobs/sha256:") {
				r.Body = &limited{r.Body, limit, &k.cuts, &k.read}
			}
			return nil
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: proxy}
	done := make(chan struct{})
	go func() { _ = srv.Serve(l); close(done) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	k.addr = l.Addr().String()
	return k
}

type limited struct {
	io.ReadCloser
	left  int64
	cuts  *atomic.Int64
	count *atomic.Int64
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		l.cuts.Add(1)
		return 0, errors.New("cut")
	}
	n, err := l.ReadCloser.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	l.count.Add(int64(n))
	return n, err
}

// A network that breaks every transfer after a third of a megabyte only costs time: reads and writes go on where they were.
func TestBrokenTransfersGoOn(t *testing.T) {
	src, dst := berthd(t), berthd(t)
	direct := plainClient(remote.Options{})
	d := putImage(t, repo(t, direct, src, "team/app"), tag("v1"), 80, 9_000_000, 6_000_000, 10)

	down := cut(t, src)
	down.down.Store(1_500_000)
	var notices atomic.Int64
	c := plainClient(remote.Options{Backoff: 300 * time.Millisecond, Notice: func(n remote.Notice) {
		if n.Kind == "resume" {
			notices.Add(1)
		}
	}})
	to := repo(t, direct, dst, "down/app")
	if _, err := copy.New(copy.Options{}).Copy(t.Context(), copy.Job{From: repo(t, c, down.addr, "team/app"), At: tag("v1"), To: to, As: []ref.Reference{tag("v1")}}); err != nil {
		t.Fatal(err)
	}
	mustHave(t, to, tag("v1"), d.Digest)
	if down.cuts.Load() < 8 || down.ranges.Load() < 8 || notices.Load() < 8 || down.read.Load() > 15_500_000 {
		t.Errorf("%d cuts, %d ranges, %d notices, %d bytes", down.cuts.Load(), down.ranges.Load(), notices.Load(), down.read.Load())
	}

	up := cut(t, dst)
	up.up.Store(1_500_000)
	to = repo(t, c, up.addr, "up/app")
	if _, err := copy.New(copy.Options{}).Copy(t.Context(), copy.Job{From: repo(t, direct, src, "team/app"), At: tag("v1"), To: to, As: []ref.Reference{tag("v1")}}); err != nil {
		t.Fatal(err)
	}
	mustHave(t, to, tag("v1"), d.Digest)
	if up.cuts.Load() < 8 || up.sent.Load() > 20_000_000 {
		t.Errorf("%d cuts, %d bytes sent for 15000010", up.cuts.Load(), up.sent.Load())
	}
}

// memory remembers uploads as a file would.
type memory struct{ sync.Map }

func (m *memory) Load(key string) (string, bool) {
	v, ok := m.Map.Load(key)
	s, _ := v.(string)
	return s, ok
}
func (m *memory) Save(key, location string) { m.Map.Store(key, location) }
func (m *memory) Drop(key string)           { m.Map.Delete(key) }

// A process that ended in the middle of a layer leaves a session that the next one goes on with.
func TestUploadGoesOnInAnotherProcess(t *testing.T) {
	src, dst := berthd(t), berthd(t)
	direct := plainClient(remote.Options{})
	from := repo(t, direct, src, "team/app")
	d := putImage(t, from, tag("v1"), 90, 8_000_000)
	up := cut(t, dst)
	up.up.Store(5_000_000)
	var left memory
	c := plainClient(remote.Options{Tries: 1, Uploads: &left})
	job := copy.Job{From: from, At: tag("v1"), To: repo(t, c, up.addr, "team/app"), As: []ref.Reference{tag("v1")}}
	_, err := copy.New(copy.Options{}).Copy(t.Context(), job)
	if !fault.Is(err, fault.Unavailable) {
		t.Fatalf("%v", err)
	}
	mustLack(t, repo(t, direct, dst, "team/app"), tag("v1"))
	up.up.Store(0)
	left.Range(func(_, at any) bool { noticed(t, at.(string)); return true })
	up.sent.Store(0)
	c = plainClient(remote.Options{Uploads: &left})
	job.To = repo(t, c, up.addr, "team/app")
	if _, err := copy.New(copy.Options{}).Copy(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	mustHave(t, repo(t, direct, dst, "team/app"), tag("v1"), d.Digest)
	if n := up.sent.Load(); n > 4_000_000 {
		t.Errorf("%d bytes were sent, of which 3000000 were missing", n)
	}
	left.Range(func(k, _ any) bool { t.Errorf("%v is still remembered", k); return true })
}

// noticed waits until a registry has noticed that the connection of an upload is gone.
func noticed(t testing.TB, session string) {
	t.Helper()
	for range 200 {
		resp, err := http.Get(session)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.Header.Get("Range") != "0-0" {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the registry did not notice the end of the upload")
}

// Cancelled and killed copies into a folder go on with what lies there, and an archive gets its name only when it is whole.
func TestInterruptedFolderAndArchive(t *testing.T) {
	src := berthd(t)
	direct := plainClient(remote.Options{})
	d := putImage(t, repo(t, direct, src, "team/app"), tag("v1"), 100, 40<<20, 100)
	net := cut(t, src)
	c := plainClient(remote.Options{Tries: 1})
	from := repo(t, c, net.addr, "team/app")

	dir, err := layout.CreateDir(filepath.Join(t.TempDir(), "dir"))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	file := filepath.Join(t.TempDir(), "a.tar")
	if err := os.WriteFile(file, []byte("an older file"), 0o644); err != nil {
		t.Fatal(err)
	}
	archive := func() error {
		b, err := layout.NewBuilder(file)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		// One blob after the other, so that places are the same in every attempt.
		if _, err := copy.New(copy.Options{Parallel: 1}).Copy(t.Context(), copy.Job{From: from, At: tag("v1"), To: b, As: []ref.Reference{tag("v1")}}); err != nil {
			return err
		}
		return b.Commit()
	}
	net.down.Store(35 << 20)
	job := copy.Job{From: from, At: tag("v1"), To: dir, As: []ref.Reference{tag("v1")}}
	if _, err := copy.New(copy.Options{}).Copy(t.Context(), job); err == nil {
		t.Fatal("a broken copy succeeded")
	}
	mustLack(t, dir, tag("v1"))
	if err := archive(); err == nil {
		t.Fatal("a broken copy succeeded")
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "an older file" {
		t.Fatalf("the older file is %.20q, %v", b, err)
	}
	net.down.Store(0)
	for name, f := range map[string]func() error{
		"folder":  func() error { _, err := copy.New(copy.Options{}).Copy(t.Context(), job); return err },
		"archive": archive,
	} {
		net.read.Store(0)
		if err := f(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if n := net.read.Load(); n > 9<<20 {
			t.Errorf("%s: %d bytes were read again", name, n)
		}
	}
	mustHave(t, dir, tag("v1"), d.Digest)
	a, err := layout.OpenArchive(file)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if _, body, err := a.Manifest(t.Context(), tag("v1")); err != nil || oci.FromBytes(oci.SHA256, body) != d.Digest {
		t.Errorf("%v", err)
	}
	for _, p := range []string{filepath.Dir(file), filepath.Join(dir.String(), "blobs", "sha256")} {
		names, err := os.ReadDir(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if strings.Contains(n.Name(), "part") {
				t.Errorf("%s is left in %s", n.Name(), p)
			}
		}
	}
}

func TestCancelled(t *testing.T) {
	src := berthd(t)
	c := plainClient(remote.Options{})
	from := repo(t, c, src, "team/app")
	putImage(t, from, tag("v1"), 110, 5_000_000, 5_000_000)
	to := repo(t, c, berthd(t), "team/app")
	ctx, cancel := context.WithCancel(t.Context())
	e := copy.New(copy.Options{Progress: func(ev copy.Event) {
		if ev.Kind == copy.BlobProgress {
			cancel()
		}
	}})
	began := time.Now()
	_, err := e.Copy(ctx, copy.Job{From: from, At: tag("v1"), To: to, As: []ref.Reference{tag("v1")}})
	if !errors.Is(err, context.Canceled) || time.Since(began) > 20*time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
	mustLack(t, to, tag("v1"))
}

// A blob that is damaged in the source never gets a name in the target.
func TestDamagedSource(t *testing.T) {
	host := berthd(t)
	c := plainClient(remote.Options{})
	dir, err := layout.CreateDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	putImage(t, dir, tag("v1"), 120, 500_000)
	blob := filepath.Join(dir.String(), "blobs", "sha256", oci.FromBytes(oci.SHA256, randomBytes(12000, 500_000)).Hex())
	b, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	b[499_999]++
	if err := os.WriteFile(blob, b, 0o644); err != nil {
		t.Fatal(err)
	}
	to := repo(t, c, host, "team/app")
	_, err = copy.New(copy.Options{}).Copy(t.Context(), copy.Job{From: dir, At: tag("v1"), To: to, As: []ref.Reference{tag("v1")}})
	if !fault.Has(err, layout.ReasonLayout) || !contains(err, "damaged") {
		t.Errorf("%v", err)
	}
	mustLack(t, to, tag("v1"))
}

// A registry that sends other bytes than were asked for is found out by whoever compares them, the target, and named.
func TestWrongBytesOfRegistry(t *testing.T) {
	src, dst := berthd(t), berthd(t)
	direct := plainClient(remote.Options{})
	putImage(t, repo(t, direct, src, "team/app"), tag("v1"), 125, 500_000)
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: src}) },
		ModifyResponse: func(r *http.Response) error {
			if r.ContentLength == 500_000 {
				r.Body = &altered{ReadCloser: r.Body}
			}
			return nil
		},
	})
	defer proxy.Close()
	host := strings.TrimPrefix(proxy.URL, "http://")
	dir, err := layout.CreateDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for _, to := range []place{repo(t, direct, dst, "team/app"), dir} {
		_, err := copy.New(copy.Options{}).Copy(t.Context(), copy.Job{From: repo(t, direct, host, "team/app"), At: tag("v1"), To: to, As: []ref.Reference{tag("v1")}})
		if !fault.Has(err, remote.ReasonWrongDigest) || !contains(err, host, "the bytes that came") {
			t.Errorf("to %s: %v", to, err)
		}
		mustLack(t, to, tag("v1"))
	}
}

// altered changes the first byte.
type altered struct {
	io.ReadCloser
	done bool
}

func (a *altered) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if n > 0 && !a.done {
		p[0]++
		a.done = true
	}
	return n, err
}

// Two images that share everything, copied at the same time many times over, send each blob once.
func TestSharedBlobsGoOnce(t *testing.T) {
	c := plainClient(remote.Options{})
	src, dst := berthd(t), testkit.Start(t, testkit.Options{Env: []string{"BERTH_ANONYMOUS=delete"}}).Addr
	from := repo(t, c, src, "team/app")
	putImage(t, from, tag("v1"), 130, 200_000, 100_000)
	d := putImage(t, from, tag("v2"), 130, 200_000, 100_000)
	net := cut(t, dst)
	to := repo(t, c, net.addr, "team/app")
	e := copy.New(copy.Options{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			name := tag([]string{"v1", "v2"}[i%2])
			if _, err := e.Copy(t.Context(), copy.Job{From: from, At: name, To: to, As: []ref.Reference{name}}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := net.sent.Load(); n > 310_000 {
		t.Errorf("%d bytes were sent for 300 kB", n)
	}
	mustHave(t, to, tag("v2"), d.Digest)
}
