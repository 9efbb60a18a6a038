package main_test

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

// operator runs commands beside a berthd.
type operator struct {
	t *testing.T
	c command
}

func (o *operator) run(want string, args ...string) string {
	o.t.Helper()
	r := o.c.run(o.t, args...)
	if r.code != 0 || !strings.Contains(r.stdout, want) {
		o.t.Errorf("%v: exit code %d, %q %q; want %q", args, r.code, r.stdout, r.stderr, want)
	}
	return strings.TrimSpace(r.stdout)
}

func (o *operator) fails(want string, args ...string) {
	o.t.Helper()
	if r := o.c.run(o.t, args...); r.code != 1 || !strings.Contains(r.stderr, want) || strings.Count(r.stderr, "\n") != 1 {
		o.t.Errorf("%v: exit code %d, %q %q; want the error %q", args, r.code, r.stdout, r.stderr, want)
	}
}

// ask is the answer to a request with an Authorization header, "" for none.
func ask(t *testing.T, method, url, authorization string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

func basic(name, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
}

// TestProjectCommands makes, changes and removes projects beside a running berthd.
func TestProjectCommands(t *testing.T) {
	env := []string{"BERTH_ADMIN_PASSWORD=harbour-Wall-7-lantern"}
	berthd := testkit.Start(t, testkit.Options{Env: env})
	o := &operator{t, command{dir: t.TempDir(), env: append(env, "BERTH_DATA="+berthd.Data)}}
	password := strings.TrimPrefix(o.run("alice / ", "user", "add", "alice", "--generate"), "alice / ")
	o.run("ci / ", "robot", "add", "ci")

	o.run("team added, private", "project", "add", "team", "--private", "--description", "what the team makes", "--label", "cost=7,tier=gold", "--member", "user:alice=developer")
	o.run("open added, public", "project", "add", "open", "--public")
	for want, args := range map[string][]string{
		"project team is there already": {"project", "add", "team"},
		"project name":                  {"project", "add", "Team/x"},
		"expects KIND:NAME=ROLE":        {"project", "set", "team", "--member", "alice=developer"},
		"expects KIND:NAME with":        {"project", "set", "team", "--remove-member", "user:alice=developer"},
		"nothing is to be changed":      {"project", "set", "team"},
		"project nowhere is not known":  {"project", "set", "nowhere", "--public"},
		"user nobody is not known":      {"project", "set", "team", "--member", "user:nobody=guest"},
		"is not a member of project":    {"project", "set", "team", "--remove-member", "robot:ci"},
		"none of the others can be":     {"project", "add", "x", "--public", "--private"},
		"project elsewhere is not":      {"project", "members", "elsewhere"},
		"cannot be deleted":             {"project", "rm", "library"},
		"project gone is not known":     {"project", "rm", "gone"},
	} {
		o.fails(want, args...)
	}
	o.fails(`is made, but not all of its members: role boss`, "project", "add", "half", "--member", "user:alice=boss")

	push := func() int {
		status, _ := ask(t, http.MethodPost, berthd.URL+"/v2/team/app/blobs/uploads/", basic("alice", password))
		return status
	}
	if got := push(); got != http.StatusAccepted {
		t.Errorf("a developer's push: %d", got)
	}
	o.run("team changed, public", "project", "set", "team", "--public", "--label", "tier=lead", "--remove-label", "cost", "--member", "user:alice=guest", "--member", "robot:ci=maintainer")
	o.run("maintainer", "project", "members", "team")
	var members []struct{ Kind, Name, Role string }
	if err := json.Unmarshal([]byte(o.run("", "project", "members", "team", "--json")), &members); err != nil || len(members) != 2 || members[0].Role != "guest" || members[1].Name != "ci" {
		t.Errorf("members %+v, %v", members, err)
	}
	var all []struct {
		Name, Description string
		Public            bool
		Labels            map[string]string
	}
	if err := json.Unmarshal([]byte(o.run("", "project", "ls", "--json", "--contains", "tea")), &all); err != nil || len(all) != 1 ||
		all[0].Name != "team" || !all[0].Public || all[0].Description != "what the team makes" || len(all[0].Labels) != 1 || all[0].Labels["tier"] != "lead" {
		t.Errorf("projects %+v, %v", all, err)
	}
	o.run("library", "project", "ls")
	o.run("team changed", "project", "set", "team", "--remove-member", "user:alice")
	within(t, http.StatusForbidden, push)
	o.run("open removed", "project", "rm", "open")
}

// TestProjectRemoveForce: a project with content is removed when that is asked for, by the next berthd that runs.
func TestProjectRemoveForce(t *testing.T) {
	const admin = "harbour-Wall-7-lantern"
	env := []string{"BERTH_ADMIN_PASSWORD=" + admin}
	berthd := testkit.Start(t, testkit.Options{Env: env})
	o := &operator{t, command{dir: t.TempDir(), env: append(env, "BERTH_DATA="+berthd.Data)}}
	manifest := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, berthd.URL+"/v2/team/app/manifests/1", strings.NewReader(manifest))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", basic("admin", admin))
	req.Header.Set("Content-Type", "application/vnd.oci.image.index.v1+json")
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusCreated {
		t.Fatalf("push: %s", answer.Status)
	}
	o.fails("have manifests, or deleted ones that can be restored (team/app)", "project", "rm", "team")
	if err := berthd.Stop(); err != nil {
		t.Fatal(err)
	}
	o.run("team is removed with what is in it, by job", "project", "rm", "team", "--force")
	o.fails("project gone is not known", "project", "rm", "gone", "--force")
	berthd.Restart(t)
	within(t, http.StatusNotFound, func() int {
		status, _ := ask(t, http.MethodGet, berthd.URL+"/api/v1/projects/team", basic("admin", admin))
		return status
	})
}

