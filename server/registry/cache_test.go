package registry_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/registry"
)

// A reader that asks after a push was acknowledged sees that push or a later one, however many readers fill the memory
// for tags at the same moment.
func TestTagIsNeverStale(t *testing.T) {
	eachDatabase(t, func(t *testing.T, database func(*options)) {
		for name, bytes := range map[string]int64{"roomy": 32 << 20, "tiny": 4 << 10} {
			t.Run(name, func(t *testing.T) {
				h := newHouse(t, database, func(o *options) { o.registry.Limits.Cache = bytes })
				moves := 400
				if testing.Short() {
					moves = 120
				}
				version := map[oci.Digest]int64{}
				pushes := make([]registry.PutManifest, moves)
				for i := range pushes {
					pushes[i] = index("latest", fmt.Sprint(name, i))
					version[digestOf(string(pushes[i].Body))] = int64(i)
				}
				repository := "team/" + name
				h.put(t, admin(), repository, pushes[0])
				var acked atomic.Int64
				var done atomic.Bool
				var readers sync.WaitGroup
				for range 6 {
					readers.Go(func() {
						for !done.Load() {
							least := acked.Load()
							m, err := h.Manifest(admin(), repo(repository), tagged("latest"))
							if err != nil {
								t.Error(err)
								return
							}
							if got := version[m.Digest]; got < least {
								t.Errorf("version %d was read after %d was acknowledged", got, least)
								return
							}
						}
					})
				}
				for i := 1; i < moves && !t.Failed(); i++ {
					h.put(t, admin(), repository, pushes[i])
					acked.Store(int64(i))
				}
				done.Store(true)
				readers.Wait()
			})
		}
	})
}

// What was deleted is not read again, and what was pushed again is, with readers that fill the memory all the time.
func TestDeletedIsGone(t *testing.T) {
	h := newHouse(t)
	p := index("1", "x")
	d := digestOf(string(p.Body))
	h.put(t, admin(), "team/app", p)
	blob := h.pushBlob(t, admin(), "team/app", "a small blob")
	var done atomic.Bool
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for !done.Load() {
				_, _ = h.Manifest(admin(), repo("team/app"), tagged("1"))
				_, _ = h.Manifest(admin(), repo("team/app"), byDigest(d))
				_, _ = h.StatBlob(admin(), repo("team/app"), blob)
			}
		})
	}
	for range 60 {
		if _, err := h.DeleteManifest(admin(), repo("team/app"), byDigest(d)); err != nil {
			t.Fatal(err)
		}
		h.has(t, "team/app", tagged("1"), oci.Digest{})
		h.has(t, "team/app", byDigest(d), oci.Digest{})
		if err := h.DeleteBlob(admin(), repo("team/app"), blob); err != nil {
			t.Fatal(err)
		}
		if _, err := h.StatBlob(admin(), repo("team/app"), blob); !fault.Has(err, fault.BlobUnknown) {
			t.Fatalf("a deleted blob: %v", err)
		}
		h.put(t, admin(), "team/app", p)
		h.has(t, "team/app", tagged("1"), d)
		h.pushBlob(t, admin(), "team/app", "a small blob")
		if _, err := h.StatBlob(admin(), repo("team/app"), blob); err != nil {
			t.Fatalf("a blob that was pushed again: %v", err)
		}
	}
	done.Store(true)
	readers.Wait()
}
