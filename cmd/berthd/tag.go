package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/internal/legible"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/config"
)

// tagCommand is what tags were.
func tagCommand() *cobra.Command {
	c := &cobra.Command{Use: "tag", Short: "see what tags were, and put them back", Args: cobra.NoArgs}
	c.AddCommand(tagLog(), tagRollback(), tagRestore())
	return c
}

// withServer opens the running berthd that the flags and the configuration name.
func withServer(cmd *cobra.Command, args []string, do func(*api) error) error {
	loaded, err := config.Load(loadOptions(cmd.Flags(), args))
	if err != nil {
		return err
	}
	a, err := connect(cmd, loaded.Config)
	if errors.Is(err, errNoServer) {
		return fmt.Errorf("no berthd is running on the data directory %s; start it first, or name one elsewhere with --server", loaded.Config.Berth.Data)
	}
	if err != nil {
		return err
	}
	return errors.Join(do(a), a.close())
}

// place takes apart REPOSITORY:TAG, REPOSITORY@DIGEST or REPOSITORY; a host in front is not part of it.
func place(text, want string) (ref.Name, ref.Reference, error) {
	var r ref.Reference
	name, rest, pinned := strings.Cut(text, "@")
	var err error
	if pinned {
		r, err = ref.ParseReference(rest)
	} else if i := strings.LastIndexByte(text, ':'); i >= 0 {
		name = text[:i]
		r.Tag, err = ref.ParseTag(text[i+1:])
	}
	n, nameErr := ref.ParseName(name)
	if err = errors.Join(nameErr, err); err != nil {
		return n, r, fmt.Errorf("expected %s without the name of the registry; got %q: %w", want, text, err)
	}
	return n, r, nil
}

// placeOfTag is place of a tag, and the path of its routes.
func placeOfTag(text string) (name ref.Name, path string, err error) {
	name, r, err := place(text, "REPOSITORY:TAG")
	if err == nil && r.Tag == "" {
		err = fmt.Errorf("expected REPOSITORY:TAG, such as team/app:1.0; got %q", text)
	}
	return name, "/api/v1/repositories/" + name.String() + "/-/tags/" + url.PathEscape(r.Tag), err
}

// tagView is an entry of a tag's history.
type tagView struct {
	Tag    string    `json:"tag"`
	Digest string    `json:"digest"`
	Since  time.Time `json:"since"`
	By     string    `json:"by"`
	From   string    `json:"from"`
	Cause  string    `json:"cause"`
}

func tagLog() *cobra.Command {
	var deleted bool
	var when string
	c := &cobra.Command{
		Use:   "log REPOSITORY[:TAG] [CONFIG]",
		Short: "list where a tag pointed, newest first: since when, who moved it, from where",
		Long: `List where a tag pointed, newest first. With --at, say where it pointed at a time; without a tag, list the tags that the
repository had then. --deleted lists the tags of a repository that are gone, with the digest they pointed at.`,
		Example: "  berthd tag log team/app:latest --data /var/lib/berth\n  berthd tag log team/app:latest --at 2026-01-31T09:00:00Z\n  berthd tag log team/app --at 24h\n  berthd tag log team/app --deleted",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, r, err := place(args[0], "REPOSITORY or REPOSITORY:TAG")
			if err != nil {
				return err
			}
			at := when != ""
			if r.Tag == "" && !at && !deleted || !r.Digest.IsZero() {
				return fmt.Errorf("expected REPOSITORY:TAG, or REPOSITORY with --at or --deleted; got %q", args[0])
			}
			query := url.Values{}
			if at {
				t, err := parseSince("--at", when, time.Now())
				if err != nil {
					return err
				}
				query.Set("at", t.UTC().Format(time.RFC3339Nano))
			}
			return withServer(cmd, args[1:], func(a *api) error {
				base := "/api/v1/repositories/" + name.String() + "/-/"
				tag := url.PathEscape(r.Tag)
				switch {
				case deleted:
					return printDeletedTags(cmd, a, base+"deleted-tags")
				case at && r.Tag != "":
					var v tagView
					if err := a.get(cmd.Context(), base+"tags/"+tag+"?"+query.Encode(), &v); err != nil {
						return err
					}
					return printTags(cmd.OutOrStdout(), []tagView{v})
				case at:
					return listTagViews(cmd, a, base+"tags", query)
				}
				return listTagViews(cmd, a, base+"tags/"+tag+"/history", nil)
			})
		},
	}
	c.Flags().StringVar(&when, "at", "", "a time such as 2026-01-31T09:00:00Z, or how long ago, such as 2h")
	c.Flags().BoolVar(&deleted, "deleted", false, "the tags that are gone")
	c.MarkFlagsMutuallyExclusive("at", "deleted")
	apiFlags(c.Flags())
	return c
}

func listTagViews(cmd *cobra.Command, a *api, path string, query url.Values) error {
	var all []tagView
	err := each(cmd.Context(), a, path, query, func(v tagView) error { all = append(all, v); return nil })
	if err != nil {
		return err
	}
	return printTags(cmd.OutOrStdout(), all)
}

