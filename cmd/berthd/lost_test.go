package main_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

// TestLostDatabase: where a registry has left its names, or a restore its beginning, no empty registry begins that would take their
// place. What is there is brought back all the same.
func TestLostDatabase(t *testing.T) {
	for name, database := range map[string]func(t *testing.T) string{
		"sqlite":   func(*testing.T) string { return "" },
		"postgres": func(t *testing.T) string { return testkit.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			dsn, data := database(t), t.TempDir()
			d := testkit.Start(t, testkit.Options{Data: data, Database: dsn, Env: anonymous})
			pushIndex(t, d, "v1")
			if err := d.Stop(); err != nil {
				t.Fatal(err)
			}
			env := append([]string{"BERTH_DATA=" + data}, anonymous...)
			if dsn == "" {
				removeDatabase(t, data, "berth.db*")
			} else {
				dsn = database(t) // another one, named by mistake
				env = append(env, "BERTH_DATABASE="+dsn)
			}
			c := command{dir: t.TempDir(), env: env}
			for range 2 { // a supervisor starts it again
				if r := c.run(t, "serve", "--addr", "127.0.0.1:0"); r.code != 1 || !strings.Contains(r.stderr, "the storage holds the names of a registry") || !strings.Contains(r.stderr, "berthd rebuild") {
					t.Fatalf("a start without the database: %+v", r)
				}
			}
			if r := c.run(t, "rebuild"); r.code != 0 || !strings.Contains(r.stdout, "1 tags") {
				t.Fatalf("rebuild: %+v", r)
			}
			d = testkit.Start(t, testkit.Options{Data: data, Database: dsn, Env: anonymous})
			if got := pull(t, d, "v1"); got != emptyIndex {
				t.Errorf("pulled %s", got)
			}
		})
	}
}

// TestRebuildKeepsForTheGrace: what no manifest needs is there after a rebuild for as long as it would have been, by the
// configuration, and no longer.
func TestRebuildKeepsForTheGrace(t *testing.T) {
	for grace, least := range map[string]time.Duration{"200h": 200 * time.Hour, "2s": 2 * time.Second} {
		t.Run(grace, func(t *testing.T) {
			data, env := t.TempDir(), append([]string{"BERTH_GC_GRACE=" + grace}, anonymous...)
			d := testkit.Start(t, testkit.Options{Data: data, Env: env})
			pushIndex(t, d, "v1")
			if err := d.Stop(); err != nil {
				t.Fatal(err)
			}
			removeDatabase(t, data, "berth.db*")
			began := time.Now()
			c := command{dir: t.TempDir(), env: append([]string{"BERTH_DATA=" + data}, env...)}
			if r := c.run(t, "rebuild"); r.code != 0 {
				t.Fatalf("rebuild: %+v", r)
			}
			rows, err := testkit.SQLite(filepath.Join(data, "berth.db"), `SELECT lease_until FROM blob`)
			if err != nil || len(rows) != 1 {
				t.Fatalf("blobs: %q, %v", rows, err)
			}
			micros, err := strconv.ParseInt(rows[0][0], 10, 64)
			if kept := time.UnixMicro(micros).Sub(began); err != nil || kept < least || kept > 2*least+time.Minute {
				t.Errorf("it is looked at after %s, %v; the grace is %s", kept, err, least)
			}
		})
	}
}

// TestLeftBeside: what an earlier database has left beside it is never taken for a part of a new one.
func TestLeftBeside(t *testing.T) {
	data := t.TempDir()
	d := testkit.Start(t, testkit.Options{Data: data, Env: anonymous})
	pushIndex(t, d, "v1")
	target := t.TempDir()
	c := command{dir: t.TempDir(), env: append([]string{"BERTH_DATA=" + data}, anonymous...)}
	if r := c.run(t, "backup", target); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	d.Restart(t) // a stop in order writes the journal
	pushIndex(t, d, "v2")
	d.Kill()
	removeDatabase(t, data, "berth.db")
	for _, args := range [][]string{{"serve", "--addr", "127.0.0.1:0"}, {"rebuild"}, {"restore", target}} {
		if r := c.run(t, args...); r.code != 1 || !strings.Contains(r.stderr, "berth.db-wal") || !strings.Contains(r.stderr, "move them away") {
			t.Errorf("%s: %+v", args[0], r)
		}
	}
	removeDatabase(t, data, "berth.db-*")
	if r := c.run(t, "rebuild"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	if got := pull(t, testkit.Start(t, testkit.Options{Data: data, Env: anonymous}), "v1"); got != emptyIndex {
		t.Errorf("pulled %s", got)
	}
}

func removeDatabase(t *testing.T, data, pattern string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(data, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("there is no %s: %v", pattern, err)
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
}
