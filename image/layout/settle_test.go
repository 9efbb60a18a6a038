package layout_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-registry/berth/image/layout"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/oci"
)

// written opens bytes for a blob and counts what is read of them.
func written(body []byte, read *int) remote.Open {
	return func(_ context.Context, at int64) (io.ReadCloser, error) {
		*read += len(body) - int(at)
		return io.NopCloser(bytes.NewReader(body[at:])), nil
	}
}

// Blobs get their names with the manifest that follows them, many more than are kept open included; until then the layout itself
// knows them, and what is given up is taken up again without being fetched.
func TestBlobsSettle(t *testing.T) {
	dir := t.TempDir()
	d, err := layout.CreateDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	one := []byte("one blob")
	blob := oci.Descriptor{Digest: oci.FromBytes(oci.SHA256, one), Size: int64(len(one))}
	read := 0
	for range 2 { // the second time it is as good as there
		if _, err := d.PutBlob(t.Context(), blob, nil, written(one, &read)); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "blobs", "sha256", blob.Digest.Hex())
	if has, err := d.HasBlob(t.Context(), blob); !has || err != nil {
		t.Errorf("a blob that was written: %v, %v", has, err)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a blob without a manifest has its name already: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if d, err = layout.OpenDir(dir); err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if has, err := d.HasBlob(t.Context(), blob); has || err != nil {
		t.Errorf("a blob that was given up: %v, %v", has, err)
	}
	read = 0
	if _, err := d.PutBlob(t.Context(), blob, nil, written(one, &read)); err != nil || read != 0 {
		t.Errorf("%v; %d bytes were fetched again", err, read)
	}
	if rc, err := d.Blob(t.Context(), blob, 0); err != nil { // reading settles
		t.Error(err)
	} else if body, err := io.ReadAll(rc); err != nil || !bytes.Equal(body, one) {
		t.Errorf("%q, %v", body, errors.Join(err, rc.Close()))
	}
	var all []oci.Descriptor
	for i := range 150 {
		body := bytes.Repeat([]byte{byte(i)}, 100+i)
		b := oci.Descriptor{Digest: oci.FromBytes(oci.SHA256, body), Size: int64(len(body))}
		if _, err := d.PutBlob(t.Context(), b, nil, written(body, &read)); err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	if err := d.PutManifest(t.Context(), v1, small.manifest, small.files["blobs/sha256/"+small.manifest.Digest.Hex()]); err != nil {
		t.Fatal(err)
	}
	for _, b := range all {
		if info, err := os.Stat(filepath.Join(dir, "blobs", "sha256", b.Digest.Hex())); err != nil || info.Size() != b.Size {
			t.Errorf("%s: %v", b.Digest, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A blob of the right size and other bytes is not there: it is not trusted, and it is replaced.
func TestDamagedBlobIsReplaced(t *testing.T) {
	for name, d := range map[string]oci.Algorithm{"sha256": oci.SHA256, "sha512": oci.SHA512} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l, err := layout.CreateDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			good := []byte(strings.Repeat("good", 100_000))
			blob := oci.Descriptor{Digest: oci.FromBytes(d, good), Size: int64(len(good))}
			file := filepath.Join(dir, "blobs", name, blob.Digest.Hex())
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			bad := bytes.Clone(good)
			bad[len(bad)-1] = 'D'
			for content, want := range map[string]bool{string(bad): false, string(good): true} {
				if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
				if has, err := l.HasBlob(t.Context(), blob); has != want || err != nil {
					t.Errorf("right bytes %v: %v, %v", want, has, err)
				}
			}
			if err := os.WriteFile(file, bad, 0o644); err != nil {
				t.Fatal(err)
			}
			read := 0
			if _, err := l.PutBlob(t.Context(), blob, nil, written(good, &read)); err != nil {
				t.Fatal(err)
			}
			if err := l.PutManifest(t.Context(), v1, small.manifest, small.files["blobs/sha256/"+small.manifest.Digest.Hex()]); err != nil {
				t.Fatal(err)
			}
			if body, err := os.ReadFile(file); err != nil || !bytes.Equal(body, good) {
				t.Errorf("the damaged blob was not replaced: %v", err)
			}
		})
	}
}
