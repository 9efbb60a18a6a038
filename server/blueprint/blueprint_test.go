package blueprint_test

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/server/access"
	"github.com/berth-registry/berth/server/blueprint"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/metadb/metadbtest"
)

// both runs a test on both databases, each with an administrator and the project library, as berthd has them.
func both(t *testing.T, test func(t *testing.T, db *metadb.DB, s *blueprint.Service)) {
	for name, url := range map[string]func(testing.TB) string{"sqlite": func(testing.TB) string { return "" }, "postgres": testkit.Postgres} {
		t.Run(name, func(t *testing.T) {
			db, err := metadb.Open(t.Context(), metadb.Options{URL: url(t), Path: metadbtest.File(t)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = db.Close() })
			err = db.Update(t.Context(), func(tx *metadb.Tx) error {
				if _, err := tx.PutAccount(metadb.Account{Name: "admin", PasswordHash: "x", Admin: true}); err != nil {
					return err
				}
				_, _, err := tx.EnsureProject("library", false)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			test(t, db, blueprint.New(blueprint.Options{
				DB: db, Access: access.New(access.Options{}), CheckIssuer: func(config []byte) error { return json.Unmarshal(config, &struct{}{}) },
				TrustIssuer: func(context.Context, []byte, []byte) error { return nil },
			}))
		})
	}
}

func administrator(t *testing.T) context.Context {
	return identity.With(t.Context(), identity.Principal{Kind: identity.User, Name: "admin", Admin: true})
}

const whole = `{"version":1,
"roles":[{"name":"promoter","description":"moves tags","verbs":["pull","push","restore"]}],
"groups":[{"name":"Team One","description":"the first","members":["alice","bob"]},{"name":"empty"}],
"users":[{"name":"admin","admin":true},{"name":"alice","displayName":"Alice","email":"alice@example.com"},{"name":"bob","disabled":true,"expiresAt":"2031-01-02T03:04:05.000006Z"},{"name":"carol","source":"corp","auditor":true}],
"projects":[{"name":"library"},{"name":"team","public":true,"description":"ours","labels":{"cost":"42"}}],
"robots":[{"name":"ci","project":"team","description":"builds","expiresAt":"2031-01-02T03:04:05Z"},{"name":"mirror","disabled":true}],
"grants":[
 {"subject":{"kind":"everyone"},"pattern":"open/**","verbs":["pull"]},
 {"subject":{"kind":"group","name":"Team One"},"project":"team","role":"developer"},
 {"subject":{"kind":"robot","name":"ci"},"project":"team","pattern":"team/app-*","role":"promoter","until":"2031-01-02T03:04:05Z"},
 {"subject":{"kind":"user","name":"bob"},"project":"team","verbs":["push"],"deny":true,"from":"2026-01-02T03:04:05Z"}],
"issuers":[{"name":"forge","enabled":true,"config":{"audiences":["berth"],"issuer":"https://forge.example.com","rules":[]}}]}`

func parse(t *testing.T, text string) (d blueprint.Document) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		t.Fatal(err)
	}
	return d
}

