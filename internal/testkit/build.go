package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// built holds the one binary of this process: linking takes seconds, and every test may ask for it.
var built = sync.OnceValues(buildBerthd)

// BuildBerthd returns the path of a berthd binary built from this tree, once per test process, without cgo as it is
// shipped. BERTH_TEST_BERTHD names a binary to use in its place.
func BuildBerthd(t testing.TB) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func buildBerthd() (string, error) {
	if path := os.Getenv("BERTH_TEST_BERTHD"); path != "" {
		abs, err := filepath.Abs(path)
		if err != nil {
			return "", fmt.Errorf("testkit: BERTH_TEST_BERTHD %s: %w", path, err)
		}
		if _, err := os.Stat(abs); err != nil {
			return "", fmt.Errorf("testkit: BERTH_TEST_BERTHD: %w", err)
		}
		return abs, nil
	}
	dir, err := os.MkdirTemp("", "berthd-test-")
	if err != nil {
		return "", fmt.Errorf("testkit: directory for berthd: %w", err)
	}
	if _, err := keep(nil, nil, `read _; rm -rf "$1"`, dir); err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "berthd")
	cmd := exec.Command("go", "build", "-trimpath", "-o", bin, "github.com/berth-registry/berth/cmd/berthd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("testkit: build berthd: %w\n%s", err, out)
	}
	return bin, nil
}
