package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// climbers is a registry with people who have some rights and try to get more.
type climbers struct{ *daemon }

const climbPassword = "a-Long-enough-7-secret"

func (c climbers) admin() caller { return basic("admin", adminPassword) }

// api sends a request with a JSON body and expects a status.
func (c climbers) api(t *testing.T, what string, who caller, method, path, body string, want int) answer {
	t.Helper()
	a := c.do(t, who, method, "/api/v1/"+path, body, "Content-Type", "application/json", "If-Match", "*")
	if a.status != want {
		t.Errorf("%s: %s %s %s: %d %s, want %d", what, method, path, body, a.status, a.body, want)
	}
	return a
}

func (c climbers) user(t *testing.T, name string) caller {
	t.Helper()
	c.api(t, "make "+name, c.admin(), "POST", "users", fmt.Sprintf(`{"name":%q,"password":%q}`, name, climbPassword), http.StatusCreated)
	return basic(name, climbPassword)
}

// grants gives a user verbs in the registry.
func (c climbers) grants(t *testing.T, name string, verbs ...string) {
	t.Helper()
	list, _ := json.Marshal(verbs)
	c.api(t, "grant to "+name, c.admin(), "POST", "grants", fmt.Sprintf(`{"subject":{"kind":"user","name":%q},"verbs":%s}`, name, list), http.StatusCreated)
}

func (c climbers) secretOf(t *testing.T, a answer) string {
	t.Helper()
	var made struct{ Secret string }
	if err := json.Unmarshal([]byte(a.body), &made); err != nil || made.Secret == "" {
		t.Fatalf("no secret in %s", a.body)
	}
	return made.Secret
}

