package interop_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
)

// peer returns the path of a client or server that test/setup/setup.sh installs. A Go program is found in the cache
// under the version that peers.txt pins, a Debian program on PATH or beside it. One that is missing skips the test, or
// fails it where that is asked for (BERTH_TEST_REQUIRE, CI).
func peer(t testing.TB, program string) string {
	t.Helper()
	if program == "berth" { // our own tool, among the others
		return testkit.BuildBerth(t)
	}
	if path, pinned := pinnedPeer(t, program); pinned {
		if _, err := os.Stat(path); err != nil {
			testkit.Missing(t, "%s is not installed (run test/setup/setup.sh): %v", program, err)
		}
		return path
	}
	// Debian's own directories first: a newer docker in /usr/local would print other words than the golden files.
	for _, dir := range []string{"/usr/bin", "/usr/sbin"} {
		if path := filepath.Join(dir, program); isFile(path) {
			return path
		}
	}
	path, err := exec.LookPath(program)
	if err != nil {
		testkit.Missing(t, "%s is not installed (run test/setup/setup.sh): %v", program, err)
	}
	return path
}

// pinnedPeer looks the program up in peers.txt: group, program, package, version.
func pinnedPeer(t testing.TB, program string) (path string, pinned bool) {
	t.Helper()
	file, err := os.Open(filepath.Join("..", "setup", "peers.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		field := strings.Fields(lines.Text())
		if len(field) >= 4 && field[1] == program {
			return filepath.Join(cacheDir(t), "bin", program+"@"+field[3], program), true
		}
	}
	return "", false
}

// cacheDir is where setup.sh puts Go programs.
func cacheDir(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("BERTH_TEST_CACHE"); dir != "" {
		return dir
	}
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "berth-test")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(home, ".cache", "berth-test")
}

// needRoot says that the test starts a daemon which only root may run.
func needRoot(t testing.TB, program string) {
	t.Helper()
	if os.Geteuid() != 0 {
		testkit.Missing(t, "%s can only be started by root", program)
	}
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
