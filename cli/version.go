package cli

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is the release that this source becomes.
const version = "0.1.0"

func (a *app) versionLine() string {
	revision := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = s.Value
			}
		}
	}
	return fmt.Sprintf("%s version %s (revision %s, %s %s/%s)", a.name, version, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func versionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: a.t("print the version", "显示版本"), Args: cobra.NoArgs,
		RunE: a.run(func(context.Context, []string) error {
			_, err := fmt.Fprintln(a.Out, a.versionLine())
			return err
		}),
	}
}
