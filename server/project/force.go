package project

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/job"
	"github.com/berth-registry/berth/server/metadb"
)

// Contents is what a deletion of a project with all that is in it needs of the registry.
type Contents struct {
	Deletable func() error                                   // whether anything may be deleted, as the configuration is
	Empty     func(ctx context.Context, name ref.Name) error // deletes all of a repository for good
}

// doomed is a project that is deleted with what is in it. Its number says which, whoever has its name later.
type doomed struct {
	Project int64  `json:"project"`
	Name    string `json:"name"`
	By      string `json:"by"`
}

const (
	// emptyPage is how many repositories are looked for at a time.
	emptyPage = 100
	// emptyRounds is how often a project is emptied again that somebody pushes to meanwhile, before the job makes a pause.
	emptyRounds = 5
)

// Jobs makes the Service's work in the background known to the queue.
func (s *Service) Jobs(j *job.Service, c Contents) (err error) {
	s.contents = c
	s.deletions, err = job.Handle(j, job.Kind{Name: "project.delete", MaxAttempts: 10}, s.deleteAll)
	return err
}

// DeleteWithContent begins to delete a project with all that is in it, for good: repositories, what the trash holds of them,
// members, grants and robots. It returns the number of the job, which is the same one when it is asked again meanwhile. It asks
// for project.delete, and refuses what Delete refuses but content.
func (s *Service) DeleteWithContent(ctx context.Context, name string, generation int64) (jobID int64, err error) {
	if err := s.o.Access.CheckProject(ctx, identity.ProjectDelete, name); err != nil {
		return 0, err
	}
	if err := notDefault(name); err != nil {
		return 0, err
	}
	if s.contents.Deletable != nil {
		if err := s.contents.Deletable(); err != nil {
			return 0, err
		}
	}
	by := identity.From(ctx).String()
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		p, err := tx.Project(ctx, name)
		if err != nil {
			return err
		}
		if generation >= 0 && p.Generation != generation {
			return metadb.ErrChanged
		}
		jobID, err = s.deletions.Enqueue(tx, doomed{p.ID, p.Name, by}, job.Ask{Key: strconv.FormatInt(p.ID, 10), NotAgain: true, Project: p.Name})
		return err
	})
	return jobID, unknown(err, "project %s is not known to this registry", name)
}

// deleteAll is the job. Whoever does it again goes on where it was: what is deleted is not found any more.
func (s *Service) deleteAll(ctx context.Context, w *job.Work, d doomed) error {
	ctx = identity.With(ctx, identity.Principal{Kind: identity.System})
	emptied := int64(0)
	for round := 1; ; round++ {
		for after := ""; ; {
			names, err := s.o.DB.FilledRepositories(ctx, d.Project, after, emptyPage)
			if err != nil {
				return err
			}
			for _, text := range names {
				if err := s.empty(ctx, text); err != nil {
					return err
				}
				emptied++
				w.Progress(emptied, 0, text)
			}
			if len(names) < emptyPage {
				break
			}
			after = names[len(names)-1]
		}
		err := s.o.DB.Update(ctx, func(tx *metadb.Tx) error { return tx.DeleteProject(d.Project) })
		switch {
		case errors.Is(err, metadb.ErrNotFound): // it was deleted, by this job before it was interrupted, or by somebody
			return nil
		case fault.Is(err, fault.Conflict) && round < emptyRounds: // something was pushed meanwhile
			if err := wait(ctx, time.Duration(round)*100*time.Millisecond); err != nil {
				return err
			}
			continue
		}
		return err
	}
}

func (s *Service) empty(ctx context.Context, text string) error {
	name, err := ref.ParseName(text)
	if err != nil {
		return job.Permanent(err)
	}
	err = s.contents.Empty(ctx, name)
	if fault.Is(err, fault.Unsupported) {
		return job.Permanent(err)
	}
	if err != nil {
		return fmt.Errorf("project: empty %s: %w", name, err)
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
