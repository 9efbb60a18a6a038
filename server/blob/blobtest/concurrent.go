package blobtest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

func testConcurrentUploads(t *testing.T, s blob.Store) {
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 20 {
				id := fmt.Sprintf("concurrent-%d-%d", worker, i)
				data := append([]byte(id), Random(byte(i), 10_000)...)
				d := oci.FromBytes(oci.SHA256, data)
				if err := Push(s, id, data); err != nil {
					t.Errorf("%s: %v", id, err)
				} else if err := holds(s, d, data); err != nil {
					t.Errorf("%s, just committed: %v", id, err)
				}
			}
		})
	}
	wg.Wait()
}

// Many pushes of one blob are the normal case: a base layer.
func testConcurrentSameDigest(t *testing.T, s blob.Store) {
	data := Random(17, 200_000)
	d := oci.FromBytes(oci.SHA256, data)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 10 {
				id := fmt.Sprintf("same-%d-%d", worker, i)
				if err := Push(s, id, data); err != nil {
					t.Errorf("%s: %v", id, err)
				} else if err := holds(s, d, data); err != nil {
					t.Errorf("%s, just committed: %v", id, err)
				}
			}
		})
	}
	wg.Wait()
}

// Whoever opens a blob while it is committed again and deleted reads all of it, or is told that it is not there.
func testConcurrentReaders(t *testing.T, s blob.Store) {
	data := Random(18, 300_000)
	d := Put(t, s, "readers", data)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				if err := holds(s, d, data); err != nil && !fault.Has(err, fault.BlobUnknown) {
					t.Errorf("reader: %v", err)
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := range 30 {
		if err := Push(s, fmt.Sprint("readers-", i), data); err != nil {
			t.Errorf("commit: %v", err)
		}
		if i%3 == 0 {
			if err := s.Delete(context.Background(), d); err != nil {
				t.Errorf("delete: %v", err)
			}
		}
	}
	close(done)
	wg.Wait()
}

// testModel plays random calls on the store and on the simplest thing that does the same: two maps.
func testModel(t *testing.T, s blob.Store) {
	run := 0 // ids are never reused, also not by the next run on the same store
	rapid.Check(t, func(rt *rapid.T) {
		run++
		m := &model{s: s, run: run, uploads: map[string]held{}, blobs: map[oci.Digest][]byte{}}
		defer m.cleanUp(rt)
		rt.Repeat(map[string]func(*rapid.T){
			"begin":  m.begin,
			"append": m.append,
			"commit": m.commit,
			"abort":  m.abort,
			"delete": m.delete,
			"":       m.check,
		})
	})
}

type model struct {
	s       blob.Store
	run     int
	next    int
	uploads map[string]held
	blobs   map[oci.Digest][]byte
}

// held is an upload that was suspended.
type held struct {
	data  []byte
	state blob.State
}

func (m *model) begin(t *rapid.T) {
	id := fmt.Sprintf("model-%d-%d", m.run, m.next)
	m.next++
	m.extend(t, id, held{})
}

func (m *model) append(t *rapid.T) {
	id := m.anUpload(t)
	m.extend(t, id, m.uploads[id])
}

func (m *model) extend(t *rapid.T, id string, before held) {
	w, err := m.s.Upload(context.Background(), id, before.state)
	if err != nil {
		t.Fatalf("upload %s at %d: %v", id, before.state.Offset, err)
	}
	defer w.Close()
	// Few contents, so that uploads often end in the same digest.
	data := Random(byte(rapid.IntRange(0, 3).Draw(t, "content")), rapid.SampledFrom([]int{0, 1, 1000, 60_000, 200_000}).Draw(t, "size"))
	if n, err := w.Write(data); n != len(data) || err != nil {
		t.Fatalf("write: %d, %v", n, err)
	}
	if rapid.Bool().Draw(t, "interrupted") {
		if err := w.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
		if _, known := m.uploads[id]; known {
			return
		}
		data = nil
		if w, err = m.s.Upload(context.Background(), id, blob.State{}); err != nil {
			t.Fatalf("upload %s again: %v", id, err)
		}
		defer w.Close()
	}
	state, err := w.Suspend(context.Background())
	if err != nil {
		t.Fatalf("suspend: %v", err)
	}
	m.uploads[id] = held{slices.Concat(before.data, data), state}
}

func (m *model) commit(t *rapid.T) {
	id := m.anUpload(t)
	data := m.uploads[id].data
	d := oci.FromBytes(oci.SHA256, data)
	if err := commit(m.s, id, m.uploads[id].state, d); err != nil {
		t.Fatalf("commit %s: %v", id, err)
	}
	delete(m.uploads, id)
	m.blobs[d] = data
}

func (m *model) abort(t *rapid.T) {
	id := m.anUpload(t)
	if err := m.s.Abort(context.Background(), id, m.uploads[id].state); err != nil {
		t.Fatalf("abort %s: %v", id, err)
	}
	delete(m.uploads, id)
}

func (m *model) delete(t *rapid.T) {
	if len(m.blobs) == 0 {
		t.Skip("nothing to delete")
	}
	d := m.aBlob(t)
	if err := m.s.Delete(context.Background(), d); err != nil {
		t.Fatalf("delete: %v", err)
	}
	delete(m.blobs, d)
	if c, _, err := m.s.Open(context.Background(), d); err == nil {
		c.Close()
		t.Fatalf("%s was deleted and is there", d.Short())
	}
}

func (m *model) check(t *rapid.T) {
	for d, data := range m.blobs {
		if err := holds(m.s, d, data); err != nil {
			t.Fatalf("%s: %v", d.Short(), err)
		}
	}
}

func (m *model) anUpload(t *rapid.T) string {
	if len(m.uploads) == 0 {
		t.Skip("no upload")
	}
	return rapid.SampledFrom(sortedKeys(m.uploads, func(id string) string { return id })).Draw(t, "upload")
}

func (m *model) aBlob(t *rapid.T) oci.Digest {
	return rapid.SampledFrom(sortedKeys(m.blobs, oci.Digest.String)).Draw(t, "blob")
}

func (m *model) cleanUp(t *rapid.T) {
	for id, u := range m.uploads {
		if err := m.s.Abort(context.Background(), id, u.state); err != nil {
			t.Errorf("abort: %v", err)
		}
	}
	for d := range m.blobs {
		if err := m.s.Delete(context.Background(), d); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
}

// sortedKeys makes a draw from a map the same in every replay.
func sortedKeys[K comparable, V any](m map[K]V, text func(K) string) []K {
	return slices.SortedFunc(maps.Keys(m), func(a, b K) int { return cmp.Compare(text(a), text(b)) })
}
