package registry_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/mem"
	"github.com/berth-registry/berth/server/registry"
)

// bucket is a store that can be unreachable: whatever is asked of it then is Unavailable.
type bucket struct {
	blob.Store
	away atomic.Bool
}

func (b *bucket) reach() error {
	if !b.away.Load() {
		return nil
	}
	f := fault.New(fault.Unavailable, fault.UnavailableReason, "the bucket does not answer; try again later")
	f.After = 5
	return f
}

func (b *bucket) Upload(ctx context.Context, id string, st blob.State) (blob.Writer, error) {
	if err := b.reach(); err != nil {
		return nil, err
	}
	return b.Store.Upload(ctx, id, st)
}

func (b *bucket) Commit(ctx context.Context, id string, st blob.State, d oci.Digest) error {
	if err := b.reach(); err != nil {
		return err
	}
	return b.Store.Commit(ctx, id, st, d)
}

func (b *bucket) Abort(ctx context.Context, id string, st blob.State) error {
	if err := b.reach(); err != nil {
		return err
	}
	return b.Store.Abort(ctx, id, st)
}

func (b *bucket) Open(ctx context.Context, d oci.Digest) (blob.Content, int64, error) {
	if err := b.reach(); err != nil {
		return nil, 0, err
	}
	return b.Store.Open(ctx, d)
}

// TestStoreAway: while the store cannot be reached, what needs it is Unavailable and says when to try again, what is in
// the database goes on, an upload goes on where it was confirmed, and nothing needs a repair afterwards.
func TestStoreAway(t *testing.T) {
	eachDatabase(t, func(t *testing.T, database func(*options)) {
		store := &bucket{Store: mem.New()}
		h := newHouse(t, database, func(o *options) { o.registry.Blobs = store })
		large, next := strings.Repeat("a large blob, ", 10_000), strings.Repeat("another one, ", 10_000)
		d := h.pushBlob(t, admin(), "team/app", large)
		small := h.pushBlob(t, admin(), "team/app", "small")
		name := repo("team/app")
		part := len(next) / 2
		u, err := h.StartUpload(admin(), name, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Append(admin(), name, u.ID, registry.Chunk{Start: 0, Length: int64(part), Body: strings.NewReader(next[:part])}); err != nil {
			t.Fatal(err)
		}

		store.away.Store(true)
		last := registry.Chunk{Start: -1, Length: int64(len(next) - part), Body: strings.NewReader(next[part:])}
		_, openErr := firstOf3(h.OpenBlob(admin(), name, d))
		for what, err := range map[string]error{
			"pull":  openErr,
			"push":  h.PutBlob(admin(), name, digestOf(next), registry.Chunk{Start: -1, Length: int64(len(next)), Body: strings.NewReader(next)}),
			"close": h.Commit(admin(), name, u.ID, digestOf(next), last),
		} {
			if f := fault.Of(err); err == nil || f.Kind != fault.Unavailable || f.After == 0 {
				t.Errorf("%s: %v; want Unavailable with a time", what, err)
			}
		}
		if _, err := h.StatBlob(admin(), name, d); err != nil {
			t.Errorf("head: %v", err)
		}
		if _, err := firstOf3(h.OpenBlob(admin(), name, small)); err != nil {
			t.Errorf("pull of a small blob: %v", err)
		}
		h.put(t, admin(), "team/app", index("while-away", "x"))
		h.pushBlob(t, admin(), "team/app", "small, too")

		store.away.Store(false)
		status, err := h.UploadStatus(admin(), name, u.ID)
		if err != nil || status.Received != int64(part) {
			t.Fatalf("the upload that was begun: %+v, %v", status, err)
		}
		last.Body = strings.NewReader(next[part:])
		if err := h.Commit(admin(), name, u.ID, digestOf(next), last); err != nil {
			t.Errorf("the upload goes on: %v", err)
		}
		for _, content := range []string{large, next} {
			h.wantContent(t, "team/app", content)
		}
	})
}

func firstOf3[A, B any](a A, _ B, err error) (A, error) { return a, err }
