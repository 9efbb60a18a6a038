package testkit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// built and builtTool hold the binaries of this process: linking takes seconds, and every test may ask for them.
var (
	built     = sync.OnceValues(func() (string, error) { return build("berthd", "BERTH_TEST_BERTHD") })
	builtTool = sync.OnceValues(func() (string, error) { return build("berth", "BERTH_TEST_BERTH", "-ldflags=-s -w") })
)

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

// BuildBerth returns the path of the image tool, built from this tree as make build does it. BERTH_TEST_BERTH names a
// binary to use in its place.
func BuildBerth(t testing.TB) string {
	t.Helper()
	path, err := builtTool()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// build makes a program of cmd, unless the variable names a binary.
func build(program, variable string, flags ...string) (string, error) {
	if path := os.Getenv(variable); path != "" {
		abs, err := filepath.Abs(path)
		if err != nil {
			return "", fmt.Errorf("testkit: %s %s: %w", variable, path, err)
		}
		if _, err := os.Stat(abs); err != nil {
			return "", fmt.Errorf("testkit: %s: %w", variable, err)
		}
		return abs, nil
	}
	dir, err := os.MkdirTemp("", program+"-test-")
	if err != nil {
		return "", fmt.Errorf("testkit: directory for %s: %w", program, err)
	}
	if _, err := keep(nil, nil, `read _; rm -rf "$1"`, dir); err != nil {
		return "", err
	}
	if err := noticeSources(); err != nil {
		return "", err
	}
	bin := filepath.Join(dir, program)
	args := append([]string{"build", "-trimpath", "-o", bin}, flags...)
	cmd := exec.Command("go", append(args, "github.com/berth-registry/berth/cmd/"+program)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("testkit: build %s: %w\n%s", program, err, out)
	}
	return bin, nil
}

// noticeSources reads every directory of the module, and so tells go test what these tests depend on: it remembers a
// passed test by the files and directories that were opened (names, sizes, times), and does not know that we build a
// program that is not imported. Without this a changed berthd would be reported as "ok (cached)".
func noticeSources() error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // somebody else's temporary file, gone meanwhile
			return nil
		case err != nil:
			return fmt.Errorf("testkit: sources of berthd: %w", err)
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules"):
			return filepath.SkipDir
		}
		return nil
	})
}

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("testkit: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("testkit: no go.mod above the working directory: run the test in its package, or set BERTH_TEST_BERTHD")
		}
		dir = up
	}
}