// TestEscalation: by no road does anybody get more rights than they have, or free of what is denied to them; and who has the
// rights gives them.
func TestEscalation(t *testing.T) {
	c := climbers{start(t, "BERTH_ANONYMOUS=pull", "REGISTRY_AUTH_USERS=none")}
	admin := c.admin()
	for _, p := range []string{"team", "other"} {
		c.api(t, "project", admin, "POST", "projects", fmt.Sprintf(`{"name":%q}`, p), http.StatusCreated)
		c.push(t, p+"/app", blobContent)
	}
	c.push(t, "team/secret", blobContent)
	anna := c.user(t, "anna")
	c.api(t, "anna", admin, "POST", "projects/team/members", `{"subject":{"kind":"user","name":"anna"},"role":"admin"}`, http.StatusCreated)
	secret := "/v2/team/secret/tags/list"

	t.Run("a denial with a pattern", func(t *testing.T) {
		denial := number(t, c.api(t, "deny", admin, "POST", "projects/team/grants", `{"subject":{"kind":"user","name":"anna"},"pattern":"team/secret","verbs":["pull","push","list"],"deny":true}`, http.StatusCreated))
		c.api(t, "a robot", anna, "POST", "projects/team/robots", `{"name":"r-anna"}`, http.StatusCreated)
		robot := func(pattern string) string {
			return fmt.Sprintf(`{"subject":{"kind":"robot","name":"r-anna"},"pattern":%q,"verbs":["pull"]}`, pattern)
		}
		c.api(t, "of what is denied", anna, "POST", "projects/team/grants", robot("team/secret"), http.StatusForbidden)
		c.api(t, "around what is denied", anna, "POST", "projects/team/grants", robot("team/s*"), http.StatusForbidden)
		c.api(t, "of another", anna, "POST", "projects/team/grants", robot("team/app"), http.StatusCreated)
		c.api(t, "the denial away", anna, "DELETE", fmt.Sprintf("projects/team/grants/%d", denial), "", http.StatusForbidden)
		c.api(t, "the denial changed", anna, "PUT", fmt.Sprintf("projects/team/grants/%d", denial), `{"pattern":"team/none","verbs":["pull"],"deny":true}`, http.StatusForbidden)
		c.api(t, "public, so that everybody reads it", anna, "PATCH", "projects/team", `{"public":true}`, http.StatusForbidden)
		if a := c.do(t, anna, "GET", secret, ""); a.status != http.StatusNotFound {
			t.Errorf("anna reads what is denied to her: %d %s", a.status, a.body)
		}
		c.api(t, "the denial away, by an administrator", admin, "DELETE", fmt.Sprintf("projects/team/grants/%d", denial), "", http.StatusNoContent)
		if a := c.do(t, anna, "GET", secret, ""); a.status != http.StatusOK {
			t.Errorf("%d %s", a.status, a.body)
		}
	})

	t.Run("a narrowed token", func(t *testing.T) {
		boris := c.user(t, "boris")
		made := c.api(t, "token", anna, "POST", "me/tokens", `{"name":"members","grants":[{"repositories":"team/**","verbs":["project.read","member.read","member.write"]}]}`, http.StatusCreated)
		narrow := basic("anna", c.secretOf(t, made))
		c.api(t, "what it cannot do", narrow, "POST", "projects/team/grants", `{"subject":{"kind":"everyone"},"verbs":["pull","push"]}`, http.StatusUnauthorized)
		c.api(t, "what it can", narrow, "POST", "projects/team/grants", `{"subject":{"kind":"user","name":"boris"},"verbs":["project.read","member.read"]}`, http.StatusCreated)
		made = c.api(t, "token", admin, "POST", "me/tokens", `{"name":"roles","grants":[{"verbs":["role.write"]}]}`, http.StatusCreated)
		roles := basic("admin", c.secretOf(t, made))
		c.api(t, "rights of the registry", roles, "POST", "grants", `{"subject":{"kind":"user","name":"boris"},"verbs":["user.write","export","pull","push"]}`, http.StatusUnauthorized)
		c.api(t, "a role of them", roles, "POST", "roles", `{"name":"all","verbs":["export"]}`, http.StatusUnauthorized)
		c.api(t, "its own", roles, "POST", "grants", `{"subject":{"kind":"user","name":"boris"},"verbs":["role.write"]}`, http.StatusCreated)
		if a := c.do(t, boris, "GET", "/v2/team/app/tags/list", ""); a.status != http.StatusNotFound {
			t.Errorf("boris: %d %s", a.status, a.body)
		}
	})

	t.Run("groups", func(t *testing.T) {
		carol := c.user(t, "carol")
		c.grants(t, "carol", "group.read", "group.write", "user.write")
		c.api(t, "ops", carol, "POST", "groups", `{"name":"ops"}`, http.StatusCreated)
		c.api(t, "a harmless group", carol, "PUT", "groups/ops/members/carol", "", http.StatusNoContent)
		c.api(t, "out of it", carol, "DELETE", "groups/ops/members/carol", "", http.StatusNoContent)
		c.api(t, "ops exports", admin, "POST", "grants", `{"subject":{"kind":"group","name":"ops"},"verbs":["export"]}`, http.StatusCreated)
		c.api(t, "into a mighty group", carol, "PUT", "groups/ops/members/carol", "", http.StatusForbidden)
		c.api(t, "the mighty group under the name that a provider says", carol, "PATCH", "groups/ops", `{"name":"everybody"}`, http.StatusForbidden)
		c.api(t, "export", carol, "GET", "export", "", http.StatusForbidden)
		c.api(t, "by an administrator", admin, "PUT", "groups/ops/members/carol", "", http.StatusNoContent)
		c.api(t, "export", carol, "GET", "export", "", http.StatusOK)
		c.api(t, "blocked", admin, "POST", "groups", `{"name":"blocked"}`, http.StatusCreated)
		c.api(t, "blocked exports not", admin, "POST", "grants", `{"subject":{"kind":"group","name":"blocked"},"verbs":["export"],"deny":true}`, http.StatusCreated)
		c.api(t, "carol is blocked", admin, "PUT", "groups/blocked/members/carol", "", http.StatusNoContent)
		c.api(t, "out of the group that bars her", carol, "DELETE", "groups/blocked/members/carol", "", http.StatusForbidden)
		c.api(t, "the group away", carol, "DELETE", "groups/blocked", "", http.StatusForbidden)
		c.api(t, "export", carol, "GET", "export", "", http.StatusForbidden)
	})

	t.Run("passwords", func(t *testing.T) {
		erin := c.user(t, "erin")
		c.user(t, "dave")
		c.user(t, "frank")
		c.grants(t, "erin", "user.read", "user.write")
		c.grants(t, "dave", "role.write", "export", "push")
		c.api(t, "of one who may more", erin, "POST", "users/dave/reset-password", `{}`, http.StatusForbidden)
		c.api(t, "of one who may nothing", erin, "POST", "users/frank/reset-password", `{}`, http.StatusOK)
		c.api(t, "by an administrator", admin, "POST", "users/dave/reset-password", `{}`, http.StatusOK)
		c.api(t, "of an administrator", erin, "POST", "users/admin/reset-password", `{}`, http.StatusForbidden)
	})

	t.Run("roles", func(t *testing.T) {
		grace := c.user(t, "grace")
		c.api(t, "role", admin, "POST", "roles", `{"name":"nopull","verbs":["pull","list"]}`, http.StatusCreated)
		c.grants(t, "grace", "role.read", "role.write", "delete", "pull", "list")
		c.api(t, "grace is denied", admin, "POST", "grants", `{"subject":{"kind":"user","name":"grace"},"pattern":"pub/**","role":"nopull","deny":true}`, http.StatusCreated)
		c.api(t, "the role away", grace, "DELETE", "roles/nopull", "", http.StatusForbidden)
		c.api(t, "the role of something else", grace, "PUT", "roles/nopull", `{"verbs":["delete"]}`, http.StatusForbidden)
		c.api(t, "a role that binds nobody", grace, "POST", "roles", `{"name":"free","verbs":["delete"]}`, http.StatusCreated)
		c.api(t, "it away", grace, "DELETE", "roles/free", "", http.StatusNoContent)
		c.api(t, "by an administrator", admin, "DELETE", "roles/nopull", "", http.StatusNoContent)
	})

	t.Run("robots", func(t *testing.T) {
		henry, lead := c.user(t, "henry"), c.user(t, "lead")
		c.api(t, "robot", admin, "POST", "projects/other/robots", `{"name":"deployer"}`, http.StatusCreated)
		c.api(t, "its role", admin, "POST", "projects/other/members", `{"subject":{"kind":"robot","name":"deployer"},"role":"admin"}`, http.StatusCreated)
		c.api(t, "henry", admin, "POST", "projects/other/grants", `{"subject":{"kind":"user","name":"henry"},"verbs":["project.read","robot.read","robot.write"]}`, http.StatusCreated)
		c.api(t, "lead", admin, "POST", "projects/other/members", `{"subject":{"kind":"user","name":"lead"},"role":"admin"}`, http.StatusCreated)
		c.api(t, "a secret of one that may more", henry, "POST", "projects/other/robots/deployer/rotate", `{}`, http.StatusForbidden)
		c.api(t, "a robot without rights", henry, "POST", "projects/other/robots", `{"name":"idle"}`, http.StatusCreated)
		c.api(t, "its secret", henry, "POST", "projects/other/robots/idle/rotate", `{}`, http.StatusOK)
		made := c.api(t, "by the administrator of the project", lead, "POST", "projects/other/robots/deployer/rotate", `{}`, http.StatusOK)
		c.api(t, "by the robot itself", basic("deployer", c.secretOf(t, made)), "POST", "projects/other/robots/deployer/rotate", `{}`, http.StatusOK)
	})

	t.Run("times", func(t *testing.T) {
		ivy := c.user(t, "ivy")
		until := time.Now().Add(time.Hour).UTC().Truncate(time.Second).Format(time.RFC3339)
		member := c.api(t, "ivy", admin, "POST", "projects/team/members", `{"subject":{"kind":"user","name":"ivy"},"role":"admin","until":"`+until+`"}`, http.StatusCreated)
		c.api(t, "a robot", ivy, "POST", "projects/team/robots", `{"name":"ivybot"}`, http.StatusCreated)
		a := c.api(t, "for ever", ivy, "POST", "projects/team/members", `{"subject":{"kind":"robot","name":"ivybot"},"role":"admin"}`, http.StatusForbidden)
		if !strings.Contains(a.body, until) {
			t.Errorf("the refusal does not say until when: %s", a.body)
		}
		c.api(t, "as long as herself", ivy, "POST", "projects/team/members", `{"subject":{"kind":"robot","name":"ivybot"},"role":"admin","until":"`+until+`"}`, http.StatusCreated)
		c.api(t, "herself for ever", ivy, "PUT", fmt.Sprintf("projects/team/members/%d", number(t, member)), `{"role":"admin"}`, http.StatusForbidden)

		from := time.Now().AddDate(1, 0, 0).UTC().Truncate(time.Second).Format(time.RFC3339)
		later := number(t, c.api(t, "later", admin, "POST", "projects/team/grants", `{"subject":{"kind":"user","name":"boris"},"role":"guest","from":"`+from+`"}`, http.StatusCreated))
		changed := c.api(t, "another role", anna, "PUT", fmt.Sprintf("projects/team/members/%d", later), `{"role":"developer"}`, http.StatusOK)
		if !strings.Contains(changed.body, `"from":"`+from+`"`) || !strings.Contains(changed.body, "developer") {
			t.Errorf("a member who was to begin later: %s", changed.body)
		}
	})
}

