package registry_test

import (
	"bytes"
	"context"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/blob/blobtest"
	"github.com/berth-registry/berth/server/registry"
)

func (p *plant) start(name ref.Name, a oci.Algorithm) string {
	p.Helper()
	u, err := p.StartUpload(p.ctx, name, a)
	if err != nil {
		p.Fatal(err)
	}
	return u.ID
}

func (p *plant) append(name ref.Name, id string, c registry.Chunk, want int) {
	p.Helper()
	u, err := p.Append(p.ctx, name, id, c)
	if err != nil || u.Received != int64(want) {
		p.Fatalf("append: %+v, %v; want %d bytes", u, err, want)
	}
}

func (p *plant) wantStatus(name ref.Name, id string, want int) {
	p.Helper()
	u, err := p.UploadStatus(p.ctx, name, id)
	if err != nil || u.Received != int64(want) {
		p.Errorf("status: %+v, %v; want %d bytes", u, err, want)
	}
}

func wantFault(t testing.TB, what string, err error, kind fault.Kind, reason fault.Reason) {
	t.Helper()
	if !fault.Is(err, kind) || !fault.Has(err, reason) {
		t.Errorf("%s: %v, want %s", what, err, reason)
	}
}

// What a client sent before it vanished counts, its hash too, also after the end of the process; the upload may then end
// with either algorithm.
func TestResume(t *testing.T) {
	onBoth(t, func(p *plant) {
		name := named(p, "library/app")
		for _, size := range []int{1, 900, 50_000, 300_000} { // unsynced and synced, below and above what is kept inline
			for _, end := range []oci.Algorithm{oci.SHA256, oci.SHA512} {
				data := blobtest.Random(4, 2*size+1)
				id := p.start(name, oci.SHA256)
				c := cut(data, size)
				_, err := p.Append(p.ctx, name, id, c)
				wantFault(p, "cut body", err, fault.Invalid, fault.BlobUploadInvalid)
				p.wantStatus(name, id, size)
				p.restart()
				p.wantStatus(name, id, size)
				p.append(name, id, part(data[size:2*size], size), 2*size)
				p.restart()
				d := oci.FromBytes(end, data)
				if err := p.Commit(p.ctx, name, id, d, part(data[2*size:], 2*size)); err != nil {
					p.Fatal(err)
				}
				p.wantBlob(name, d, data)
			}
		}
		p.wantClean()
	})
}

// A chunk with a stated range is taken whole or not at all: its space is given back, and the upload goes on before it.
func TestRangeIsWhole(t *testing.T) {
	p := newPlant(t, "")
	name, data := named(t, "library/app"), blobtest.Random(5, 200_000)
	longer := part(data[100_000:], 100_000)
	longer.Length = 1000 // as a chunked body may turn out
	shorter := part(data[100_000:100_010], 100_000)
	shorter.Length = 1000
	cutOff := cut(data[100_000:], 50_000)
	cutOff.Start = 100_000
	for what, c := range map[string]registry.Chunk{"longer": longer, "shorter": shorter, "cut": cutOff} {
		id := p.start(name, oci.SHA256)
		first := c
		first.Start = 0
		if _, err := p.Append(p.ctx, name, id, first); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s first chunk: %v", what, err)
		}
		p.wantStatus(name, id, 0)
		p.wantNoFiles()
		p.append(name, id, part(data[:100_000], 0), 100_000)
		c.Body = io.MultiReader(bytes.NewReader(data[100_000:150_000]), c.Body)
		for _, end := range []bool{false, true} {
			var err error
			if end {
				err = p.Commit(p.ctx, name, id, oci.FromBytes(oci.SHA256, data), c)
			} else {
				_, err = p.Append(p.ctx, name, id, c)
			}
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("%s: %v", what, err)
			}
			p.wantStatus(name, id, 100_000)
			if n := p.uploadBytes(); n != 100_000 {
				t.Errorf("%s: %d bytes are held for 100000", what, n)
			}
		}
		d := oci.FromBytes(oci.SHA256, data)
		if err := p.Commit(p.ctx, name, id, d, part(data[100_000:], 100_000)); err != nil {
			t.Errorf("after %s: %v", what, err)
		}
		p.wantBlob(name, d, data)
		if err := p.DeleteBlob(p.ctx, name, d); err != nil {
			t.Error(err)
		}
	}
	p.wantClean()
}

