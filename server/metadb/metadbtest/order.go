package metadbtest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/metadb"
)

// ordered walks a list page by page and returns what names of its rows.
func ordered[T any](t *testing.T, n int, list func(after string, n int) ([]T, error), key, name func(T) string) (all []string) {
	t.Helper()
	after := ""
	for range 100 {
		page, err := list(after, n)
		must(t, err)
		for _, row := range page {
			all = append(all, name(row))
		}
		if len(page) < n {
			return all
		}
		after = key(page[n-1])
	}
	t.Fatal("the list has no end")
	return nil
}

// testOrders: every order of every list, up and down, with pages of several sizes, has each row once and in its place.
func testOrders(t *testing.T, db *metadb.DB) {
	ctx := t.Context()
	made := []string{"m/x", "a/x", "z/x", "c/x", "b/x"}
	var projects []string
	for i, name := range made {
		repositoryIn(t, db, name[:1], true, name)
		projects = append(projects, name[:1])
		update(t, db, func(tx *metadb.Tx) error {
			if _, err := tx.CreateAccount(metadb.Account{Name: "user-" + name[:1]}); err != nil {
				return err
			}
			if _, err := tx.CreateGroup(metadb.Group{Name: "group-" + name[:1]}); err != nil {
				return err
			}
			r, err := tx.CreateRobot(metadb.Robot{Name: "robot-" + name[:1], Project: 7})
			if err != nil || i == 1 { // one was never used
				return err
			}
			return tx.SetRobotUsed(r.ID, time.UnixMicro(int64(100-i/2)), "") // and two at once
		})
	}
	prefixed := func(prefix string, all []string) []string {
		out := slices.Clone(all)
		for i := range out {
			out[i] = prefix + out[i]
		}
		return out
	}
	project := int64(7)
	used := []string{"a", "b", "z", "c", "m"} // a never, b at 98, z and c at 99, m at 100
	for _, down := range []bool{false, true} {
		for _, n := range []int{1, 2, 5, 100} {
			for by, want := range map[metadb.By][]string{metadb.ByName: slices.Sorted(slices.Values(projects)), metadb.ByCreated: slices.Clone(projects), metadb.ByUsed: slices.Clone(used)} {
				if down {
					slices.Reverse(want)
				}
				o := metadb.Order{By: by, Down: down}
				what := fmt.Sprintf("%+v by %d", o, n)
				equal(t, "robots "+what, ordered(t, n, func(after string, n int) ([]metadb.Robot, error) {
					return db.Robots(ctx, metadb.RobotFilter{Project: &project, Order: o}, after, n)
				}, func(r metadb.Robot) string { return o.Key(r.Name, r.ID, r.LastUsedAt) }, func(r metadb.Robot) string { return r.Name }), prefixed("robot-", want))
				if by == metadb.ByUsed {
					continue
				}
				equal(t, "projects "+what, ordered(t, n, func(after string, n int) ([]metadb.Project, error) {
					return db.FindProjects(ctx, metadb.ProjectFilter{Scope: metadb.Scope{All: true}, Order: o}, after, n)
				}, func(p metadb.Project) string { return o.Key(p.Name, p.ID, time.Time{}) }, func(p metadb.Project) string { return p.Name }), want)
				equal(t, "repositories "+what, ordered(t, n, func(after string, n int) ([]metadb.Repository, error) {
					return db.Repositories(ctx, metadb.RepositoryFilter{Scope: metadb.Scope{All: true}, Order: o}, after, n)
				}, func(r metadb.Repository) string { return o.Key(r.Name, r.ID, time.Time{}) }, func(r metadb.Repository) string { return r.Project }), want)
				equal(t, "accounts "+what, ordered(t, n, func(after string, n int) ([]metadb.Account, error) {
					return db.FindAccounts(ctx, metadb.AccountFilter{Order: o}, after, n)
				}, func(a metadb.Account) string { return o.Key(a.Name, a.ID, time.Time{}) }, func(a metadb.Account) string { return a.Name }), prefixed("user-", want))
				equal(t, "groups "+what, ordered(t, n, func(after string, n int) ([]metadb.Group, error) {
					return db.Groups(ctx, metadb.GroupFilter{Order: o}, after, n)
				}, func(g metadb.Group) string { return o.Key(g.Name, g.ID, time.Time{}) }, func(g metadb.Group) string { return g.Name }), prefixed("group-", want))
			}
		}
	}
	for _, o := range []metadb.Order{{By: metadb.ByCreated}, {By: metadb.ByUsed}} {
		if _, err := db.Robots(ctx, metadb.RobotFilter{Order: o}, "robot-a", 1); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v behind a name: %v", o, err)
		}
	}
}

// testTagOrder: tags by name and by when they moved.
func testTagOrder(t *testing.T, db *metadb.DB) {
	repo := repository(t, db, "team/app")
	put := func(content string, tags ...string) {
		d := putTagged(t, db, repo.ID, tags[0], content)
		update(t, db, func(tx *metadb.Tx) error {
			for _, tag := range tags[1:] {
				if _, err := tx.PutTag(repo.ID, tag, d, metadb.Origin{}); err != nil {
					return err
				}
			}
			return nil
		})
		time.Sleep(time.Millisecond) // times are microseconds
	}
	put("one", "m")
	put("one", "m", "b", "a") // at once
	put("one", "z")
	put("two", "m")
	for by, want := range map[metadb.By][]string{metadb.ByName: {"a", "b", "m", "z"}, metadb.ByMoved: {"a", "b", "z", "m"}} {
		for _, down := range []bool{false, true} {
			if down {
				slices.Reverse(want)
			}
			o := metadb.Order{By: by, Down: down}
			for _, n := range []int{1, 3, 4} {
				equal(t, fmt.Sprintf("%+v by %d", o, n), ordered(t, n, func(after string, n int) ([]metadb.ListedTag, error) {
					return db.ListTags(t.Context(), repo.ID, o, after, n)
				}, func(l metadb.ListedTag) string { return o.Key(l.Name, 0, l.UpdatedAt) }, func(l metadb.ListedTag) string { return l.Name }), want)
			}
		}
	}
	if _, err := db.ListTags(t.Context(), repo.ID, metadb.Order{By: metadb.ByMoved}, "17", 1); !fault.Is(err, fault.Invalid) {
		t.Errorf("behind half a key: %v", err)
	}
}
