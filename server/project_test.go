package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestProjectOfATeam runs a project as its people do, over the management API: made, filled with members by role and by group,
// narrowed by a denial, and emptied again. Each right begins and ends with the answer that gives or takes it, also for tokens
// that were made before.
func TestProjectOfATeam(t *testing.T) {
	d := start(t, "REGISTRY_AUTH_USERS=none", "BERTH_ANONYMOUS=pull")
	admin := basic("admin", adminPassword)
	call := func(who caller, method, path, body string, want int) (made struct{ ID int64 }) {
		t.Helper()
		a := d.do(t, who, method, "/api/v1/"+path, body, "Content-Type", "application/json")
		if a.status != want {
			t.Fatalf("%s %s: %d, want %d: %s", method, path, a.status, want, a.body)
		}
		if a.status == http.StatusCreated {
			if err := json.Unmarshal([]byte(a.body), &made); err != nil {
				t.Fatal(err)
			}
		}
		return made
	}
	for _, name := range []string{"lead", "worker", "guest"} {
		call(admin, "POST", "users", fmt.Sprintf(`{"name":%q,"password":"a-Long-enough-9-secret"}`, name), http.StatusCreated)
	}
	lead, worker, guest := basic("lead", "a-Long-enough-9-secret"), basic("worker", "a-Long-enough-9-secret"), basic("guest", "a-Long-enough-9-secret")
	pushes := func(who caller, repository string, want int) {
		t.Helper()
		if a := d.do(t, who, "POST", "/v2/"+repository+"/blobs/uploads/", ""); a.status != want {
			t.Fatalf("push to %s: %d, want %d: %s", repository, a.status, want, a.body)
		}
	}

	call(lead, "POST", "projects", `{"name":"team"}`, http.StatusForbidden)
	call(admin, "POST", "projects", `{"name":"team","description":"what the team makes"}`, http.StatusCreated)
	call(admin, "POST", "projects", `{"name":"team"}`, http.StatusConflict)
	call(lead, "GET", "projects/team", "", http.StatusNotFound) // like one that is not there
	pushes(worker, "team/app", http.StatusForbidden)

	call(admin, "POST", "projects/team/members", `{"subject":{"kind":"user","name":"lead"},"role":"admin"}`, http.StatusCreated)
	call(lead, "GET", "projects/team", "", http.StatusOK)
	developer := call(lead, "POST", "projects/team/members", `{"subject":{"kind":"user","name":"worker"},"role":"developer"}`, http.StatusCreated)
	pushes(worker, "team/app", http.StatusAccepted)
	pushes(worker, "elsewhere/app", http.StatusForbidden)
	token := d.token(t, worker, "repository:team/app:pull,push")
	pushes(token, "team/app", http.StatusAccepted)
	call(worker, "POST", "projects/team/members", `{"subject":{"kind":"user","name":"guest"},"role":"guest"}`, http.StatusForbidden)

	// A denial of a pattern, for everybody who is not an administrator of the registry.
	denial := call(lead, "POST", "projects/team/grants", `{"subject":{"kind":"user","name":"worker"},"pattern":"team/release-*","verbs":["push"],"deny":true}`, http.StatusCreated)
	pushes(worker, "team/release-1", http.StatusForbidden)
	pushes(worker, "team/app", http.StatusAccepted)
	call(lead, "DELETE", fmt.Sprintf("projects/team/grants/%d", denial.ID), "", http.StatusNoContent)
	pushes(worker, "team/release-1", http.StatusAccepted)

	// A right that a group gave is gone the moment that the group is, and so is that of a member, also for a live token.
	call(admin, "POST", "groups", `{"name":"builders"}`, http.StatusCreated)
	call(admin, "PUT", "groups/builders/members/guest", "", http.StatusNoContent)
	call(lead, "POST", "projects/team/members", `{"subject":{"kind":"group","name":"builders"},"role":"developer"}`, http.StatusCreated)
	pushes(guest, "team/app", http.StatusAccepted)
	live := d.token(t, guest, "repository:team/app:pull,push")
	pushes(live, "team/app", http.StatusAccepted)
	call(admin, "DELETE", "groups/builders/members/guest", "", http.StatusNoContent)
	pushes(guest, "team/app", http.StatusForbidden)
	pushes(live, "team/app", http.StatusForbidden)
	call(lead, "DELETE", fmt.Sprintf("projects/team/members/%d", developer.ID), "", http.StatusNoContent)
	pushes(token, "team/app", http.StatusForbidden)

	// An object of another project is not there, by whatever number it is asked for.
	call(admin, "POST", "projects", `{"name":"other"}`, http.StatusCreated)
	foreign := call(admin, "POST", "projects/other/members", `{"subject":{"kind":"user","name":"worker"},"role":"guest"}`, http.StatusCreated)
	call(lead, "DELETE", fmt.Sprintf("projects/team/members/%d", foreign.ID), "", http.StatusNotFound)
	call(lead, "DELETE", fmt.Sprintf("projects/other/members/%d", foreign.ID), "", http.StatusNotFound)

	// A token for a project that was deleted and made again is worth nothing.
	old := d.token(t, lead, "repository:team/app:pull,push")
	pushes(old, "team/app", http.StatusAccepted)
	call(admin, "DELETE", "projects/team", "", http.StatusNoContent)
	call(admin, "POST", "projects", `{"name":"team"}`, http.StatusCreated)
	call(admin, "POST", "projects/team/members", `{"subject":{"kind":"user","name":"lead"},"role":"admin"}`, http.StatusCreated)
	pushes(lead, "team/app", http.StatusAccepted)
	pushes(old, "team/app", http.StatusUnauthorized)
}

