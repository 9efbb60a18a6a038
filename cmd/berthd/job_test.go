package main_test

import (
	"encoding/pem"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
)

const adminPassword = "harbour-Wall-7-lantern"

// TestJobs: an administrator of the machine looks at the background work of a running berthd, without a password.
func TestJobs(t *testing.T) {
	for _, name := range []string{"SQLite", "PostgreSQL"} {
		t.Run(name, func(t *testing.T) {
			env := []string{"BERTH_ADMIN_PASSWORD=" + adminPassword, "REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_INTERVAL=1s"}
			o := testkit.Options{Env: env}
			if name == "PostgreSQL" {
				o.Database = testkit.Postgres(t)
				env = append(env, "BERTH_DATABASE="+o.Database)
			}
			berthd := testkit.Start(t, o)
			c := command{dir: t.TempDir(), env: append(env, "BERTH_DATA="+berthd.Data)}
			id := ""
			for range 300 { // the first sweep comes after a second
				r := c.run(t, "job", "ls", "--kind", "upload.sweep", "--state", "succeeded")
				if m := regexp.MustCompile(`(?m)^(\d+) +upload\.sweep +succeeded`).FindStringSubmatch(r.stdout); m != nil {
					id = m[1]
					break
				}
				if r.code != 0 {
					t.Fatalf("%+v", r)
				}
			}
			if id == "" {
				t.Fatal("no sweep is seen")
			}
			if r := c.run(t, "job", "show", id); r.code != 0 || !strings.Contains(r.stdout, "upload.sweep") || !strings.Contains(r.stdout, "1 of 3") {
				t.Errorf("%+v", r)
			}
			if r := c.run(t, "job", "cancel", id); r.code != 0 || !strings.Contains(r.stdout, "succeeded") {
				t.Errorf("%+v", r)
			}
			if r := c.run(t, "job", "retry", id); r.code != 1 || !strings.Contains(r.stderr, "has succeeded; there is nothing to retry") {
				t.Errorf("%+v", r)
			}
			if r := c.run(t, "job", "show", "99999999"); r.code != 1 || !strings.Contains(r.stderr, "job 99999999 is not there") {
				t.Errorf("%+v", r)
			}
			if err := berthd.Stop(); err != nil {
				t.Fatal(err)
			}
			if left, err := filepath.Glob(filepath.Join(berthd.Data, "*.sock*")); err != nil || len(left) > 0 {
				t.Errorf("sockets after the end: %v, %v", left, err)
			}
			if r := c.run(t, "job", "ls"); r.code != 1 || !strings.Contains(r.stderr, "no berthd is running on the data directory "+berthd.Data) {
				t.Errorf("%+v", r)
			}
			berthd.Restart(t)
			berthd.Kill()
			if r := c.run(t, "job", "ls"); r.code != 1 || !strings.Contains(r.stderr, "no berthd is running") {
				t.Errorf("a killed berthd leaves a socket at which nobody listens: %+v", r)
			}
			berthd.Restart(t)
			if r := c.run(t, "job", "ls"); r.code != 0 {
				t.Errorf("%+v", r)
			}
			if left, err := filepath.Glob(filepath.Join(berthd.Data, "*.sock")); err != nil || len(left) != 1 {
				t.Errorf("the socket of the one before is still there: %v, %v", left, err)
			}
		})
	}
}

// Replicas that share a data directory have a socket each, and the end of one does not take the other's.
func TestSocketsOfReplicas(t *testing.T) {
	data, dsn := t.TempDir(), testkit.Postgres(t)
	env := []string{"BERTH_ADMIN_PASSWORD=" + adminPassword}
	first := testkit.Start(t, testkit.Options{Env: env, Data: data, Database: dsn})
	second := testkit.Start(t, testkit.Options{Env: env, Data: data, Database: dsn})
	sockets, err := filepath.Glob(filepath.Join(data, "berthd-*.sock"))
	if err != nil || len(sockets) != 2 {
		t.Fatalf("%v, %v", sockets, err)
	}
	for _, s := range sockets {
		if info, err := os.Lstat(s); err != nil || info.Mode() != fs.ModeSocket|0o600 {
			t.Errorf("%s: %v, %v", s, info.Mode(), err)
		}
	}
	c := command{dir: t.TempDir(), env: append(env, "BERTH_DATA="+data, "BERTH_DATABASE="+dsn)}
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	if r := c.run(t, "job", "ls"); r.code != 0 {
		t.Errorf("the second replica cannot be asked: %+v", r)
	}
	if err := second.Stop(); err != nil {
		t.Fatal(err)
	}
	if r := c.run(t, "job", "ls"); r.code != 1 || !strings.Contains(r.stderr, "no berthd is running") {
		t.Errorf("%+v", r)
	}
}

