//go:build unix

package cli_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A transfer forgets what was noted of interrupted uploads more than a week ago, and nothing else.
func TestOldUploadsAreForgotten(t *testing.T) {
	dir, _ := sandbox(t)
	if err := writeImage(filepath.Join(dir, "image"), "a"); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(dir, "berth", "uploads")
	if err := os.MkdirAll(filepath.Join(state, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(dir, "outside")
	for name, age := range map[string]time.Duration{"old": 8 * 24 * time.Hour, "young": 6 * 24 * time.Hour, "fresh": 0, "../../outside": 1000 * 24 * time.Hour} {
		file, at := filepath.Join(state, name), time.Now().Add(-age)
		if err := errors.Join(os.WriteFile(file, []byte("http://localhost/v2/"), 0o600), os.Chtimes(file, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(state, "link")); err != nil {
		t.Fatal(err)
	}
	// Nobody listens there: a failed transfer is one.
	if code, _, _ := berth(t, "copy", "--retry-times", "0", "oci:"+filepath.Join(dir, "image")+":v1", "docker://127.0.0.1:1/team/app:v1"); code == 0 {
		t.Fatal("there is a registry on port 1")
	}
	for name, want := range map[string]bool{"old": false, "young": true, "fresh": true, "folder": true, "link": true, "../../outside": true} {
		if _, err := os.Lstat(filepath.Join(state, name)); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", name, err == nil, want)
		}
	}
}
