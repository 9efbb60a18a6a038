package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/internal/legible"
	"github.com/berth-registry/berth/server"
	"github.com/berth-registry/berth/server/config"
	"github.com/berth-registry/berth/server/metadb"
)

// dbCommand moves the metadata from one database to another.
func dbCommand() *cobra.Command {
	c := &cobra.Command{Use: "db", Short: "move the metadata to another database", Args: cobra.NoArgs}
	var o server.Copy
	copyTo := &cobra.Command{
		Use:   "copy --to DATABASE [CONFIG]",
		Short: "copy all metadata into an empty database of either kind, and compare every row",
		Long: `Copy all metadata into an empty database: from SQLite to PostgreSQL when one machine is not enough, or back.
DATABASE is postgres://user:password@host:5432/name or sqlite:PATH, where PATH is a berth.db or a data directory. A password
can be left out of the URL and come from PGPASSWORD or PGPASSFILE.
berthd must not run meanwhile. What the source says is not changed; what a berthd that was killed left in the logs beside a
SQLite file is made part of it first. Content that is not in the database stays where it is.
In the end every row is compared. A copy that was interrupted goes on with --resume; until it is complete, no berthd uses
its target.`,
		Example: "  berthd db copy --from sqlite:/var/lib/berth/berth.db --to postgres://berth@db.example.com/berth\n" +
			"  berthd db copy --to postgres://berth@db.example.com/berth --data /var/lib/berth",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			loaded, err := config.Load(loadOptions(cmd.Flags(), args))
			if err != nil {
				return err
			}
			p := &copyProgress{w: cmd.ErrOrStderr(), now: time.Now}
			o.Progress = p.show
			tables, err := server.CopyDatabase(cmd.Context(), loaded.Config, o)
			if err != nil {
				return err
			}
			return printCopied(cmd.OutOrStdout(), tables)
		},
	}
	f := copyTo.Flags()
	f.StringVar(&o.From, "from", "", "database to copy (default: the configured one)")
	f.StringVar(&o.To, "to", "", "empty database to copy into")
	f.BoolVar(&o.Resume, "resume", false, "go on with a copy that was interrupted")
	f.BoolVar(&o.Live, "live", false, "copy the present state of a PostgreSQL database that is in use; what is written later is not copied")
	settingFlags(f)
	_ = copyTo.MarkFlagRequired("to")
	c.AddCommand(copyTo)
	return c
}

// copyProgress writes a line at the end of a table, and every two seconds in a long one.
type copyProgress struct {
	w    io.Writer
	now  func() time.Time
	last metadb.CopyProgress
	at   time.Time
}

func (c *copyProgress) show(p metadb.CopyProgress) {
	if c.at.IsZero() {
		c.at = c.now()
	}
	if p == c.last || p.Rows < p.Total && c.now().Sub(c.at) < 2*time.Second {
		return
	}
	c.last, c.at = p, c.now()
	did := "copied"
	if p.Verify {
		did = "compared"
	}
	_, _ = fmt.Fprintf(c.w, "%s %s: %d of %d rows\n", did, p.Table, p.Rows, p.Total)
}

func printCopied(w io.Writer, tables []metadb.CopiedTable) error {
	table := tabwriter.NewWriter(legible.Writer(w), 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "TABLE\tROWS\tSHA256")
	for _, t := range tables {
		_, _ = fmt.Fprintf(table, "%s\t%d\t%.16s\n", t.Name, t.Rows, t.Sum)
	}
	return table.Flush()
}
