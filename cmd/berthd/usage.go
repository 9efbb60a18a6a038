package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// explainUsage has every command say what it expects and what it got, and has one that only groups others refuse a word
// that it does not know: a script with a slip in it must not look as if it had done something.
func explainUsage(root *cobra.Command) {
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		var invalid *pflag.InvalidValueError
		if errors.As(err, &invalid) && invalid.GetFlag().Value.Type() == "int" {
			return fmt.Errorf("--%s expects a whole number; got %q", invalid.GetFlag().Name, invalid.GetValue())
		}
		return fmt.Errorf("%w; see %s --help", err, c.CommandPath())
	})
	for _, c := range root.Commands() {
		explainOne(c)
	}
}

func explainOne(c *cobra.Command) {
	if !c.HasSubCommands() {
		if check := c.Args; check != nil {
			c.Args = func(c *cobra.Command, args []string) error {
				if check(c, args) == nil {
					return nil
				}
				return fmt.Errorf("%s expects %s; got %s; see %s --help", c.CommandPath(), expects(c), counted(args), c.CommandPath())
			}
		}
		return
	}
	c.FParseErrWhitelist.UnknownFlags = true // the word is what is wrong, not the flags behind it
	c.SetUsageTemplate(strings.Replace(c.UsageTemplate(), "{{if .Runnable}}", "{{if and .Runnable (not .HasAvailableSubCommands)}}", 1))
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return c.Help()
		}
		var known []string
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				known = append(known, sub.Name())
			}
		}
		c.SuggestionsMinimumDistance = 2
		hint := ""
		if near := c.SuggestionsFor(args[0]); len(near) > 0 {
			hint = fmt.Sprintf("; did you mean %q?", near[0])
		}
		return fmt.Errorf("%s has no command %q%s (%s)", c.CommandPath(), args[0], hint, strings.Join(known, ", "))
	}
	for _, sub := range c.Commands() {
		explainOne(sub)
	}
}

// expects are the arguments as the usage line names them.
func expects(c *cobra.Command) string {
	_, words, some := strings.Cut(c.Use, " ")
	if !some {
		return "no arguments"
	}
	return words
}

func counted(args []string) string {
	switch len(args) {
	case 0:
		return "none"
	case 1:
		return fmt.Sprintf("%q", args[0])
	}
	return fmt.Sprintf("%d arguments", len(args))
}
