package metadbtest

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/berth-registry/berth/server/metadb"
)

func testProjects(t *testing.T, db *metadb.DB) {
	_, err := db.Project(t.Context(), "a")
	wantErr(t, "missing project", err, metadb.ErrNotFound)
	var first metadb.Project
	update(t, db, func(tx *metadb.Tx) error {
		p, created, err := tx.EnsureProject("a", true)
		first = p
		if err == nil && !created {
			t.Error("a new project is not reported as created")
		}
		return err
	})
	update(t, db, func(tx *metadb.Tx) error {
		p, created, err := tx.EnsureProject("a", false)
		if created || !reflect.DeepEqual(p, first) {
			t.Errorf("the second time: got %v created=%v, want %v", p, created, first)
		}
		return err
	})
	equal(t, "project", get[metadb.Project](t)(db.Project(t.Context(), "a")), first)
	if first.ID == 0 || !first.Public || first.CreatedAt.IsZero() {
		t.Fatalf("project is incomplete: %+v", first)
	}
	update(t, db, func(tx *metadb.Tx) error { return tx.SetPublic(first.ID, false) })
	equal(t, "public", get[metadb.Project](t)(db.Project(t.Context(), "a")).Public, false)
	wantErr(t, "visibility of nothing", db.Update(t.Context(), func(tx *metadb.Tx) error { return tx.SetPublic(first.ID+1, false) }), metadb.ErrNotFound)
}

func testRepositories(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	_, err := db.Repository(ctx, "team/app")
	wantErr(t, "missing repository", err, metadb.ErrNotFound)
	r := repositoryIn(t, db, "team", false, "team/app")
	got := get[metadb.Repository](t)(db.Repository(ctx, "team/app"))
	if got.ID != r.ID || got.Project != "team" || got.Public || !got.Listed || got.Name != "team/app" || got.ProjectID != r.ProjectID || got.CreatedAt.IsZero() {
		t.Fatalf("repository: %+v", got)
	}
	if again := repositoryIn(t, db, "team", true, "team/app"); again.ID != r.ID || again.Public {
		t.Fatalf("ensured again: %+v", again)
	}
	repository(t, db, "open/app")
	equal(t, "all", get[[]string](t)(db.Repositories(ctx, metadb.ListFilter{Limit: 10})), []string{"open/app", "team/app"})
	equal(t, "public", get[[]string](t)(db.Repositories(ctx, metadb.ListFilter{Limit: 10, PublicOnly: true})), []string{"open/app"})
	update(t, db, func(tx *metadb.Tx) error { return tx.SetListed(r.ID, false) })
	equal(t, "listed", get[[]string](t)(db.Repositories(ctx, metadb.ListFilter{Limit: 10})), []string{"open/app"})
	err = db.Update(ctx, func(tx *metadb.Tx) error { _, err := tx.EnsureRepository(1<<40, "x/y"); return err })
	if err == nil {
		t.Fatal("a repository without its project was made")
	}
}

// bytewise is in the order of bytes, which is no language's order.
var bytewise = []string{"A", "B.1", "B_", "_", "a", "a-b", "a.b", "a/b", "a0", "a_b", "aa", "b"}

func testKeyset(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	if !slices.IsSorted(bytewise) {
		t.Fatal("the test's own list is not sorted by bytes")
	}
	r := repository(t, db, "keyset/tags")
	update(t, db, func(tx *metadb.Tx) error { return tx.SetListed(r.ID, false) })
	for i := range bytewise { // put in another order than they are listed in
		name := bytewise[(i*7)%len(bytewise)]
		repository(t, db, name)
		putTagged(t, db, r.ID, name, "content")
	}
	for limit := 1; limit <= len(bytewise)+1; limit++ {
		for what, page := range map[string]func(after string) ([]string, error){
			"repositories": func(after string) ([]string, error) {
				return db.Repositories(ctx, metadb.ListFilter{After: after, Limit: limit})
			},
			"public repositories": func(after string) ([]string, error) {
				return db.Repositories(ctx, metadb.ListFilter{After: after, Limit: limit, PublicOnly: true})
			},
			"tags": func(after string) ([]string, error) { return db.Tags(ctx, r.ID, after, limit) },
		} {
			var all []string
			for after := ""; ; after = all[len(all)-1] {
				names := get[[]string](t)(page(after))
				if len(names) > limit {
					t.Fatalf("%s: %d names with limit %d", what, len(names), limit)
				}
				if len(names) == 0 {
					break
				}
				all = append(all, names...)
			}
			equal(t, fmt.Sprintf("%s by %d", what, limit), all, bytewise)
		}
	}
	equal(t, "tags of a manifest", get[[]string](t)(db.TagsOf(ctx, r.ID, digestOf("content"))), bytewise)
}

func testSearch(t *testing.T, db *metadb.DB) {
	names := func(rs []metadb.Repository, err error) []string {
		t.Helper()
		must(t, err)
		var out []string
		for _, r := range rs {
			out = append(out, r.Name)
		}
		return out
	}
	for _, n := range []string{"web/front_end", "web/frontxend", "tools/web"} {
		repository(t, db, n)
	}
	repositoryIn(t, db, "secret", false, "secret/web")
	ctx := t.Context()
	equal(t, "contains", names(db.SearchRepositories(ctx, "WEB", 10, false)), []string{"secret/web", "tools/web", "web/front_end", "web/frontxend"})
	equal(t, "public", names(db.SearchRepositories(ctx, "web", 10, true)), []string{"tools/web", "web/front_end", "web/frontxend"})
	equal(t, "limit", names(db.SearchRepositories(ctx, "web", 1, true)), []string{"tools/web"})
	equal(t, "underscore is itself", names(db.SearchRepositories(ctx, "t_e", 10, true)), []string{"web/front_end"})
	equal(t, "percent is itself", names(db.SearchRepositories(ctx, "%", 10, true)), []string(nil))
	equal(t, "backslash is itself", names(db.SearchRepositories(ctx, `\`, 10, true)), []string(nil))
}
