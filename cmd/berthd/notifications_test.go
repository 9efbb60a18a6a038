package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

// TestNotifications: an operator looks at an endpoint and has it told again, beside the daemon that tells it, with both
// databases.
func TestNotifications(t *testing.T) {
	for _, name := range []string{"SQLite", "PostgreSQL"} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var ids []string
			receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				var doc struct{ Events []struct{ ID string } }
				b, _ := io.ReadAll(r.Body)
				if json.Unmarshal(b, &doc) == nil && len(doc.Events) == 1 {
					mu.Lock()
					defer mu.Unlock()
					ids = append(ids, doc.Events[0].ID)
				}
			}))
			defer receiver.Close()
			told := func(n int) []string {
				t.Helper()
				for range 2000 {
					mu.Lock()
					got := append([]string{}, ids...)
					mu.Unlock()
					if len(got) >= n {
						return got
					}
					time.Sleep(10 * time.Millisecond)
				}
				t.Fatalf("not told %d times", n)
				return nil
			}
			env := []string{
				"BERTH_ADMIN_PASSWORD=harbour-Wall-7-lantern", "REGISTRY_NOTIFICATIONS_ENDPOINTS_0_NAME=ci",
				"REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL=" + receiver.URL,
			}
			o := testkit.Options{Env: env}
			if name == "PostgreSQL" {
				o.Database = testkit.Postgres(t)
				env = append(env, "BERTH_DATABASE="+o.Database)
			}
			berthd := testkit.Start(t, o)
			c := command{dir: t.TempDir(), env: append(env, "BERTH_DATA="+berthd.Data)}
			for tag := range 3 {
				body := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{"n":"%d"}}`, tag)
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, fmt.Sprintf("%s/v2/team/app/manifests/%d", berthd.URL, tag), strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				req.SetBasicAuth("admin", "harbour-Wall-7-lantern")
				req.Header.Set("Content-Type", "application/vnd.oci.image.index.v1+json")
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusCreated {
					t.Fatalf("push: %s", resp.Status)
				}
			}
			first := told(3)
			status := c.run(t, "notifications", "status")
			if lines := strings.Split(status.stdout, "\n"); status.code != 0 || len(lines) < 2 || strings.Join(strings.Fields(lines[1])[:2], " ") != "ci active" {
				t.Errorf("status: %+v", status)
			}
			if r := c.run(t, "notifications", "status", "--dead", "ci"); r.code != 0 || !strings.HasPrefix(r.stdout, "EVENT") {
				t.Errorf("dead letters: %+v", r)
			}
			if r := c.run(t, "notifications", "replay", "ci", "--from", first[2]); r.code != 0 || !strings.Contains(r.stdout, "ci is told again") {
				t.Errorf("replay: %+v", r)
			}
			if again := told(4); again[3] != first[2] {
				t.Errorf("told again %v, first it was %v", again, first)
			}
			if r := c.run(t, "notifications", "replay", "ci", "--since", "1h"); r.code != 0 {
				t.Errorf("replay of an hour: %+v", r)
			}
			told(7)
			for what, args := range map[string][]string{
				`endpoint "nobody" has never been one`: {"notifications", "replay", "nobody", "--since", "1h"},
				"--since expects a time":               {"notifications", "replay", "ci", "--since", "yesterday"},
				"is not the id of an event":            {"notifications", "replay", "ci", "--from", "x"},
				"at least one of the flags":            {"notifications", "replay", "ci"},
			} {
				if r := c.run(t, args...); r.code == 0 || !strings.Contains(r.stderr, what) {
					t.Errorf("%v: %+v", args, r)
				}
			}
		})
	}
}
