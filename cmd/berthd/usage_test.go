package main_test

import (
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

// TestSlips: who mistypes a command is told what it expects, and its exit code never says that something was done.
func TestSlips(t *testing.T) {
	c := command{dir: t.TempDir()}
	for _, slip := range []struct{ args, want string }{
		{"gc rnu", `berthd gc has no command "rnu"; did you mean "run"? (preview, run, status, why)`},
		{"gc rnu --data there", `berthd gc has no command "rnu"`},
		{"trash empty", `berthd trash has no command "empty" (ls, purge, restore)`},
		{"gc run --rate fast", `--rate expects a whole number; got "fast"`},
		{"gc run --slow", "unknown flag: --slow; see berthd gc run --help"},
		{"gc run --data there", "no berthd is running on the data directory there; start it first, or collect without one by berthd garbage-collect"},
		{"gc status --data there", "no berthd is running on the data directory there"},
		{"gc preview --data there", "there is no database in there"},
		{"gc why sha256:12", `digest "sha256:12" has 2 digits`},
		{"gc why sha256:" + strings.Repeat("a", 64) + " --output xml", `--output expects text or json, got "xml"`},
		{"tag rollback", "berthd tag rollback expects REPOSITORY:TAG [CONFIG]; got none; see berthd tag rollback --help"},
		{"tag rollback team/app", `expected REPOSITORY:TAG, such as team/app:1.0; got "team/app"`},
		{"tag rollback team/app:1 --to sha256:12", `--to: digest "sha256:12" has 2 digits`},
		{"tag rollback team/app:1 --to monday", "--to expects a digest, a time such as 2026-01-31T09:00:00Z, or how long ago, such as 2h; got \"monday\""},
		{"tag rollback team/app:1 --expect it", "--expect: digest"},
		{"tag log team/app:1 --at yesterday", `--at expects a time such as 2026-01-31T09:00:00Z, or how long ago, such as 2h; got "yesterday"`},
		{"trash restore team/app:1", `a deleted tag comes back with berthd tag restore`},
		{"fsck --repair --data there", "--repair removes content that no row names, and needs --orphans"},
		{"fsck --data there", "there is no database in there"},
		{"backup", "berthd backup expects TARGET [CONFIG]; got none"},
		{"restore --check --drill elsewhere", "none of the others can be"},
		{"restore elsewhere --data there", "elsewhere is not there"},
		{"backup --list .", "has no backup in it; name the target that berthd backup was given"},
		{"version now", `berthd version expects no arguments; got "now"`},
	} {
		r := c.run(t, strings.Fields(slip.args)...)
		if r.code != 1 || !strings.Contains(r.stderr, "error: ") || !strings.Contains(r.stderr, slip.want) {
			t.Errorf("berthd %s: exit code %d, %q; want %q", slip.args, r.code, r.stderr, slip.want)
		}
	}
	if r := c.run(t, "gc"); r.code != 0 || !strings.Contains(r.stdout, "berthd gc [command]") {
		t.Errorf("berthd gc: %+v", r)
	}
}

// TestBackupTargetThatIsNone: a target that never can be one is said so at once, not after five attempts.
func TestBackupTargetThatIsNone(t *testing.T) {
	berthd := testkit.Start(t, testkit.Options{})
	c := command{dir: t.TempDir()}
	for target, want := range map[string]string{
		"s3://":              "backup target is not a bucket; expected s3://BUCKET/PREFIX",
		"ftp://backup/berth": "is neither a directory nor s3://BUCKET/PREFIX",
		"s3://b?bucket=c":    `unknown option "bucket" (region, endpoint)`,
		berthd.Data:          "is a registry's own; choose another, on another disk",
	} {
		begun := time.Now()
		r := c.run(t, "backup", target, "--data", berthd.Data)
		if r.code != 1 || !strings.Contains(r.stderr, want) || time.Since(begun) > 10*time.Second {
			t.Errorf("backup %s: exit code %d after %v, %q; want %q", target, r.code, time.Since(begun), r.stderr, want)
		}
	}
}
