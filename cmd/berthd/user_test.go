package main_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
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
