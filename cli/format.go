package cli

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-registry/berth/cli/output"
)

// formatFlag adds -o, how the result is printed. Commands of other tools print without it what those tools do.
func (a *app) formatFlag(f *pflag.FlagSet, normal output.Kind) *output.Format {
	format := &output.Format{Kind: normal, Short: isTerminal(a.Out)}
	f.VarP(format, "output", "o", a.t("print as table, wide (with nothing cut, and more columns where there are more), json, yaml, name, csv, go-template=TEXT or jsonpath=TEXT", "输出格式：table、wide（不截断，可能有更多列）、json、yaml、name、csv、go-template=TEXT、jsonpath=TEXT"))
	f.BoolVar(&format.NoHeading, "no-heading", false, a.t("leave out the heading of a table", "不显示表头"))
	f.BoolVarP(&format.Quiet, "quiet", "q", false, a.t("print names only, one on a line (as -o name)", "只输出名称，每行一个（同 -o name）"))
	f.BoolVar(&format.NoTrunc, "no-trunc", false, a.t("do not cut digests in a table on a terminal", "终端表格中不截断摘要"))
	return format
}

// args wants at least and at most so many arguments; most below least is no limit.
func (a *app) args(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		var f *output.Failure
		switch {
		case len(args) < least:
			f = output.Usage(a.t("%s expects %d arguments; got %d", "%s 需要 %d 个参数，得到 %d 个"), cmd.CommandPath(), least, len(args))
		case most >= least && len(args) > most:
			f = output.Usage(a.t("%s expects %d arguments; got %d", "%s 需要 %d 个参数，得到 %d 个"), cmd.CommandPath(), most, len(args))
		default:
			return nil
		}
		return f.WithFix("%s", cmd.UseLine())
	}
}
