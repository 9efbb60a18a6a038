package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/server"
	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/metadb"
)

// robotCommand is for machine accounts.
func robotCommand() *cobra.Command {
	c := &cobra.Command{Use: "robot", Short: "make, list, rotate and remove robots, the accounts of machines", Args: cobra.NoArgs}
	c.AddCommand(robotAdd(), robotRotate(), robotList(), robotRemove())
	return c
}

func robotAdd() *cobra.Command {
	var n auth.NewRobot
	var expires time.Duration
	c := &cobra.Command{
		Use:   "add NAME [CONFIG]",
		Short: "make a robot and print its secret, once",
		Long: `Make a robot and print its secret. The secret is shown this once: berthd keeps a hash of it. A robot of a project is managed by
the project's administrators; what it may do is given by roles and grants, as for people.
` + beside,
		Example: "  berthd robot add ci-app --project team --expires 8760h",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			n.Name = args[0]
			if n.ExpiresAt, err = end(expires); err != nil {
				return err
			}
			return withOperator(cmd, args[1:], func(ctx context.Context, o *server.Operator) error {
				_, secret, err := o.CreateRobot(ctx, n)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s / %s\n", n.Name, secret)
				return err
			})
		},
	}
	f := c.Flags()
	f.StringVar(&n.Project, "project", "", "project that the robot belongs to (default: the registry)")
	f.StringVar(&n.Description, "description", "", "what it is for")
	f.DurationVar(&expires, "expires", 0, "the robot ends after this time, such as 8760h (default never)")
	settingFlags(f)
	return c
}

func robotRotate() *cobra.Command {
	var project string
	var overlap, expires time.Duration
	c := &cobra.Command{
		Use:   "rotate NAME [CONFIG]",
		Short: "give a robot another secret and print it, once",
		Long: `Give a robot another secret and print it. With --overlap the secrets that it has go on for that time, so that machines can be
given the new one in turn; without, they end at once, with the tokens that were made by them.
` + beside,
		Example: "  berthd robot rotate ci-app --project team --overlap 24h",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			until, err := end(expires)
			if err != nil {
				return err
			}
			return withOperator(cmd, args[1:], func(ctx context.Context, o *server.Operator) error {
				secret, _, err := o.RotateRobot(ctx, project, args[0], overlap, until)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s / %s\n", args[0], secret)
				return err
			})
		},
	}
	f := c.Flags()
	f.StringVar(&project, "project", "", "project that the robot belongs to (default: the registry)")
	f.DurationVar(&overlap, "overlap", 0, "how long the secrets that it has go on")
	f.DurationVar(&expires, "expires", 0, "the new secret ends after this time (default never)")
	settingFlags(f)
	return c
}

func robotList() *cobra.Command {
	var project string
	c := &cobra.Command{
		Use: "ls [CONFIG]", Short: "list the robots of a project or of the registry", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withOperator(cmd, args, func(ctx context.Context, o *server.Operator) error {
				var rows [][]string
				for after := ""; ; {
					list, err := o.Robots(ctx, project, metadb.RobotFilter{}, after, 500)
					if err != nil {
						return err
					}
					for _, r := range list {
						after = r.Name
						state := "active"
						if r.Disabled {
							state = "disabled"
						}
						rows = append(rows, []string{r.Name, state, day(r.ExpiresAt), day(r.LastUsedAt), r.LastUsedFrom, r.Description})
					}
					if len(list) < 500 {
						return table(cmd.OutOrStdout(), "NAME\tSTATE\tEXPIRES\tLAST USED\tFROM\tDESCRIPTION", rows)
					}
				}
			})
		},
	}
	c.Flags().StringVar(&project, "project", "", "robots of this project (default: those of the registry)")
	settingFlags(c.Flags())
	return c
}

func robotRemove() *cobra.Command {
	var project string
	c := &cobra.Command{
		Use: "rm NAME [CONFIG]", Short: "remove a robot, with its secrets and rights", Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withOperator(cmd, args[1:], func(ctx context.Context, o *server.Operator) error {
				if err := o.DeleteRobot(ctx, project, args[0], -1); err != nil {
					return err
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s removed\n", args[0])
				return err
			})
		},
	}
	c.Flags().StringVar(&project, "project", "", "project that the robot belongs to (default: the registry)")
	settingFlags(c.Flags())
	return c
}
