//go:build unix

package layout_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/layout"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// from opens bytes as the content of a blob.
func from(body []byte) remote.Open {
	return func(_ context.Context, at int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(body[at:])), nil
	}
}

// target is what a Dir and a Builder have in common.
type target interface {
	PutBlob(ctx context.Context, d oci.Descriptor, from []ref.Name, open remote.Open) (remote.Outcome, error)
	PutManifest(ctx context.Context, at ref.Reference, d oci.Descriptor, body []byte) error
}

// send writes an image.
func send(ctx context.Context, to target, m image, layer []byte) error {
	for name, body := range m.files {
		if !strings.HasPrefix(name, "blobs/") || strings.HasSuffix(name, m.layer.Digest.Hex()) || strings.HasSuffix(name, m.manifest.Digest.Hex()) {
			continue
		}
		d := oci.Descriptor{Digest: oci.FromBytes(oci.SHA256, body), Size: int64(len(body))}
		if _, err := to.PutBlob(ctx, d, nil, from(body)); err != nil {
			return err
		}
	}
	if _, err := to.PutBlob(ctx, m.layer, nil, from(layer)); err != nil {
		return err
	}
	return to.PutManifest(ctx, v1, m.manifest, m.files["blobs/sha256/"+m.manifest.Digest.Hex()])
}

// archive writes an image into an archive.
func archive(ctx context.Context, name string, m image, layer []byte) error {
	b, err := layout.NewBuilder(name)
	if err != nil {
		return err
	}
	defer b.Close()
	if err := send(ctx, b, m, layer); err != nil {
		return err
	}
	return b.Commit()
}

