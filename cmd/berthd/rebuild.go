package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/server"
	"github.com/berth-registry/berth/server/backup"
	"github.com/berth-registry/berth/server/config"
)

// rebuildCommand is for who has lost the database and has no backup.
func rebuildCommand() *cobra.Command {
	var dryRun bool
	c := &cobra.Command{
		Use:   "rebuild [CONFIG]",
		Short: "make the metadata again from the storage alone, when the database is lost",
		Long: `Make the database of a registry again from its storage: from the content there, and from the journal that berthd writes
beside it (berth.journal), some seconds behind the pushes. berthd must not run, and the database must not be there: the file
berth.db is to be moved away, or the PostgreSQL database to be empty.
Projects, repositories, manifests, referrers and tags come back; every manifest is verified. Accounts, robots, tokens, the
history of tags and the trash do not: the next start makes a new first administrator. What could not be brought back is
named, and the exit code is 1. The storage is not changed.`,
		Example: "  berthd rebuild --dry-run --data /var/lib/berth\n  berthd rebuild config.yml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			loaded, err := config.Load(loadOptions(cmd.Flags(), args))
			if err != nil {
				return err
			}
			p := backupProgress{w: cmd.ErrOrStderr(), now: time.Now}
			r, err := server.Rebuild(cmd.Context(), loaded.Config, dryRun, p.show)
			if err != nil {
				return err
			}
			return printRebuilt(cmd, r, dryRun)
		},
	}
	c.Flags().BoolVar(&dryRun, "dry-run", false, "say what would come back, and make nothing")
	settingFlags(c.Flags())
	return c
}

func printRebuilt(cmd *cobra.Command, r *backup.Rebuilt, dryRun bool) error {
	did := "rebuilt"
	if dryRun {
		did = "would rebuild"
	}
	w := cmd.OutOrStdout()
	if _, err := fmt.Fprintf(w, "%s %d repositories, %d manifests, %d tags, %d blobs (%d bytes) of the storage\n", did,
		r.Holds.Repositories, r.Holds.Manifests, r.Holds.Tags, r.Holds.Blobs, r.Holds.Bytes); err != nil {
		return err
	}
	if r.Idle.Blobs > 0 {
		if _, err := fmt.Fprintf(w, "%d blobs (%d bytes) belong to no manifest; collection removes them after its grace\n", r.Idle.Blobs, r.Idle.Bytes); err != nil {
			return err
		}
	}
	for _, p := range r.Problems {
		if _, err := fmt.Fprintln(w, "problem:", p); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintln(w, "accounts, tokens, the history of tags and the trash are not in the storage; the next start makes a new first administrator"); err != nil {
		return err
	}
	if r.Failed > 0 {
		return fmt.Errorf("%d things could not be brought back", r.Failed)
	}
	return nil
}
