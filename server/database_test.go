package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-registry/berth/server"
	"github.com/berth-registry/berth/server/config"
)

// TestCopyOfNothing: a source that does not exist is named as it was given, and nothing is made for it or for the target.
func TestCopyOfNothing(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{filepath.Join(dir, "absent.db"), filepath.Join(dir, "absent", "berth.db"), empty} {
		_, err := server.CopyDatabase(t.Context(), config.Defaults(), server.Copy{From: "sqlite:" + source, To: "sqlite:" + filepath.Join(dir, "target", "berth.db")})
		if err == nil || !strings.Contains(err.Error(), "source database "+source) || !strings.Contains(err.Error(), "does not exist") {
			t.Errorf("copy of %s: %v", source, err)
		}
	}
	var found []string
	_ = filepath.WalkDir(dir, func(path string, _ os.DirEntry, _ error) error {
		found = append(found, strings.TrimPrefix(path, dir))
		return nil
	})
	if strings.Join(found, " ") != " /empty" {
		t.Errorf("left behind: %q", found)
	}
}
