package cli

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-registry/berth/cli/output"
)

// Flags are the flags of every command, by its path below the tool ("" is the tool itself), those of the tool included.
func Flags() map[string][]string {
	known := map[string][]string{}
	walk(output.English, func(path string, cmd *cobra.Command) {
		add := func(f *pflag.Flag) { known[path] = append(known[path], f.Name) }
		cmd.Flags().VisitAll(add)
		cmd.PersistentFlags().VisitAll(add)
		cmd.InheritedFlags().VisitAll(add)
	})
	return known
}

// Texts are the texts of help in a language: what each command does by its path, and what each flag does by the path
// and the name.
func Texts(l output.Language) map[string]string {
	texts := map[string]string{}
	walk(l, func(path string, cmd *cobra.Command) {
		texts[path] = cmd.Short
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				texts[path+" --"+f.Name] = f.Usage
			}
		})
	})
	return texts
}

func walk(l output.Language, visit func(path string, cmd *cobra.Command)) {
	a := &app{name: "berth", lang: l}
	var down func(prefix string, cmd *cobra.Command)
	down = func(prefix string, cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			if c.Hidden { // of another tool, and refused
				continue
			}
			path := c.Name()
			if prefix != "" {
				path = prefix + " " + path
			}
			visit(path, c)
			down(path, c)
		}
	}
	root := a.root()
	visit("", root)
	down("", root)
}

// Explained are the codes that berth explain knows.
func Explained() map[string]bool {
	known := map[string]bool{}
	for code := range explained() {
		known[code] = true
	}
	return known
}

// K3sRegistries is k3sRegistries.
func K3sRegistries(old []byte, host, ca string) ([]byte, error) { return k3sRegistries(old, host, ca) }

// Verbs are the commands that berth has when it is called by another tool's name, by their path, with the long and short names of their
// flags, aliases included; nil for one that it refuses as a whole, and says why.
func Verbs(tool string) map[string][]string {
	a := &app{name: tool, lang: output.English}
	verbs := map[string][]string{}
	var down func(prefix string, cmd *cobra.Command)
	down = func(prefix string, cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			for _, name := range append([]string{c.Name()}, c.Aliases...) {
				path := strings.TrimSpace(prefix + " " + name)
				var flags []string
				if !c.DisableFlagParsing {
					flags = []string{"--help", "-h"}
					add := func(f *pflag.Flag) {
						flags = append(flags, "--"+f.Name)
						if f.Shorthand != "" {
							flags = append(flags, "-"+f.Shorthand)
						}
					}
					c.LocalFlags().VisitAll(add)
					c.InheritedFlags().VisitAll(add)
				}
				verbs[path] = flags
				down(path, c)
			}
		}
	}
	down("", a.root())
	return verbs
}