func text(t *testing.T, d blueprint.Document) string {
	t.Helper()
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What was exported makes, of an empty registry, one from which the same is exported.
func TestThereAndBack(t *testing.T) {
	both(t, func(t *testing.T, db *metadb.DB, s *blueprint.Service) {
		ctx := administrator(t)
		export := func() blueprint.Document {
			t.Helper()
			d, err := s.Export(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		apply := func(d blueprint.Document, ask blueprint.Ask) []blueprint.Change {
			t.Helper()
			changes, err := s.Apply(ctx, d, ask)
			if err != nil {
				t.Fatal(err)
			}
			return changes
		}
		empty := export()
		plan := apply(parse(t, whole), blueprint.Ask{DryRun: true, Prune: true})
		if got := text(t, export()); got != text(t, empty) {
			t.Fatalf("a plan has changed something: %s", got)
		}
		if len(plan) < 14 {
			t.Fatalf("plan: %+v", plan)
		}
		done := apply(parse(t, whole), blueprint.Ask{})
		if !reflect.DeepEqual(plan, done) {
			t.Errorf("planned %+v\ndone    %+v", plan, done)
		}
		first := export()
		if again := apply(first, blueprint.Ask{Prune: true}); len(again) != 0 {
			t.Errorf("what is so already was changed: %+v", again)
		}
		if apply(empty, blueprint.Ask{}); text(t, export()) != text(t, first) {
			t.Error("without prune, something went")
		}
		if gone := apply(empty, blueprint.Ask{Prune: true}); text(t, export()) != text(t, empty) {
			t.Fatalf("wiped by %+v: %s", gone, text(t, export()))
		}
		apply(first, blueprint.Ask{})
		if second := export(); text(t, second) != text(t, first) {
			t.Errorf("first  %s\nsecond %s", text(t, first), text(t, second))
		}
		if members := len(first.Groups[0].Members) + len(first.Groups[1].Members); members != 2 || len(first.Grants) != 4 || len(first.Issuers) != 1 {
			t.Errorf("exported %s", text(t, first))
		}
		if a, err := db.Account(ctx, "admin"); err != nil || a.PasswordHash != "x" {
			t.Errorf("the administrator's password: %+v %v", a, err)
		}
	})
}

// A document that cannot be applied changes nothing.
func TestRefused(t *testing.T) {
	both(t, func(t *testing.T, db *metadb.DB, s *blueprint.Service) {
		ctx := administrator(t)
		if _, err := s.Apply(ctx, parse(t, whole), blueprint.Ask{}); err != nil {
			t.Fatal(err)
		}
		before, err := s.Export(ctx)
		if err != nil {
			t.Fatal(err)
		}
		repo := func(tx *metadb.Tx) error {
			p, err := tx.Project(ctx, "team")
			if err != nil {
				return err
			}
			_, err = tx.EnsureRepository(p.ID, "team/app")
			return err
		}
		if err := db.Update(ctx, repo); err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct {
			name, document string
			prune          bool
			kind           fault.Kind
		}{
			{"another version", `{"version":2}`, false, fault.Invalid},
			{"a name twice", `{"version":1,"projects":[{"name":"a"},{"name":"a"}]}`, false, fault.Invalid},
			{"a project with a slash", `{"version":1,"projects":[{"name":"a/b"}]}`, false, fault.Invalid},
			{"a role that every registry has", `{"version":1,"roles":[{"name":"guest","verbs":["pull"]}]}`, false, fault.Invalid},
			{"a verb that nobody knows", `{"version":1,"roles":[{"name":"r","verbs":["fly"]}]}`, false, fault.Invalid},
			{"a member without account", `{"version":1,"groups":[{"name":"g","members":["nobody-here"]}]}`, false, fault.Invalid},
			{"a robot of no project", `{"version":1,"robots":[{"name":"r","project":"none"}]}`, false, fault.Invalid},
			{"a robot that moves", `{"version":1,"robots":[{"name":"ci"}]}`, false, fault.Conflict},
			{"a robot with a person's name", `{"version":1,"robots":[{"name":"alice"}]}`, false, fault.Conflict},
			{"a grant for nobody", `{"version":1,"grants":[{"subject":{"kind":"user","name":"dave"},"role":"guest"}]}`, false, fault.Invalid},
			{"a grant of no role", `{"version":1,"grants":[{"subject":{"kind":"everyone"},"role":"none"}]}`, false, fault.Invalid},
			{"a grant of role and verbs", `{"version":1,"grants":[{"subject":{"kind":"everyone"},"role":"guest","verbs":["pull"]}]}`, false, fault.Invalid},
			{"a grant with a pattern that is none", `{"version":1,"grants":[{"subject":{"kind":"everyone"},"role":"guest","pattern":"A/**"}]}`, false, fault.Invalid},
			{"a grant for who is pruned", `{"version":1,"users":[{"name":"admin","admin":true}],"grants":[{"subject":{"kind":"user","name":"bob"},"role":"guest"}]}`, true, fault.Invalid},
			{"no administrator", `{"version":1,"users":[{"name":"admin","admin":false}]}`, false, fault.Conflict},
			{"without the caller", `{"version":1,"users":[{"name":"root","admin":true}],"projects":[{"name":"library"}]}`, true, fault.Conflict},
			{"something good, then something bad", `{"version":1,"projects":[{"name":"fresh"}],"robots":[{"name":"ci"}]}`, false, fault.Conflict},
		} {
			_, err := s.Apply(ctx, parse(t, test.document), blueprint.Ask{Prune: test.prune})
			if !fault.Is(err, test.kind) {
				t.Errorf("%s: %v", test.name, err)
			}
			after, err := s.Export(ctx)
			if err != nil || text(t, after) != text(t, before) {
				t.Fatalf("%s has changed something: %v %s", test.name, err, text(t, after))
			}
		}
	})
}

// Who is no administrator neither reads nor writes.
func TestAsksFirst(t *testing.T) {
	s := blueprint.New(blueprint.Options{Access: access.New(access.Options{})})
	for _, p := range []identity.Principal{{}, {Kind: identity.Anonymous}, {Kind: identity.User, Name: "alice"}, {Kind: identity.User, Name: "admin", Admin: true, Grants: &identity.Grants{}}} {
		ctx := identity.With(t.Context(), p)
		if _, err := s.Export(ctx); !fault.Is(err, fault.Denied) && !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("export as %+v: %v", p, err)
		}
		if _, err := s.Apply(ctx, blueprint.Document{}, blueprint.Ask{}); !fault.Is(err, fault.Denied) && !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("apply as %+v: %v", p, err)
		}
	}
}

// With prune, what goes makes room for what comes, also where names of accounts and robots are one space; and what a document
// keeps cannot be about what it lets go.
func TestPruneMakesRoom(t *testing.T) {
	both(t, func(t *testing.T, db *metadb.DB, s *blueprint.Service) {
		ctx := administrator(t)
		apply := func(text string, prune bool) ([]blueprint.Change, error) {
			t.Helper()
			var d blueprint.Document
			if err := json.Unmarshal([]byte(text), &d); err != nil {
				t.Fatal(err)
			}
			return s.Apply(ctx, d, blueprint.Ask{Prune: prune})
		}
		const base = `{"version":1,"users":[{"name":"admin","admin":true}%s],"projects":[{"name":"library"}]%s}`
		text := func(users, rest string) string { return fmt.Sprintf(base, users, rest) }
		robot := text("", `,"robots":[{"name":"alice"}],"roles":[{"name":"r","verbs":["pull"]}],"grants":[{"subject":{"kind":"robot","name":"alice"},"role":"r"}]`)
		user := text(`,{"name":"alice"}`, `,"groups":[{"name":"g","members":["alice"]}]`)
		for i, doc := range []string{robot, user, robot} {
			if _, err := apply(doc, true); err != nil {
				t.Fatalf("%d: %v", i, err)
			}
			var want blueprint.Document
			if err := json.Unmarshal([]byte(doc), &want); err != nil {
				t.Fatal(err)
			}
			got, err := s.Export(ctx)
			if err != nil || len(got.Users) != len(want.Users) || len(got.Robots) != len(want.Robots) || len(got.Groups) != len(want.Groups) || len(got.Grants) != len(want.Grants) {
				t.Errorf("%d: %+v, %v; want %+v", i, got, err, want)
			}
		}
		for name, doc := range map[string]string{
			"a grant of a role that goes":    text("", `,"robots":[{"name":"alice"}],"grants":[{"subject":{"kind":"robot","name":"alice"},"role":"r"}]`),
			"a grant for a robot that goes":  text("", `,"roles":[{"name":"r","verbs":["pull"]}],"grants":[{"subject":{"kind":"robot","name":"alice"},"role":"r"}]`),
			"a group of who is not there":    text("", `,"groups":[{"name":"g","members":["alice"]}]`),
			"a robot of a project that goes": text("", `,"robots":[{"name":"x","project":"gone"}]`),
		} {
			if _, err := apply(doc, true); !fault.Is(err, fault.Invalid) || fault.Of(err).Field == "" {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// What a provider calls people comes back from a document as it went out.
func TestNamesOfProviders(t *testing.T) {
	both(t, func(t *testing.T, db *metadb.DB, s *blueprint.Service) {
		ctx := administrator(t)
		if err := db.Update(ctx, func(tx *metadb.Tx) error {
			for _, a := range []metadb.Account{{Name: "Jane Doe", Source: "corp"}, {Name: "CORP/jane", Source: "corp"}, {Name: "Admin", PasswordHash: "x"}} {
				if _, err := tx.CreateAccount(a); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		before, err := s.Export(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Update(ctx, func(tx *metadb.Tx) error {
			for _, name := range []string{"Jane Doe", "CORP/jane", "Admin"} {
				if _, err := tx.DeleteAccount(name); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if changes, err := s.Apply(ctx, before, blueprint.Ask{}); err != nil || len(changes) != 3 {
			t.Fatalf("%+v, %v", changes, err)
		}
		if after, err := s.Export(ctx); err != nil || !reflect.DeepEqual(after, before) {
			t.Errorf("%+v, %v; want %+v", after, err, before)
		}
	})
}
