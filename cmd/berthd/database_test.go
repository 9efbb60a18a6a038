package main_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
)

const emptyIndex = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`

// anonymous lets these tests push without a password.
var anonymous = []string{"BERTH_ANONYMOUS=push"}

func pushIndex(t *testing.T, d *testkit.Daemon, tag string) {
	t.Helper()
	if got := status(t, http.MethodPut, d.URL+"/v2/team/app/manifests/"+tag, "", emptyIndex, "application/vnd.oci.image.index.v1+json"); got != http.StatusCreated {
		t.Fatalf("push of %s: %d", tag, got)
	}
}

func pull(t *testing.T, d *testkit.Daemon, tag string) string {
	t.Helper()
	r, err := http.Get(d.URL + "/v2/team/app/manifests/" + tag)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("pull of %s: %s %s, %v", tag, r.Status, b, err)
	}
	return string(b)
}

func TestMigrateSQLite(t *testing.T) {
	data := t.TempDir()
	c := command{dir: t.TempDir(), env: []string{"BERTH_DATA=" + data}}
	r := c.run(t, "migrate", "status")
	if r.code != 0 || !regexp.MustCompile(`(?m)^1 +create_registry +pending +-$`).MatchString(r.stdout) || strings.Contains(r.stdout, "applied") || r.stderr != "" {
		t.Fatalf("before the first start: %+v", r)
	}
	if entries, err := os.ReadDir(data); err != nil || len(entries) > 0 {
		t.Fatalf("asking left something: %v, %v", entries, err)
	}
	manual := command{dir: c.dir, env: append(c.env, "BERTH_DATABASE_MIGRATE=manual")}
	if r := manual.run(t, "serve", "--addr", "127.0.0.1:0"); r.code != 1 || !strings.Contains(r.stderr, "run berthd migrate up") {
		t.Fatalf("a start with manual migration: %+v", r)
	}
	if r := c.run(t, "migrate", "up"); r.code != 0 || !regexp.MustCompile(`(?m)^1 +create_registry +applied +20`).MatchString(r.stdout) {
		t.Fatalf("%+v", r)
	}
	if r := c.run(t, "migrate", "up"); r.code != 0 || r.stdout != "schema is up to date, nothing was applied\n" {
		t.Fatalf("%+v", r)
	}
	testkit.Start(t, testkit.Options{Data: data, Env: manual.env[1:]})
	if r := c.run(t, "migrate", "status"); r.code != 0 || strings.Contains(r.stdout, "pending") {
		t.Errorf("beside a running berthd: %+v", r)
	}
	if r := c.run(t, "migrate", "up"); r.code != 1 || !strings.Contains(r.stderr, "is in use by a running berthd") {
		t.Errorf("beside a running berthd: %+v", r)
	}
}

func TestMigratePostgres(t *testing.T) {
	dsn := testkit.Postgres(t)
	c := command{dir: t.TempDir(), env: []string{"BERTH_DATABASE=" + dsn}}
	if r := c.run(t, "migrate", "status"); r.code != 0 || strings.Contains(r.stdout, "applied") {
		t.Fatalf("before the first start: %+v", r)
	}
	if r := c.run(t, "migrate", "up"); r.code != 0 || !strings.Contains(r.stdout, "create_registry") {
		t.Fatalf("%+v", r)
	}
	d := testkit.Start(t, testkit.Options{Database: dsn, Env: append([]string{"BERTH_DATABASE_MIGRATE=manual"}, anonymous...)})
	for _, verb := range []string{"status", "up"} { // beside a running replica
		if r := c.run(t, "migrate", verb); r.code != 0 || strings.Contains(r.stdout, "pending") {
			t.Fatalf("%s: %+v", verb, r)
		}
	}
	pushIndex(t, d, "v1")
}

// TestDBCopy moves a registry from SQLite to PostgreSQL and back.
func TestDBCopy(t *testing.T) {
	dsn, data := testkit.Postgres(t), t.TempDir()
	c := command{dir: t.TempDir(), env: []string{"BERTH_DATA=" + data}}
	d := testkit.Start(t, testkit.Options{Data: data, Env: anonymous})
	pushIndex(t, d, "v1")
	if r := c.run(t, "db", "copy", "--to", dsn); r.code != 1 || !strings.Contains(r.stderr, "is in use by a running berthd") {
		t.Fatalf("beside a running berthd: %+v", r)
	}
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	r := c.run(t, "db", "copy", "--to", dsn)
	if r.code != 0 || !regexp.MustCompile(`(?m)^tag +1 +[0-9a-f]{16}$`).MatchString(r.stdout) ||
		!strings.Contains(r.stderr, "copied tag: 1 of 1 rows\n") || !strings.Contains(r.stderr, "compared tag: 1 of 1 rows\n") {
		t.Fatalf("%+v", r)
	}
	if r := c.run(t, "db", "copy", "--to", dsn); r.code != 1 || !strings.Contains(r.stderr, "is not empty") {
		t.Fatalf("copied twice: %+v", r)
	}
	d = testkit.Start(t, testkit.Options{Data: data, Database: dsn, Env: anonymous})
	if got := pull(t, d, "v1"); got != emptyIndex {
		t.Fatalf("pulled from PostgreSQL: %s", got)
	}
	pushIndex(t, d, "v2")
	back := t.TempDir()
	if r := c.run(t, "db", "copy", "--from", dsn, "--to", "sqlite:"+back); r.code != 1 || !strings.Contains(r.stderr, "--live") {
		t.Fatalf("beside a running replica: %+v", r)
	}
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	if r := c.run(t, "db", "copy", "--from", dsn, "--to", "sqlite:"+back); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	if info, err := os.Stat(filepath.Join(back, "berth.db")); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	d = testkit.Start(t, testkit.Options{Data: back, Env: anonymous})
	if got := pull(t, d, "v2"); got != emptyIndex {
		t.Fatalf("pulled from SQLite: %s", got)
	}
	for _, args := range [][]string{{"db", "copy"}, {"db", "copy", "--to", "mysql://u:tide-Pool-3@h/x"}, {"db", "copy", "--from", "berth.db", "--to", dsn}} {
		if r := c.run(t, args...); r.code != 1 || !strings.HasPrefix(r.stderr, "error: ") || strings.Contains(r.stderr, "tide-Pool") {
			t.Errorf("%v: %+v", args, r)
		}
	}
}