func printTags(w io.Writer, all []tagView) error {
	t := tabwriter.NewWriter(legible.Writer(w), 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TAG\tSINCE\tDIGEST\tBY\tFROM\tCAUSE")
	for _, v := range all {
		digest := v.Digest
		if digest == "" {
			digest = "(deleted)"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", v.Tag, v.Since.UTC().Format(precise), digest, orDash(v.By), orDash(v.From), orDash(v.Cause))
	}
	return t.Flush()
}

// precise is a time that --at understands and that tells entries of one second apart.
const precise = "2006-01-02T15:04:05.000000Z"

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func printDeletedTags(cmd *cobra.Command, a *api, path string) error {
	t := tabwriter.NewWriter(legible.Writer(cmd.OutOrStdout()), 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TAG\tDELETED\tDIGEST\tBY\tFROM\tCAUSE")
	type deletedTag struct {
		tagView
		DeletedAt time.Time `json:"deletedAt"`
	}
	err := each(cmd.Context(), a, path, nil, func(v deletedTag) error {
		_, err := fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", v.Tag, v.DeletedAt.UTC().Format(precise), v.Digest, orDash(v.By), orDash(v.From), orDash(v.Cause))
		return err
	})
	if err != nil { // and no table
		return err
	}
	return t.Flush()
}

// movedView is a tag that was moved.
type movedView struct {
	Tag      string `json:"tag"`
	Digest   string `json:"digest"`
	Before   string `json:"before"`
	Restored bool   `json:"restored"`
}

func printMoved(w io.Writer, name ref.Name, m movedView) error {
	before := "it was not there"
	switch m.Before {
	case "":
	case m.Digest:
		before = "as before"
	default:
		before = "it pointed at " + m.Before
	}
	if m.Restored {
		before += "; the manifest came back from the trash"
	}
	_, err := fmt.Fprintf(w, "%s:%s points at %s; %s\n", name, m.Tag, m.Digest, before)
	return err
}

func tagRollback() *cobra.Command {
	var to, expect string
	c := &cobra.Command{
		Use:   "rollback REPOSITORY:TAG [CONFIG]",
		Short: "point a tag where it pointed before, or at a time, or at a digest",
		Long: `Point a tag where it pointed before it came to where it is. --to says where instead: a digest, a time, or how long ago.
A rollback is one more entry of the tag's history: nothing is lost, and rolling back again undoes it. A manifest that is in
the trash is restored. With --expect, nothing is done when the tag points at another digest than that by now.`,
		Example: "  berthd tag rollback team/app:latest --data /var/lib/berth\n  berthd tag rollback team/app:latest --to 2h\n  berthd tag rollback team/app:latest --to sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, path, err := placeOfTag(args[0])
			if err != nil {
				return err
			}
			body, err := rollbackBody(to, expect, time.Now())
			if err != nil {
				return err
			}
			return withServer(cmd, args[1:], func(a *api) error {
				var m movedView
				if err := a.post(cmd.Context(), path+"/rollback", body, &m); err != nil {
					return err
				}
				return printMoved(cmd.OutOrStdout(), name, m)
			})
		},
	}
	c.Flags().StringVar(&to, "to", "", "a digest, a time such as 2026-01-31T09:00:00Z, or how long ago, such as 2h (default: the one before)")
	c.Flags().StringVar(&expect, "expect", "", "digest that the tag must point at now")
	apiFlags(c.Flags())
	return c
}

// rollbackBody is the request: where to, and where the tag must be now.
func rollbackBody(to, expect string, now time.Time) (map[string]any, error) {
	body := map[string]any{}
	switch {
	case to == "":
	case strings.Contains(to, ":") && !strings.Contains(to, "T"):
		d, err := oci.ParseDigest(to)
		if err != nil {
			return nil, fmt.Errorf("--to: %w", err)
		}
		body["digest"] = d.String()
	default:
		t, err := parseSince("--to", to, now)
		if err != nil {
			return nil, fmt.Errorf("--to expects a digest, a time such as 2026-01-31T09:00:00Z, or how long ago, such as 2h; got %q", to)
		}
		body["at"] = t.UTC()
	}
	if expect != "" {
		d, err := oci.ParseDigest(expect)
		if err != nil {
			return nil, fmt.Errorf("--expect: %w", err)
		}
		body["expect"] = d.String()
	}
	return body, nil
}

func tagRestore() *cobra.Command {
	c := &cobra.Command{
		Use:     "restore REPOSITORY:TAG [CONFIG]",
		Short:   "put a deleted tag back, with its manifest when that was deleted, too",
		Example: "  berthd tag restore team/app:1.0 --data /var/lib/berth",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, path, err := placeOfTag(args[0])
			if err != nil {
				return err
			}
			return withServer(cmd, args[1:], func(a *api) error {
				var m movedView
				if err := a.post(cmd.Context(), path+"/restore", struct{}{}, &m); err != nil {
					return err
				}
				return printMoved(cmd.OutOrStdout(), name, m)
			})
		},
	}
	apiFlags(c.Flags())
	return c
}
