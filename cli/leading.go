package cli

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-registry/berth/cli/output"
)

// lateFlags are flags that many commands have, each with its own text and default, and that may stand before the command, too; true
// is one that takes a value.
func lateFlags() map[string]bool {
	return map[string]bool{"output": true, "quiet": false, "authfile": true, "cert-dir": true, "creds": true, "registry": true,
		"no-trunc": false, "no-heading": false, "dry-run": false, "yes": false}
}

// leading puts flags that stand before the command where the command finds them. "-c NAME" is --context there. --version
// before a command is what was asked for, whatever the command.
func leading(root *cobra.Command, args []string) []string {
	short := map[string]string{"o": "output", "q": "quiet", "y": "yes"}
	late := lateFlags()
	var front, moved []string
	rest := args
	for len(rest) > 0 && strings.HasPrefix(rest[0], "-") && rest[0] != "-" && rest[0] != "--" {
		word := rest[0]
		rest = rest[1:]
		name, _, attached := strings.Cut(strings.TrimPrefix(word, "--"), "=")
		if !strings.HasPrefix(word, "--") {
			letter := word[1:2]
			attached = len(word) > 2
			switch {
			case root.Flags().ShorthandLookup(letter) != nil || root.PersistentFlags().ShorthandLookup(letter) != nil:
				name = letter
			case letter == "c":
				name = "context"
				value := strings.TrimPrefix(word[2:], "=")
				word = "--context"
				if attached {
					word += "=" + value
				}
			default:
				name = short[letter]
			}
		}
		takes, isLate := late[name]
		known := root.PersistentFlags().Lookup(name)
		if known == nil {
			known = root.Flags().Lookup(name)
		}
		if known != nil {
			takes, isLate = known.NoOptDefVal == "" && known.Value.Type() != "bool", false
		}
		if name == "version" || name == "v" && root.Flags().ShorthandLookup("v") != nil {
			return []string{"--version"}
		}
		words := []string{word}
		if takes && !attached && len(rest) > 0 {
			words, rest = append(words, rest[0]), rest[1:]
		}
		if isLate {
			moved = append(moved, words...)
		} else {
			front = append(front, words...)
		}
	}
	if len(moved) == 0 && len(front) == 0 {
		return args
	}
	path := 0
	for cmd := root; path < len(rest); path++ {
		i := slices.IndexFunc(cmd.Commands(), func(c *cobra.Command) bool { return c.Name() == rest[path] || c.HasAlias(rest[path]) })
		if i < 0 {
			break
		}
		cmd = cmd.Commands()[i]
	}
	return slices.Concat(front, rest[:path], moved, rest[path:])
}

// wrongFlag makes a failure of what the flag library says without having been asked to say it in our form.
func (a *app) wrongFlag(cmd *cobra.Command, err error) error {
	var own *output.Failure
	if errors.As(err, &own) {
		return err
	}
	if errors.As(err, new(*pflag.NotExistError)) || errors.As(err, new(*pflag.ValueRequiredError)) ||
		errors.As(err, new(*pflag.InvalidValueError)) || errors.As(err, new(*pflag.InvalidSyntaxError)) {
		return a.flagError(cmd, err)
	}
	return err
}
