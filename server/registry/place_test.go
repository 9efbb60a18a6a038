package registry_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/mem"
	"github.com/berth-registry/berth/server/registry"
)

// placing is a store that can use a digest before the bytes, and redirect.
type placing struct {
	blob.Store
	mu      sync.Mutex
	placed  int // placements that were committed
	open    int // and those that are neither committed nor closed
	uploads int
	fail    error // of the next commit
}

type placement struct {
	bytes.Buffer
	p     *placing
	id    string
	d     oci.Digest
	ended bool
}

func (p *placing) Place(_ context.Context, id string, d oci.Digest) (blob.Placement, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open++
	return &placement{p: p, id: id, d: d}, nil
}

func (p *placing) Upload(ctx context.Context, id string, state blob.State) (blob.Writer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.uploads++
	return p.Store.Upload(ctx, id, state)
}

func (p *placing) URL(_ context.Context, d oci.Digest) (string, error) {
	return "https://bucket.example.com/" + d.Hex() + "?signed", nil
}

func (p *placement) Commit(ctx context.Context) error {
	p.p.mu.Lock()
	defer p.p.mu.Unlock()
	if p.p.fail != nil {
		return p.p.fail
	}
	w, err := p.p.Store.Upload(ctx, "placed-"+p.id, blob.State{})
	if err != nil {
		return err
	}
	if _, err := w.Write(p.Bytes()); err != nil {
		return err
	}
	state, err := w.Suspend(ctx)
	if err != nil {
		return err
	}
	if err := p.p.Store.Commit(ctx, "placed-"+p.id, state, p.d); err != nil {
		return err
	}
	p.p.placed++
	p.p.open--
	p.ended = true
	return nil
}

func (p *placement) Close() error {
	p.p.mu.Lock()
	defer p.p.mu.Unlock()
	if !p.ended {
		p.ended = true
		p.p.open--
	}
	return nil
}

func placingHouse(t *testing.T) (*house, *placing) {
	p := &placing{Store: mem.New()}
	h := newHouse(t, func(o *options) { o.registry.Blobs = p })
	t.Cleanup(func() {
		if p.open != 0 {
			t.Errorf("%d placements were neither committed nor closed", p.open)
		}
	})
	return h, p
}

func chunkOf(content string) registry.Chunk {
	return registry.Chunk{Start: -1, Length: int64(len(content)), Body: strings.NewReader(content)}
}

// wantContent reads a blob as a client does.
func (h *house) wantContent(t *testing.T, name, content string) {
	t.Helper()
	c, _, err := h.OpenBlob(admin(), repo(name), digestOf(content))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := io.ReadAll(c); err != nil || string(got) != content {
		t.Errorf("%d bytes, %v; want %d", len(got), err, len(content))
	}
}

// Whoever names the digest before the bytes gets them placed, in one request or in two; whoever does not, does not.
func TestPlace(t *testing.T) {
	h, store := placingHouse(t)
	name := repo("library/app")
	one, two, three := strings.Repeat("a", 50_000), strings.Repeat("b", 50_000), strings.Repeat("c", 50_000)
	h.pushBlob(t, admin(), "library/app", one)
	h.wantContent(t, "library/app", one)

	u, err := h.StartUpload(admin(), name, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Commit(admin(), name, u.ID, digestOf(two), chunkOf(two)); err != nil {
		t.Fatal(err)
	}
	h.wantContent(t, "library/app", two)
	if store.placed != 2 || store.uploads != 0 {
		t.Errorf("%d were placed and %d uploaded, want 2 and none", store.placed, store.uploads)
	}

	if u, err = h.StartUpload(admin(), name, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Append(admin(), name, u.ID, chunkOf(three[:40_000])); err != nil {
		t.Fatal(err)
	}
	if err := h.Commit(admin(), name, u.ID, digestOf(three), chunkOf(three[40_000:])); err != nil {
		t.Fatal(err)
	}
	h.wantContent(t, "library/app", three)
	if store.placed != 2 {
		t.Error("an upload that has bytes already was placed")
	}
}

// A placement that fails leaves nothing behind, and the client can try again.
func TestPlaceFails(t *testing.T) {
	h, store := placingHouse(t)
	name := repo("library/app")
	content := strings.Repeat("x", 50_000)
	d := digestOf(content)

	err := h.PutBlob(admin(), name, digestOf("something else"), chunkOf(content))
	wantFault(t, "wrong digest", err, fault.Invalid, fault.DigestInvalid)

	u, err := h.StartUpload(admin(), name, "")
	if err != nil {
		t.Fatal(err)
	}
	half := io.MultiReader(strings.NewReader(content[:40_000]), iotest.ErrReader(io.ErrUnexpectedEOF))
	err = h.Commit(admin(), name, u.ID, d, registry.Chunk{Start: -1, Length: int64(len(content)), Body: half})
	wantFault(t, "body cut", err, fault.Invalid, fault.BlobUploadInvalid)
	if status, err := h.UploadStatus(admin(), name, u.ID); err != nil || status.Received != 0 {
		t.Errorf("after the cut: %+v, %v; want an upload without bytes", status, err)
	}
	if err := h.Commit(admin(), name, u.ID, d, chunkOf(content)); err != nil {
		t.Fatalf("the same again: %v", err)
	}
	h.wantContent(t, "library/app", content)

	other := strings.Repeat("y", 50_000)
	store.fail = errors.New("the bucket is gone")
	if err := h.PutBlob(admin(), name, digestOf(other), chunkOf(other)); !errors.Is(err, store.fail) {
		t.Errorf("commit: %v", err)
	}
	store.fail = nil
	if _, err := h.StatBlob(admin(), name, digestOf(other)); !fault.Has(err, fault.BlobUnknown) {
		t.Errorf("a blob whose commit failed: %v", err)
	}
	h.pushBlob(t, admin(), "library/app", other)
	h.wantContent(t, "library/app", other)
}

// The store's address of a blob is for who may pull it, and only for content that is in the store.
func TestBlobURL(t *testing.T) {
	h, _ := placingHouse(t)
	large, small := strings.Repeat("a", 50_000), "small"
	d := h.pushBlob(t, admin(), "library/app", large)
	h.pushBlob(t, admin(), "library/app", small)
	if u, size, err := h.BlobURL(admin(), repo("library/app"), d); err != nil || size != 50_000 || u != "https://bucket.example.com/"+d.Hex()+"?signed" {
		t.Errorf("large: %q, %d, %v", u, size, err)
	}
	if u, size, err := h.BlobURL(admin(), repo("library/app"), digestOf(small)); err != nil || size != 5 || u != "" {
		t.Errorf("small: %q, %d, %v", u, size, err)
	}
	_, _, err := h.BlobURL(admin(), repo("library/other"), d)
	wantFault(t, "of a repository that does not have it", err, fault.NotFound, fault.NameUnknown)
	if _, _, err := h.BlobURL(context.Background(), repo("library/app"), d); err == nil {
		t.Error("somebody who may not pull was given the address")
	}
	plain := newHouse(t)
	plain.pushBlob(t, admin(), "library/app", large)
	if u, _, err := plain.BlobURL(admin(), repo("library/app"), d); err != nil || u != "" {
		t.Errorf("of a store that cannot redirect: %q, %v", u, err)
	}
}
