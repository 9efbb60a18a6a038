package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/server"
	"github.com/berth-registry/berth/server/backup"
	"github.com/berth-registry/berth/server/config"
)

// restoreCommand brings a registry back.
func restoreCommand() *cobra.Command {
	var o server.Restore
	var check, drill bool
	var sample int
	var rate string
	c := &cobra.Command{
		Use:   "restore FROM [CONFIG]",
		Short: "make a snapshot a registry again, in an empty data directory, database and storage",
		Long: `Restore a snapshot of berthd backup. FROM is a directory or s3://BUCKET/PREFIX. The configuration says where to: its data
directory, database and storage must be empty, and may be of other kinds than those that were saved.
Every blob is verified while it is copied; the database comes last, so that a restore that was interrupted is no registry
yet, and goes on when it is asked for again. Accounts, passwords and keys are as they were in the snapshot.`,
		Example: "  berthd restore /mnt/backup --data /var/lib/berth\n  berthd restore --verify s3://backups/berth config.yml\n  berthd restore --check /mnt/backup\n  berthd restore --drill /mnt/backup",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			loaded, err := config.Load(loadOptions(cmd.Flags(), args[1:]))
			if err != nil {
				return err
			}
			switch {
			case !drill && cmd.Flags().Changed("sample"):
				return errors.New("--sample says how many tags a drill pulls, and needs --drill")
			case sample < 1:
				return fmt.Errorf("--sample expects a number of tags, at least 1; got %d", sample)
			}
			p := backupProgress{w: cmd.ErrOrStderr(), now: time.Now, unit: " bytes"}
			o.From, o.Progress = args[0], p.show
			if o.Rate, err = rateOf(rate); err != nil {
				return err
			}
			if drill {
				return drillBackup(cmd, loaded.Config, o, sample)
			}
			if check {
				return checkBackup(cmd, loaded.Config, o)
			}
			r, err := server.RestoreBackup(cmd.Context(), loaded.Config, o)
			if err != nil {
				return err
			}
			return printRestored(cmd, r)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Snapshot, "snapshot", "", "which snapshot; see berthd backup --list (default: the newest)")
	f.BoolVar(&o.Verify, "verify", false, "read back every byte that was written")
	f.BoolVar(&check, "check", false, "read every byte of the snapshot and say what is damaged; restore nothing")
	f.BoolVar(&drill, "drill", false, "start a second registry on the snapshot, in a temporary directory and on loopback, pull a sample from it, and end it")
	f.IntVar(&sample, "sample", 20, "how many tags a drill pulls")
	f.BoolVar(&o.AllowDamaged, "allow-damaged", false, "restore although blobs are missing or damaged in the backup; they wait for a push")
	rateFlag(f, &rate)
	c.MarkFlagsMutuallyExclusive("check", "drill")
	settingFlags(f)
	return c
}

func checkBackup(cmd *cobra.Command, c *config.Config, o server.Restore) error {
	r, lost, err := server.CheckBackup(cmd.Context(), c, o)
	if err != nil {
		return err
	}
	for _, l := range lost {
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "damaged: %s (%s)\n", l.Digest, l.Detail); err != nil {
			return err
		}
	}
	if len(lost) > 0 {
		return fmt.Errorf("%d blobs of snapshot %s are damaged in the backup; make another one with berthd backup --verify", len(lost), r.ID)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "snapshot %s is whole: %d blobs, %d bytes\n", r.ID, r.Holds.Blobs-int64(r.Damaged), r.Holds.Bytes)
	return err
}

func drillBackup(cmd *cobra.Command, c *config.Config, o server.Restore, sample int) error {
	d, err := server.Drill(cmd.Context(), c, o, sample)
	if err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	for _, p := range d.Problems {
		if _, err := fmt.Fprintln(w, "problem:", p); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(w, "a registry was started on snapshot %s: %d tags pulled and verified, %d blobs, %d bytes\n", d.Record.ID, d.Tags, d.Blobs, d.Bytes); err != nil {
		return err
	}
	if len(d.Problems) > 0 {
		return fmt.Errorf("%d tags of the sample could not be pulled", len(d.Problems))
	}
	return nil
}

func printRestored(cmd *cobra.Command, r *backup.Restored) error {
	w := cmd.OutOrStdout()
	if _, err := fmt.Fprintf(w, "restored snapshot %s of %s: %d repositories, %d tags, %d blobs; start berthd with the same configuration\n",
		r.Record.ID, r.Record.At.Format(time.RFC3339), r.Record.Holds.Repositories, r.Record.Holds.Tags, r.Record.Holds.Blobs); err != nil {
		return err
	}
	for _, l := range r.Lost {
		if _, err := fmt.Fprintf(w, "not restored: %s (%s)\n", l.Digest, l.Detail); err != nil {
			return err
		}
	}
	if len(r.Lost) > 0 {
		return errors.New("the registry is restored without the blobs above; push the images that need them again")
	}
	return nil
}
