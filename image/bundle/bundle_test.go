package bundle_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/bundle"
	"github.com/berth-registry/berth/image/copy"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/image/sign/key"
	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

type world struct {
	c        *remote.Client
	src, dst string
	dir      string
	key      *key.Private
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir()}
	w.c = remote.New(remote.Options{Backoff: time.Millisecond, Endpoint: func(string) remote.Endpoint { return remote.Endpoint{Scheme: "http"} }})
	w.src = testkit.Start(t, testkit.Options{Env: []string{"BERTH_ANONYMOUS=delete"}}).Addr
	w.dst = testkit.Start(t, testkit.Options{Env: []string{"BERTH_ANONYMOUS=delete"}}).Addr
	var err error
	if w.key, err = key.New(key.Ed25519); err != nil {
		t.Fatal(err)
	}
	return w
}

func name(t testing.TB, s string) ref.Name {
	t.Helper()
	n, err := ref.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func put(t testing.TB, r *remote.Repository, at ref.Reference, more map[string]any, layers ...string) oci.Descriptor {
	t.Helper()
	blob := func(s string) oci.Descriptor {
		d := oci.Descriptor{MediaType: "text/plain", Digest: oci.FromBytes(oci.SHA256, []byte(s)), Size: int64(len(s))}
		if _, err := r.PutBlob(t.Context(), d, nil, func(_ context.Context, from int64) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(s[from:])), nil
		}); err != nil {
			t.Fatal(err)
		}
		return d
	}
	var ls []oci.Descriptor
	for _, l := range layers {
		ls = append(ls, blob(l))
	}
	doc := map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeManifest, "config": blob("{}"), "layers": ls}
	for k, v := range more {
		doc[k] = v
	}
	body, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	d := oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: oci.FromBytes(oci.SHA256, body), Size: int64(len(body))}
	if at.Tag == "" {
		at.Digest = d.Digest
	}
	if err := r.PutManifest(t.Context(), at, d, body); err != nil {
		t.Fatal(err)
	}
	return d
}

var (
	base  = strings.Repeat("base layer ", 50_000)
	first = strings.Repeat("first ", 1000)
	next  = strings.Repeat("second ", 1000)
)

// fill writes app:v1 with a signature and an attestation under a tag, and returns them.
func (w *world) fill(t *testing.T) (app, sig, att oci.Descriptor) {
	t.Helper()
	r := w.c.Repository(w.src, name(t, "team/app"))
	app = put(t, r, ref.Reference{Tag: "v1"}, nil, base, first)
	sig = put(t, r, ref.Reference{}, map[string]any{"subject": app, "artifactType": "application/vnd.example.sig"}, "signature")
	att = put(t, r, ref.Reference{Tag: remote.FallbackTag(app.Digest) + ".att"}, nil, "attestation")
	return app, sig, att
}

func (w *world) item(t *testing.T, repo, tag string) bundle.Item {
	return bundle.Item{From: w.c.Repository(w.src, name(t, repo)), At: ref.Reference{Tag: tag}, Repository: name(t, repo), Tag: tag}
}

func (w *world) create(t *testing.T, file string, o bundle.Order) *bundle.Bundle {
	t.Helper()
	if o.Key == nil {
		o.Key = w.key
	}
	if _, err := bundle.Create(t.Context(), filepath.Join(w.dir, file), o); err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Open(filepath.Join(w.dir, file))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	if err := errors.Join(b.VerifySignature(w.key.Public()), b.Verify(t.Context())); err != nil {
		t.Fatal(err)
	}
	return b
}

func (w *world) use(prefix string) bundle.Use {
	rename := func(repo string) (ref.Name, error) { return ref.ParseName(prefix + repo) }
	return bundle.Use{Name: strings.TrimSuffix(w.dst+"/"+prefix, "/"), Rename: rename, Target: func(n ref.Name) (copy.Target, error) {
		n, err := rename(n.String())
		return w.c.Repository(w.dst, n), err
	}}
}

