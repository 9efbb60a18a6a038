package project_test

import (
	"context"
	"errors"
	"path"
	"sync"
	"testing"

	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/metadb/metadbtest"
	"github.com/berth-registry/berth/server/project"
)

func open(t *testing.T, url string) *metadb.DB {
	t.Helper()
	db, err := metadb.Open(t.Context(), metadb.Options{URL: url, Path: metadbtest.File(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func service(t *testing.T, o project.DirectoryOptions) *project.Directory {
	t.Helper()
	s, err := project.NewDirectory(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func name(t *testing.T, s string) ref.Name {
	t.Helper()
	n, err := ref.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func as(kind identity.Kind) context.Context {
	return identity.With(context.Background(), identity.Principal{Kind: kind, Name: "alice"})
}

// ensure makes the project of a repository as a push of the caller would.
func ensure(ctx context.Context, db *metadb.DB, s *project.Directory, n ref.Name) (id int64, err error) {
	err = db.Update(ctx, func(tx *metadb.Tx) error {
		id, err = s.Ensure(ctx, tx, n)
		return err
	})
	return id, err
}

func TestLibraryIsThere(t *testing.T) {
	db := open(t, "")
	s := service(t, project.DirectoryOptions{DB: db})
	if id, public, err := s.Lookup(t.Context(), "library"); id == 0 || !public || err != nil {
		t.Errorf("%v, %v, %v", id, public, err)
	}
	// What an administrator decided about it stays, at the next start.
	p, err := db.Project(t.Context(), "library")
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(t.Context(), func(tx *metadb.Tx) error { return tx.SetPublic(p.ID, false) }); err != nil {
		t.Fatal(err)
	}
	if id, public, err := service(t, project.DirectoryOptions{DB: db}).Lookup(t.Context(), "library"); id == 0 || public || err != nil {
		t.Errorf("after a restart: %v, %v, %v", id, public, err)
	}
}

func TestEnsure(t *testing.T) {
	for _, test := range []struct {
		repository    string
		by            identity.Kind
		defaultPublic bool
		want          bool
	}{
		{"team/app", identity.User, false, false},
		{"team/app", identity.User, true, true},
		{"team/app", identity.Anonymous, false, true}, // what everybody pushes, everybody can pull
		{"team/app", identity.System, false, false},
		{"open-team/app", identity.User, false, true}, // by the pattern
		{"reopen-team/app", identity.User, false, false},
		{"app", identity.User, false, true}, // library is there already
	} {
		db := open(t, "")
		s := service(t, project.DirectoryOptions{DB: db, DefaultPublic: test.defaultPublic, Public: []string{"open-*", "demo"}})
		n := name(t, test.repository)
		if id, _, err := s.Lookup(t.Context(), n.Project()); err != nil || (id != 0) != (n.Project() == "library") {
			t.Errorf("%+v: %d before, %v", test, id, err)
		}
		id, err := ensure(as(test.by), db, s, n)
		if err != nil {
			t.Fatal(err)
		}
		if number, public, err := s.Lookup(t.Context(), n.Project()); err != nil || number != id || public != test.want {
			t.Errorf("%+v: %v, %v, %v", test, number, public, err)
		}
		// The next push finds it as it is, whoever pushes.
		again, err := ensure(as(identity.Anonymous), db, s, n)
		if err != nil || again != id {
			t.Errorf("%+v: %d, then %d, %v", test, id, again, err)
		}
		if p, err := db.Project(t.Context(), n.Project()); err != nil || p.Public != test.want {
			t.Errorf("%+v: a second push changed it: %+v, %v", test, p, err)
		}
	}
}

// A transaction that fails leaves no project, and none is remembered.
func TestEnsureRollsBack(t *testing.T) {
	db := open(t, "")
	s := service(t, project.DirectoryOptions{DB: db})
	boom := errors.New("boom")
	err := db.Update(t.Context(), func(tx *metadb.Tx) error {
		if _, err := s.Ensure(as(identity.User), tx, name(t, "team/app")); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatal(err)
	}
	if id, _, err := s.Lookup(t.Context(), "team"); id != 0 || err != nil {
		t.Errorf("%v, %v", id, err)
	}
}

// Many first pushes at once make one project.
func TestEnsureAtOnce(t *testing.T) {
	databases := map[string]func(t *testing.T) string{"sqlite": func(*testing.T) string { return "" }}
	if !testing.Short() {
		databases["postgres"] = func(t *testing.T) string { return metadbtest.Postgres(t) }
	}
	for which, url := range databases {
		t.Run(which, func(t *testing.T) {
			db := open(t, url(t))
			s := service(t, project.DirectoryOptions{DB: db})
			ids := make([]int64, 16)
			var wg sync.WaitGroup
			for i := range ids {
				wg.Go(func() {
					var err error
					if ids[i], err = ensure(as(identity.User), db, s, name(t, "team/app")); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			for _, id := range ids {
				if id != ids[0] || id == 0 {
					t.Fatalf("ids %v", ids)
				}
			}
		})
	}
}

func TestBadPattern(t *testing.T) {
	if _, err := project.NewDirectory(t.Context(), project.DirectoryOptions{DB: open(t, ""), Public: []string{"a["}}); !errors.Is(err, path.ErrBadPattern) {
		t.Errorf("%v", err)
	}
}

func TestDatabaseFails(t *testing.T) {
	db := open(t, "")
	s := service(t, project.DirectoryOptions{DB: db})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if id, public, err := s.Lookup(t.Context(), "team"); err == nil || id != 0 || public {
		t.Errorf("%v, %v, %v", id, public, err)
	}
}
