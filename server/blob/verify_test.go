package blob_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

func randomBytes(n int) []byte {
	p := make([]byte, n)
	r := rand.New(rand.NewPCG(7, uint64(n)))
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

// Content of any size arrives whole; with one bit flipped anywhere, or cut, it never does.
func TestSend(t *testing.T) {
	for _, size := range []int{0, 1, 4096, 128<<10 - 1, 128 << 10, 128<<10 + 1, 1 << 20, 3<<20 + 17} {
		content := randomBytes(size)
		for _, alg := range []oci.Algorithm{oci.SHA256, oci.SHA512} {
			d := oci.FromBytes(alg, content)
			var got bytes.Buffer
			n, err := blob.Send(&got, iotest.HalfReader(bytes.NewReader(content)), int64(size), d)
			if err != nil || n != int64(size) || !bytes.Equal(got.Bytes(), content) {
				t.Fatalf("%d bytes: %d, %v", size, n, err)
			}
		}
		if size == 0 {
			continue
		}
		d := oci.FromBytes(oci.SHA256, content)
		for _, at := range []int{0, size / 2, size - 1} {
			flipped := bytes.Clone(content)
			flipped[at] ^= 4
			for what, bad := range map[string][]byte{"flipped": flipped, "cut": content[:at]} {
				var got bytes.Buffer
				n, err := blob.Send(&got, bytes.NewReader(bad), int64(size), d)
				var wrong *blob.WrongError
				if !errors.As(err, &wrong) || n >= int64(size) || got.Len() != int(n) {
					t.Fatalf("%s at %d of %d: %d sent, %v", what, at, size, n, err)
				}
			}
		}
	}
}

// A failure of either side is told apart from wrong content.
func TestSendFails(t *testing.T) {
	content := randomBytes(1 << 20)
	d := oci.FromBytes(oci.SHA256, content)
	sick := errors.New("the disk is sick")
	var wrong *blob.WrongError
	var source *blob.SourceError
	_, err := blob.Send(io.Discard, io.MultiReader(bytes.NewReader(content[:300<<10]), iotest.ErrReader(sick)), 1<<20, d)
	if !errors.As(err, &source) || !errors.Is(err, sick) || errors.As(err, &wrong) {
		t.Errorf("a source that fails: %v", err)
	}
	gone := errors.New("the client is gone")
	_, err = blob.Send(&goneWriter{left: 200 << 10, err: gone}, bytes.NewReader(content), 1<<20, d)
	if !errors.Is(err, gone) || errors.As(err, &source) {
		t.Errorf("a writer that fails: %v", err)
	}
}

type goneWriter struct {
	left int
	err  error
}

func (w *goneWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		return w.left, w.err
	}
	w.left -= len(p)
	return len(p), nil
}
