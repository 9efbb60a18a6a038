package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-registry/berth/cli/option"
	"github.com/berth-registry/berth/cli/output"
)

// group is commands that stand together in the help.
type group struct {
	id       string
	en, zh   string
	commands []func(*app) *cobra.Command
}

// groups are all commands of the tool. To add one: write its file, and its function here.
func groups() []group {
	return []group{
		{"transfer", "Transfer", "传输", []func(*app) *cobra.Command{copyCommand, syncCommand, bundleCommand, inspectCommand, listTagsCommand, deleteCommand,
			loginCommand, logoutCommand, manifestDigestCommand, standaloneSignCommand, standaloneVerifyCommand, generateSigstoreKeyCommand}},
		{"index", "Indexes", "索引", []func(*app) *cobra.Command{manifestCommand, indexCommand}},
		{"low", "Low level", "底层", []func(*app) *cobra.Command{digestCommand, catalogCommand, blobCommand, fileCommand, exportCommand,
			mutateCommand, appendCommand, flattenCommand, rebaseCommand, validateCommand, tagsCommand}},
		{"supply", "Supply chain", "供应链", []func(*app) *cobra.Command{signCommand, verifyCommand, attestCommand, verifyAttestationCommand, downloadCommand, keysCommand, imageCommand,
			referrersCommand, attachCommand, artifactCommand}},
		{"tool", "Tool", "工具", []func(*app) *cobra.Command{trustCommand, contextCommand, doctorCommand, explainCommand, demoCommand,
			completionCommand, manCommand, aliasCommand, versionCommand}},
	}
}

const docsURL = "https://github.com/berth-registry/berth/blob/main/docs/reference/berth.md"

// root makes the whole tree.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   a.name,
		Short: a.t("berth, the image tool: copy, inspect, index and sign, without a daemon", "berth 镜像工具：复制、查看、索引与签名，无需守护进程"),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return errUnknownCommand
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := io.WriteString(a.Out, a.commonest())
			return err
		},
		PersistentPreRunE: func(*cobra.Command, []string) error {
			a.logging()
			if err := a.global.Check(); err != nil {
				return err
			}
			return a.useContext()
		},
		SilenceUsage: true, SilenceErrors: true, TraverseChildren: true, DisableSuggestions: true,
		Version: version,
	}
	root.SetVersionTemplate(a.versionLine() + "\n")
	short := "v"
	if a.name == "crane" { // where it is --verbose
		short = ""
	}
	root.Flags().BoolP("version", short, false, a.t("print the version", "显示版本"))
	option.OptionalBool(root.Flags(), &a.global.TLSVerify, "tls-verify", "")
	root.Flags().Lookup("tls-verify").Hidden = true
	a.global.AddFlags(root.PersistentFlags(), a.t)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(a.flagError)
	if a.populate(root) {
		a.help(root)
		a.complete(root)
		return root
	}
	only := standIns()[a.name].only
	for _, g := range groups() {
		for _, make := range g.commands {
			c := make(a)
			if only != nil && !slices.Contains(only, c.Name()) {
				continue
			}
			if !root.ContainsGroup(g.id) {
				root.AddGroup(&cobra.Group{ID: g.id, Title: a.t(g.en, g.zh)})
			}
			c.GroupID = g.id
			root.AddCommand(c)
		}
	}
	a.help(root)
	a.complete(root)
	return root
}

// errUnknownCommand is a first word that is no command; failure says which is near.
var errUnknownCommand = errors.New("unknown command")

// logging lets the libraries speak with --debug only: what they would say without it, an error says better.
func (a *app) logging() {
	logrus.SetOutput(a.Err)
	logrus.SetLevel(logrus.ErrorLevel)
	if a.global.Debug {
		logrus.SetLevel(logrus.DebugLevel)
	}
}

// flagError says which flag is near one that is not known, and whether the tool whose command it is would know it.
func (a *app) flagError(cmd *cobra.Command, err error) error {
	f := output.Usage("%s: %v", cmd.CommandPath(), err)
	f.Fix = a.t("see ", "参见 ") + cmd.CommandPath() + " --help"
	var unknown *pflag.NotExistError
	var needs *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &needs):
		f.What = fmt.Sprintf(a.t("flag %s of %s needs a value", "%[2]s 的参数 %[1]s 需要一个值"), dashed(needs.GetSpecifiedName()), cmd.CommandPath())
		return f
	case errors.As(err, &invalid):
		f.What = fmt.Sprintf(a.t("flag %s of %s cannot be %q", "%[2]s 的参数 %[1]s 不能是 %[3]q"), dashed(invalid.GetFlag().Name), cmd.CommandPath(), invalid.GetValue())
		f.Why = invalid.Unwrap().Error()
		return f
	case !errors.As(err, &unknown):
		return f
	}
	name := unknown.GetSpecifiedName()
	f.What = a.t("unknown flag ", "未知的参数 ") + dashed(name) + " (" + cmd.CommandPath() + ")"
	if tool := upstream(cmd); tool != "" {
		f.Why = fmt.Sprintf(a.t("%s does not have it either: berth knows every flag of its manual", "%s 也没有该参数：berth 支持其手册中的全部参数"), tool)
	}
	var names []string
	cmd.Flags().VisitAll(func(flag *pflag.Flag) { names = append(names, flag.Name) })
	if near := output.Closest(name, names); near != "" && len(name) > 1 {
		f.Fix = a.meant("--" + near)
	}
	return f
}

// dashed is a flag as it is typed.
func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// upstream is the command of the tool whose flags a command has, all of them, which the tests compare with its manual; "" when
// there is none.
func upstream(cmd *cobra.Command) string {
	words := strings.Fields(cmd.CommandPath())
	switch {
	case len(words) == 2 && slices.Contains(standIns()["skopeo"].only, words[1]):
		return "skopeo " + words[1]
	case len(words) == 3 && words[1] == "manifest" && slices.Contains([]string{"add", "annotate", "create", "inspect", "push", "remove", "rm"}, words[2]):
		return "podman manifest " + words[2]
	}
	return ""
}
