package metadbtest

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/berth-registry/berth/oci/ref"
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
	equal(t, "all", repositoryNames(t, db, metadb.Scope{All: true}, "", 10), []string{"open/app", "team/app"})
	equal(t, "public", repositoryNames(t, db, metadb.Scope{Public: true}, "", 10), []string{"open/app"})
	update(t, db, func(tx *metadb.Tx) error { return tx.SetListed(r.ID, false) })
	equal(t, "listed", repositoryNames(t, db, metadb.Scope{All: true}, "", 10), []string{"open/app"})
	err = db.Update(ctx, func(tx *metadb.Tx) error { _, err := tx.EnsureRepository(1<<40, "x/y"); return err })
	if err == nil {
		t.Fatal("a repository without its project was made")
	}
}

func repositoryNames(t testing.TB, db *metadb.DB, scope metadb.Scope, after string, limit int) []string {
	t.Helper()
	return names(get[[]metadb.Repository](t)(db.Repositories(t.Context(), metadb.RepositoryFilter{Scope: scope}, after, limit)), func(r metadb.Repository) string { return r.Name })
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
				return db.RepositoryNames(ctx, after, limit)
			},
			"public repositories": func(after string) ([]string, error) {
				return repositoryNames(t, db, metadb.Scope{Public: true}, after, limit), nil
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
	equal(t, "contains", names(db.Repositories(ctx, metadb.RepositoryFilter{Scope: metadb.Scope{All: true}, Contains: "WEB"}, "", 10)), []string{"secret/web", "tools/web", "web/front_end", "web/frontxend"})
	equal(t, "public", names(db.Repositories(ctx, metadb.RepositoryFilter{Scope: metadb.Scope{Public: true}, Contains: "web"}, "", 10)), []string{"tools/web", "web/front_end", "web/frontxend"})
	equal(t, "limit", names(db.Repositories(ctx, metadb.RepositoryFilter{Scope: metadb.Scope{Public: true}, Contains: "web"}, "", 1)), []string{"tools/web"})
	equal(t, "underscore is itself", names(db.Repositories(ctx, metadb.RepositoryFilter{Scope: metadb.Scope{Public: true}, Contains: "t_e"}, "", 10)), []string{"web/front_end"})
	equal(t, "percent is itself", names(db.Repositories(ctx, metadb.RepositoryFilter{Scope: metadb.Scope{Public: true}, Contains: "%"}, "", 10)), []string(nil))
	equal(t, "backslash is itself", names(db.Repositories(ctx, metadb.RepositoryFilter{Scope: metadb.Scope{Public: true}, Contains: `\`}, "", 10)), []string(nil))
}

// testPatterns: a list of what patterns fit leaves nothing out that they fit, and need not read the rest.
func testPatterns(t *testing.T, db *metadb.DB) {
	all := []string{"app", "a_b/app", "axb/app", "team/app", "team/app-1", "team/sub/app", "team/sub/deep/app", "tea/m", "other/team/app", "other/x"}
	for _, n := range all {
		repositoryIn(t, db, "p", false, n)
	}
	for pattern, rest := range map[string][]string{
		"**": nil, "*": nil, "tea*/**": {"app", "other/x", "axb/app"}, "**/app": {"team/app-1", "other/x"}, "team/**/app": {"other/x", "tea/m"},
		"*/app-*": {"team/app", "other/x"}, "a_*/app": {"axb/app", "app"}, "t*/sub/*": {"team/app", "other/team/app"}, "app": {"team/app"},
	} {
		p, err := ref.ParsePattern(pattern)
		must(t, err)
		listed := repositoryNames(t, db, metadb.Scope{Patterns: []ref.Pattern{p}}, "", 100)
		for _, n := range all {
			if p.MatchText(n) && !slices.Contains(listed, n) {
				t.Errorf("%s fits %s, which is not listed", pattern, n)
			}
		}
		for _, n := range rest {
			if slices.Contains(listed, n) {
				t.Errorf("%s lists %s", pattern, n)
			}
		}
	}
	one, err := ref.ParsePattern("te*/m")
	must(t, err)
	two, err := ref.ParsePattern("oth*/x")
	must(t, err)
	equal(t, "several", repositoryNames(t, db, metadb.Scope{Patterns: []ref.Pattern{one, two}}, "", 100), []string{"other/x", "tea/m"})
	open := repositoryIn(t, db, "open", true, "open/app")
	secret := repositoryIn(t, db, "secret", false, "secret/app")
	equal(t, "with public ones", repositoryNames(t, db, metadb.Scope{Patterns: []ref.Pattern{one}, Public: true}, "", 100), []string{open.Name, "tea/m"})
	equal(t, "with one project", repositoryNames(t, db, metadb.Scope{Patterns: []ref.Pattern{one}, IDs: []int64{secret.ProjectID}}, "", 100), []string{secret.Name, "tea/m"})
	equal(t, "behind a name", repositoryNames(t, db, metadb.Scope{Patterns: []ref.Pattern{one, two}}, "p", 100), []string{"tea/m"})
}
