package main_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
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
		{"restore --drill --sample -1 elsewhere", "--sample expects a number of tags, at least 1; got -1"},
		{"restore --drill --sample 0 elsewhere", "--sample expects a number of tags, at least 1; got 0"},
		{"restore --sample 3 elsewhere", "--sample says how many tags a drill pulls, and needs --drill"},
		{"rebuild --data there", "is not there or has no content of a registry"},
		{"rebuild --dry-run --data there", "is not there or has no content of a registry"},
		{"backup --list .", "has no backup in it; name the target that berthd backup was given"},
		{"version now", `berthd version expects no arguments; got "now"`},
	} {
		r := c.run(t, strings.Fields(slip.args)...)
		if r.code != 1 || !strings.Contains(r.stderr, "error: ") || !strings.Contains(r.stderr, slip.want) {
			t.Errorf("berthd %s: exit code %d, %q; want %q", slip.args, r.code, r.stderr, slip.want)
		}
	}
	if left, err := os.ReadDir(c.dir); err != nil || len(left) > 0 {
		t.Errorf("slips leave %v behind, %v", left, err)
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

// TestBackupTargetThatRefuses: neither is a bucket that is not there, nor one whose service does not take the credentials or does
// not let them write, tried for minutes; by a running berthd and without one.
func TestBackupTargetThatRefuses(t *testing.T) {
	server, bucket := testkit.S3Bucket(t, testkit.VersityGW)
	locked := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			w.Header().Set("Content-Type", "application/xml")
			_, _ = io.WriteString(w, `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></ListBucketResult>`)
			return
		}
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `<Error><Code>AccessDenied</Code><Message>no</Message></Error>`)
	}))
	defer locked.Close()
	options := "?region=" + server.Region + "&endpoint=" + server.Endpoint
	good := []string{"AWS_ACCESS_KEY_ID=" + server.AccessKey, "AWS_SECRET_ACCESS_KEY=" + server.SecretKey}
	for what, c := range map[string]struct {
		env          []string
		target, want string
	}{
		"no bucket":      {good, "s3://is-not-there/x" + options, "does not exist"},
		"unknown key":    {[]string{"AWS_ACCESS_KEY_ID=nobody", "AWS_SECRET_ACCESS_KEY=x"}, "s3://" + bucket + "/x" + options, "does not know the access key"},
		"wrong secret":   {[]string{good[0], "AWS_SECRET_ACCESS_KEY=x"}, "s3://" + bucket + "/x" + options, "the signature does not match"},
		"may not write":  {good, "s3://locked/x?region=us-east-1&endpoint=" + locked.URL, "the credentials may not do this"},
		"no credentials": {nil, "s3://" + bucket + "/x" + options, "no credentials were found"},
	} {
		t.Run(what, func(t *testing.T) {
			env := append([]string{"AWS_EC2_METADATA_DISABLED=true", "HOME=" + t.TempDir()}, c.env...)
			berthd := testkit.Start(t, testkit.Options{Env: env})
			for _, running := range []bool{true, false} {
				if !running {
					if err := berthd.Stop(); err != nil {
						t.Fatal(err)
					}
				}
				begun := time.Now()
				r := command{dir: t.TempDir(), env: env}.run(t, "backup", c.target, "--data", berthd.Data)
				if r.code != 1 || !strings.Contains(r.stderr, c.want) || time.Since(begun) > 20*time.Second {
					t.Errorf("running %v: exit code %d after %v, %q; want %q", running, r.code, time.Since(begun), r.stderr, c.want)
				}
			}
		})
	}
}

// TestNothingIsLeft: a restore of a snapshot that is not there, and a rebuild of a store without a journal, make nothing.
func TestNothingIsLeft(t *testing.T) {
	berthd := testkit.Start(t, testkit.Options{})
	c := command{dir: t.TempDir()}
	target := filepath.Join(t.TempDir(), "backup")
	if r := c.run(t, "backup", target, "--data", berthd.Data); r.code != 0 {
		t.Fatalf("backup: %+v", r)
	}
	store := filepath.Join(c.dir, "store")
	if err := os.MkdirAll(filepath.Join(store, "blobs"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, slip := range []struct {
		args, want string
		env        []string
	}{
		{"restore " + target + " --snapshot nope --data there", `snapshot "nope" is not in the backup`, nil},
		{"rebuild --data there", "storage has no journal of names", []string{"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=" + store, "BERTH_DATA=there"}},
	} {
		r := command{dir: c.dir, env: slip.env}.run(t, strings.Fields(slip.args)...)
		if r.code != 1 || !strings.Contains(r.stderr, slip.want) {
			t.Errorf("berthd %s: %+v", slip.args, r)
		}
		if _, err := os.Lstat(filepath.Join(c.dir, "there")); err == nil {
			t.Errorf("berthd %s makes the data directory", slip.args)
		}
	}
}
