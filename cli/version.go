package cli

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-registry/berth/cli/output"
)

// version is the release that this source becomes.
const version = "0.1.0"

// build is what version prints.
type build struct {
	Version  string `json:"version"` // of the tool that berth stands in for, when it does
	Berth    string `json:"berth"`
	Revision string `json:"revision"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Client   *build `json:"-"` // itself, for podman's templates: {{.Client.Version}}
}

func (a *app) build() build {
	b := build{Version: version, Berth: version, Revision: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.Revision = s.Value
			}
		}
	}
	if s := standIns()[a.name]; s.version != "" {
		b.Version = s.version
	}
	self := b
	b.Client = &self
	return b
}

// versionLine is for people and for scripts, which take the third word: of a tool that berth stands in for, it is that of the
// release whose flags it has.
func (a *app) versionLine() string {
	b := a.build()
	if b.Version != b.Berth {
		return fmt.Sprintf("%s version %s (berth %s, revision %s, %s %s)", a.name, b.Version, b.Berth, b.Revision, b.Go, b.Platform)
	}
	return fmt.Sprintf("%s version %s (revision %s, %s %s)", a.name, b.Version, b.Revision, b.Go, b.Platform)
}

func versionCommand(a *app) *cobra.Command {
	c := &cobra.Command{Use: "version", Short: a.t("print the version", "显示版本"), Args: a.args(0, 0)}
	var format *output.Format
	var text string
	if a.name == "podman" || a.name == "buildah" {
		c.Flags().StringVarP(&text, "format", "f", "", a.t("print as json or by a Go `TEMPLATE`", "以 json 或 Go 模板输出"))
		format = &output.Format{Kind: output.TableKind}
	} else {
		format = a.versionFormat(c.Flags())
	}
	c.RunE = a.run(func(context.Context, []string) error {
		b := a.build()
		switch {
		case text == "json":
			return output.WriteJSON(a.Out, b)
		case text != "":
			return output.ExecuteTemplate(a.Out, text, b)
		case a.name == "crane": // as crane does
			_, err := fmt.Fprintln(a.Out, b.Version)
			return err
		case format.Tables():
			_, err := fmt.Fprintln(a.Out, a.versionLine())
			return err
		}
		return format.Print(a.Out, b, output.Table{Header: []string{"VERSION", "REVISION", "GO", "PLATFORM"}, Rows: [][]string{{b.Version, b.Revision, b.Go, b.Platform}}})
	})
	return c
}

// versionFormat is -o, and nothing that a line of a version has no use for.
func (a *app) versionFormat(f *pflag.FlagSet) *output.Format {
	format := a.formatFlag(f, output.TableKind)
	for _, name := range []string{"no-heading", "no-trunc"} {
		f.Lookup(name).Hidden = true
	}
	return format
}