// Images, their signatures and further files cross the gap; a second bundle brings only what is new, and applying twice does
// nothing and gives the same receipt.
func TestThereAndAgain(t *testing.T) {
	w := newWorld(t)
	app, sig, att := w.fill(t)
	files := []bundle.File{{Kind: "trust", Name: "root.pem", Body: []byte("a root")}, {Kind: "config", Name: "policy.json", Body: []byte("{}")}}
	b := w.create(t, "one.tar", bundle.Order{Items: []bundle.Item{w.item(t, "team/app", "v1")}, Files: files})
	if len(b.Images) != 1 || len(b.Images[0].Manifests) != 3 || len(b.Lacks) != 0 || !b.Signed {
		t.Fatalf("%+v", b.List)
	}
	use := w.use("in/")
	use.Files = filepath.Join(w.dir, "files")
	one, results, err := b.Apply(t.Context(), use)
	if err != nil || results[0].Sent == 0 {
		t.Fatalf("%+v, %v", results, err)
	}
	to := w.c.Repository(w.dst, name(t, "in/team/app"))
	for _, want := range []struct {
		at ref.Reference
		d  oci.Descriptor
	}{{ref.Reference{Tag: "v1"}, app}, {ref.Reference{Digest: sig.Digest}, sig}, {ref.Reference{Tag: remote.FallbackTag(app.Digest) + ".att"}, att}} {
		if d, err := to.Head(t.Context(), want.at); err != nil || d.Digest != want.d.Digest {
			t.Errorf("%s: %v", want.at, err)
		}
	}
	if body, err := os.ReadFile(filepath.Join(use.Files, "root.pem")); err != nil || string(body) != "a root" {
		t.Errorf("%q, %v", body, err)
	}
	again, results, err := b.Apply(t.Context(), use)
	if err != nil || again.ID() != one.ID() || results[0].Changed {
		t.Fatalf("the second time: %+v, %v", results, err)
	}
	if err := one.Sign(w.key); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(one)
	if err != nil {
		t.Fatal(err)
	}
	receipt, err := bundle.ParseReceipt(text)
	if err != nil || receipt.Verify(w.key.Public()) != nil || receipt.ID() != one.ID() || receipt.State != b.State {
		t.Fatalf("%+v, %v", receipt, err)
	}
	receipt.Images[0].Tag = "v2"
	if err := receipt.Verify(w.key.Public()); !fault.Has(err, bundle.ReasonUnsigned) {
		t.Errorf("a changed receipt: %v", err)
	}

	// The next version, in another repository, with the receipt: the shared layer stays out and is mounted over there.
	r := w.c.Repository(w.src, name(t, "team/next"))
	v2 := put(t, r, ref.Reference{Tag: "v2"}, nil, base, next)
	delta := w.create(t, "two.tar", bundle.Order{Items: []bundle.Item{w.item(t, "team/next", "v2")}, Against: []*bundle.Receipt{one}})
	info, err := os.Stat(filepath.Join(w.dir, "two.tar"))
	if err != nil || info.Size() > 30_000 || len(delta.Lacks) != 2 || len(delta.Against) != 1 {
		t.Fatalf("%d bytes, %+v, %v", info.Size(), delta.Lacks, err)
	}
	plan, err := delta.Diff(t.Context(), w.use("in/"))
	if err != nil || !plan[0].Changed {
		t.Errorf("%+v, %v", plan, err)
	}
	_, results, err = delta.Apply(t.Context(), w.use("in/"))
	if err != nil || results[0].Mounted != 2 || results[0].Sent != 1 {
		t.Fatalf("%+v, %v", results[0], err)
	}
	if d, err := w.c.Repository(w.dst, name(t, "in/team/next")).Head(t.Context(), ref.Reference{Tag: "v2"}); err != nil || d.Digest != v2.Digest {
		t.Errorf("%v", err)
	}
	// A side that does not have what was left out is told so, and gets no name.
	_, _, err = delta.Apply(t.Context(), w.use("elsewhere/"))
	if !fault.Has(err, bundle.ReasonLacking) {
		t.Errorf("%v", err)
	}
	if _, err := w.c.Repository(w.dst, name(t, "elsewhere/team/next")).Head(t.Context(), ref.Reference{Tag: "v2"}); !fault.Is(err, fault.NotFound) {
		t.Errorf("%v", err)
	}
	// An inventory says what a receipt says.
	at := bundle.Item{From: to, At: ref.Reference{Tag: "v1"}, Repository: name(t, "team/app"), Tag: "v1"}
	inv, err := bundle.Inventory(t.Context(), one.Target, []bundle.Item{at}, copy.Options{})
	if err != nil || fmt.Sprint(inv.Have) != fmt.Sprint(one.Have) {
		t.Errorf("%v, %v", inv, err)
	}
}

