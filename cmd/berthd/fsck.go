package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/server"
	"github.com/berth-registry/berth/server/config"
	"github.com/berth-registry/berth/server/scrub"
)

// checked is what fsck says, in the words of the management API.
type checked struct {
	scrub.Report
	Clean  bool      `json:"clean"`
	Damage []damaged `json:"damage"`
}

// damaged is a blob as /api/v1/damage shows it.
type damaged struct {
	Digest  string    `json:"digest"`
	Size    int64     `json:"size"`
	FoundAt time.Time `json:"foundAt"`
	FoundBy string    `json:"foundBy"`
	Missing bool      `json:"missing"`
	Detail  string    `json:"detail"`
	Needs   []needed  `json:"needs"`
}

type needed struct {
	Repository string `json:"repository"`
	Tag        string `json:"tag,omitempty"`
	Manifest   string `json:"manifest"`
}

// fsckCommand checks all stored content.
func fsckCommand() *cobra.Command {
	var ask scrub.Ask
	var rate, output string
	c := &cobra.Command{
		Use:   "fsck [CONFIG]",
		Short: "check all stored content now: every digest, every reference",
		Long: `Read every blob and manifest and compare it with its digest, and ask the rows of each other. A running berthd does it as a
job and serves on; without one, this command does.
A damaged blob is put aside: clients are told that it is not there, so the next push of an image that has it repairs it.
Each is named with the tags that need it. --repair-from takes content from another directory of the same machine: the
storage directory of another berth, a backup, or the root directory of CNCF distribution. What it has is verified first, as
is what the registries of berth.integrity.repair_from have, which are asked for the rest.
--orphans lists content that no row names and that is older than a day; --repair then removes it.
The exit code is 0 when all is well and 1 when anything is damaged, missing or broken.`,
		Example: "  berthd fsck --data /var/lib/berth\n  berthd fsck --repair-from /mnt/backup --output json config.yml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("--output expects text or json, got %q", output)
			}
			if ask.Remove && !ask.Orphans {
				return errors.New("--repair removes content that no row names, and needs --orphans, which finds it; damaged blobs are repaired by a push or by --repair-from")
			}
			loaded, err := config.Load(loadOptions(cmd.Flags(), args))
			if err != nil {
				return err
			}
			if ask.Rate, err = rateOf(rate); err != nil {
				return err
			}
			if ask.RepairFrom != "" { // the server's working directory is another one
				if ask.RepairFrom, err = filepath.Abs(ask.RepairFrom); err != nil {
					return err
				}
			}
			ask.References = true
			found, err := check(cmd, loaded.Config, ask)
			if err != nil {
				return err
			}
			return printChecked(cmd.OutOrStdout(), found, output)
		},
	}
	f := c.Flags()
	f.StringVar(&ask.RepairFrom, "repair-from", "", "directory with other copies of blobs, for what is damaged here")
	f.BoolVar(&ask.Orphans, "orphans", false, "look for content without a row")
	f.BoolVar(&ask.Remove, "repair", false, "with --orphans: remove it")
	f.StringVar(&rate, "rate", "", "most bytes per second to read, such as 20MiB (default: as fast as it goes)")
	f.StringVar(&output, "output", "text", "text or json")
	apiFlags(f)
	return c
}

// check has a running berthd check everything, or does it.
func check(cmd *cobra.Command, c *config.Config, ask scrub.Ask) (*checked, error) {
	ctx := cmd.Context()
	a, err := connect(cmd, c)
	if errors.Is(err, errNoServer) {
		return checkHere(cmd, c, ask)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = a.close() }()
	body := map[string]any{"rate": ask.Rate, "references": ask.References, "orphans": ask.Orphans, "remove": ask.Remove, "repairFrom": ask.RepairFrom}
	var j jobView
	if err := a.post(ctx, "/api/v1/fsck", body, &j); err != nil {
		return nil, err
	}
	if j, err = a.follow(ctx, cmd.ErrOrStderr(), j.ID); err != nil {
		return nil, err
	}
	out := &checked{Damage: []damaged{}}
	if err := a.get(ctx, "/api/v1/fsck/"+strconv.FormatInt(j.ID, 10), out); err != nil {
		return nil, err
	}
	return out, each(ctx, a, "/api/v1/damage", nil, func(d damaged) error {
		out.Damage = append(out.Damage, d)
		return nil
	})
}

