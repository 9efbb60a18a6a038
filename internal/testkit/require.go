package testkit

import (
	"os"
	"syscall"
	"testing"
)

// RequireDisk skips the test, or fails it where skipping is not allowed (see the package comment), when fewer than
// bytes are free for dir. Call it before a test writes more than about 100 MB.
func RequireDisk(t testing.TB, dir string, bytes int64) {
	t.Helper()
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		t.Fatalf("testkit: free space of %s: %v", dir, err)
	}
	// Bavail, not Bfree: what the file system keeps back for root is not ours to fill.
	if free := int64(fs.Bavail) * int64(fs.Bsize); free < bytes {
		Missing(t, "testkit: %s has %d MiB free, this test asks for %d MiB", dir, free>>20, bytes>>20)
	}
}

// Missing ends the test because this machine lacks something: it skips, or fails where skipping is not allowed (see the
// package comment). Silently green is for laptops, never for CI.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" || os.Getenv("BERTH_TEST_REQUIRE") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}
