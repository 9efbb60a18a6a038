package cli

import (
	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/cli/output"
)

// standIn is a tool that berth stands in for when it is called by its name.
type standIn struct {
	only     []string                      // those commands of berth's own tree; they have the tool's flags
	commands func(a *app) []*cobra.Command // in place of only: commands of their own
	flags    func(a *app, root *cobra.Command)
	lacks    []string            // commands of the tool that berth has not
	why      func(a *app) string // of lacks
	exit     int                 // of every failure; 0 is berth's own codes
	version  string              // of the release whose flags it has; scripts ask for it
}

// standIns are the tools that berth stands in for. Each has the flags and the output of that tool, as far as berth has the verb; what
// it has not is refused with the reason.
func standIns() map[string]standIn {
	return map[string]standIn{
		"skopeo": {version: "1.22.0", only: []string{"copy", "delete", "generate-sigstore-key", "inspect", "list-tags", "login", "logout", "manifest-digest", "standalone-sign", "standalone-verify", "sync"},
			lacks: []string{"layers", "experimental-image-proxy"},
			why: func(a *app) string {
				return a.t("skopeo keeps it out of its manual, for old scripts (layers) and for other programs (experimental-image-proxy); copy DIR is what layers did",
					"该命令不在 skopeo 手册中，仅供旧脚本（layers）或其他程序（experimental-image-proxy）使用；layers 可用 copy 到 dir: 代替")
			}},
		"buildah": {version: "1.28.2", commands: buildahCommands, lacks: []string{"add", "bud", "build", "commit", "config", "containers", "copy", "diff", "from", "images", "info", "inspect", "mkcw", "mount", "prune",
			"pull", "push", "rename", "rm", "rmi", "run", "source", "tag", "umount", "unmount", "unshare"},
			why: func(a *app) string {
				return a.t("berth keeps no images and runs no containers on this machine; it has manifest, login, logout and version of buildah", "berth 不在本机保存镜像或运行容器；仅支持 buildah 的 manifest、login、logout 与 version")
			}},
		"crane": {version: "0.22.1", commands: craneCommands, flags: craneFlags, lacks: []string{"registry"},
			why: func(a *app) string {
				return a.t("crane's registry forgets everything when it ends; berthd is a registry that does not", "crane 的 registry 仅用于测试；请使用 berthd")
			}},
		"podman": {version: "4.3.1", commands: podmanCommands, exit: 125, lacks: podmanLacks(),
			why: func(a *app) string {
				return a.t("berth keeps no images and runs no containers on this machine; it has manifest, image trust, login, logout and version of podman", "berth 不在本机保存镜像或运行容器；仅支持 podman 的 manifest、image trust、login、logout 与 version")
			}},
	}
}

// populate adds the commands of the tool that berth was called as; false is berth itself.
func (a *app) populate(root *cobra.Command) bool {
	s := standIns()[a.name]
	if s.commands == nil {
		for _, name := range s.lacks {
			root.AddCommand(a.lacking(name, s.why(a)))
		}
		return false
	}
	root.AddCommand(s.commands(a)...)
	if s.flags != nil {
		s.flags(a, root)
	}
	for _, name := range s.lacks {
		root.AddCommand(a.lacking(name, s.why(a)))
	}
	return true
}

// lacking is a command of another tool that berth has not.
func (a *app) lacking(name, why string) *cobra.Command {
	return &cobra.Command{Use: name, Hidden: true, DisableFlagParsing: true, RunE: func(cmd *cobra.Command, _ []string) error {
		f := output.Usage(a.t("berth has no %s", "berth 没有 %s"), cmd.CommandPath())
		f.Why = why
		return f.WithFix("%s --help", cmd.Root().Name())
	}}
}

// called gives a command of berth the name and the form that another tool has for it.
func called(use string, c *cobra.Command, aliases ...string) *cobra.Command {
	c.Use, c.Aliases, c.Example = use, aliases, ""
	return c
}

// podmanCommands are the parts of podman that need neither a store nor containers.
func podmanCommands(a *app) []*cobra.Command {
	image := imageCommand(a)
	for _, name := range podmanImages() {
		image.AddCommand(a.lacking(name, standIns()["podman"].why(a)))
	}
	return []*cobra.Command{manifestCommand(a), image, loginCommand(a), logoutCommand(a), versionCommand(a)}
}

// buildahCommands are the parts of buildah that need neither a store nor containers.
func buildahCommands(a *app) []*cobra.Command {
	return []*cobra.Command{manifestCommand(a), loginCommand(a), logoutCommand(a), versionCommand(a)}
}

func podmanImages() []string {
	return []string{"build", "diff", "exists", "history", "import", "inspect", "list", "ls", "load", "mount", "prune", "pull", "push", "rm", "save", "scp", "search", "sign", "tag", "tree", "unmount", "umount", "untag"}
}

func podmanLacks() []string {
	return []string{"artifact", "attach", "auto-update", "build", "commit", "container", "cp", "create", "diff", "events", "exec", "export", "farm", "generate", "healthcheck",
		"history", "images", "import", "info", "init", "inspect", "kill", "kube", "load", "logs", "machine", "mount", "network", "pause", "pod", "port", "ps", "pull", "push",
		"rename", "restart", "rm", "rmi", "run", "save", "search", "secret", "start", "stats", "stop", "system", "tag", "top", "unmount", "unpause", "unshare", "untag", "update", "volume", "wait"}
}