// checkHere is for a registry that does not run.
func checkHere(cmd *cobra.Command, c *config.Config, ask scrub.Ask) (*checked, error) {
	p := progress{w: cmd.ErrOrStderr(), terminal: isTerminal(cmd.ErrOrStderr()), now: time.Now}
	r, found, err := server.Fsck(cmd.Context(), c, ask, func(r scrub.Report) {
		p.show(jobView{Kind: "fsck", State: "running", Done: r.Blobs, Total: r.Total, Note: r.String()})
	})
	p.end()
	if err != nil {
		return nil, err
	}
	out := &checked{Report: r, Clean: r.Clean(), Damage: []damaged{}}
	for _, f := range found {
		d := damaged{Digest: f.Digest.String(), Size: f.Size, FoundAt: f.FoundAt, FoundBy: f.FoundBy, Missing: f.Missing, Detail: f.Detail, Needs: []needed{}}
		for _, n := range f.Needs {
			d.Needs = append(d.Needs, needed{Repository: n.Repository, Tag: n.Tag, Manifest: n.Manifest.String()})
		}
		out.Damage = append(out.Damage, d)
	}
	return out, nil
}

func printChecked(w io.Writer, c *checked, output string) error {
	if output == "json" {
		if err := printJSON(w, c); err != nil {
			return err
		}
		return c.problem()
	}
	var b strings.Builder
	for _, d := range c.Damage {
		what := "damaged"
		if d.Missing {
			what = "missing"
		}
		fmt.Fprintf(&b, "%s %s, %d bytes: %s\n", what, d.Digest, d.Size, d.Detail)
		for _, n := range d.Needs {
			if n.Tag != "" {
				fmt.Fprintf(&b, "  needed by %s:%s\n", n.Repository, n.Tag)
			} else {
				fmt.Fprintf(&b, "  needed by %s@%s\n", n.Repository, n.Manifest)
			}
		}
	}
	for _, r := range c.References {
		switch r.Kind {
		case "tag":
			fmt.Fprintf(&b, "broken %s:%s: its manifest %s is not there\n", r.Repository, r.Tag, r.Manifest)
		case "manifest":
			fmt.Fprintf(&b, "broken %s@%s: its content is not in the database\n", r.Repository, r.Manifest)
		default:
			fmt.Fprintf(&b, "broken %s@%s: blob %s is not in the repository\n", r.Repository, r.Manifest, r.Digest)
		}
	}
	for _, d := range c.OrphansNamed {
		fmt.Fprintf(&b, "without a row: %s\n", d)
	}
	if c.NotListed {
		b.WriteString("the storage driver cannot list what it has: content without a row was not looked for\n")
	}
	if c.Unchecked > 0 {
		fmt.Fprintf(&b, "not looked at: %d blobs, because the store did not answer; the last was %s\n", c.Unchecked, c.LastUnchecked)
	}
	if c.LastUnrepaired != "" {
		fmt.Fprintf(&b, "not repaired from other copies; the last was %s\n", c.LastUnrepaired)
	}
	b.WriteString(c.String() + "\n")
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	return c.problem()
}

// problem is the exit code.
func (c *checked) problem() error {
	switch {
	case c.Report.Clean() && c.Unchecked == 0:
		return nil
	case c.Report.Clean():
		return fmt.Errorf("%d blobs could not be looked at", c.Unchecked)
	case c.Damaged+c.Missing > 0:
		return fmt.Errorf("%d blobs are damaged and %d are missing; push an image that has them to repair them, or name other copies with --repair-from", c.Damaged, c.Missing)
	}
	return fmt.Errorf("%d references lead to nothing", c.Broken)
}
