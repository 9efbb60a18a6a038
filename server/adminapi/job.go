package adminapi

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// jobs is what the face needs of the job room, which asks nobody for rights: the face does.
type jobs interface {
	List(ctx context.Context, f metadb.JobFilter, before int64, limit int) ([]metadb.Job, error)
	Get(ctx context.Context, id int64) (metadb.Job, error)
	Cancel(ctx context.Context, id int64) (metadb.Job, error)
	Retry(ctx context.Context, id int64) (metadb.Job, error)
}

// InJob is the parameter of routes about a job.
type InJob struct {
	ID int64 `path:"id" minimum:"1" doc:"Number of the job."`
}

func (h *Handler) declareJobs(f *face) {
	about := func(o operation) operation {
		o.tag, o.object, o.unknown, o.answer = "jobs", "job", JobUnknown, "The job as it is now."
		return o
	}
	declare(f, operation{
		id: "listJobs", method: http.MethodGet, path: "jobs", tag: "jobs", needs: on(onRegistry, identity.JobRead),
		summary: "List jobs, newest first", answer: "A page of jobs.",
	}, h.listJobs)
	declare(f, about(operation{
		id: "getJob", method: http.MethodGet, path: "jobs/{id}", needs: on(onRegistry, identity.JobRead), summary: "Show a job",
	}), h.job(jobs.Get))
	declare(f, about(operation{
		id: "cancelJob", method: http.MethodPost, path: "jobs/{id}/cancel", needs: on(onRegistry, identity.JobWrite),
		summary: "End a job that waits, or ask the worker of a running one to stop",
		text:    "A job that has ended stays as it is. A running one is `cancelling` until its worker has stopped.",
	}), h.job(jobs.Cancel))
	declare(f, about(operation{
		id: "retryJob", method: http.MethodPost, path: "jobs/{id}/retry", needs: on(onRegistry, identity.JobWrite),
		summary: "Queue a job that is dead, cancelled or scheduled, with all its attempts before it",
		text:    "409 when the job has succeeded, or another one does its work. A queued or running job stays as it is.",
	}), h.job(jobs.Retry))
}

// jobView is a job as callers see it. Its arguments stay here: they are the kind's own business.
type jobView struct {
	ID          int64      `json:"id"`
	Kind        string     `json:"kind"`
	Project     string     `json:"project,omitempty" doc:"Whose turn it takes; absent for the registry's own work."`
	State       string     `json:"state" enum:"scheduled,queued,running,succeeded,dead,cancelled"`
	Cancelling  bool       `json:"cancelling" doc:"Its worker is asked to stop."`
	Attempt     int        `json:"attempt"`
	MaxAttempts int        `json:"maxAttempts" doc:"After so many failed attempts it is dead."`
	Worker      string     `json:"worker,omitempty" doc:"The process that has it or had it last."`
	Done        int64      `json:"done" doc:"How far it is, in units of its kind."`
	Total       int64      `json:"total" doc:"0 while it is not known."`
	Note        string     `json:"note,omitempty" doc:"For people: what it does."`
	Error       string     `json:"error,omitempty" doc:"Why the last attempt failed."`
	RunAt       time.Time  `json:"runAt" doc:"Not before."`
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

type jobQuery struct {
	State   []string `query:"state,explode" enum:"scheduled,queued,running,succeeded,dead,cancelled" doc:"Only jobs in this state; may be there several times."`
	Kind    string   `query:"kind" doc:"Only jobs of this kind, such as upload.sweep."`
	Project string   `query:"project" doc:"Only jobs of this project."`
	Sort    string   `query:"sort" enum:"created,-created" default:"-created" doc:"The order: with a minus the newest come first."`
	PageQuery
}

func (h *Handler) listJobs(ctx context.Context, q *jobQuery) (*listed[jobView], error) {
	f := metadb.JobFilter{Kind: q.Kind, Project: q.Project, Oldest: q.Sort == "created"}
	for _, s := range metadb.JobStates() {
		for _, word := range q.State {
			if s.String() == word {
				f.States = append(f.States, s)
			}
		}
	}
	behind, err := q.number(ctx)
	if err != nil {
		return nil, err
	}
	found, err := h.Jobs.List(ctx, f, behind, q.Limit)
	if err != nil {
		return nil, err
	}
	return pageOf(ctx, found, q.Limit, viewJob, func(j metadb.Job) string { return strconv.FormatInt(j.ID, 10) })
}

// job does something with the job of the path and answers with it as it is then.
func (h *Handler) job(do func(jobs, context.Context, int64) (metadb.Job, error)) func(context.Context, *InJob) (*shown[jobView], error) {
	return func(ctx context.Context, in *InJob) (*shown[jobView], error) {
		j, err := do(h.Jobs, ctx, in.ID)
		if err != nil {
			return nil, orUnknown(err, JobUnknown, "job %d is not there; ended jobs are forgotten after a while", in.ID)
		}
		return show(viewJob(j))
	}
}

// accepted is an answer of a job that does the work.
type accepted struct {
	Location string `header:"Location" doc:"Where the job is."`
	Body     jobView
}

// started answers with the job that an engine has begun.
func (h *Handler) started(ctx context.Context, id int64, err error) (*accepted, error) {
	if err != nil {
		return nil, err
	}
	j, err := h.Jobs.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	return &accepted{h.location(root + "jobs/" + strconv.FormatInt(j.ID, 10)), viewJob(j)}, nil
}