// within waits for the answer that a command beside berthd leads to. It is promised within metadb.TrustFor; a machine that is
// busy with other tests is given more.
func within(t *testing.T, want int, ask func() int) {
	t.Helper()
	got := 0
	for began := time.Now(); time.Since(began) < 15*time.Second; time.Sleep(100 * time.Millisecond) {
		if got = ask(); got == want {
			return
		}
	}
	t.Errorf("15 s after a command the answer is still %d, want %d", got, want)
}

// TestOperatorIsSeen: what a running berthd remembers of accounts, grants, projects, robots and tokens does not outlive a
// command beside it by the time for which it is otherwise remembered, half a minute and more.
func TestOperatorIsSeen(t *testing.T) {
	env := []string{"BERTH_ADMIN_PASSWORD=harbour-Wall-7-lantern", "BERTH_ANONYMOUS=pull"}
	berthd := testkit.Start(t, testkit.Options{Env: env})
	o := &operator{t, command{dir: t.TempDir(), env: append(env, "BERTH_DATA="+berthd.Data)}}
	push := func(name, password string) func() int {
		return func() int {
			status, _ := ask(t, http.MethodPost, berthd.URL+"/v2/team/app/blobs/uploads/", basic(name, password))
			return status
		}
	}
	tags := func(authorization string) func() int {
		return func() int {
			status, _ := ask(t, http.MethodGet, berthd.URL+"/v2/team/app/tags/list", authorization)
			return status
		}
	}
	password := strings.TrimPrefix(o.run("", "user", "add", "alice", "--generate"), "alice / ")
	secret := strings.TrimPrefix(o.run("", "robot", "add", "ci"), "ci / ")
	o.run("", "project", "add", "team", "--public", "--member", "user:alice=developer", "--member", "robot:ci=developer")
	if got := push("alice", password)(); got != http.StatusAccepted {
		t.Fatalf("push of alice: %d", got)
	}
	if got := push("ci", secret)(); got != http.StatusAccepted {
		t.Fatalf("push of ci: %d", got)
	}
	public := tags("")() // there is no such repository; the point is that it is not a challenge
	if public == http.StatusUnauthorized {
		t.Fatal("a public project is not")
	}

	o.run("alice disabled", "user", "disable", "alice")
	within(t, http.StatusUnauthorized, push("alice", password))
	o.run("alice enabled", "user", "enable", "alice")
	within(t, http.StatusAccepted, push("alice", password))
	o.run("", "project", "set", "team", "--member", "user:alice=guest")
	within(t, http.StatusForbidden, push("alice", password))
	o.run("", "project", "set", "team", "--private")
	within(t, http.StatusUnauthorized, tags(""))
	o.run("", "project", "set", "team", "--public")
	within(t, public, tags(""))
	o.run("", "robot", "rotate", "ci")
	within(t, http.StatusUnauthorized, push("ci", secret))

	var token struct{ Token string }
	_, body := ask(t, http.MethodGet, berthd.URL+"/token?service=berth&scope=repository:team/app:pull", basic("admin", "harbour-Wall-7-lantern"))
	if err := json.Unmarshal([]byte(body), &token); err != nil {
		t.Fatal(err)
	}
	bearer := tags("Bearer " + token.Token)
	if got := bearer(); got != public {
		t.Fatalf("a token's answer: %d, want %d", got, public)
	}
	o.run("", "token", "rotate-keys", "--now")
	within(t, http.StatusUnauthorized, bearer)
}