// folder writes an image into a folder.
func folder(ctx context.Context, name string, m image, layer []byte) error {
	d, err := layout.CreateDir(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return send(ctx, d, m, layer)
}

// inFull is set in the process of TestFullDisk that may not write more than a file of some size, as if the disk were full. It is
// the folder to work in. A limit works for every user, and on every file system.
const inFull = "BERTH_TEST_LAYOUT_FULL"

// limited is how large a file may become.
const limited = 1 << 20

var (
	small = newImage("small")
	large = newImage(strings.Repeat("0123456789abcdef", limited/8)) // 2 MiB
)

// A disk that is full is said to be full, whatever was there before stays and is whole, what is new cannot be taken for a whole
// one, and when there is room the same call goes on.
func TestFullDisk(t *testing.T) {
	if dir := os.Getenv(inFull); dir != "" {
		fillUp(t, dir)
		return
	}
	dir := t.TempDir()
	for _, name := range []string{"old.tar", "empty.tar"} {
		if err := archive(t.Context(), filepath.Join(dir, name), small, []byte("small")); err != nil {
			t.Fatal(err)
		}
	}
	if err := folder(t.Context(), filepath.Join(dir, "old"), small, []byte("small")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestFullDisk$", "-test.v") //nolint:gosec // this binary
	cmd.Env = append(os.Environ(), inFull+"="+dir, "TMPDIR="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestFullDisk")) {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "new.tar")); !os.IsNotExist(err) {
		t.Errorf("an archive that is not whole has its name: %v", err)
	}
	for _, name := range []string{"old.tar", "new.tar"} {
		name = filepath.Join(dir, name)
		if filepath.Base(name) == "old.tar" {
			p, err := open(t, name)
			if err := use(t, p, err, small); err != nil {
				t.Errorf("the old archive: %v", err)
			}
		}
		if err := archive(t.Context(), name, large, large.files["blobs/sha256/"+large.layer.Digest.Hex()]); err != nil {
			t.Fatal(err)
		}
		p, err := open(t, name)
		if err := use(t, p, err, large); err != nil {
			t.Errorf("%s, once there is room: %v", name, err)
		}
	}
	for _, name := range []string{"old", "new"} {
		name = filepath.Join(dir, name)
		if filepath.Base(name) == "old" {
			d, err := layout.OpenDir(name)
			if err := use(t, d, err, small); err != nil {
				t.Errorf("the old folder: %v", err)
			}
		}
		if err := folder(t.Context(), name, large, large.files["blobs/sha256/"+large.layer.Digest.Hex()]); err != nil {
			t.Fatal(err)
		}
		d, err := layout.OpenDir(name)
		if err := use(t, d, err, large); err != nil {
			t.Errorf("%s, once there is room: %v", name, err)
		}
	}
	for _, pattern := range []string{"*partial*", "*/blobs/sha256/.*", "*/.*tmp"} {
		if left, err := filepath.Glob(filepath.Join(dir, pattern)); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

// fillUp is the process that has no room for the large image.
func fillUp(t *testing.T, dir string) {
	signal.Ignore(syscall.SIGXFSZ) // so that write fails
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limited, Max: limited}); err != nil {
		t.Fatal(err)
	}
	body := large.files["blobs/sha256/"+large.layer.Digest.Hex()]
	isFull := func(what string, err error) {
		t.Helper()
		if !fault.Is(err, fault.Full) || !fault.Has(err, fault.StorageFull) || !strings.Contains(err.Error(), "no space is left") {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, name := range []string{"old", "new"} {
		isFull(name+".tar", archive(t.Context(), filepath.Join(dir, name+".tar"), large, body))
		isFull(name, folder(t.Context(), filepath.Join(dir, name), large, body))
	}
	// The tag of the old folder still leads to the old image, and the new folder has no tag.
	d, err := layout.OpenDir(filepath.Join(dir, "old"))
	if err := use(t, d, err, small); err != nil {
		t.Errorf("the old folder: %v", err)
	}
	d, err = layout.OpenDir(filepath.Join(dir, "new"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if tags, err := d.Tags(t.Context()); err != nil || len(tags) > 0 {
		t.Errorf("tags of what is not whole: %v, %v", tags, err)
	}
	if has, err := d.HasBlob(t.Context(), large.layer); err != nil || has {
		t.Errorf("half a blob counts as there: %v", err)
	}
	// A packed archive that needs more room than there is.
	packed := filepath.Join(dir, "packed.tar.gz")
	if err := os.WriteFile(packed, gzipped(pack(t, large.entries()...)), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = layout.OpenPacked(t.Context(), packed, os.TempDir(), layout.Limits{})
	isFull("unpack", err)
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := os.Remove(packed); err != nil {
		t.Error(err)
	}
}

// What is written is what its digest says, or it is not written; and what descriptors say of sizes is not believed.
func TestWrongBytesAreNotWritten(t *testing.T) {
	m := newImage("layer")
	huge := m.layer
	huge.Size = 1 << 62
	negative := m.layer
	negative.Size = -1
	for name, put := range map[string]func(target) error{
		"other bytes": func(to target) error { return send(t.Context(), to, m, []byte("LAYER")) },
		"too few":     func(to target) error { return send(t.Context(), to, m, []byte("lay")) },
		"too many":    func(to target) error { return send(t.Context(), to, m, []byte("layers")) },
		"a manifest": func(to target) error {
			return to.PutManifest(t.Context(), v1, m.manifest, []byte(`{"schemaVersion":2}`))
		},
		"a source that fails": func(to target) error {
			_, err := to.PutBlob(t.Context(), m.layer, nil, func(context.Context, int64) (io.ReadCloser, error) { return nil, errors.New("the network is gone") })
			return err
		},
		"a size without end": func(to target) error {
			_, err := to.PutBlob(t.Context(), huge, nil, from([]byte("layer")))
			return err
		},
		"a size below nothing": func(to target) error {
			_, err := to.PutBlob(t.Context(), negative, nil, from([]byte("layer")))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			d, err := layout.CreateDir(filepath.Join(dir, "folder"))
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if err := put(d); err == nil {
				t.Error("the folder took it")
			}
			if tags, err := d.Tags(t.Context()); err != nil || len(tags) > 0 {
				t.Errorf("tags: %v, %v", tags, err)
			}
			if has, err := d.HasBlob(t.Context(), m.layer); err != nil || has {
				t.Errorf("the blob counts as there: %v", err)
			}
			b, err := layout.NewBuilder(filepath.Join(dir, "archive.tar"))
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			if err := put(b); err == nil {
				t.Error("the archive took it")
			}
			if strings.HasPrefix(name, "a size") { // nothing was begun, so nothing is missing
				return
			}
			if err := b.Commit(); err == nil && name != "a manifest" {
				t.Error("an archive that lacks a blob was finished")
			}
		})
	}
}

// A folder with something else in it, and a file where a folder should be, are left as they are.
func TestNotALayout(t *testing.T) {
	dir := t.TempDir()
	note := filepath.Join(dir, "note")
	if err := os.WriteFile(note, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := layout.CreateDir(dir); !fault.Has(err, layout.ReasonLayout) || !strings.Contains(err.Error(), "left as it is") {
		t.Errorf("a folder with a note: %v", err)
	}
	if _, err := layout.CreateDir(note); err == nil {
		t.Error("a file was taken for a folder")
	}
	if _, err := layout.NewBuilder(dir); !fault.Has(err, layout.ReasonLayout) {
		t.Errorf("an archive in the place of a folder: %v", err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(names) != 1 {
		t.Errorf("%v, %v", names, err)
	}
	if body, err := os.ReadFile(note); err != nil || string(body) != "mine" {
		t.Errorf("%q, %v", body, err)
	}
	if _, err := layout.OpenDir(filepath.Join(dir, "absent")); !fault.Is(err, fault.NotFound) {
		t.Errorf("no folder: %v", err)
	}
	if _, err := layout.OpenArchive(filepath.Join(dir, "absent")); !fault.Is(err, fault.NotFound) {
		t.Errorf("no archive: %v", err)
	}
}

// Two that write the same archive do not mix: the second is told.
func TestOneWriter(t *testing.T) {
	name := filepath.Join(t.TempDir(), "image.tar")
	b, err := layout.NewBuilder(name)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := layout.NewBuilder(name); !fault.Is(err, fault.Conflict) {
		t.Errorf("%v", err)
	}
	if err := b.Abort(); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(name), "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
