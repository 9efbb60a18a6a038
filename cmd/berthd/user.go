package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/server"
	"github.com/berth-registry/berth/server/config"
)

// userCommand is for who has the data directory or the database, and no way into the registry.
func userCommand() *cobra.Command {
	c := &cobra.Command{Use: "user", Short: "recover local accounts", Args: cobra.NoArgs}
	var generate bool
	reset := &cobra.Command{
		Use:   "reset-password NAME [CONFIG]",
		Short: "give a local account a new password; a running berthd takes it within a minute",
		Long: `Give a local account, such as admin, a new password. The password is asked for, or is the first line of standard
input when that is not a terminal; with --generate one is made up and printed.
It works beside a running berthd, which takes the new password within a minute.`,
		Example: "  berthd user reset-password admin --generate --data ./berth-data",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			loaded, err := config.Load(loadOptions(cmd.Flags(), args[1:]))
			if err != nil {
				return err
			}
			password := ""
			if !generate {
				if password, err = readPassword(cmd, args[0], true); err != nil {
					return err
				}
			}
			generated, err := server.ResetPassword(cmd.Context(), loaded.Config, args[0], password)
			if err != nil {
				return err
			}
			if generated != "" {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s / %s\n", args[0], generated)
			} else {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "password of %s changed\n", args[0])
			}
			return err
		},
	}
	reset.Flags().BoolVar(&generate, "generate", false, "make a password up and print it")
	settingFlags(reset.Flags())
	c.AddCommand(reset)
	return c
}
