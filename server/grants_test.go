package server_test

import (
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// TestGrantMatrix sends every route of TestAccessMatrix as an account with each role in a private project, with a password and
// with a token, to repositories of that project, of another private one, of a public one and of one that is not there, and holds
// the statuses to testdata/grants.golden. Whatever the role, a project in which it is not held is like one that is not there.
func TestGrantMatrix(t *testing.T) {
	in := func(g metadb.Grant) []metadb.Grant { return []metadb.Grant{g} }
	cases := map[string][]metadb.Grant{
		"none":         nil,
		"one-pattern":  in(metadb.Grant{Pattern: "team/app", Role: identity.Developer}),
		"other-name":   in(metadb.Grant{Pattern: "team/other", Role: identity.Admin}),
		"denied":       {{Role: identity.Admin}, {Pattern: "team/a*", Verbs: []string{"pull", "delete"}, Deny: true}},
		"denied-lists": {{Role: identity.Maintainer}, {Verbs: []string{"list"}, Deny: true}},
	}
	for _, r := range identity.BuiltinRoles() {
		cases[r.Name] = in(metadb.Grant{Role: r.Name})
	}
	rows := map[string][]string{}
	for name, grants := range cases {
		t.Run(name, func(t *testing.T) {
			data := t.TempDir()
			seed(t, data, grants)
			d := start(t, "BERTH_DATA="+data, "BERTH_ANONYMOUS=pull", "REGISTRY_AUTH_USERS=none")
			d.fill(t)
			d.push(t, "secret/app", blobContent)
			before := d.state(t)
			for _, repository := range []string{"library/app", "team/app", "secret/app", "absent/app"} {
				callers := d.callers(t, repository)
				for _, caller := range []string{"user", "user-token"} {
					key := fmt.Sprintf("%-12s%-11s%s", repository, caller, d.statuses(t, caller, callers[caller], repository))
					rows[key] = append(rows[key], name)
				}
			}
			d.hiddenIsAbsentIn(t, "user", "secret/app")
			d.hiddenIsAbsentIn(t, "user-token", "secret/app")
			if after := d.state(t); after != before {
				t.Errorf("the requests changed the registry\nbefore %s\nafter  %s", before, after)
			}
		})
	}
	var table strings.Builder
	fmt.Fprintf(&table, "%-23s", "")
	for _, r := range requests() {
		table.WriteString(" " + r.column)
	}
	table.WriteString("  roles in team\n")
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		slices.Sort(rows[key])
		fmt.Fprintf(&table, "%s  %s\n", key, strings.Join(rows[key], " "))
	}
	golden(t, filepath.Join("testdata", "grants.golden"), table.String())
}

// seed makes the database of a berthd with the project team, and what alice is granted in it.
func seed(t *testing.T, data string, grants []metadb.Grant) {
	t.Helper()
	db, err := metadb.Open(t.Context(), metadb.Options{Path: filepath.Join(data, "berth.db")})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(t.Context(), func(tx *metadb.Tx) error {
		alice, err := tx.CreateAccount(metadb.Account{Name: "alice", Source: "htpasswd"})
		if err != nil {
			return err
		}
		p, err := tx.CreateProject(metadb.Project{Name: "team"})
		if err != nil {
			return err
		}
		for _, g := range grants {
			g.Subject, g.Project = metadb.Subject{Kind: metadb.AccountSubject, ID: alice.ID}, p.ID
			if _, err := tx.CreateGrant(g); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestApplyIsNotGranted: whoever replaces the configuration makes administrators, so nobody is given that: not by a role, a grant, a
// token, nor by the document itself.
func TestApplyIsNotGranted(t *testing.T) {
	d := start(t, "REGISTRY_AUTH_USERS=none")
	admin := basic("admin", adminPassword)
	for what, r := range map[string][3]string{
		"a role":                {"POST", "roles", `{"name":"deployer","verbs":["export","apply"]}`},
		"a grant":               {"POST", "grants", `{"subject":{"kind":"user","name":"admin"},"verbs":["apply"]}`},
		"a token":               {"POST", "me/tokens", `{"name":"ci","grants":[{"verbs":["apply"]}]}`},
		"the document, a role":  {"PUT", "apply", `{"version":1,"roles":[{"name":"deployer","verbs":["apply"]}]}`},
		"the document, a grant": {"PUT", "apply", `{"version":1,"grants":[{"subject":{"kind":"user","name":"admin"},"verbs":["apply"]}]}`},
	} {
		a := d.do(t, admin, r[0], "/api/v1/"+r[1], r[2], "Content-Type", "application/json")
		if a.status != http.StatusBadRequest || !strings.Contains(a.body, "verb apply cannot be g") {
			t.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
}

// TestFewLoginFailures: a limit below what costs nothing by default has an effect, over the whole way of a login.
func TestFewLoginFailures(t *testing.T) {
	d := start(t, "BERTH_LIMITS_LOGIN_FAILURES=2", "BERTH_LIMITS_LOGIN_PAUSE=1h")
	for i, want := range []int{http.StatusUnauthorized, http.StatusUnauthorized, http.StatusTooManyRequests} {
		if a := d.do(t, basic("admin", fmt.Sprintf("guess-%d", i)), "GET", "/api/v1/me", ""); a.status != want {
			t.Errorf("attempt %d: %d, want %d: %s", i+1, a.status, want, a.body)
		}
	}
}
