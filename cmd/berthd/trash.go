package main

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/internal/legible"
)

// trashCommand is what was deleted.
func trashCommand() *cobra.Command {
	c := &cobra.Command{Use: "trash", Short: "list what was deleted, bring it back, or delete it for good", Args: cobra.NoArgs}
	c.AddCommand(trashList(), trashRestore(), trashPurge())
	return c
}

func trashList() *cobra.Command {
	c := &cobra.Command{
		Use:   "ls [REPOSITORY] [CONFIG]",
		Short: "list deleted manifests that can be brought back, of a repository or of all",
		Long: `List deleted manifests that can be brought back until UNTIL: those of a repository, the last deleted first, or those of
all repositories, the first to be purged first. A single argument with a dot or a slash at its beginning, or one that ends in
.yml or .yaml, is a configuration file.`,
		Example: "  berthd trash ls --data /var/lib/berth\n  berthd trash ls team/app",
		Args:    cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/api/v1/trash"
			if len(args) > 0 && !isConfigPath(args[0]) {
				name, r, err := place(args[0], "REPOSITORY")
				if err == nil && (r.Tag != "" || !r.Digest.IsZero()) {
					err = fmt.Errorf("expected a repository such as team/app; got %q", args[0])
				}
				if err != nil {
					return err
				}
				path, args = "/api/v1/repositories/"+name.String()+"/-/trash", args[1:]
			}
			return withServer(cmd, args, func(a *api) error { return listTrash(cmd, a, path) })
		},
	}
	apiFlags(c.Flags())
	return c
}

func isConfigPath(arg string) bool {
	return strings.HasPrefix(arg, ".") || strings.HasPrefix(arg, "/") || strings.HasSuffix(arg, ".yml") || strings.HasSuffix(arg, ".yaml")
}

func listTrash(cmd *cobra.Command, a *api, path string) error {
	type trashed struct {
		Repository string    `json:"repository"`
		Digest     string    `json:"digest"`
		Tags       []string  `json:"tags"`
		DeletedAt  time.Time `json:"deletedAt"`
		DeletedBy  string    `json:"deletedBy"`
		From       string    `json:"from"`
		Cause      string    `json:"cause"`
		HoldUntil  time.Time `json:"holdUntil"`
	}
	t := tabwriter.NewWriter(legible.Writer(cmd.OutOrStdout()), 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MANIFEST\tTAGS\tDELETED\tBY\tFROM\tCAUSE\tUNTIL")
	err := each(cmd.Context(), a, path, nil, func(v trashed) error {
		tags := strings.Join(v.Tags[:min(len(v.Tags), 5)], ",")
		if more := len(v.Tags) - 5; more > 0 {
			tags += fmt.Sprintf(" and %d more", more)
		}
		_, err := fmt.Fprintf(t, "%s@%s\t%s\t%s\t%s\t%s\t%s\t%s\n", v.Repository, v.Digest, orDash(tags), moment(v.DeletedAt), orDash(v.DeletedBy), orDash(v.From), orDash(v.Cause), moment(v.HoldUntil))
		return err
	})
	if err != nil { // and no table
		return err
	}
	return t.Flush()
}

func trashRestore() *cobra.Command {
	var noTags, force bool
	c := &cobra.Command{
		Use:   "restore REPOSITORY@DIGEST [CONFIG]",
		Short: "bring a deleted manifest back, with the tags that were deleted with it",
		Long: `Bring a deleted manifest back, with the tags that were deleted with it and, of an index, with its manifests that were deleted,
too. A tag that points elsewhere by now stays there, unless --force moves it.`,
		Example: "  berthd trash restore team/app@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, r, err := place(args[0], "REPOSITORY@DIGEST")
			if err == nil && r.Digest.IsZero() {
				err = fmt.Errorf("expected REPOSITORY@DIGEST; got %q; a deleted tag comes back with berthd tag restore", args[0])
			}
			if err != nil {
				return err
			}
			return withServer(cmd, args[1:], func(a *api) error {
				var out struct {
					Restored bool              `json:"restored"`
					Children []string          `json:"children"`
					Tags     []string          `json:"tags"`
					Taken    map[string]string `json:"taken"`
				}
				path := "/api/v1/repositories/" + name.String() + "/-/trash/" + url.PathEscape(r.Digest.String()) + "/restore"
				if err := a.post(cmd.Context(), path, map[string]bool{"tags": !noTags, "force": force}, &out); err != nil {
					return err
				}
				w := cmd.OutOrStdout()
				said := "is back"
				if !out.Restored {
					said = "was there already, because it was pushed again"
				}
				if n := len(out.Children); n > 0 {
					said += fmt.Sprintf(", with %d manifests that it names", n)
				}
				fmt.Fprintf(w, "%s@%s %s\n", name, r.Digest, said)
				for _, t := range out.Tags {
					fmt.Fprintf(w, "%s:%s points at it again\n", name, t)
				}
				for _, t := range slices.Sorted(maps.Keys(out.Taken)) {
					fmt.Fprintf(w, "%s:%s stays at %s; to move it: berthd tag rollback %s:%s --to %s\n", name, t, out.Taken[t], name, t, r.Digest)
				}
				return nil
			})
		},
	}
	c.Flags().BoolVar(&noTags, "no-tags", false, "the manifest alone")
	c.Flags().BoolVar(&force, "force", false, "move tags that point elsewhere by now")
	apiFlags(c.Flags())
	return c
}

func trashPurge() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "purge REPOSITORY@DIGEST [CONFIG]",
		Short: "delete a manifest of the trash for good, or all of a repository",
		Long: `Delete a manifest of the trash for good, or with --all whatever is in the trash of a repository. It cannot be brought back;
its content is deleted by collection when nothing else needs it.`,
		Example: "  berthd trash purge team/app@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\n  berthd trash purge --all team/app",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, r, err := place(args[0], "REPOSITORY@DIGEST, or REPOSITORY with --all")
			if err == nil && (r.Tag != "" || r.Digest.IsZero() != all) {
				err = fmt.Errorf("expected REPOSITORY@DIGEST, or REPOSITORY with --all; got %q", args[0])
			}
			if err != nil {
				return err
			}
			path := "/api/v1/repositories/" + name.String() + "/-/trash"
			if !all {
				path += "/" + url.PathEscape(r.Digest.String())
			}
			return withServer(cmd, args[1:], func(a *api) error {
				var out struct {
					Purged int `json:"purged"`
				}
				if err := a.remove(cmd.Context(), path, &out); err != nil {
					return err
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "deleted from %s for good: %d\n", name, out.Purged)
				return err
			})
		},
	}
	c.Flags().BoolVar(&all, "all", false, "whatever is in the trash of the repository")
	apiFlags(c.Flags())
	return c
}