// However a bundle is cut or changed, that is found before anything of it is used.
func TestDamageIsFound(t *testing.T) {
	w := newWorld(t)
	w.fill(t)
	b := w.create(t, "good.tar", bundle.Order{Items: []bundle.Item{w.item(t, "team/app", "v1")}, Files: []bundle.File{{Kind: "file", Name: "note", Body: []byte("note")}}})
	_ = b.Close()
	good, err := os.ReadFile(filepath.Join(w.dir, "good.tar"))
	if err != nil {
		t.Fatal(err)
	}
	look := func(body []byte) error {
		file := filepath.Join(w.dir, "bad.tar")
		if err := os.WriteFile(file, body, 0o644); err != nil {
			t.Fatal(err)
		}
		b, err := bundle.Open(file)
		if err != nil {
			return err
		}
		defer b.Close()
		return errors.Join(b.VerifySignature(w.key.Public()), b.Verify(t.Context()))
	}
	if err := look(good); err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(good)-1024; n += 1009 {
		if err := look(good[:n]); err == nil {
			t.Errorf("cut off after %d of %d bytes", n, len(good))
		}
	}
	// A flipped bit in the content of any entry. Padding and what tar says of times means nothing.
	r := tar.NewReader(bytes.NewReader(good))
	flips := 0
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		off := bytes.Index(good, append([]byte(h.Name), 0)) + 512
		if !bytes.Equal(good[off:off+len(body)], body) || h.Name == "index.json" || h.Name == "oci-layout" {
			continue // the index is for other tools; the list says it all
		}
		for _, at := range []int{0, len(body) / 2, len(body) - 1} {
			bad := bytes.Clone(good)
			bad[off+at] ^= 1
			if err := look(bad); err == nil {
				t.Errorf("a flipped bit in %s at %d", h.Name, at)
			}
			flips++
		}
	}
	if flips < 20 {
		t.Errorf("only %d flips were tried", flips)
	}
	// An entry that nobody listed, and one with a path that leads out.
	for _, more := range []string{"berth/files/more", "../../etc/passwd", "blobs/sha256/" + strings.Repeat("a", 64)} {
		var buf bytes.Buffer
		buf.Write(good[:len(good)-1024])
		tw := tar.NewWriter(&buf)
		_ = tw.WriteHeader(&tar.Header{Name: more, Size: 1, Mode: 0o644})
		_, _ = tw.Write([]byte("x"))
		_ = tw.Close()
		if err := look(buf.Bytes()); !fault.Has(err, bundle.ReasonDamaged) {
			t.Errorf("%s: %v", more, err)
		}
	}
	other, err := key.New(key.P256)
	if err != nil {
		t.Fatal(err)
	}
	b, err = bundle.Open(filepath.Join(w.dir, "good.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.VerifySignature(other.Public()); !fault.Has(err, bundle.ReasonUnsigned) {
		t.Errorf("another key: %v", err)
	}
}

// breaking is a source whose network ends after some bytes. Blobs are fetched side by side.
type breaking struct {
	copy.Source
	left, read atomic.Int64
}

func (s *breaking) Blob(ctx context.Context, d oci.Descriptor, from int64) (io.ReadCloser, error) {
	rc, err := s.Source.Blob(ctx, d, from)
	return &broken{rc, s}, err
}

type broken struct {
	io.ReadCloser
	s *breaking
}

func (b *broken) Read(p []byte) (int, error) {
	left := b.s.left.Load()
	if left <= 0 {
		return 0, errors.New("the network is gone")
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), left)])
	b.s.left.Add(-int64(n))
	b.s.read.Add(int64(n))
	return n, err
}

// An interrupted creation leaves no bundle, and the next one goes on in the middle of the layer where it stopped.
func TestCreateGoesOn(t *testing.T) {
	w := newWorld(t)
	r := w.c.Repository(w.src, name(t, "team/big"))
	big := strings.Repeat("0123456789abcdef", 6<<20) // 96 MiB
	put(t, r, ref.Reference{Tag: "v1"}, nil, big, first)
	src := &breaking{Source: r}
	src.left.Store(80 << 20)
	order := bundle.Order{Items: []bundle.Item{{From: src, At: ref.Reference{Tag: "v1"}, Repository: name(t, "team/big"), Tag: "v1"}}, Key: w.key,
		Copy: copy.Options{Parallel: 1}}
	var told []int64 // how far the large layer was, as it was said; one transfer at a time
	order.Tell = func(e copy.Event) {
		if e.Kind == copy.BlobProgress && e.Size == int64(len(big)) {
			told = append(told, e.Done)
		}
	}
	file := filepath.Join(w.dir, "big.tar")
	if _, err := bundle.Create(t.Context(), file, order); err == nil || !strings.Contains(err.Error(), "network is gone") {
		t.Fatalf("%v", err)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Fatalf("a part looks like a whole: %v", err)
	}
	if n := len(told); n < 50 || !slices.IsSorted(told) || told[n-1] > 80<<20 {
		t.Errorf("progress of 80 of 96 MiB was told %d times, the last at %v", n, told[max(n-1, 0):])
	}
	told = nil
	src.left.Store(1 << 40)
	src.read.Store(0)
	b := w.create(t, "big.tar", order)
	if n := len(told); n < 10 || !slices.IsSorted(told) || told[0] < 56<<20 || told[n-1] < 95<<20 {
		t.Errorf("progress of the rest was told as %v", told)
	}
	if read := src.read.Load(); read > 40<<20 {
		t.Errorf("%d MiB were read again", read>>20)
	}
	if len(b.Images) != 1 {
		t.Errorf("%+v", b.List)
	}
	left, err := filepath.Glob(filepath.Join(w.dir, "*partial*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
