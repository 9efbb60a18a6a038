package layout_test

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/image/layout"
	"github.com/berth-registry/berth/internal/durable"
)

// What a killed process left goes when it is old and nobody has it: not what is young, what somebody has open or locked, links,
// and files of other names.
func TestTidy(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux says who has a file open")
	}
	dir := t.TempDir()
	l, err := layout.CreateDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	now := time.Now()
	hex := strings.Repeat("ab", 32)
	write := func(name string, age time.Duration) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("a beginning"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	day, blobs := 24*time.Hour, "blobs/sha256/"
	gone := []string{"oci-put-blob123", blobs + "." + hex + ".part", blobs + "." + hex + ".part.abc234"}
	for _, name := range gone {
		write(name, 8*day)
	}
	stays := []string{"oci-put-blob", "oci-put-blob12x", "x-oci-put-blob1", blobs + hex, blobs + "." + hex + ".partial", blobs + "." + hex}
	for _, name := range stays {
		write(name, 8*day)
	}
	for name, age := range map[string]time.Duration{"oci-put-blob1": day - time.Hour, blobs + "." + strings.Repeat("cd", 32) + ".part": 6 * day} {
		write(name, age)
		stays = append(stays, name)
	}
	open, err := os.OpenFile(write("oci-put-blob2", 8*day), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	d, err := durable.OpenDir(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	locked := blobs + "." + strings.Repeat("ef", 32) + ".part"
	write(locked, 8*day)
	f, err := d.OpenFile(locked, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := f.Lock(false); !got || err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "theirs")
	if err := os.WriteFile(outside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "oci-put-blob3")); err != nil {
		t.Fatal(err)
	}
	stays = append(stays, "oci-put-blob2", locked, "oci-put-blob3")

	l.Tidy(now)
	for _, name := range slices.Concat(gone, stays) {
		_, err := os.Lstat(filepath.Join(dir, name))
		if there, want := err == nil, slices.Contains(stays, name); there != want {
			t.Errorf("%s is there: %t, want %t", name, there, want)
		}
	}
	// When nobody has it any more, it goes, too.
	if err := open.Close(); err != nil {
		t.Fatal(err)
	}
	l.Tidy(now)
	if _, err := os.Lstat(filepath.Join(dir, "oci-put-blob2")); err == nil {
		t.Error("what was let go stays")
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error(err)
	}
}