// TestRefreshTokenAdministersNothing: a refresh token in the place of the password pulls and pushes, and is good for further tokens
// and for nothing else.
func TestRefreshTokenAdministersNothing(t *testing.T) {
	c := climbers{start(t)}
	c.push(t, "library/app", blobContent)
	form := url.Values{"grant_type": {"password"}, "username": {"admin"}, "password": {adminPassword}, "service": {"berth"}, "access_type": {"offline"}, "client_id": {"test"}}
	a := c.do(t, "", "POST", "/token", form.Encode(), "Content-Type", "application/x-www-form-urlencoded")
	var token struct {
		Refresh string `json:"refresh_token"`
	}
	if err := json.Unmarshal([]byte(a.body), &token); err != nil || token.Refresh == "" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	refresh := basic("admin", token.Refresh)
	c.api(t, "an administrator", refresh, "POST", "users", `{"name":"mallory","admin":true}`, http.StatusUnauthorized)
	c.api(t, "a token without an end", refresh, "POST", "me/tokens", `{"name":"ever"}`, http.StatusForbidden)
	c.api(t, "accounts", refresh, "GET", "users", "", http.StatusUnauthorized)
	c.api(t, "a project", refresh, "POST", "projects", `{"name":"mine"}`, http.StatusUnauthorized)
	c.api(t, "members", refresh, "POST", "projects/library/members", `{"subject":{"kind":"everyone"},"role":"admin"}`, http.StatusUnauthorized)
	session := c.do(t, "", "POST", "/api/v1/sessions", fmt.Sprintf(`{"name":"admin","password":%q}`, token.Refresh), "Content-Type", "application/json")
	if session.status < 400 || session.header.Get("Set-Cookie") != "" {
		t.Errorf("a session: %d %s", session.status, session.body)
	}
	for _, path := range []string{"/v2/", "/v2/library/app/tags/list", "/v2/_catalog", "/token?service=berth&scope=repository:library/app:pull,push"} {
		if a := c.do(t, refresh, "GET", path, ""); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if bearer := c.token(t, refresh, "repository:library/app:pull,push,delete"); c.do(t, bearer, "POST", "/v2/library/app/blobs/uploads/", "").status != http.StatusAccepted {
		t.Error("a token that was had by it does not push")
	}
}
