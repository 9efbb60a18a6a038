package interop_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

const doraPassword = "harbour-Light-5-dora"

// manage asks the management API as the administrator, or as whom is named, and fails the test unless it does what is asked.
func (r *registry) manage(t testing.TB, method, path, body string, as ...string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.URL+"/api/v1/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("admin", password)
	if len(as) == 2 {
		req.SetBasicAuth(as[0], as[1])
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("If-Match", "*")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		t.Fatalf("%s %s: %d %s %v", method, path, resp.StatusCode, text, err)
	}
	return text
}

// ends waits until a name and password are refused.
func (r *registry) ends(t testing.TB, name, password string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.URL+"/token", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth(name, password)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusUnauthorized {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s may still log in: %d", name, resp.StatusCode)
		}
	}
}

func dora(t testing.TB, r *registry, role string) (name, password string) {
	t.Helper()
	r.manage(t, "POST", "users", `{"name":"dora","password":"`+doraPassword+`"}`)
	r.manage(t, "POST", "projects/team/members", `{"subject":{"kind":"user","name":"dora"},"role":"`+role+`"}`)
	return "dora", doraPassword
}

func developer(t testing.TB, r *registry) (name, password string) { return dora(t, r, "developer") }

// lister sees what there is in project team, and may pull nothing.
func lister(t testing.TB, r *registry) (name, password string) {
	r.manage(t, "POST", "roles", `{"name":"lister","verbs":["list","project.read"]}`)
	return dora(t, r, "lister")
}

func disable(t testing.TB, r *registry) { r.manage(t, "PATCH", "users/dora", `{"disabled":true}`) }

func anotherPassword(t testing.TB, r *registry) {
	r.manage(t, "POST", "users/dora/reset-password", `{"password":"another-Light-6-dora"}`)
}

// unlock has the failures of the client before forgotten: the next one shall not be made to wait for them.
func unlock(t testing.TB, r *registry) { r.manage(t, "POST", "users/dora/unlock", "") }

// robot pulls and pushes in project team.
func robot(t testing.TB, r *registry) (name, password string) {
	t.Helper()
	var made struct{ Secret string }
	if err := json.Unmarshal(r.manage(t, "POST", "projects/team/robots", `{"name":"ci"}`), &made); err != nil || made.Secret == "" {
		t.Fatalf("robot: %+v, %v", made, err)
	}
	r.manage(t, "POST", "projects/team/grants", `{"subject":{"kind":"robot","name":"ci"},"verbs":["pull","push"]}`)
	writeFile(t, r.Data+"/ci.secret", []byte(made.Secret))
	return "ci", made.Secret
}

func expire(t testing.TB, r *registry) {
	r.manage(t, "PATCH", "projects/team/robots/ci", fmt.Sprintf(`{"expiresAt":%q}`, time.Now().Add(5*time.Second).UTC().Format(time.RFC3339Nano)))
	r.ends(t, "ci", string(readFile(t, r.Data+"/ci.secret")))
}

// ownToken is a personal access token in the place of a password.
func ownToken(t testing.TB, r *registry) (name, password string) {
	t.Helper()
	name, password = developer(t, r)
	var made struct{ Secret string }
	if err := json.Unmarshal(r.manage(t, "POST", "me/tokens", `{"name":"laptop"}`, name, password), &made); err != nil || made.Secret == "" {
		t.Fatalf("token: %+v, %v", made, err)
	}
	return name, made.Secret
}

func revoke(t testing.TB, r *registry) {
	t.Helper()
	var list struct{ Items []struct{ ID int64 } }
	if err := json.Unmarshal(r.manage(t, "GET", "tokens?user=dora", ""), &list); err != nil || len(list.Items) != 1 {
		t.Fatalf("tokens: %+v, %v", list, err)
	}
	r.manage(t, "DELETE", fmt.Sprintf("tokens/%d", list.Items[0].ID), "")
}

// guess tries passwords of the administrator until nobody is heard for a while.
func guess(t testing.TB, r *registry) {
	t.Helper()
	for i := range 10 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.URL+"/token", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("admin", fmt.Sprint("guess ", i))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusTooManyRequests {
			return
		}
	}
	t.Fatal("ten guesses are heard")
}
