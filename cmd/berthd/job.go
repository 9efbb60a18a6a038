package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/internal/legible"
)

// jobCommand is for background work: what runs, what gave up, and why.
func jobCommand() *cobra.Command {
	c := &cobra.Command{Use: "job", Short: "look at background work of a running berthd, stop it and repeat it", Args: cobra.NoArgs}
	c.AddCommand(jobList(), jobOne("show", "show a job", "", func(ctx context.Context, a *api, id int64) (j jobView, err error) {
		err = a.get(ctx, fmt.Sprintf("/api/v1/jobs/%d", id), &j)
		return j, err
	}), jobOne("cancel", "end a job that waits, or stop one that runs",
		"End a job that waits, or ask the worker of one that runs to stop. A job that has ended stays as it is.", changeJob("cancel")),
		jobOne("retry", "queue a job again that is dead or was cancelled",
			"Queue a job that is dead, was cancelled or waits for its time, with all its attempts before it.", changeJob("retry")))
	return c
}

func changeJob(verb string) func(context.Context, *api, int64) (jobView, error) {
	return func(ctx context.Context, a *api, id int64) (j jobView, err error) {
		err = a.post(ctx, fmt.Sprintf("/api/v1/jobs/%d/%s", id, verb), nil, &j)
		return j, err
	}
}

func jobList() *cobra.Command {
	var states []string
	var kind string
	var all bool
	const most = 50
	c := &cobra.Command{
		Use:     "ls [CONFIG]",
		Short:   "list jobs, newest first",
		Example: "  berthd job ls --state dead\n  berthd job ls --kind gc.run --all",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withServer(cmd, args, func(a *api) error {
				query := url.Values{"state": states}
				if kind != "" {
					query.Set("kind", kind)
				}
				var jobs []jobView
				err := each(cmd.Context(), a, "/api/v1/jobs", query, func(j jobView) error {
					if jobs = append(jobs, j); !all && len(jobs) > most {
						return errEnough
					}
					return nil
				})
				if err != nil && !errors.Is(err, errEnough) {
					return err
				}
				if errors.Is(err, errEnough) {
					jobs = jobs[:most]
					_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "the newest %d; the others with --all\n", most)
				}
				return printJobs(cmd.OutOrStdout(), jobs)
			})
		},
	}
	c.Flags().StringSliceVar(&states, "state", nil, "only jobs in these states: scheduled, queued, running, succeeded, dead, cancelled")
	c.Flags().StringVar(&kind, "kind", "", "only jobs of this kind")
	c.Flags().BoolVar(&all, "all", false, "all of them")
	apiFlags(c.Flags())
	return c
}

// errEnough ends a list before its end.
var errEnough = errors.New("enough")

func printJobs(w io.Writer, jobs []jobView) error {
	if len(jobs) == 0 {
		_, err := fmt.Fprintln(w, "no jobs")
		return err
	}
	t := tabwriter.NewWriter(legible.Writer(w), 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "ID\tKIND\tSTATE\tATTEMPT\tCREATED\tENDED\tPROGRESS")
	for _, j := range jobs {
		_, _ = fmt.Fprintf(t, "%d\t%s\t%s\t%d/%d\t%s\t%s\t%s\n", j.ID, j.Kind, j.state(), j.Attempt, j.Attempts, moment(j.Created), moment(j.Ended), j.howFar())
	}
	return t.Flush()
}

// state is the word of the state; a job that is asked to stop says so.
func (j *jobView) state() string {
	if j.Cancel {
		return j.State + " (cancelling)"
	}
	return j.State
}

// howFar is what the job has done, or why it has not.
func (j *jobView) howFar() string {
	var parts []string
	switch {
	case j.Total > 0:
		parts = append(parts, fmt.Sprintf("%d of %d", j.Done, j.Total))
	case j.Done > 0:
		parts = append(parts, strconv.FormatInt(j.Done, 10))
	}
	if j.Note != "" {
		parts = append(parts, j.Note)
	}
	if j.Error != "" && j.State != "succeeded" {
		parts = append(parts, j.Error)
	}
	if parts == nil {
		return "-"
	}
	return strings.Join(parts, ", ")
}

func jobOne(verb, short, long string, do func(context.Context, *api, int64) (jobView, error)) *cobra.Command {
	c := &cobra.Command{
		Use:     verb + " ID [CONFIG]",
		Short:   short,
		Long:    long,
		Example: "  berthd job " + verb + " 42 --data /var/lib/berth",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil || id <= 0 {
				return fmt.Errorf("ID expects the number of a job, as berthd job ls shows it; got %q", args[0])
			}
			return withServer(cmd, args[1:], func(a *api) error {
				j, err := do(cmd.Context(), a, id)
				if err != nil {
					return err
				}
				return printJob(cmd.OutOrStdout(), j)
			})
		},
	}
	apiFlags(c.Flags())
	return c
}

func printJob(w io.Writer, j jobView) error {
	t := tabwriter.NewWriter(legible.Writer(w), 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"id", strconv.FormatInt(j.ID, 10)}, {"kind", j.Kind}, {"state", j.state()}, {"attempt", fmt.Sprintf("%d of %d", j.Attempt, j.Attempts)},
		{"worker", j.Worker}, {"progress", (&jobView{Done: j.Done, Total: j.Total, Note: j.Note}).howFar()}, {"failure", j.Error},
		{"created", moment(j.Created)}, {"not before", moment(j.RunAt)}, {"started", moment(j.Started)}, {"ended", moment(j.Ended)},
	} {
		if row[1] == "" {
			row[1] = "-"
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\n", row[0], row[1])
	}
	return t.Flush()
}
