package adminapi

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/berth-registry/berth/server/metadb"
)

// jobs is what the face needs of the job room, which asks nobody for rights: the routes are administrators'.
type jobs interface {
	List(ctx context.Context, f metadb.JobFilter, before int64, limit int) ([]metadb.Job, error)
	Get(ctx context.Context, id int64) (metadb.Job, error)
	Cancel(ctx context.Context, id int64) (metadb.Job, error)
	Retry(ctx context.Context, id int64) (metadb.Job, error)
}

func jobRoutes() []route {
	return []route{
		{id: "listJobs", method: http.MethodGet, pattern: "jobs", needs: administrator, query: []string{"state", "kind", "project", "limit", "after"}, serve: (*call).listJobs},
		{id: "getJob", method: http.MethodGet, pattern: "jobs/{id}", needs: administrator, serve: (*call).getJob},
		{id: "cancelJob", method: http.MethodPost, pattern: "jobs/{id}/cancel", needs: administrator, serve: (*call).cancelJob},
		{id: "retryJob", method: http.MethodPost, pattern: "jobs/{id}/retry", needs: administrator, serve: (*call).retryJob},
	}
}

// jobView is a job as callers see it. Its arguments stay here: they are the kind's own business.
type jobView struct {
	ID          int64      `json:"id"`
	Kind        string     `json:"kind"`
	Project     string     `json:"project,omitempty"`
	State       string     `json:"state"`
	Cancelling  bool       `json:"cancelling"`
	Attempt     int        `json:"attempt"`
	MaxAttempts int        `json:"maxAttempts"`
	Worker      string     `json:"worker,omitempty"`
	Done        int64      `json:"done"`
	Total       int64      `json:"total"`
	Note        string     `json:"note,omitempty"`
	Error       string     `json:"error,omitempty"`
	RunAt       time.Time  `json:"runAt"`
	CreatedAt   time.Time  `json:"createdAt"`
	StartedAt   *time.Time `json:"startedAt,omitempty"`
	EndedAt     *time.Time `json:"endedAt,omitempty"`
}

func viewJob(j metadb.Job) jobView {
	return jobView{
		ID: j.ID, Kind: j.Kind, Project: j.Project, State: j.State.String(), Cancelling: j.Cancel && !j.State.Ended(),
		Attempt: j.Attempt, MaxAttempts: j.MaxAttempts, Worker: j.Worker, Done: j.Progress.Done, Total: j.Progress.Total,
		Note: j.Progress.Note, Error: j.Error, RunAt: j.RunAt.UTC(), CreatedAt: j.CreatedAt.UTC(), StartedAt: stamp(j.StartedAt), EndedAt: stamp(j.EndedAt),
	}
}

func (c *call) listJobs() error {
	q := c.r.URL.Query()
	f := metadb.JobFilter{Kind: q.Get("kind"), Project: q.Get("project")}
	for _, word := range q["state"] {
		state, ok := jobState(word)
		if !ok {
			return badField("state", "state expects one of scheduled, queued, running, succeeded, dead, cancelled, got %.100q", word)
		}
		f.States = append(f.States, state)
	}
	limit, err := c.limit()
	if err != nil {
		return err
	}
	before, err := c.after()
	if err != nil {
		return err
	}
	found, err := c.h.Jobs.List(c.ctx(), f, before, limit)
	if err != nil {
		return err
	}
	views, next := make([]jobView, len(found)), ""
	for i, j := range found {
		views[i] = viewJob(j)
	}
	if len(found) == limit {
		next = strconv.FormatInt(found[limit-1].ID, 10)
	}
	return page(c, views, next)
}

func jobState(word string) (metadb.JobState, bool) {
	for _, s := range metadb.JobStates() {
		if s.String() == word {
			return s, true
		}
	}
	return 0, false
}

func (c *call) getJob() error    { return c.oneJob(c.h.Jobs.Get) }
func (c *call) cancelJob() error { return c.oneJob(c.h.Jobs.Cancel) }
func (c *call) retryJob() error  { return c.oneJob(c.h.Jobs.Retry) }

// oneJob does something with the job of the path and answers with it as it is then.
func (c *call) oneJob(do func(context.Context, int64) (metadb.Job, error)) error {
	id, err := c.number(0, JobUnknown, "job")
	if err != nil {
		return err
	}
	j, err := do(c.ctx(), id)
	if err != nil {
		return orUnknown(err, JobUnknown, "job %d is not there; ended jobs are forgotten after a while", id)
	}
	return c.ok(viewJob(j))
}
