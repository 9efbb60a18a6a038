package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/server"
)

// tokenCommand is for personal access tokens, and for the keys that sign what clients get for a login.
func tokenCommand() *cobra.Command {
	c := &cobra.Command{Use: "token", Short: "list and revoke personal access tokens, and rotate the keys that sign tokens", Args: cobra.NoArgs}
	c.AddCommand(tokenList(), tokenRevoke(), tokenRotate())
	return c
}

func tokenList() *cobra.Command {
	var account string
	c := &cobra.Command{
		Use: "ls [CONFIG]", Short: "list personal access tokens", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withOperator(cmd, args, func(ctx context.Context, o *server.Operator) error {
				var rows [][]string
				for after := int64(0); ; {
					list, err := o.AccessTokens(ctx, account, after, 500)
					if err != nil {
						return err
					}
					for _, t := range list {
						after = t.ID
						state := "active"
						if !t.RevokedAt.IsZero() {
							state = "revoked"
						}
						rows = append(rows, []string{strconv.FormatInt(t.ID, 10), t.Account, t.Prefix, state, day(t.ExpiresAt), day(t.LastUsedAt), t.LastUsedFrom, t.Name})
					}
					if len(list) < 500 {
						return table(cmd.OutOrStdout(), "ID\tACCOUNT\tSECRET\tSTATE\tEXPIRES\tLAST USED\tFROM\tNAME", rows)
					}
				}
			})
		},
	}
	c.Flags().StringVar(&account, "account", "", "tokens of this account alone")
	settingFlags(c.Flags())
	return c
}

func tokenRevoke() *cobra.Command {
	c := &cobra.Command{
		Use: "revoke ID [CONFIG]", Short: "end a personal access token, with what was made by it", Long: "End a personal access token, with what was made by it.\n" + beside, Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return fmt.Errorf("token %q is not a number; see berthd token ls", args[0])
			}
			return withOperator(cmd, args[1:], func(ctx context.Context, o *server.Operator) error {
				if err := o.RevokeAccessToken(ctx, id); err != nil {
					return err
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "token %d revoked\n", id)
				return err
			})
		},
	}
	settingFlags(c.Flags())
	return c
}

func tokenRotate() *cobra.Command {
	var now bool
	c := &cobra.Command{
		Use:   "rotate-keys [CONFIG]",
		Short: "sign tokens with a new key",
		Long: `Sign tokens with a new key. The old ones go on verifying the tokens that they signed until the last of those has ended, and are
deleted then. With --now they are deleted at once, and everybody has to log in again: for a key that somebody else may have.
` + beside,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withOperator(cmd, args, func(ctx context.Context, o *server.Operator) error {
				k, err := o.RotateKeys(ctx, now)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "tokens are signed by key %s\n", k.ID)
				return err
			})
		},
	}
	c.Flags().BoolVar(&now, "now", false, "delete the old keys at once")
	settingFlags(c.Flags())
	return c
}
