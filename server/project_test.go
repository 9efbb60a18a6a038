package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
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
