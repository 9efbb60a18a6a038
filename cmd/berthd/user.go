package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/internal/legible"
	"github.com/berth-registry/berth/server"
	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/config"
	"github.com/berth-registry/berth/server/metadb"
)

// withOperator opens the accounts, robots, tokens and projects of the configuration, for who has the data and no way into the registry.
func withOperator(cmd *cobra.Command, args []string, do func(ctx context.Context, o *server.Operator) error) (err error) {
	loaded, err := config.Load(loadOptions(cmd.Flags(), args))
	if err != nil {
		return err
	}
	o, err := server.OpenOperator(cmd.Context(), loaded.Config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	return plain(do(o.Context(cmd.Context()), o))
}

// plain is an error in the words that are meant for people, where it has them.
func plain(err error) error {
	var f *fault.Error
	if errors.As(err, &f) && f.Kind != fault.Internal && f.Kind != fault.Unavailable {
		return errors.New(f.Message)
	}
	return err
}

// beside is how long a running berthd takes to see what these commands change.
const beside = "It works beside a running berthd, which takes the change within two seconds, and without one."

// table writes rows below a heading.
func table(w io.Writer, heading string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	_, _ = fmt.Fprintln(t, heading)
	for _, r := range rows {
		cells := make([]string, len(r)) // which somebody else has written, perhaps for this terminal
		for i, cell := range r {
			cells[i] = legible.Show(cell)
		}
		_, _ = fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	return t.Flush()
}

// printJSON writes a value for programs.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// day is a time for people, "-" for never.
func day(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04")
}

// end is the time after a duration; none is never.
func end(d time.Duration) (time.Time, error) {
	if d < 0 {
		return time.Time{}, fmt.Errorf("--expires expects a time from now such as 720h; got %s", d)
	}
	if d == 0 {
		return time.Time{}, nil
	}
	return time.Now().Add(d), nil
}

// userCommand is for who has the data directory or the database, and no way into the registry.
func userCommand() *cobra.Command {
	c := &cobra.Command{Use: "user", Short: "make, list, disable, unlock and remove local accounts, and recover them", Args: cobra.NoArgs}
	c.AddCommand(userAdd(), userList(), userReset(),
		userDo("disable", "refuse an account, with its tokens and sessions, until it is enabled", "disabled", userDisabled(true)),
		userDo("enable", "accept an account again that was disabled", "enabled", userDisabled(false)),
		userDo("unlock", "forget the failed logins of an account, so that its next login is not delayed", "unlocked",
			func(ctx context.Context, o *server.Operator, name string) error { return o.Unlock(ctx, name) }),
		userDo("rm", "remove an account, with its rights, tokens and sessions", "removed",
			func(ctx context.Context, o *server.Operator, name string) error { return o.DeleteUser(ctx, name, -1) }))
	return c
}

func userDo(verb, short, did string, do func(context.Context, *server.Operator, string) error) *cobra.Command {
	c := &cobra.Command{
		Use: verb + " NAME [CONFIG]", Short: short, Long: strings.ToUpper(short[:1]) + short[1:] + ".\n" + beside, Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withOperator(cmd, args[1:], func(ctx context.Context, o *server.Operator) error {
				if err := do(ctx, o, args[0]); err != nil {
					return err
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", args[0], did)
				return err
			})
		},
	}
	settingFlags(c.Flags())
	return c
}

func userDisabled(is bool) func(context.Context, *server.Operator, string) error {
	return func(ctx context.Context, o *server.Operator, name string) error {
		_, err := o.UpdateUser(ctx, name, -1, auth.UserChange{Disabled: &is})
		return err
	}
}

func userAdd() *cobra.Command {
	var u auth.NewUser
	var generate bool
	var expires time.Duration
	c := &cobra.Command{
		Use:   "add NAME [CONFIG]",
		Short: "make a local account",
		Long: `Make a local account. The password is asked for, or is the first line of standard input when that is not a terminal; with
--generate one is made up and printed. What the account may do is given by roles in projects; --admin may everything.
` + beside,
		Example: "  berthd user add alice --generate --must-change\n  echo \"$PASSWORD\" | berthd user add bob --admin",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			u.Name = args[0]
			if u.ExpiresAt, err = end(expires); err != nil {
				return err
			}
			if !generate {
				if u.Password, err = readPassword(cmd, u.Name, true); err != nil {
					return err
				}
			}
			return withOperator(cmd, args[1:], func(ctx context.Context, o *server.Operator) error {
				made, generated, err := o.CreateUser(ctx, u)
				if err != nil {
					return err
				}
				if generated != "" {
					_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s / %s\n", made.Name, generated)
				} else {
					_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s added\n", made.Name)
				}
				return err
			})
		},
	}
	f := c.Flags()
	f.BoolVar(&u.Admin, "admin", false, "an administrator, who may everything")
	f.BoolVar(&u.Auditor, "auditor", false, "an auditor, who may see everything but content")
	f.BoolVar(&u.MustChange, "must-change", false, "the password has to be changed before it can be used")
	f.BoolVar(&generate, "generate", false, "make a password up and print it")
	f.StringVar(&u.DisplayName, "display-name", "", "name for people")
	f.StringVar(&u.Email, "email", "", "address")
	f.DurationVar(&expires, "expires", 0, "the account ends after this time, such as 720h (default never)")
	settingFlags(f)
	return c
}

func userList() *cobra.Command {
	c := &cobra.Command{
		Use: "ls [CONFIG]", Short: "list accounts", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withOperator(cmd, args, func(ctx context.Context, o *server.Operator) error {
				var rows [][]string
				for after := ""; ; {
					list, err := o.Users(ctx, metadb.AccountFilter{}, after, 500)
					if err != nil {
						return err
					}
					for _, u := range list {
						after = u.Name
						rows = append(rows, []string{u.Name, userRole(u), userState(u), sourceName(u.Source), day(u.LastLoginAt)})
					}
					if len(list) < 500 {
						return table(cmd.OutOrStdout(), "NAME\tROLE\tSTATE\tSOURCE\tLAST LOGIN", rows)
					}
				}
			})
		},
	}
	settingFlags(c.Flags())
	return c
}

