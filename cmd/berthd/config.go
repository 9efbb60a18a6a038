package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/server/config"
)

func configCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "config", Short: "check and explain the configuration", Args: cobra.NoArgs,
	}
	c.AddCommand(configCheckCommand(), configPrintCommand(), configDefaultsCommand(), configSchemaCommand(), configEnvCommand(), configExplainCommand())
	return c
}

func configCheckCommand() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "check [FILE]",
		Short: "find every problem of a configuration and of the files it names; exit code 3 when there is one",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "text" && format != "json" {
				return fmt.Errorf("format %q is not one of text, json", format)
			}
			loaded, err := config.Load(loadOptions(cmd.Flags(), args))
			var problems config.Problems
			if err != nil && !errors.As(err, &problems) {
				return err
			}
			if err == nil {
				problems = append(problems, loaded.Warnings...)
				problems = append(problems, config.Checker{Now: time.Now}.Check(cmd.Context(), loaded)...)
			}
			bad := false
			for _, p := range problems {
				bad = bad || !p.Warning
			}
			if format == "json" {
				if problems == nil {
					problems = config.Problems{}
				}
				if err := json.NewEncoder(cmd.OutOrStdout()).Encode(problems); err != nil {
					return err
				}
			} else {
				for _, p := range problems {
					fmt.Fprintln(cmd.OutOrStdout(), p)
				}
				if !bad {
					fmt.Fprintln(cmd.OutOrStdout(), "ok")
				}
			}
			if bad {
				os.Exit(exitConfig) // the problems are printed already
			}
			return nil
		},
	}
	c.Flags().StringVar(&format, "format", "text", "text or json")
	settingFlags(c.Flags())
	return c
}

func configPrintCommand() *cobra.Command {
	var origin bool
	c := &cobra.Command{
		Use: "print [FILE]", Short: "print the configuration in effect, without its secrets", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			loaded, err := config.Load(loadOptions(cmd.Flags(), args))
			if err != nil {
				return err
			}
			return loaded.Dump(cmd.OutOrStdout(), config.DumpOptions{Origin: origin})
		},
	}
	c.Flags().BoolVar(&origin, "origin", false, "say where each value comes from")
	settingFlags(c.Flags())
	return c
}

func configDefaultsCommand() *cobra.Command {
	var lang string
	c := &cobra.Command{
		Use: "print-defaults", Short: "print a commented configuration file with every setting and its default", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if lang == "" {
				lang = os.Getenv("BERTH_LANG")
			}
			return config.PrintDefaults(cmd.OutOrStdout(), lang)
		},
	}
	c.Flags().StringVar(&lang, "lang", "", "language of the comments: en or zh-CN (default: BERTH_LANG)")
	return c
}

func configSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "print the JSON Schema of the configuration file, for editors", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			schema, err := config.Schema()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(schema)
			return err
		},
	}
}

func configEnvCommand() *cobra.Command {
	return &cobra.Command{
		Use: "env", Short: "list the environment variables", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, v := range config.EnvList() {
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%-48s %s\n", v.Name, v.Doc); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func configExplainCommand() *cobra.Command {
	return &cobra.Command{
		Use: "explain KEY", Short: "explain a setting", Example: "  berthd config explain storage.delete.enabled", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			settings, err := config.Explain(args[0])
			if err != nil {
				return err
			}
			for _, s := range settings {
				if err := explain(cmd.OutOrStdout(), s); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func explain(w io.Writer, s config.Setting) error {
	_, err := fmt.Fprintf(w, "%s\n  %s\n  default  %s\n", s.Key, s.Doc, orNone(s.Default))
	if err == nil && s.Env != "" {
		_, err = fmt.Fprintf(w, "  env      %s %s\n", s.Env, s.Alias)
	}
	return err
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