func TestOutOfOrder(t *testing.T) {
	p := newPlant(t, "")
	name, data := named(t, "library/app"), blobtest.Random(6, 3000)
	id := p.start(name, oci.SHA256)
	p.append(name, id, part(data[:1000], 0), 1000)
	for _, at := range []int{0, 999, 1001, 1 << 40} {
		u, err := p.Append(p.ctx, name, id, part(data[1000:], at))
		wantFault(t, "append", err, fault.Range, fault.BlobUploadInvalid)
		if u == nil || u.Received != 1000 {
			t.Errorf("refused chunk at %d: upload %+v does not say where to go on", at, u)
		}
		err = p.Commit(p.ctx, name, id, oci.FromBytes(oci.SHA256, data), part(data[1000:], at))
		wantFault(t, "commit", err, fault.Range, fault.BlobUploadInvalid)
	}
	p.wantStatus(name, id, 1000)
}

// An upload belongs to its user and repository; to all others it is not there, also while it is at work.
func TestUploadOfAnother(t *testing.T) {
	p := newPlant(t, "")
	name := named(t, "library/app")
	id := p.start(name, oci.SHA256)
	body, feed := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := p.Append(p.ctx, name, id, registry.Chunk{Start: -1, Length: -1, Body: body})
		ended <- err
	}()
	if _, err := feed.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	bob, other := as(p.ctx, "bob"), named(t, "library/other")
	for who, c := range map[string]struct {
		ctx  context.Context
		name ref.Name
		id   string
	}{
		"another user":       {bob, name, id},
		"another repository": {p.ctx, other, id},
		"a forged id":        {p.ctx, name, id[:len(id)-1] + "0"},
		"no id":              {p.ctx, name, "../../berth.db"},
	} {
		_, status := p.UploadStatus(c.ctx, c.name, c.id)
		_, chunk := p.Append(c.ctx, c.name, c.id, all([]byte("y")))
		for what, err := range map[string]error{
			"status": status, "append": chunk, "cancel": p.CancelUpload(c.ctx, c.name, c.id),
			"commit": p.Commit(c.ctx, c.name, c.id, oci.FromBytes(oci.SHA256, []byte("x")), all(nil)),
		} {
			if c.id[:len(c.id)-1] == id[:len(id)-1] && c.id == id && c.ctx == p.ctx && c.name == name {
				continue // the forged digit was the right one
			}
			wantFault(t, who+": "+what, err, fault.NotFound, fault.BlobUploadUnknown)
		}
	}
	feed.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	p.wantStatus(name, id, 1)
}

// One request at a time writes an upload; the next one waits for it, and goes on where it ended.
func TestOneWriter(t *testing.T) {
	p := newPlant(t, "")
	name := named(t, "library/app")
	id := p.start(name, oci.SHA256)
	body, feed := io.Pipe()
	first := make(chan error, 1)
	go func() {
		_, err := p.Append(p.ctx, name, id, registry.Chunk{Start: -1, Length: -1, Body: body})
		first <- err
	}()
	if _, err := feed.Write([]byte("one ")); err != nil {
		t.Fatal(err)
	}
	impatient, leave := context.WithCancel(p.ctx)
	leave()
	if _, err := p.Append(impatient, name, id, all([]byte("no"))); err == nil {
		t.Error("two at once")
	}
	second := make(chan error, 1)
	go func() {
		_, err := p.Append(p.ctx, name, id, all([]byte("two")))
		second <- err
	}()
	feed.Close()
	if err := <-first; err != nil {
		t.Error(err)
	}
	if err := <-second; err != nil {
		t.Error(err)
	}
	d := oci.FromBytes(oci.SHA256, []byte("one two"))
	if err := p.Commit(p.ctx, name, id, d, all(nil)); err != nil {
		t.Error(err)
	}
	p.wantBlob(name, d, []byte("one two"))
}

func TestCancel(t *testing.T) {
	onBoth(t, func(p *plant) {
		name, data := named(p, "library/app"), blobtest.Random(7, 100_000)
		for _, sent := range []int{0, 10, 100_000} {
			id := p.start(name, oci.SHA256)
			if sent > 0 {
				p.append(name, id, part(data[:sent], 0), sent)
			}
			if err := p.CancelUpload(p.ctx, name, id); err != nil {
				p.Error(err)
			}
			for range 2 {
				wantFault(p, "cancel of a cancelled one", p.CancelUpload(p.ctx, name, id), fault.NotFound, fault.BlobUploadUnknown)
			}
			_, err := p.Append(p.ctx, name, id, all(data))
			wantFault(p, "append to a cancelled one", err, fault.NotFound, fault.BlobUploadUnknown)
			p.restart() // and on any other replica
			_, err = p.UploadStatus(p.ctx, name, id)
			wantFault(p, "status of a cancelled one after a restart", err, fault.NotFound, fault.BlobUploadUnknown)
			_, err = p.Append(p.ctx, name, id, all(data))
			wantFault(p, "append to a cancelled one after a restart", err, fault.NotFound, fault.BlobUploadUnknown)
		}
		p.later(8 * 24 * time.Hour)
		if err := p.Sweep(p.ctx); err != nil {
			p.Fatal(err)
		}
		p.wantClean()
	})
}

