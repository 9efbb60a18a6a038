package blob_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/iotest"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	errReader = errors.New("the client went away")
	errWriter = errors.New("the disk is gone")
)

// limitedWriter takes room bytes and then fails, with a short count when a write straddles the end.
type limitedWriter struct {
	bytes.Buffer
	room int
}

func (w *limitedWriter) Write(p []byte) (int, error) {
	if len(p) <= w.room {
		w.room -= len(p)
		return w.Buffer.Write(p)
	}
	n, _ := w.Buffer.Write(p[:w.room])
	w.room = 0
	return n, errWriter
}

// raggedReader gives pieces of random size, also none, and ends with err.
type raggedReader struct {
	rest []byte
	max  int
	err  error
	rnd  *rand.Rand
}

func (r *raggedReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, r.err
	}
	n := copy(p[:min(len(p), r.rnd.IntN(r.max+1))], r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// However a reception ends, count, hasher and writer agree, what the writer holds is a prefix of what was sent, and
// the error tells who failed.
func TestReceiveAgreesWithWriter(t *testing.T) {
	data := pattern(2 << 20)
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.OneOf(rapid.IntRange(0, 40<<10), rapid.IntRange(0, len(data)),
			rapid.SampledFrom([]int{0, 1, 32 << 10, 160 << 10, 32<<10 + 1, 160<<10 + 1, 1 << 20})).Draw(t, "size")
		room := rapid.OneOf(rapid.Just(len(data)), rapid.IntRange(0, size)).Draw(t, "room")
		limit := rapid.OneOf(rapid.Just(0), rapid.IntRange(1, size+1)).Draw(t, "limit")
		r := &raggedReader{rest: data[:size], max: rapid.SampledFrom([]int{17 << 10, 300 << 10, 2 << 20}).Draw(t, "piece"),
			err: rapid.SampledFrom([]error{io.EOF, errReader}).Draw(t, "end"), rnd: rand.New(rand.NewPCG(1, uint64(size)))}
		w := &limitedWriter{room: room}
		h := oci.NewHasher(rapid.SampledFrom([]oci.Algorithm{oci.SHA256, oci.SHA512}).Draw(t, "algorithm"))

		n, err := blob.Receive(context.Background(), w, r, h, blob.ReceiveOptions{Limit: int64(limit)})

		if int(n) != w.Len() {
			t.Fatalf("Receive says %d bytes, the writer holds %d", n, w.Len())
		}
		if !bytes.Equal(w.Bytes(), data[:n]) {
			t.Fatalf("the writer holds %d bytes that are not the first ones sent", n)
		}
		if want := oci.FromBytes(h.Algorithm(), data[:n]); h.Digest() != want {
			t.Fatalf("after %d bytes the hasher says %s, want %s", n, h.Digest(), want)
		}
		var source *blob.SourceError
		fits := limit == 0 || size <= limit
		wanted := size
		if !fits {
			wanted = limit
		}
		switch {
		case room < wanted:
			if !errors.Is(err, errWriter) || errors.As(err, &source) || int(n) != room {
				t.Fatalf("writer with room for %d of %d: %d, %v", room, wanted, n, err)
			}
		case !fits:
			if !fault.Has(err, fault.SizeInvalid) || !fault.Is(err, fault.TooLarge) || int(n) != limit {
				t.Fatalf("%d bytes with limit %d: %d, %v", size, limit, n, err)
			}
		case r.err == errReader:
			if !errors.As(err, &source) || !errors.Is(err, errReader) || int(n) != size {
				t.Fatalf("reader that failed after %d: %d, %v", size, n, err)
			}
		default:
			if err != nil || int(n) != size {
				t.Fatalf("%d bytes: %d, %v", size, n, err)
			}
		}
	})
}

func TestReceiveEndsWithContext(t *testing.T) {
	for _, after := range []int{0, 10 << 10, 1 << 20} {
		ctx, cancel := context.WithCancel(t.Context())
		var w bytes.Buffer
		h := oci.NewHasher(oci.SHA256)
		n, err := blob.Receive(ctx, &w, cancelAfter(cancel, after), h, blob.ReceiveOptions{})
		var source *blob.SourceError
		if !errors.As(err, &source) || !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled after %d bytes: error %v, want a SourceError of context.Canceled", after, err)
		}
		if int(n) != w.Len() || h.Digest() != oci.FromBytes(oci.SHA256, w.Bytes()) || int(n) < after {
			t.Errorf("cancelled after %d bytes: %d received, writer holds %d", after, n, w.Len())
		}
	}
}

// cancelAfter is an endless reader that cancels once it has given n bytes.
func cancelAfter(cancel context.CancelFunc, n int) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if n -= min(n, len(p)); n == 0 {
			cancel()
		}
		return len(p), nil
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestReceiveGivesUpOnReaderWithoutProgress(t *testing.T) {
	h := oci.NewHasher(oci.SHA256)
	idle := readerFunc(func([]byte) (int, error) { return 0, nil })
	if _, err := blob.Receive(t.Context(), io.Discard, idle, h, blob.ReceiveOptions{}); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("error %v, want %v", err, io.ErrNoProgress)
	}
}

func TestReceiveTakesDataWithError(t *testing.T) {
	data := pattern(500 << 10)
	var w bytes.Buffer
	h := oci.NewHasher(oci.SHA256)
	n, err := blob.Receive(t.Context(), &w, iotest.DataErrReader(bytes.NewReader(data)), h, blob.ReceiveOptions{Limit: int64(len(data))})
	if err != nil || int(n) != len(data) || !bytes.Equal(w.Bytes(), data) {
		t.Errorf("%d of %d bytes, %v", n, len(data), err)
	}
}

// A writer that breaks the promise of io.Writer must not make hasher and count lie.
func TestReceiveDistrustsWriter(t *testing.T) {
	for name, w := range map[string]writerFunc{
		"short without error": func(p []byte) (int, error) { return len(p) / 2, nil },
		"more than given":     func(p []byte) (int, error) { return len(p) + 1, nil },
		"negative":            func(p []byte) (int, error) { return -1, errWriter },
	} {
		for _, size := range []int{1000, 1 << 20} {
			if _, err := blob.Receive(t.Context(), w, bytes.NewReader(pattern(size)), oci.NewHasher(oci.SHA256), blob.ReceiveOptions{}); err == nil {
				t.Errorf("%s, %d bytes: no error", name, size)
			}
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// 64 uploads at once cost a few buffers each, however large they are.
func TestReceiveMemoryIsBounded(t *testing.T) {
	const uploads, size, bound = 64, 32 << 20, 80 << 20
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var wg sync.WaitGroup
	for range uploads {
		wg.Go(func() {
			left := size
			r := readerFunc(func(p []byte) (int, error) {
				n := min(len(p), left)
				if left -= n; n == 0 {
					return 0, io.EOF
				}
				return n, nil
			})
			if n, err := blob.Receive(t.Context(), io.Discard, r, oci.NewHasher(oci.SHA256), blob.ReceiveOptions{}); err != nil || n != size {
				t.Errorf("%d of %d bytes, %v", n, size, err)
			}
		})
	}
	wg.Wait()
	runtime.ReadMemStats(&after)
	if grown := int64(after.Sys) - int64(before.Sys); grown > bound {
		t.Errorf("%d uploads of %d MiB took %d MiB of memory, want at most %d", uploads, size>>20, grown>>20, bound>>20)
	}
}

// pattern is n bytes that repeat only after a long time, so that a lost or doubled piece shows.
func pattern(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(b)
	return b
}