func userRole(u auth.User) string {
	switch {
	case u.Admin:
		return "admin"
	case u.Auditor:
		return "auditor"
	}
	return "user"
}

func userState(u auth.User) string {
	switch {
	case u.Disabled:
		return "disabled"
	case !u.ExpiresAt.IsZero() && !time.Now().Before(u.ExpiresAt):
		return "expired"
	case u.MustChange:
		return "must change password"
	}
	return "active"
}

func sourceName(source string) string {
	if source == "" {
		return "local"
	}
	return source
}

func userReset() *cobra.Command {
	var generate bool
	reset := &cobra.Command{
		Use:   "reset-password NAME [CONFIG]",
		Short: "give a local account a new password, and forget its failed logins",
		Long: `Give a local account, such as admin, a new password. The password is asked for, or is the first line of standard
input when that is not a terminal; with --generate one is made up and printed.
It works beside a running berthd, which takes the new password within two seconds.`,
		Example: "  berthd user reset-password admin --generate --data ./berth-data",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			loaded, err := config.Load(loadOptions(cmd.Flags(), args[1:]))
			if err != nil {
				return err
			}
			password := ""
			if !generate {
				if password, err = readPassword(cmd, args[0], true); err != nil {
					return err
				}
			}
			generated, err := server.ResetPassword(cmd.Context(), loaded.Config, args[0], password)
			if err != nil {
				return err
			}
			if generated != "" {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s / %s\n", args[0], generated)
			} else {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "password of %s changed\n", args[0])
			}
			return err
		},
	}
	reset.Flags().BoolVar(&generate, "generate", false, "make a password up and print it")
	settingFlags(reset.Flags())
	return reset
}
