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

// migrateCommand is for who upgrades the schema before the replicas (berth.database.migrate: manual).
func migrateCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "migrate",
		Short: "show and upgrade the schema of the metadata database",
		Long: `Show and upgrade the schema of the metadata database. A start does so by itself, unless berth.database.migrate is manual.
Migrations only go forward. The version before runs on the new schema, so replicas can be replaced one by one.`,
		Args: cobra.NoArgs,
	}
	status := &cobra.Command{
		Use:   "status [CONFIG]",
		Short: "list the migrations, applied and pending; changes nothing",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			loaded, err := config.Load(loadOptions(cmd.Flags(), args))
			if err != nil {
				return err
			}
			all, err := server.Migrations(cmd.Context(), loaded.Config)
			if err != nil {
				return err
			}
			return printMigrations(cmd.OutOrStdout(), all)
		},
	}
	up := &cobra.Command{
		Use:   "up [CONFIG]",
		Short: "apply the pending migrations; on PostgreSQL beside running replicas",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			loaded, err := config.Load(loadOptions(cmd.Flags(), args))
			if err != nil {
				return err
			}
			applied, err := server.Migrate(cmd.Context(), loaded.Config)
			if err != nil {
				return err
			}
			if len(applied) == 0 {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "schema is up to date, nothing was applied")
				return err
			}
			return printMigrations(cmd.OutOrStdout(), applied)
		},
	}
	for _, verb := range []*cobra.Command{status, up} {
		settingFlags(verb.Flags())
		c.AddCommand(verb)
	}
	return c
}

func printMigrations(w io.Writer, all []metadb.Migration) error {
	table := tabwriter.NewWriter(legible.Writer(w), 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "VERSION\tMIGRATION\tSTATE\tAPPLIED")
	for _, m := range all {
		state, at := "pending", "-"
		if !m.AppliedAt.IsZero() {
			state, at = "applied", m.AppliedAt.UTC().Format(time.RFC3339)
		}
		name := m.Name
		if name == "" {
			name = "(of a newer berthd)"
		}
		_, _ = fmt.Fprintf(table, "%d\t%s\t%s\t%s\n", m.Version, name, state, at)
	}
	return table.Flush()
}
