package blob_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"go.uber.org/goleak"

	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/blobtest"
)

func TestCopy(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for _, size := range []int{0, 1, 128 << 10, 128<<10 + 1, 3 << 20} {
		data := blobtest.Random(1, size+10) // there may be more behind it
		for name, r := range map[string]io.Reader{
			"whole": bytes.NewReader(data), "halves": iotest.HalfReader(bytes.NewReader(data)), "end with data": iotest.DataErrReader(bytes.NewReader(data[:size])),
		} {
			var out bytes.Buffer
			if n, err := blob.Copy(&out, r, int64(size)); err != nil || n != int64(size) || !bytes.Equal(out.Bytes(), data[:size]) {
				t.Errorf("%s, %d bytes: %d, %v", name, size, n, err)
			}
		}
	}
}

// What came before a failure is written; whose failure it was can be told.
func TestCopyFails(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	broken := errors.New("broken")
	data := blobtest.Random(2, 1<<20)
	for name, r := range map[string]io.Reader{
		"short": bytes.NewReader(data[:700_000]), "broken": io.MultiReader(bytes.NewReader(data[:700_000]), iotest.ErrReader(broken)),
	} {
		var out bytes.Buffer
		n, err := blob.Copy(&out, r, 1<<20)
		var source *blob.SourceError
		if !errors.As(err, &source) || n != 700_000 || !bytes.Equal(out.Bytes(), data[:700_000]) {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
	}
	n, err := blob.Copy(&limited{left: 300_000, err: broken}, bytes.NewReader(data), 1<<20)
	if !errors.Is(err, broken) || n != 300_000 {
		t.Errorf("writer: %d bytes, %v", n, err)
	}
}

// limited takes some bytes and fails.
type limited struct {
	left int
	err  error
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	if n < len(p) {
		return n, l.err
	}
	return n, nil
}