// TestServerElsewhere: with --server the commands work over the network, as an account.
func TestServerElsewhere(t *testing.T) {
	users := filepath.Join(t.TempDir(), "htpasswd")
	alice := command{dir: t.TempDir(), stdin: "quay-Side-9-anchor\n"}
	if r := alice.run(t, "htpasswd", "add", users, "alice"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	berthd := testkit.Start(t, testkit.Options{Env: []string{"BERTH_ADMIN_PASSWORD=" + adminPassword, "REGISTRY_AUTH_HTPASSWD_PATH=" + users, "BERTH_SOCKET=off"}})
	ca := filepath.Join(berthd.Data, "tls", "ca.crt")
	if text, err := os.ReadFile(ca); err != nil {
		t.Fatal(err)
	} else if block, _ := pem.Decode(text); block == nil {
		t.Fatal("no certificate")
	}
	https := "https://" + berthd.Addr
	as := func(env ...string) command { return command{dir: t.TempDir(), env: env} }
	admin := as("BERTHD_PASSWORD=" + adminPassword)
	for _, test := range []struct {
		c    command
		args []string
		code int
		want string
	}{
		{admin, []string{"--server", https, "--user", "admin", "--cacert", ca}, 0, ""},
		{as("BERTHD_PASSWORD="+adminPassword, "BERTHD_USER=admin", "BERTHD_SERVER="+https), []string{"--cacert", ca}, 0, ""},
		{command{dir: t.TempDir(), stdin: adminPassword + "\n"}, []string{"--server", https, "--user", "admin", "--cacert", ca}, 0, ""},
		{admin, []string{"--server", berthd.URL, "--user", "admin"}, 0, ""},
		{admin, []string{"--server", https, "--user", "admin"}, 1, "--cacert"},
		{as("BERTHD_PASSWORD=guess"), []string{"--server", https, "--user", "admin", "--cacert", ca}, 1, "user name or password is wrong"},
		{as("BERTHD_PASSWORD=quay-Side-9-anchor"), []string{"--server", https, "--user", "alice", "--cacert", ca}, 1, "you are signed in as alice; job.read of this registry is not allowed"},
		{admin, []string{"--server", https, "--cacert", ca}, 1, "name it with --user"},
		{admin, []string{"--server", "http://registry.example.com", "--user", "admin"}, 1, "use https://registry.example.com"},
		{admin, []string{"--server", "registry", "--user", "admin"}, 1, `such as https://registry.example.com; got "registry"`},
		{admin, []string{"--server", https, "--user", "admin", "--cacert", users}, 1, "no certificate in PEM form"},
		{admin, []string{"--data", berthd.Data}, 1, "no berthd is running"},
	} {
		r := test.c.run(t, append([]string{"job", "ls"}, test.args...)...)
		if r.code != test.code || !strings.Contains(r.stderr, test.want) || strings.Contains(r.stderr, "guess") {
			t.Errorf("%v: %+v; want %d %q", test.args, r, test.code, test.want)
		}
	}
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) }))
	defer page.Close()
	if r := admin.run(t, "job", "ls", "--server", page.URL, "--user", "admin"); r.code != 1 || !strings.Contains(r.stderr, "502 Bad Gateway, and not as berthd does") {
		t.Errorf("%+v", r)
	}
	page.Close()
	if r := admin.run(t, "job", "ls", "--server", page.URL, "--user", "admin"); r.code != 1 || !strings.Contains(r.stderr, "does not answer") {
		t.Errorf("%+v", r)
	}
}

// Who may not use the socket learns that a berthd is there, and how to go on; it is not the same as none.
func TestSocketOfAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	dir := t.TempDir()
	for p := dir; p != "/" && p != os.TempDir(); p = filepath.Dir(p) { // others must get as far as the socket
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "berthd.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "berthd") // in a folder that others may enter
	if err := os.Link(testkit.BuildBerthd(t), program); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "job", "ls", "--data", dir)
	cmd.Dir, cmd.Env = "/", []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "you may not use it") {
		t.Errorf("%s, %v", out, err)
	}
}
