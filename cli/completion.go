package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-registry/berth/cli/output"
)

func completionCommand(a *app) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	c := &cobra.Command{
		Use: "completion SHELL", Short: a.t("print the completion for bash, zsh, fish or powershell", "输出 bash、zsh、fish、powershell 的补全脚本"),
		Example: "source <(berth completion bash)", Args: a.args(1, 1), ValidArgs: shells,
	}
	c.RunE = a.run(func(_ context.Context, args []string) error {
		root := c.Root()
		switch args[0] {
		case "bash":
			return root.GenBashCompletionV2(a.Out, true)
		case "zsh":
			return root.GenZshCompletion(a.Out)
		case "fish":
			return root.GenFishCompletion(a.Out, true)
		case "powershell", "pwsh":
			return root.GenPowerShellCompletionWithDesc(a.Out)
		}
		return output.Usage(a.t("%s is none of %s", "%s 不在 %s 之中"), args[0], strings.Join(shells, ", "))
	})
	return c
}

func manCommand(a *app) *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: "man [COMMAND…]", Short: a.t("print the manual page of a command", "输出命令的手册页"),
		Example: "berth man copy | man -l -\nberth man --dir /usr/local/share/man/man1",
	}
	c.Flags().StringVar(&dir, "dir", "", a.t("write the pages of all commands to `DIR`", "将所有命令的手册页写入目录"))
	c.RunE = a.run(func(_ context.Context, args []string) error {
		if dir == "" {
			target, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return output.Usage(a.t("there is no command %s", "没有命令 %s"), strings.Join(args, " "))
			}
			_, err = fmt.Fprint(a.Out, a.manual(target))
			return err
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		var write func(cmd *cobra.Command) error
		write = func(cmd *cobra.Command) error {
			file := filepath.Join(dir, strings.ReplaceAll(cmd.CommandPath(), " ", "-")+".1")
			if err := os.WriteFile(file, []byte(a.manual(cmd)), 0o644); err != nil {
				return err
			}
			for _, sub := range cmd.Commands() {
				if sub.IsAvailableCommand() {
					if err := write(sub); err != nil {
						return err
					}
				}
			}
			return nil
		}
		return write(c.Root())
	})
	return c
}

// manual is the page of a command in the macros of man(7).
func (a *app) manual(cmd *cobra.Command) string {
	var b strings.Builder
	title := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"berth %s\"\n.SH %s\n%s \\- %s\n", roff(strings.ToUpper(title)), version, a.t("NAME", "名称"), roff(title), roff(cmd.Short))
	fmt.Fprintf(&b, ".SH %s\n.B %s\n", a.t("SYNOPSIS", "概要"), roff(usageLine(cmd)))
	if cmd.Long != "" {
		fmt.Fprintf(&b, ".SH %s\n%s\n", a.t("DESCRIPTION", "说明"), roff(cmd.Long))
	}
	if cmd.Example != "" {
		fmt.Fprintf(&b, ".SH %s\n.nf\n%s\n.fi\n", a.t("EXAMPLES", "示例"), roff(cmd.Example))
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, ".SH %s\n", a.t("COMMANDS", "命令"))
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(sub.Name()), roff(sub.Short))
			}
		}
	}
	for _, set := range []struct {
		title string
		flags *pflag.FlagSet
	}{{a.t("OPTIONS", "参数"), cmd.NonInheritedFlags()}, {a.t("OPTIONS OF EVERY COMMAND", "通用参数"), cmd.InheritedFlags()}} {
		first := true
		visible(set.flags, func(f *pflag.Flag) {
			if first {
				fmt.Fprintf(&b, ".SH %s\n", set.title)
				first = false
			}
			name, usage := pflag.UnquoteUsage(f)
			flag := "--" + f.Name
			if f.Shorthand != "" {
				flag = "-" + f.Shorthand + ", " + flag
			}
			if name != "" {
				flag += " " + name
			}
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(flag), roff(usage))
		})
	}
	fmt.Fprintf(&b, ".SH %s\n%s%s\n", a.t("MORE", "更多"), roff(docsURL), roff(anchor(cmd)))
	return b.String()
}

// roff protects what would be a macro or another character than is meant.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

func aliasCommand(a *app) *cobra.Command {
	c := &cobra.Command{Use: "alias", Short: a.t("be called by the names of other tools", "以其他工具的名称调用"), Args: a.args(0, 0)}
	var force bool
	install := &cobra.Command{
		Use: "install DIR [NAME…]", Short: a.t("make links in a folder, by which berth is called as another tool", "在目录中创建链接，以其他工具的名称调用 berth"),
		Example: "berth alias install ~/bin\nskopeo inspect docker://registry.example.com/team/app:v1",
		Long: a.t("Without names, links for all tools that berth stands in for: skopeo, crane and the parts of podman that need neither a store nor containers (manifest, image trust, login, logout). What a tool has and berth has not is refused with the reason.",
			"省略名称时为所有可代替的工具创建链接：skopeo、crane，以及 podman 中不需要本地存储与容器的部分（manifest、image trust、login、logout）。berth 没有的功能会说明原因并拒绝。"),
		Args: a.args(1, 0),
	}
	install.Flags().BoolVar(&force, "force", false, a.t("take the place of what is there", "替换已存在的文件"))
	install.RunE = a.run(func(_ context.Context, args []string) error {
		names := args[1:]
		if len(names) == 0 {
			for name := range standIns() {
				names = append(names, name)
			}
			slices.Sort(names)
		}
		self, err := os.Executable()
		if err != nil {
			return err
		}
		for _, name := range names {
			if _, known := standIns()[name]; !known {
				return output.Usage(a.t("berth does not stand in for %s", "berth 不能代替 %s"), name)
			}
			link := filepath.Join(args[0], name)
			if _, err := os.Lstat(link); err == nil {
				if !force {
					return &output.Failure{What: link + a.t(" is there already", " 已存在"), Fix: "--force", Exit: output.ExitFailure}
				}
				if err := os.Remove(link); err != nil {
					return err
				}
			}
			if err := os.Symlink(self, link); err != nil {
				return failed(err, a.t("cannot link %s", "无法创建链接 %s"), link)
			}
			fmt.Fprintln(a.Out, link)
		}
		return nil
	})
	c.AddCommand(install)
	return c
}
