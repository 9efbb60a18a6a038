package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/internal/legible"
	"github.com/berth-registry/berth/server"
	"github.com/berth-registry/berth/server/config"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/webhook"
)

// notificationsCommand is for who operates receivers of notifications.endpoints.
func notificationsCommand() *cobra.Command {
	c := &cobra.Command{Use: "notifications", Short: "look at what endpoints of notifications were told, and repeat it", Args: cobra.NoArgs}
	c.AddCommand(notificationsStatus(), notificationsReplay())
	return c
}

// withDesk opens what a command about notifications works on.
func withDesk(cmd *cobra.Command, args []string, do func(*webhook.Desk) error) error {
	loaded, err := config.Load(loadOptions(cmd.Flags(), args))
	if err != nil {
		return err
	}
	desk, closeDesk, err := server.Notifications(cmd.Context(), loaded.Config)
	if err != nil {
		return err
	}
	return errors.Join(do(desk), closeDesk())
}

func notificationsStatus() *cobra.Command {
	var dead string
	c := &cobra.Command{
		Use:   "status [CONFIG]",
		Short: "list the endpoints: what waits, what failed, what was given up; changes nothing",
		Long: `List the endpoints of notifications. PENDING counts events of the outbox that an endpoint does not have yet, with those
that it ignores. PARKED waits behind an event that the endpoint does not take. DEAD was given up, and LOST was dropped
from the outbox before the endpoint had it. It works beside a running berthd.`,
		Example: "  berthd notifications status --data ./berth-data\n  berthd notifications status --dead ci config.yml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withDesk(cmd, args, func(d *webhook.Desk) error {
				if dead != "" {
					letters, err := d.DeadLetters(cmd.Context(), dead, 1000)
					if err != nil {
						return err
					}
					return printDead(cmd.OutOrStdout(), letters)
				}
				all, err := d.Status(cmd.Context())
				if err != nil {
					return err
				}
				return printDeliveries(cmd.OutOrStdout(), all)
			})
		},
	}
	c.Flags().StringVar(&dead, "dead", "", "list the dead letters of this endpoint instead")
	settingFlags(c.Flags())
	return c
}

func printDeliveries(w io.Writer, all []webhook.Status) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "no endpoint has ever been told anything; see notifications.endpoints")
		return err
	}
	t := tabwriter.NewWriter(legible.Writer(w), 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ENDPOINT\tSTATE\tPENDING\tOLDEST\tPARKED\tDEAD\tLOST\tDELIVERED\tFAILED\tFAILURE")
	for _, s := range all {
		oldest := "-"
		if s.Pending > 0 {
			oldest = s.Oldest.Round(time.Second).String()
		}
		failure := s.Failure
		if failure == "" {
			failure = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%d\t%d\t%d\t%s\t%s\t%s\n", s.Endpoint, s.State, s.Pending, oldest, s.Parked, s.Dead, s.Lost,
			moment(s.DeliveredAt), moment(s.FailedAt), failure)
	}
	return t.Flush()
}

func printDead(w io.Writer, letters []metadb.Parked) error {
	t := tabwriter.NewWriter(legible.Writer(w), 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "EVENT\tREPOSITORY\tSINCE\tATTEMPTS\tFAILURE")
	for _, p := range letters {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\n", p.EventID, p.Repository, moment(p.Since), p.Attempts, p.Failure)
	}
	return t.Flush()
}

func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func notificationsReplay() *cobra.Command {
	var since, from string
	var dead bool
	c := &cobra.Command{
		Use:   "replay ENDPOINT [CONFIG]",
		Short: "tell an endpoint again what happened; a running berthd begins within seconds",
		Long: `Tell an endpoint again what happened since a time, or from an event on, in the same order and under the same ids. Name the
event by the id that the receiver saw. With --dead the events that were given up are tried again instead.
It works beside a running berthd. How far back it can go is a matter of notifications.events.keep.`,
		Example: "  berthd notifications replay ci --since 2h\n  berthd notifications replay ci --since 2026-01-31T09:00:00Z config.yml\n  berthd notifications replay ci --dead",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var start time.Time
			if since != "" {
				var err error
				if start, err = parseSince("--since", since, time.Now()); err != nil {
					return err
				}
			}
			return withDesk(cmd, args[1:], func(d *webhook.Desk) error {
				if dead {
					n, err := d.ReplayDead(cmd.Context(), args[0])
					if err == nil {
						_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d dead letters of %s are tried again\n", n, args[0])
					}
					return err
				}
				n, err := d.Replay(cmd.Context(), args[0], start, from)
				if err == nil {
					_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is told again what happened: %d events, without those that it ignores\n", args[0], n)
				}
				return err
			})
		},
	}
	c.Flags().StringVar(&since, "since", "", "a time such as 2026-01-31T09:00:00Z, or how long ago, such as 2h")
	c.Flags().StringVar(&from, "from", "", "id of the first event")
	c.Flags().BoolVar(&dead, "dead", false, "the events that were given up")
	c.MarkFlagsMutuallyExclusive("since", "from", "dead")
	c.MarkFlagsOneRequired("since", "from", "dead")
	settingFlags(c.Flags())
	return c
}

// parseSince reads a time, or a duration before now.
func parseSince(flag, text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("%s expects a time such as 2026-01-31T09:00:00Z, or how long ago, such as 2h; got %q", flag, text)
	}
	return t, nil
}
