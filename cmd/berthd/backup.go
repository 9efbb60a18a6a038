package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-registry/berth/internal/legible"
	"github.com/berth-registry/berth/server"
	"github.com/berth-registry/berth/server/backup"
	"github.com/berth-registry/berth/server/config"
)

// backupCommand saves a registry, while it runs or not.
func backupCommand() *cobra.Command {
	var list, verify bool
	var keep int
	var rate string
	c := &cobra.Command{
		Use:   "backup TARGET [CONFIG]",
		Short: "save the registry while it runs: metadata and content, only what is new",
		Long: `Make a snapshot of the registry. A running berthd makes it as a job and serves on; without one, this command does.
TARGET is a directory or s3://BUCKET/PREFIX. A bucket is reached with the settings of storage.s3, or ?region=…&endpoint=…
behind its name and what the AWS SDK finds in the environment.
Whatever was acknowledged before the snapshot is in it. Content is copied that the target does not have yet, each blob
verified; one that the registry itself has not got whole is named, and the exit code is 1.
A snapshot has password hashes and signing keys: keep it as secret as the data directory. The configuration, the directory
tls and a htpasswd file are not in it.`,
		Example: "  berthd backup /mnt/backup --keep 14 --data /var/lib/berth\n  berthd backup 's3://backups/berth?region=eu-central-1' config.yml\n  berthd backup --list /mnt/backup",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			loaded, err := config.Load(loadOptions(cmd.Flags(), args[1:]))
			if err != nil {
				return err
			}
			if list {
				all, err := server.Backups(cmd.Context(), loaded.Config, args[0])
				if err != nil {
					return err
				}
				return printSnapshots(cmd.OutOrStdout(), all)
			}
			bytes, err := rateOf(rate)
			if err != nil {
				return err
			}
			return takeBackup(cmd, loaded.Config, backup.Ask{Target: args[0], Keep: keep, Rate: bytes, Verify: verify})
		},
	}
	f := c.Flags()
	f.BoolVar(&list, "list", false, "list the snapshots of TARGET, and make none")
	f.IntVar(&keep, "keep", 0, "then remove this registry's snapshots but the newest so many, and what only they need (default: keep all)")
	f.BoolVar(&verify, "verify", false, "also read what TARGET has already, and copy again what is damaged there")
	rateFlag(f, &rate)
	apiFlags(f)
	return c
}

func rateFlag(f *pflag.FlagSet, rate *string) {
	f.StringVar(rate, "rate", "", "most bytes per second to copy, such as 20MiB (default: as fast as it goes)")
}

func rateOf(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := config.ParseBytes(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("--rate expects bytes per second such as 20MiB, got %q", text)
	}
	return int64(n), nil
}

// takeBackup has a running berthd make the backup, or makes it.
func takeBackup(cmd *cobra.Command, c *config.Config, ask backup.Ask) error {
	ctx := cmd.Context()
	if strings.TrimSpace(ask.Target) == "" { // a variable of a script that is not set
		return errors.New("TARGET is empty; name a directory, or s3://BUCKET/PREFIX")
	}
	a, err := connect(cmd, c)
	if errors.Is(err, errNoServer) {
		p := backupProgress{w: cmd.ErrOrStderr(), now: time.Now, unit: " bytes"}
		r, err := server.Backup(ctx, c, version, ask, p.show)
		if err != nil {
			return err
		}
		return printTaken(cmd.OutOrStdout(), r)
	}
	if err != nil {
		return err
	}
	defer func() { _ = a.close() }()
	if !strings.Contains(ask.Target, "://") { // the server's working directory is another
		if ask.Target, err = filepath.Abs(ask.Target); err != nil {
			return err
		}
	}
	var j jobView
	if err := a.post(ctx, "/api/v1/backups", ask, &j); err != nil {
		return err
	}
	if j, err = a.follow(ctx, cmd.ErrOrStderr(), j.ID); err != nil {
		return err
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), j.Note)
	return err
}

func printTaken(w io.Writer, r *backup.Record) error {
	if _, err := fmt.Fprintln(w, r.Summary()); err != nil {
		return err
	}
	for _, d := range r.Damage {
		if _, err := fmt.Fprintf(w, "damaged: %s (%s)\n", d.Digest, d.Detail); err != nil {
			return err
		}
	}
	if r.Damaged > 0 {
		return fmt.Errorf("snapshot %s is complete except for %d blobs, which the registry has not got whole; see berthd fsck, push them again and make another backup", r.ID, r.Damaged)
	}
	return nil
}

func printSnapshots(w io.Writer, all []backup.Entry) error {
	table := tabwriter.NewWriter(legible.Writer(w), 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "SNAPSHOT\tTAKEN\tBERTH\tREGISTRY\tREPOSITORIES\tTAGS\tBLOBS\tBYTES\tCOPIED\tDAMAGED")
	for _, e := range all {
		if e.Problem != "" {
			_, _ = fmt.Fprintf(table, "%s\t%s\n", e.ID, e.Problem)
			continue
		}
		r := e.Record
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%.8s\t%d\t%d\t%d\t%d\t%d\t%d\n", r.ID, r.At.Format(time.RFC3339), r.Berth, r.Source,
			r.Holds.Repositories, r.Holds.Tags, r.Holds.Blobs, r.Holds.Bytes, r.Copied.Bytes, r.Damaged)
	}
	return table.Flush()
}

// backupProgress writes a line every two seconds, and whenever something else begins.
type backupProgress struct {
	w     io.Writer
	now   func() time.Time
	unit  string // of what is counted, with a space before it
	doing string
	at    time.Time
}

func (b *backupProgress) show(p backup.Progress) {
	if p.Doing == b.doing && b.now().Sub(b.at) < 2*time.Second {
		return
	}
	b.doing, b.at = p.Doing, b.now()
	if p.Total > 0 {
		_, _ = fmt.Fprintf(b.w, "%s: %d of %d%s (%d %%)\n", p.Doing, p.Done, p.Total, b.unit, 100*p.Done/p.Total)
		return
	}
	_, _ = fmt.Fprintln(b.w, p.Doing)
}
