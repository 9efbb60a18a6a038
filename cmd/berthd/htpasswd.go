package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/berth-registry/berth/server/auth/htpasswd"
)

// htpasswdCommand edits and checks the file of auth.htpasswd.path. A running berthd notices a change within a second.
func htpasswdCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "htpasswd",
		Short: "add, remove and verify users of an htpasswd file",
		Long: `Add, remove and verify users of an htpasswd file (the setting auth.htpasswd.path).
The password is asked for, or is the first line of standard input when that is not a terminal.
A running berthd notices the change within a second.`,
		Args: cobra.NoArgs,
	}
	c.AddCommand(&cobra.Command{
		Use:     "add FILE USER",
		Short:   "add the user, or give it a new password (bcrypt); makes the file when it is missing",
		Example: "  berthd htpasswd add ./htpasswd alice\n  echo \"$PASSWORD\" | berthd htpasswd add ./htpasswd alice",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			password, err := readPassword(cmd, args[1], true)
			if err != nil {
				return err
			}
			replaced, err := htpasswd.Set(args[0], args[1], password)
			if err != nil {
				return err
			}
			did := "added to"
			if replaced {
				did = "changed in"
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "user %s %s %s\n", args[1], did, args[0])
			return err
		},
	}, &cobra.Command{
		Use:     "rm FILE USER",
		Aliases: []string{"remove"},
		Short:   "remove the user",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			existed, err := htpasswd.Remove(args[0], args[1])
			if err != nil {
				return err
			}
			if !existed {
				return fmt.Errorf("user %s is not in %s", args[1], args[0])
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "user %s removed from %s\n", args[1], args[0])
			return err
		},
	}, &cobra.Command{
		Use:   "verify FILE USER",
		Short: "check a password; fails when it is wrong",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			password, err := readPassword(cmd, args[1], false)
			if err != nil {
				return err
			}
			if err := htpasswd.Verify(args[0], args[1], password); err != nil {
				if errors.Is(err, htpasswd.ErrMismatch) {
					return fmt.Errorf("password of %s is wrong", args[1])
				}
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "password of %s is right\n", args[1])
			return err
		},
	})
	return c
}

// readPassword asks on a terminal, twice for a new password; otherwise it is the first line of standard input.
func readPassword(cmd *cobra.Command, user string, twice bool) (string, error) {
	in := cmd.InOrStdin()
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		ask := func(prompt string) (string, error) {
			_, _ = fmt.Fprint(cmd.ErrOrStderr(), prompt)
			b, err := term.ReadPassword(int(f.Fd()))
			_, _ = fmt.Fprintln(cmd.ErrOrStderr())
			if err != nil {
				return "", fmt.Errorf("password cannot be read from the terminal: %w", err)
			}
			return string(b), nil
		}
		first, err := ask("password of " + user + ": ")
		if err != nil || !twice {
			return first, err
		}
		second, err := ask("again: ")
		if err == nil && first != second {
			err = errors.New("passwords differ; nothing was changed")
		}
		return first, err
	}
	line, err := bufio.NewReader(io.LimitReader(in, 64<<10)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("password cannot be read from standard input: %w", err)
	}
	password := strings.TrimRight(line, "\r\n")
	if password == "" {
		return "", errors.New("password is empty; write it to standard input, or run the command on a terminal")
	}
	return password, nil
}