// TestProjectWithContentIsDeleted: a project that has content is not deleted, says what it has, and is deleted with it when that
// is asked for by who may delete it; what was made for it before is worthless for the next of its name.
func TestProjectWithContentIsDeleted(t *testing.T) {
	d := start(t, "REGISTRY_AUTH_USERS=none")
	admin := basic("admin", adminPassword)
	call := func(who caller, method, path, body string, want int) answer {
		t.Helper()
		a := d.do(t, who, method, "/api/v1/"+path, body, "Content-Type", "application/json", "If-Match", "*")
		if a.status != want {
			t.Fatalf("%s %s: %d, want %d: %s", method, path, a.status, want, a.body)
		}
		return a
	}
	password := "a-Long-enough-9-secret"
	for _, name := range []string{"lead", "maker", "stranger"} {
		call(admin, "POST", "users", fmt.Sprintf(`{"name":%q,"password":%q}`, name, password), http.StatusCreated)
	}
	lead, maker, stranger := basic("lead", password), basic("maker", password), basic("stranger", password)
	call(admin, "POST", "projects", `{"name":"team"}`, http.StatusCreated)
	call(admin, "POST", "projects", `{"name":"other"}`, http.StatusCreated)
	call(admin, "POST", "projects/team/members", `{"subject":{"kind":"user","name":"lead"},"role":"admin"}`, http.StatusCreated)
	call(admin, "POST", "projects/team/members", `{"subject":{"kind":"user","name":"maker"},"role":"maintainer"}`, http.StatusCreated)
	for _, name := range []string{"team/app", "team/sub/app", "other/app"} {
		d.push(t, name, blobContent)
	}
	d.push(t, "team/gone", blobContent)
	call(admin, "DELETE", "repositories/team/gone", "", http.StatusOK) // in the trash
	token := d.token(t, lead, "repository:team/app:pull,push")
	if a := d.do(t, token, "GET", "/v2/team/app/tags/list", ""); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}

	a := call(lead, "DELETE", "projects/team", "", http.StatusConflict)
	if !strings.Contains(a.body, "3 of its repositories") || !strings.Contains(a.body, "team/app, team/gone, team/sub/app") || !strings.Contains(a.body, "force") {
		t.Errorf("the refusal does not say what there is: %s", a.body)
	}
	call(maker, "DELETE", "projects/team?force=true", "", http.StatusForbidden)
	call(stranger, "DELETE", "projects/team?force=true", "", http.StatusNotFound)
	call(admin, "DELETE", "projects/absent?force=true", "", http.StatusNotFound)
	call(admin, "DELETE", "projects/library?force=true", "", http.StatusConflict)
	if a := d.do(t, lead, "DELETE", "/api/v1/projects/team?force=true", "", "If-Match", `"77"`); a.status != http.StatusPreconditionFailed {
		t.Errorf("another generation: %d %s", a.status, a.body)
	}
	begun := call(lead, "DELETE", "projects/team?force=true", "", http.StatusAccepted)
	if begun.header.Get("Location") == "" {
		t.Errorf("no place of the job: %v", begun.header)
	}
	d.succeeded(t, admin, begun)
	call(lead, "GET", "projects/team", "", http.StatusNotFound)
	call(admin, "GET", "projects/team", "", http.StatusNotFound)
	if a := call(admin, "GET", "repositories?contains=app", "", http.StatusOK); strings.Contains(a.body, "team/") || !strings.Contains(a.body, "other/app") {
		t.Errorf("repositories: %s", a.body)
	}
	if a := call(admin, "GET", "trash", "", http.StatusOK); strings.Contains(a.body, "team/") {
		t.Errorf("trash: %s", a.body)
	}
	call(admin, "POST", "projects", `{"name":"team"}`, http.StatusCreated)
	d.push(t, "team/app", blobContent)
	if a := d.do(t, token, "GET", "/v2/team/app/tags/list", ""); a.status == http.StatusOK {
		t.Errorf("a token for the project that was deleted reads the new one: %s", a.body)
	}
	call(lead, "GET", "projects/team", "", http.StatusNotFound)
}

// Where nothing may be deleted, a project is not emptied either.
func TestProjectWithContentStaysWhereNothingIsDeleted(t *testing.T) {
	d := start(t, "REGISTRY_STORAGE_DELETE_ENABLED=false")
	d.push(t, "team/app", blobContent)
	a := d.do(t, basic("admin", adminPassword), "DELETE", "/api/v1/projects/team?force=true", "")
	if a.status != http.StatusConflict || !strings.Contains(a.body, "storage.delete.enabled") {
		t.Errorf("%d %s", a.status, a.body)
	}
}
