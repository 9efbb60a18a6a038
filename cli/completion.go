package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
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
	c := &cobra.Command{Use: "alias", Short: a.t("be called by the names of other tools", "以其他工具的名称调用"), Args: a.args(1, 0),
		RunE: func(*cobra.Command, []string) error { return errUnknownCommand }}
	var force bool
	install := &cobra.Command{
		Use: "install DIR [NAME…]", Short: a.t("make links in a folder, by which berth is called as another tool", "在目录中创建链接，以其他工具的名称调用 berth"),
		Example: "berth alias install ~/bin\nskopeo inspect docker://registry.example.com/team/app:v1",
		Long: a.t("Without names, links for all tools that berth stands in for: skopeo, crane and the parts of podman and buildah that need neither a store nor containers (manifest, login, logout; of podman image trust, too). The folder is made when it is not there, links that are there stay, and nothing is done when something else is in the place of one. What a tool has and berth has not is refused with the reason.",
			"省略名称时为所有可代替的工具创建链接：skopeo、crane，以及 podman 与 buildah 中不需要本地存储与容器的部分（manifest、login、logout；podman 另有 image trust）。目录不存在时会创建，已有的链接保持不变，若位置被其他文件占用则不做任何改动。berth 没有的功能会说明原因并拒绝。"),
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
		if real, err := filepath.EvalSymlinks(self); err == nil { // berth itself may be called by a link
			self = real
		}
		links, err := a.linksToMake(self, args[0], names, force)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(args[0], 0o755); err != nil {
			return err
		}
		for _, name := range names {
			link := filepath.Join(args[0], name)
			if slices.Contains(links, link) {
				if err := replaceLink(self, link); err != nil {
					return failed(err, a.t("cannot link %s", "无法创建链接 %s"), link)
				}
			}
			fmt.Fprintln(a.Out, link)
		}
		if !onPath(args[0]) {
			a.warn(args[0]+" is not in PATH", args[0]+" 不在 PATH 中")
		}
		return nil
	})
	c.AddCommand(install)
	return c
}

// linksToMake are those that are not there yet, or are there and point elsewhere when force allows to replace them. Whatever
// stands in the way is said before the first is made.
func (a *app) linksToMake(self, dir string, names []string, force bool) (links []string, err error) {
	for _, name := range names {
		if _, known := standIns()[name]; !known {
			return nil, output.Usage(a.t("berth does not stand in for %s", "berth 不能代替 %s"), name).
				WithFix("%s", strings.Join(slices.Sorted(maps.Keys(standIns())), ", "))
		}
		link := filepath.Join(dir, name)
		info, err := os.Lstat(link)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, failed(err, a.t("cannot link %s", "无法创建链接 %s"), link)
		case info.IsDir():
			return nil, &output.Failure{What: link + a.t(" is a folder", " 是目录"), Fix: a.t("name another folder for the links", "请指定其他目录"), Exit: output.ExitFailure}
		default:
			if at, err := filepath.EvalSymlinks(link); err == nil && at == self && info.Mode()&fs.ModeSymlink != 0 {
				continue
			}
			if !force {
				return nil, &output.Failure{What: link + a.t(" is there already, and is not berth; no link was made", " 已存在且不是 berth；未创建任何链接"),
					Fix: a.t("name another folder, or take its place with --force", "指定其他目录，或用 --force 替换"), Exit: output.ExitFailure}
			}
		}
		links = append(links, link)
	}
	return links, nil
}

// replaceLink makes a link in one step: what is there counts until the link does.
func replaceLink(self, link string) error {
	fresh := link + ".new-" + strings.ToLower(rand.Text())
	if err := os.Symlink(self, fresh); err != nil {
		return err
	}
	if err := os.Rename(fresh, link); err != nil {
		return errors.Join(err, os.Remove(fresh))
	}
	return nil
}

// onPath reports whether a folder is one in which the shell looks for programs.
func onPath(dir string) bool {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return true
	}
	return slices.ContainsFunc(filepath.SplitList(os.Getenv("PATH")), func(p string) bool { return filepath.Clean(p) == abs })
}
