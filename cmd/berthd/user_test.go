package main_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/server/metadb"
)

// TestOperatorCommands makes an account and a robot beside a running berthd, logs in as both, and takes them away again.
func TestOperatorCommands(t *testing.T) {
	env := []string{"BERTH_ADMIN_PASSWORD=harbour-Wall-7-lantern"}
	berthd := testkit.Start(t, testkit.Options{Env: env})
	o := &operator{t, command{dir: t.TempDir(), env: append(env, "BERTH_DATA="+berthd.Data)}}
	run, fails := o.run, o.fails
	login := func(want int, name, password string) string {
		t.Helper()
		status, body := ask(t, http.MethodGet, berthd.URL+"/token?service=berth", basic(name, password))
		if status != want {
			t.Errorf("login of %s: %d %s; want %d", name, status, body, want)
		}
		return body
	}
	secretOf := func(line, name string) string {
		t.Helper()
		secret, ok := strings.CutPrefix(line, name+" / ")
		if !ok {
			t.Fatalf("%q does not show the secret of %s", line, name)
		}
		return secret
	}

	password := secretOf(run("alice / ", "user", "add", "alice", "--generate", "--email", "alice@example.com"), "alice")
	login(http.StatusOK, "alice", password)
	login(http.StatusUnauthorized, "alice", password+"x")
	fails(`name "alice" is in use`, "user", "add", "alice", "--generate")
	o.c.stdin = "password123\n"
	fails("well-known", "user", "add", "admin2", "--admin")
	run("alice", "user", "ls")
	run("alice unlocked", "user", "unlock", "alice")
	fails("not known", "user", "unlock", "nobody-here")
	fails("last administrator", "user", "rm", "admin")

	must := secretOf(run("carol / ", "user", "add", "carol", "--generate", "--must-change"), "carol")
	if text := login(http.StatusUnauthorized, "carol", must); !strings.Contains(text, "changed before") {
		t.Errorf("the answer does not say what to do: %s", text)
	}

	fails("control character", "robot", "add", "evil", "--description", "a\x1b[2Jb")
	fails("control character", "project", "add", "evil", "--description", "a\x1b[2Jb")
	first := secretOf(run("ci / ", "robot", "add", "ci", "--description", "builds"), "ci")
	if !strings.HasPrefix(first, "brs_") {
		t.Errorf("the robot's secret %q has no prefix", first[:4])
	}
	login(http.StatusOK, "ci", first)
	second := secretOf(run("ci / ", "robot", "rotate", "ci", "--overlap", "1h"), "ci")
	login(http.StatusOK, "ci", second)
	login(http.StatusOK, "ci", first)
	run("builds", "robot", "ls")
	fails("not known here", "robot", "rotate", "no-robot")
	fails("not known", "robot", "ls", "--project", "no-project")
	run("ci removed", "robot", "rm", "ci")
	fails("not known here", "robot", "rm", "ci")

	run("ID", "token", "ls")
	fails("not known", "token", "revoke", "17")
	fails("is not a number", "token", "revoke", "x")
	run("tokens are signed by key ", "token", "rotate-keys")
	login(http.StatusOK, "alice", password)
	run("alice removed", "user", "rm", "alice")
}

// TestListsDoNothingToTerminals: what an older version kept is shown, and not done.
func TestListsDoNothingToTerminals(t *testing.T) {
	c := command{dir: t.TempDir()}
	o := &operator{t, c}
	if err := os.Mkdir(filepath.Join(c.dir, "berth-data"), 0o700); err != nil {
		t.Fatal(err)
	}
	db, err := metadb.Open(t.Context(), metadb.Options{Path: filepath.Join(c.dir, "berth-data", "berth.db")})
	if err != nil {
		t.Fatal(err)
	}
	const evil = "a\x1b[2J\tb\nc\u202e"
	err = db.Update(t.Context(), func(tx *metadb.Tx) error {
		p, err := tx.CreateProject(metadb.Project{Name: "team", Description: evil})
		if err != nil {
			return err
		}
		a, err := tx.CreateAccount(metadb.Account{Name: "alice", Email: evil, DisplayName: evil})
		if err != nil {
			return err
		}
		if _, err := tx.CreateRobot(metadb.Robot{Name: "ci", Project: p.ID, Description: evil}); err != nil {
			return err
		}
		_, err = tx.CreateAccessToken(metadb.AccessToken{AccountID: a.ID, Name: evil, Hash: "x", Prefix: "bpt_x"})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	const shown = `a\x1b[2J\tb\nc\u202e`
	for _, args := range [][]string{{"project", "ls"}, {"robot", "ls", "--project", "team"}, {"token", "ls"}} {
		if out := o.run(shown, args...); strings.ContainsAny(out, "\x1b\u202e") {
			t.Errorf("%v: %q", args, out)
		}
	}
}
