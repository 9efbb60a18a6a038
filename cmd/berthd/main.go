// Command berthd is the registry server. This folder holds flags, environment, signals and exit codes; the product
// begins at server.New.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/server/config"
)

// The exit codes.
const (
	exitFailure = 1
	exitConfig  = 3 // the configuration has problems
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := rootCommand()
	err := root.ExecuteContext(ctx)
	if err == nil {
		return
	}
	stop()
	var problems config.Problems
	if errors.As(err, &problems) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitConfig)
	}
	fmt.Fprintln(os.Stderr, "error:", err)
	os.Exit(exitFailure)
}

func rootCommand() *cobra.Command {
	serve := serveCommand()
	root := &cobra.Command{
		Use:   "berthd [CONFIG]",
		Short: "berth, the container image registry",
		Long: `berthd is a container image registry. Without arguments it serves on 127.0.0.1:5000 and keeps its data in ./berth-data.

  berthd                                             for this machine, nothing to configure
  berthd --addr :5000 --host registry.example.com    for others
  berthd config.yml                                  with a configuration file; those of registry:2 work`,
		Args:          cobra.MaximumNArgs(1),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          serve.RunE,
	}
	root.Flags().AddFlagSet(serve.Flags())
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(serve, certCommand(), htpasswdCommand(), userCommand(), robotCommand(), tokenCommand(), projectCommand(), configCommand(), healthcheckCommand(), notificationsCommand(), migrateCommand(), dbCommand(), jobCommand(), tagCommand(), trashCommand(), backupCommand(), restoreCommand(), rebuildCommand(), fsckCommand(), gcCommand(), garbageCommand(), openapiCommand(), versionCommand())
	explainUsage(root)
	return root
}
