package main_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
)

// TestTagAndTrash: what a client deletes by digest it is told of, with the tags that went, and an operator brings it back
// with one command; a tag goes back to where it was, and a client pulls what a tag was.
func TestTagAndTrash(t *testing.T) {
	env := []string{"BERTH_ADMIN_PASSWORD=harbour-Wall-7-lantern"}
	berthd := testkit.Start(t, testkit.Options{Env: env})
	c := command{dir: t.TempDir(), env: append(env, "BERTH_DATA="+berthd.Data)}
	ask := func(method, path, body string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, berthd.URL+"/v2/team/app/manifests/"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("User-Agent", "docker/27.3.1 go/go1.22 (linux)")
		req.Header.Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		req.SetBasicAuth("admin", "harbour-Wall-7-lantern")
		answer, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		return answer
	}
	digest := map[string]string{}
	push := func(tag, note string) {
		t.Helper()
		a := ask(http.MethodPut, tag, fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{"n":"%s"}}`, note))
		if a.StatusCode != http.StatusCreated {
			t.Fatal(a.Status)
		}
		digest[note] = a.Header.Get("Docker-Content-Digest")
	}
	run := func(want string, args ...string) {
		t.Helper()
		r := c.run(t, args...)
		if r.code != 0 || !strings.Contains(r.stdout, want) {
			t.Errorf("%v: exit code %d, %q %q; want %q", args, r.code, r.stdout, r.stderr, want)
		}
	}
	at := func(tag, want string) {
		t.Helper()
		if got := ask(http.MethodHead, tag, "").Header.Get("Docker-Content-Digest"); got != want {
			t.Errorf("%s is %q, want %q", tag, got, want)
		}
	}

	push("latest", "one")
	since := strings.Fields(strings.Split(c.run(t, "tag", "log", "team/app:latest").stdout, "\n")[1])[1]
	push("latest", "two")
	push("2", "two")
	run(digest["two"]+"  admin  127.0.0.1 docker/27.3.1  -", "tag", "log", "team/app:latest")
	at("latest?at="+since, digest["one"])
	if a := ask(http.MethodGet, "latest?at=yesterday", ""); a.StatusCode != http.StatusBadRequest {
		t.Errorf("a time that is none: %s", a.Status)
	}
	if a := ask(http.MethodGet, "latest?at=2020-01-01T00:00:00Z", ""); a.StatusCode != http.StatusNotFound {
		t.Errorf("before the tag was there: %s", a.Status)
	}
	run("points at "+digest["one"], "tag", "rollback", "team/app:latest")
	at("latest", digest["one"])
	run("points at "+digest["two"], "tag", "rollback", "team/app:latest", "--to", digest["two"], "--expect", digest["one"])
	if r := c.run(t, "tag", "rollback", "team/app:latest", "--expect", digest["one"]); r.code == 0 || !strings.Contains(r.stderr, "moved meanwhile") {
		t.Errorf("a rollback that expects something else: %+v", r)
	}

	gone := ask(http.MethodDelete, digest["two"], "")
	if got := gone.Header.Values("Oci-Tag"); gone.StatusCode != http.StatusAccepted || !slices.Equal(got, []string{"2", "latest"}) {
		t.Errorf("deletion: %s, tags %v", gone.Status, got)
	}
	warning := gone.Header.Get("Warning")
	restore := warning[strings.Index(warning, "berthd trash"):]
	at("latest", "")
	run("2,latest", "trash", "ls")
	run("2,latest", "trash", "ls", "team/app")
	run(digest["two"], "tag", "log", "team/app", "--deleted")
	run("latest", "tag", "log", "team/app", "--at", since)
	run("team/app:latest points at it again", strings.Fields(strings.TrimSuffix(restore, `"`))[1:]...)
	at("latest", digest["two"])
	at("2", digest["two"])

	ask(http.MethodDelete, digest["two"], "")
	run("came back from the trash", "tag", "restore", "team/app:2")
	ask(http.MethodDelete, digest["two"], "")
	run("for good: 1", "trash", "purge", "team/app@"+digest["two"])
	run("for good: 0", "trash", "purge", "team/app", "--all")
	if r := c.run(t, "tag", "restore", "team/app:2"); r.code == 0 || !strings.Contains(r.stderr, "push it again") {
		t.Errorf("a tag of what was purged: %+v", r)
	}
	for _, args := range [][]string{
		{"tag", "log", "team/app"}, {"tag", "restore", "team/app"}, {"trash", "restore", "team/app:2"}, {"trash", "purge", "team/app"},
		{"tag", "log", "registry.example.com:5000/team/app:2"}, {"tag", "rollback", "team/app:2", "--to", "yesterday"},
	} {
		if r := c.run(t, args...); r.code != 1 || !strings.Contains(r.stderr, "expect") {
			t.Errorf("%v: %+v", args, r)
		}
	}
}
