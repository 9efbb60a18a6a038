package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server"
	"github.com/berth-registry/berth/server/config"
	"github.com/berth-registry/berth/server/gc"
)

// gcCommand is collection, which runs by itself, by hand.
func gcCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "gc",
		Short: "space of deleted content: how it is given back, and why not",
		Long: `A running berthd deletes what nobody needs any more by itself, without a pause of the service. These commands have it do
so now, and ask about it. Without a running berthd, preview reads the data itself, and berthd garbage-collect collects.`,
	}
	c.AddCommand(gcRunCommand(), gcPreviewCommand(), gcStatusCommand(), gcWhyCommand())
	return c
}

// gcAPI connects to the berthd of a command.
func gcAPI(cmd *cobra.Command, args []string) (*api, *config.Config, error) {
	loaded, err := config.Load(loadOptions(cmd.Flags(), args))
	if err != nil {
		return nil, nil, err
	}
	a, err := connect(cmd, loaded.Config)
	return a, loaded.Config, err
}

func gcRunCommand() *cobra.Command {
	var untagged bool
	var rate int
	c := &cobra.Command{
		Use:     "run [CONFIG]",
		Short:   "delete now what is due",
		Example: "  berthd gc run --data /var/lib/berth\n  berthd gc run --delete-untagged --rate 500",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, conf, err := gcAPI(cmd, args)
			if errors.Is(err, errNoServer) {
				return fmt.Errorf("no berthd is running on the data directory %s; start it first, or collect without one by berthd garbage-collect", conf.Berth.Data)
			}
			if err != nil {
				return err
			}
			defer func() { _ = a.close() }()
			var j jobView
			if err := a.post(cmd.Context(), "/api/v1/gc", map[string]any{"deleteUntagged": untagged, "rate": rate}, &j); err != nil {
				return err
			}
			if j, err = a.follow(cmd.Context(), cmd.ErrOrStderr(), j.ID); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), j.Note)
			return err
		},
	}
	c.Flags().BoolVar(&untagged, "delete-untagged", false, "put every manifest into the trash that no tag, index or subject points at")
	c.Flags().IntVar(&rate, "rate", 0, "most blobs a second to delete (default: berth.gc.rate)")
	apiFlags(c.Flags())
	return c
}

// previewed is what /api/v1/gc/preview answers.
type previewed struct {
	Blobs           int64 `json:"blobs"`
	Bytes           int64 `json:"bytes"`
	Later           int64 `json:"later"`
	LaterBytes      int64 `json:"laterBytes"`
	Manifests       int64 `json:"manifests"`
	Afterwards      int64 `json:"afterwards"`
	AfterwardsBytes int64 `json:"afterwardsBytes"`
	Purged          int64 `json:"purged"`
	Freed           int64 `json:"freed"`
	FreedBytes      int64 `json:"freedBytes"`
}

func gcPreviewCommand() *cobra.Command {
	var untagged bool
	c := &cobra.Command{
		Use:     "preview [CONFIG]",
		Short:   "what a run would delete now, to the byte; deletes nothing",
		Example: "  berthd gc preview --delete-untagged --data /var/lib/berth",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, conf, err := gcAPI(cmd, args)
			var p previewed
			switch {
			case errors.Is(err, errNoServer):
				err = server.CollectHere(cmd.Context(), conf, func(ctx context.Context, s *gc.Service, _ bool) error {
					v, err := s.Preview(ctx, gc.Ask{DeleteUntagged: untagged})
					p = previewed{v.Blobs, v.Bytes, v.Later, v.LaterBytes, v.Manifests, v.Afterwards, v.AfterwardsBytes, v.Purged, v.Freed, v.FreedBytes}
					return err
				})
			case err == nil:
				defer func() { _ = a.close() }()
				err = a.get(cmd.Context(), "/api/v1/gc/preview?deleteUntagged="+strconv.FormatBool(untagged), &p)
			}
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "now:        %d blobs, %d bytes\n", p.Blobs, p.Bytes)
			fmt.Fprintf(w, "later:      %d blobs, %d bytes, which nothing needs and which were promised to clients a short time ago\n", p.Later, p.LaterBytes)
			if p.Purged > 0 {
				fmt.Fprintf(w, "trash:      %d manifests whose hold is over; %d blobs, %d bytes a grace later\n", p.Purged, p.Freed, p.FreedBytes)
			}
			if untagged || p.Manifests > 0 {
				fmt.Fprintf(w, "untagged:   %d manifests to the trash; %d blobs, %d bytes when they leave it\n", p.Manifests, p.Afterwards, p.AfterwardsBytes)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&untagged, "delete-untagged", false, "as for run")
	apiFlags(c.Flags())
	return c
}

// gcStatus is what /api/v1/gc answers.
type gcStatus struct {
	Waiting   int64      `json:"waiting"`
	Due       int64      `json:"due"`
	Claimed   int64      `json:"claimed"`
	OldestDue *time.Time `json:"oldestDue"`
	HeldBy    []string   `json:"heldBy"`
	Last      *struct {
		EndedAt  *time.Time `json:"endedAt"`
		Examined int64      `json:"examined"`
		Deleted  int64      `json:"deleted"`
		Bytes    int64      `json:"bytes"`
		Failed   int64      `json:"failed"`
		Trashed  int64      `json:"trashed"`
		Purged   int64      `json:"purged"`
		Error    string     `json:"lastError"`
	} `json:"last"`
}

func gcStatusCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "status [CONFIG]",
		Short:   "how long the queue is, who holds collection, what it did last",
		Example: "  berthd gc status --data /var/lib/berth\n  berthd gc status --server https://registry.example.com --user admin",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, conf, err := gcAPI(cmd, args)
			if errors.Is(err, errNoServer) {
				return fmt.Errorf("no berthd is running on the data directory %s; berthd gc preview tells what there is to delete", conf.Berth.Data)
			}
			if err != nil {
				return err
			}
			defer func() { _ = a.close() }()
			var s gcStatus
			if err := a.get(cmd.Context(), "/api/v1/gc", &s); err != nil {
				return err
			}
			return printGCStatus(cmd.OutOrStdout(), &s)
		},
	}
	apiFlags(c.Flags())
	return c
}

func printGCStatus(w io.Writer, s *gcStatus) error {
	fmt.Fprintf(w, "queue:      %d blobs, %d of them due, %d being deleted\n", s.Waiting, s.Due, s.Claimed)
	if s.OldestDue != nil {
		fmt.Fprintf(w, "oldest due: %s\n", s.OldestDue.UTC().Format(time.RFC3339))
	}
	if len(s.HeldBy) > 0 {
		fmt.Fprintf(w, "held by:    %s; nothing is deleted meanwhile\n", strings.Join(s.HeldBy, ", "))
	}
	if l := s.Last; l != nil && l.EndedAt != nil {
		fmt.Fprintf(w, "last run:   %s: examined %d blobs, deleted %d with %d bytes, %d failed; %d manifests to the trash, %d purged\n",
			l.EndedAt.UTC().Format(time.RFC3339), l.Examined, l.Deleted, l.Bytes, l.Failed, l.Trashed, l.Purged)
		if l.Error != "" {
			fmt.Fprintf(w, "last error: %s\n", l.Error)
		}
	}
	return nil
}

// reasons is what /api/v1/gc/why answers.
type reasons struct {
	Digest     string     `json:"digest"`
	Size       int64      `json:"size"`
	Kept       bool       `json:"kept"`
	State      string     `json:"state"`
	LeaseUntil *time.Time `json:"leaseUntil"`
	In         []string   `json:"repositories"`
	Holds      []struct {
		Repository string     `json:"repository"`
		Manifest   string     `json:"manifest"`
		Keeps      string     `json:"keeps"`
		As         string     `json:"as"`
		Tags       []string   `json:"tags"`
		Subject    string     `json:"subject"`
		TrashUntil *time.Time `json:"trashUntil"`
	} `json:"holds"`
	Uploads []string `json:"uploads"`
	HeldBy  []string `json:"heldBy"`
	More    bool     `json:"more"`
}

func gcWhyCommand() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:     "why DIGEST [CONFIG]",
		Short:   "everything that keeps a blob or manifest",
		Example: "  berthd gc why sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 --data /var/lib/berth",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := oci.ParseDigest(args[0])
			if err != nil {
				return err
			}
			if output != "text" && output != "json" {
				return fmt.Errorf("--output expects text or json, got %q", output)
			}
			a, conf, err := gcAPI(cmd, args[1:])
			if errors.Is(err, errNoServer) {
				return fmt.Errorf("no berthd is running on the data directory %s; start it, then ask again", conf.Berth.Data)
			}
			if err != nil {
				return err
			}
			defer func() { _ = a.close() }()
			var r reasons
			if err := a.get(cmd.Context(), "/api/v1/gc/why/"+d.String(), &r); err != nil {
				return err
			}
			if output == "json" {
				return printJSON(cmd.OutOrStdout(), r)
			}
			return printReasons(cmd.OutOrStdout(), &r)
		},
	}
	c.Flags().StringVar(&output, "output", "text", "text or json")
	apiFlags(c.Flags())
	return c
}

func printReasons(w io.Writer, r *reasons) error {
	kept := "nothing keeps it"
	if r.Kept {
		kept = "kept"
	}
	fmt.Fprintf(w, "%s  %d bytes, %s: %s\n", r.Digest, r.Size, r.State, kept)
	for _, h := range r.Holds {
		fmt.Fprintf(w, "  %s@%s", h.Repository, h.Manifest)
		if h.As != "itself" {
			fmt.Fprintf(w, " refers to %s as %s", h.Keeps, h.As)
		}
		if len(h.Tags) > 0 {
			fmt.Fprintf(w, "; tags %s", strings.Join(h.Tags, ", "))
		}
		if h.Subject != "" {
			fmt.Fprintf(w, "; subject %s", h.Subject)
		}
		if h.TrashUntil != nil {
			fmt.Fprintf(w, "; in the trash until %s", h.TrashUntil.UTC().Format(time.RFC3339))
		}
		fmt.Fprintln(w)
	}
	for _, u := range r.Uploads {
		fmt.Fprintf(w, "  upload %s is about to become it\n", u)
	}
	if r.LeaseUntil != nil {
		fmt.Fprintf(w, "  looked at again, or promised, until %s\n", r.LeaseUntil.UTC().Format(time.RFC3339))
	}
	if len(r.In) > 0 {
		fmt.Fprintf(w, "  in repositories %s\n", strings.Join(r.In, ", "))
	}
	if len(r.HeldBy) > 0 {
		fmt.Fprintf(w, "  nothing at all is deleted while collection is held by %s\n", strings.Join(r.HeldBy, ", "))
	}
	if r.More {
		fmt.Fprintln(w, "  and more")
	}
	return nil
}
