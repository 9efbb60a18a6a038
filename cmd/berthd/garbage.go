package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server"
	"github.com/berth-registry/berth/server/config"
	"github.com/berth-registry/berth/server/gc"
)

// garbageCommand is distribution's command, for who has it in a script.
func garbageCommand() *cobra.Command {
	var dry, untagged, quiet bool
	c := &cobra.Command{
		Use:   "garbage-collect CONFIG",
		Short: "delete what nothing needs, in the words of registry garbage-collect",
		Long: `Nothing has to be stopped for it, and a running berthd needs nobody to call it: this has that berthd collect now. What
clients were told about within the grace is kept then. Without a running berthd nobody relies on that, and with SQLite
everything goes that no manifest needs. Manifests in the trash and what they need stay until their hold is over.`,
		Example: "  berthd garbage-collect --dry-run /etc/berth/config.yml\n  berthd garbage-collect -m /etc/berth/config.yml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			loaded, err := config.Load(loadOptions(cmd.Flags(), args))
			if err != nil {
				return err
			}
			a, err := connect(cmd, loaded.Config)
			if errors.Is(err, errNoServer) {
				return server.CollectHere(cmd.Context(), loaded.Config, func(ctx context.Context, s *gc.Service, now bool) error {
					return garbageHere(ctx, cmd.OutOrStdout(), s, now, dry, quiet, gc.Ask{DeleteUntagged: untagged})
				})
			}
			if err != nil {
				return err
			}
			defer func() { _ = a.close() }()
			return garbageThere(cmd, a, dry, untagged)
		},
	}
	f := c.Flags()
	f.BoolVarP(&dry, "dry-run", "d", false, "say what would be deleted, and delete nothing")
	f.BoolVarP(&untagged, "delete-untagged", "m", false, "put manifests into the trash that no tag points at")
	f.BoolVarP(&quiet, "quiet", "q", false, "name no blobs")
	apiFlags(f)
	return c
}

// garbageHere collects without a server.
func garbageHere(ctx context.Context, w io.Writer, s *gc.Service, now, dry, quiet bool, ask gc.Ask) error {
	name := func(d oci.Digest) { fmt.Fprintln(w, "blob eligible for deletion:", d) }
	if now {
		var all []oci.Digest
		p, err := s.Rehearse(ctx, ask, func(d oci.Digest) { all = append(all, d) })
		if err != nil {
			return err
		}
		eligible(w, p.Blobs, p.Manifests)
		for _, d := range all {
			if !quiet {
				name(d)
			}
		}
	} else {
		p, err := s.Preview(ctx, ask)
		if err != nil {
			return err
		}
		eligible(w, p.Blobs, p.Manifests)
		if !quiet {
			if err := s.Each(ctx, name); err != nil {
				return err
			}
		}
	}
	if dry {
		return nil
	}
	r, err := s.Collect(ctx, ask, now, nil)
	if err != nil {
		return err
	}
	return deleted(w, r.Deleted, r.Bytes, r.Failed, r.LastError)
}

// garbageThere has the running berthd collect.
func garbageThere(cmd *cobra.Command, a *api, dry, untagged bool) error {
	ctx, w := cmd.Context(), cmd.OutOrStdout()
	var p previewed
	if err := a.get(ctx, "/api/v1/gc/preview?deleteUntagged="+strconv.FormatBool(untagged), &p); err != nil {
		return err
	}
	eligible(w, p.Blobs, p.Manifests)
	if p.Later > 0 {
		fmt.Fprintf(w, "%d blobs with %d bytes follow when what clients were told about them is no promise any more\n", p.Later, p.LaterBytes)
	}
	if dry {
		return nil
	}
	var j jobView
	if err := a.post(ctx, "/api/v1/gc", map[string]any{"deleteUntagged": untagged}, &j); err != nil {
		return err
	}
	j, err := a.follow(ctx, cmd.ErrOrStderr(), j.ID)
	if err != nil {
		return err
	}
	fmt.Fprintln(w, j.Note)
	return nil
}

func eligible(w io.Writer, blobs, manifests int64) {
	fmt.Fprintf(w, "%d blobs and %d manifests eligible for deletion\n", blobs, manifests)
}

func deleted(w io.Writer, blobs, bytes, failed int64, last string) error {
	fmt.Fprintf(w, "%d blobs with %d bytes deleted\n", blobs, bytes)
	if failed > 0 {
		return fmt.Errorf("%d blobs could not be deleted: %s; run it again", failed, last)
	}
	return nil
}
