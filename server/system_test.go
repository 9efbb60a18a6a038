package server_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What berthd is and how it is configured is for administrators and auditors, with the origin of each value and no secret.
func TestSystem(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config.yml")
	if err := os.WriteFile(config, []byte("version: 0.1\nstorage:\n  maintenance:\n    readonly: {enabled: true}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := startFile(t, config)
	admin, alice := basic("admin", adminPassword), basic("alice", alicePassword)
	get := func(who caller, path string, into any) answer {
		t.Helper()
		a := d.do(t, who, "GET", "/api/v1/"+path, "")
		if a.status == http.StatusOK {
			if err := json.Unmarshal([]byte(a.body), into); err != nil {
				t.Fatal(err)
			}
		}
		return a
	}
	type setting struct {
		Name, Source, Origin string
		Value                any
		Set, Secret          bool
	}
	var list struct {
		Items []setting
		Next  string
	}
	all, text := map[string]setting{}, ""
	for after := ""; ; after = "&after=" + list.Next {
		list.Items, list.Next = nil, ""
		a := get(admin, "settings?limit=70"+after, &list)
		if a.status != http.StatusOK {
			t.Fatalf("%d %s", a.status, a.body)
		}
		text += a.body
		for _, s := range list.Items {
			if _, twice := all[s.Name]; twice {
				t.Errorf("%s is on two pages", s.Name)
			}
			all[s.Name] = s
		}
		if list.Next == "" {
			break
		}
	}
	if len(all) < 100 || strings.Contains(text, adminPassword) {
		t.Errorf("%d settings: %s", len(all), text)
	}
	if s := all["berth.admin.password"]; s.Value != nil || !s.Set || !s.Secret || s.Source != "env" || s.Origin != "BERTH_ADMIN_PASSWORD" {
		t.Errorf("%+v", s)
	}
	if s := all["storage.maintenance.readonly.enabled"]; s.Value != true || s.Source != "file" || s.Origin != config+":4:25" {
		t.Errorf("%+v", s)
	}
	if a := get(admin, "settings?below=storage.maintenance&source=file&fields=name", &list); a.body != `{"items":[{"name":"storage.maintenance.readonly.enabled"}]}`+"\n" {
		t.Errorf("%s", a.body)
	}
	var info struct {
		Database, Storage string
		ReadOnly          bool
		StartedAt         string
		Features          map[string]bool
		Migrations        []struct{ Name, AppliedAt string }
	}
	if a := get(admin, "system", &info); info.Database != "sqlite" || info.Storage != "filesystem" || !info.ReadOnly || info.StartedAt == "" || !info.Features["journal"] || len(info.Migrations) < 10 || info.Migrations[0].Name != "create_registry" || info.Migrations[9].AppliedAt == "" {
		t.Errorf("%s", a.body)
	}
	var health struct {
		OK     bool
		Checks []struct {
			Name, CheckedAt string
			OK              bool
		}
	}
	if a := get(admin, "health", &health); !health.OK || len(health.Checks) != 2 || health.Checks[0].Name != "database" || !health.Checks[1].OK {
		t.Errorf("%s", a.body)
	}
	auditor := func() {
		t.Helper()
		if a := d.do(t, admin, "PATCH", "/api/v1/users/alice", `{"auditor":true}`, "Content-Type", "application/json", "If-Match", "*"); a.status != http.StatusOK {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	for _, path := range []string{"settings", "system", "health"} {
		if a := get(alice, path, &struct{}{}); a.status != http.StatusForbidden {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	auditor()
	for _, path := range []string{"settings", "system", "health"} {
		if a := get(alice, path, &struct{}{}); a.status != http.StatusOK {
			t.Errorf("%s, auditor: %d %s", path, a.status, a.body)
		}
	}
}