// A cancel on another replica wins over a commit that has not ended, whatever step that is at: the client is told, and
// nothing is left that no row names.
func TestCancelElsewhere(t *testing.T) {
	onBoth(t, func(p *plant) {
		name, other := named(p, "library/app"), p.replica()
		for i, at := range []string{"before", "after"} {
			data := blobtest.Random(byte(8+i), 100_000)
			d := oci.FromBytes(oci.SHA256, data)
			id := p.start(name, oci.SHA256)
			p.append(name, id, part(data[:50_000], 0), 50_000)
			cancel := func() {
				if err := other.CancelUpload(p.ctx, name, id); err != nil {
					p.Errorf("cancel %s the store's commit: %v", at, err)
				}
			}
			if at == "before" {
				p.steps.beforeCommit.Store(&cancel)
			} else {
				p.steps.afterCommit.Store(&cancel)
			}
			err := p.Commit(p.ctx, name, id, d, part(data[50_000:], 50_000))
			wantFault(p, "commit of an upload that was cancelled "+at, err, fault.NotFound, fault.BlobUploadUnknown)
			p.wantNoBlob(name, d)
			p.wantClean()
			if err := p.PutBlob(p.ctx, name, d, all(data)); err != nil {
				p.Error(err)
			}
			p.wantBlob(name, d, data)
		}
		p.wantClean()
	})
}

// A cancel that looked at the upload before the other replica announced what it is to become finds what came since: a
// blob that was acknowledged stays, bytes that were not are removed.
func TestCancelOvertaken(t *testing.T) {
	onBoth(t, func(p *plant) {
		name, other := named(p, "library/app"), p.replica()
		for i, wholly := range []bool{true, false} {
			data := blobtest.Random(byte(20+i), 100_000)
			d := oci.FromBytes(oci.SHA256, data)
			id := p.start(name, oci.SHA256)
			p.append(name, id, part(data[:50_000], 0), 50_000)
			stored, cancelled, committed := make(chan struct{}), make(chan struct{}), make(chan error, 1)
			afterCommit := func() {
				close(stored)
				if !wholly {
					<-cancelled
				}
			}
			p.steps.afterCommit.Store(&afterCommit)
			overtake := func() {
				go func() { committed <- p.Commit(p.ctx, name, id, d, part(data[50_000:], 50_000)) }()
				<-stored
				if wholly {
					committed <- <-committed
				}
			}
			p.steps.beforeAbort.Store(&overtake)
			if err := other.CancelUpload(p.ctx, name, id); err != nil {
				p.Errorf("cancel: %v", err)
			}
			close(cancelled)
			err := <-committed
			if wholly {
				if err != nil {
					p.Errorf("commit that came first: %v", err)
				}
				p.wantBlob(name, d, data)
			} else {
				wantFault(p, "commit of an upload that was cancelled", err, fault.NotFound, fault.BlobUploadUnknown)
				p.wantNoBlob(name, d)
			}
			p.wantClean()
		}
	})
}

// When the store cannot say what it has of an upload, nobody goes on with it.
func TestLostUpload(t *testing.T) {
	p := newPlant(t, "")
	name, data := named(t, "library/app"), blobtest.Random(9, 200_000)
	for _, start := range []int{0, 100_000} {
		id := p.start(name, oci.SHA256)
		if start > 0 {
			p.append(name, id, part(data[:start], 0), start)
		}
		p.disk.Fail(blobtest.Suspend, 1, syscall.EIO)
		if _, err := p.Append(p.ctx, name, id, part(data[start:], start)); err == nil {
			t.Error("a chunk that the disk did not take was accepted")
		}
		_, err := p.Append(p.ctx, name, id, part(data[start:], start))
		wantFault(t, "going on", err, fault.NotFound, fault.BlobUploadUnknown)
	}
	p.wantClean()
}
