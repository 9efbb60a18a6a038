package cli

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-registry/berth/cli/output"
)

// commonest is what berth prints without arguments.
func (a *app) commonest() string {
	if _, other := standIns()[a.name]; other {
		return a.t("berth stands in for "+a.name+"; its commands: "+a.name+" --help\n", "berth 代替 "+a.name+" 运行；命令列表："+a.name+" --help\n")
	}
	if a.lang != output.Chinese {
		return `berth moves, inspects, indexes and signs container images.

  berth copy docker://A docker://B     copy an image, with its signatures
  berth sync --src docker --dest docker A B
                                       copy many, and only what is new
  berth inspect docker://A             what is it
  berth list-tags docker://A           which tags are there
  berth login HOST                     sign in, for podman, skopeo and buildah too
  berth trust HOST                     trust the certificate of a registry
  berth manifest create A B C          make an index of images
  berth delete docker://A              delete an image

All commands: berth --help
`
	}
	return `berth 用于复制、查看、索引和签名容器镜像。

  berth copy docker://A docker://B     复制镜像及其签名
  berth sync --src docker --dest docker A B
                                       批量同步，只传输新增内容
  berth inspect docker://A             查看镜像
  berth list-tags docker://A           列出标签
  berth login HOST                     登录，podman、skopeo、buildah 同样可用
  berth trust HOST                     信任仓库的证书
  berth manifest create A B C          创建多平台索引
  berth delete docker://A              删除镜像

全部命令：berth --help
`
}

// help sets how commands explain themselves: what they do, examples, then flags, and where to read more.
func (a *app) help(root *cobra.Command) {
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { fmt.Fprint(cmd.OutOrStdout(), a.helpText(cmd)) })
	root.SetUsageFunc(func(cmd *cobra.Command) error {
		_, err := fmt.Fprintln(cmd.ErrOrStderr(), cmd.UseLine())
		return err
	})
	help := &cobra.Command{Use: "help [COMMAND]", Short: a.t("help about a command", "命令的帮助"), Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			target, _, err := root.Find(args)
			if err != nil || target == nil {
				return errUnknownCommand
			}
			target.InitDefaultHelpFlag()
			return target.Help()
		}}
	root.SetHelpCommand(help)
}

func (a *app) helpText(cmd *cobra.Command) string {
	var b strings.Builder
	if cmd.Example != "" {
		for line := range strings.Lines(strings.TrimSpace(cmd.Example)) {
			fmt.Fprintf(&b, "  %s", strings.TrimLeft(line, " "))
		}
		b.WriteString("\n\n")
	}
	about := cmd.Short
	if cmd.Long != "" {
		about = strings.TrimSpace(cmd.Long)
	}
	fmt.Fprintf(&b, "%s\n\n%s%s\n", about, a.t("Usage: ", "用法："), usageLine(cmd))
	if len(cmd.Aliases) > 0 {
		fmt.Fprintf(&b, "%s%s\n", a.t("Also: ", "别名："), strings.Join(cmd.Aliases, ", "))
	}
	a.helpCommands(&b, cmd)
	if flags := cmd.NonInheritedFlags().FlagUsages(); flags != "" {
		fmt.Fprintf(&b, "\n%s\n%s", a.t("Flags", "参数"), a.flagsText(cmd, flags))
	}
	if cmd.HasParent() {
		fmt.Fprintf(&b, "\n%s%s --help\n", a.t("Flags of every command: ", "所有命令通用的参数："), cmd.Root().Name())
	}
	fmt.Fprintf(&b, "\n%s%s\n", docsURL, anchor(cmd))
	return b.String()
}

// flagsText has the words that the library puts into a list of flags in the user's language.
func (a *app) flagsText(cmd *cobra.Command, flags string) string {
	if a.lang != output.Chinese {
		return flags
	}
	flags = strings.Replace(flags, "help for "+cmd.Name()+"\n", "本命令的帮助\n", 1)
	var b strings.Builder
	for line := range strings.Lines(regexp.MustCompile(`(?m) \(default (.*)\)$`).ReplaceAllString(flags, "（默认 $1）")) {
		if m := regexp.MustCompile(`^ +(?:-., )?--\S+ (\S+)  `).FindStringSubmatch(line); m != nil {
			line = strings.Replace(line, "（"+m[1]+"）", "", 1) // it stands before the text, where t has brought it
		}
		b.WriteString(line)
	}
	return b.String()
}

func usageLine(cmd *cobra.Command) string {
	if !cmd.HasParent() {
		return cmd.Name() + " COMMAND [flags]"
	}
	return cmd.UseLine()
}

// anchor is the section of a command in the reference.
func anchor(cmd *cobra.Command) string {
	if !cmd.HasParent() {
		return ""
	}
	for cmd.Parent().HasParent() {
		cmd = cmd.Parent()
	}
	return "#" + cmd.Name()
}

// helpCommands lists the commands below one by group.
func (a *app) helpCommands(b *strings.Builder, cmd *cobra.Command) {
	width := 0
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			width = max(width, len(c.Name()))
		}
	}
	list := func(id string) {
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() && c.GroupID == id {
				fmt.Fprintf(b, "  %-*s  %s\n", width, c.Name(), c.Short)
			}
		}
	}
	for _, g := range cmd.Groups() {
		fmt.Fprintf(b, "\n%s\n", g.Title)
		list(g.ID)
	}
	if len(cmd.Groups()) == 0 && cmd.HasAvailableSubCommands() {
		fmt.Fprintf(b, "\n%s\n", a.t("Commands", "命令"))
		list("")
	}
}

// visible calls do for every flag that help shows.
func visible(f *pflag.FlagSet, do func(*pflag.Flag)) {
	f.VisitAll(func(flag *pflag.Flag) {
		if !flag.Hidden {
			do(flag)
		}
	})
}
