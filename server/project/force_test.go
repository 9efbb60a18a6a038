package project_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/job"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/project"
)

// TestDeletionGoesOn: a deletion of a project with its content whose process dies in the middle is ended by the next one; what
// is pushed meanwhile goes, too; and a project that has the name later is not touched by it.
func TestDeletionGoesOn(t *testing.T) {
	bothDatabases(t, func(t *testing.T, r room) {
		push := func(names ...string) {
			t.Helper()
			r.must(t, r.db.Update(t.Context(), func(tx *metadb.Tx) error {
				for _, name := range names {
					p, err := tx.Project(t.Context(), "team")
					if err != nil {
						return err
					}
					repo, err := tx.EnsureRepository(p.ID, name)
					if err != nil {
						return err
					}
					d := oci.FromBytes(oci.SHA256, []byte(name))
					if err := tx.PutBlob(metadb.Blob{Digest: d, Size: 1}, []byte("x")); err != nil {
						return err
					}
					if _, err := tx.PutManifest(metadb.Manifest{RepoID: repo.ID, Digest: d, MediaType: "m", Size: 1}, nil); err != nil {
						return err
					}
				}
				return nil
			}))
		}
		push("team/a", "team/b", "team/c")
		empty := func(ctx context.Context, name ref.Name) error {
			return r.db.Update(ctx, func(tx *metadb.Tx) error {
				repo, err := tx.Repository(ctx, name.String())
				if err != nil {
					return err
				}
				_, err = tx.DeleteManifest(repo.ID, oci.FromBytes(oci.SHA256, []byte(name.String())))
				return err
			})
		}
		var mu sync.Mutex
		var emptied []string
		run := func(empty func(context.Context, ref.Name) error, until func(metadb.Job) bool, id func() int64) {
			t.Helper()
			jobs, err := job.New(job.Options{DB: r.db, Poll: 20 * time.Millisecond, Hold: time.Second, Drain: time.Second, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
			r.must(t, err)
			r.must(t, r.Jobs(jobs, project.Contents{Empty: empty}))
			n := id()
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- jobs.Run(ctx) }()
			for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				j, err := r.db.Job(t.Context(), n)
				r.must(t, err)
				if until(j) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("the job stays %v: %s", j.State, j.Error)
				}
			}
			stop()
			<-ended
		}
		var number int64
		reached := make(chan struct{})
		var once sync.Once
		run(func(ctx context.Context, name ref.Name) error { // dies at the second repository
			if name.String() != "team/a" {
				once.Do(func() { close(reached) })
				<-ctx.Done()
				return ctx.Err()
			}
			return empty(ctx, name)
		}, func(metadb.Job) bool {
			select {
			case <-reached:
				return true
			default:
				return false
			}
		}, func() int64 {
			id, err := r.DeleteWithContent(r.as("lead"), "team", -1)
			r.must(t, err)
			again, err := r.DeleteWithContent(r.as("boss"), "team", -1)
			r.must(t, err)
			if again != id {
				t.Errorf("asked twice it is jobs %d and %d", id, again)
			}
			number = id
			return id
		})
		if _, err := r.db.Project(t.Context(), "team"); err != nil {
			t.Fatalf("it is gone although its content is not: %v", err)
		}
		pushed := false
		run(func(ctx context.Context, name ref.Name) error {
			if identity.From(ctx).Kind != identity.System {
				return errors.New("nobody is calling")
			}
			mu.Lock()
			emptied = append(emptied, name.String())
			mu.Unlock()
			if !pushed {
				pushed = true
				push("team/a", "team/late") // the first is behind where the job is
			}
			return empty(ctx, name)
		}, func(j metadb.Job) bool { return j.State == metadb.JobSucceeded }, func() int64 { return number })
		if want := []string{"team/b", "team/c", "team/a", "team/late"}; !slices.Equal(emptied, want) {
			t.Errorf("emptied %v, want %v", emptied, want)
		}
		if _, err := r.db.Project(t.Context(), "team"); !errors.Is(err, metadb.ErrNotFound) {
			t.Errorf("the project is there: %v", err)
		}
		// The same work again, as after a crash before its end was written: the next of the name stays.
		_, err := r.Create(r.as("boss"), "team", project.Settings{})
		r.must(t, err)
		push("team/new")
		run(empty, func(j metadb.Job) bool { return j.State == metadb.JobSucceeded }, func() int64 {
			r.must(t, r.db.Update(t.Context(), func(tx *metadb.Tx) (err error) {
				j, err := tx.Job(t.Context(), number)
				if err != nil {
					return err
				}
				number, err = tx.EnqueueJob(metadb.NewJob{Kind: j.Kind, Key: "again", Args: j.Args, MaxAttempts: 1})
				return err
			}))
			return number
		})
		team, err := r.db.Project(t.Context(), "team")
		r.must(t, err)
		if left, err := r.db.FilledRepositories(t.Context(), team.ID, "", 10); err != nil || !slices.Equal(left, []string{"team/new"}) {
			t.Errorf("of the next project there is %v, %v", left, err)
		}
	})
}
