package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/image/referrer"
	"github.com/berth-registry/berth/internal/legible"
	"github.com/berth-registry/berth/oci"
)

// referrersOf is what the command prints.
type referrersOf struct {
	Subject   string           `json:"subject"`
	Digest    oci.Digest       `json:"digest"`
	MediaType string           `json:"mediaType"`
	Referrers []*referrer.Node `json:"referrers"`
}

func referrersCommand(a *app) *cobra.Command {
	var kind string
	var depth int
	var noTags bool
	c := &cobra.Command{
		Use:     "referrers [flags] IMAGE",
		Aliases: []string{"discover"},
		Short:   a.t("show what refers to an image: signatures, SBOMs, attestations", "显示引用镜像的内容：签名、SBOM、证明"),
		Example: "berth referrers registry.example.com/team/app:v1\nberth referrers --artifact-type application/spdx+json -o json registry.example.com/team/app:v1",
		Args:    a.args(1, 1),
	}
	p := a.placesFlags(c.Flags())
	p.platformFlag(c.Flags())
	c.Flags().StringVar(&kind, "artifact-type", "", a.t("only those of this `TYPE`", "仅此类型"))
	c.Flags().StringVar(&kind, "filter-artifact-type", "", a.t("the same as --artifact-type", "同 --artifact-type"))
	_ = c.Flags().MarkHidden("filter-artifact-type")
	c.Flags().IntVar(&depth, "depth", 0, a.t("look `N` levels deep; 0 is as deep as there are", "层数；0 为全部"))
	c.Flags().BoolVar(&noTags, "no-tags", false, a.t("leave out what cosign keeps under tags", "略去 cosign 以标签保存的内容"))
	format := a.formatFlag(c.Flags(), output.TableKind)
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		if err := p.prepare(args[0]); err != nil {
			return err
		}
		if _, err := p.remoteName(args[0]); err != nil {
			return err
		}
		o, err := p.subject(ctx, args[0])
		if err != nil {
			return failed(err, a.t("cannot open %s", "无法打开 %s"), args[0])
		}
		nodes, err := referrer.Grow(ctx, o.repo, o.Descriptor.Digest, referrer.Options{Depth: depth, Type: kind, Tags: !noTags})
		if err != nil {
			return failed(err, a.t("cannot list the referrers of %s", "无法列出 %s 的引用者"), args[0])
		}
		if nodes == nil {
			nodes = []*referrer.Node{}
		}
		table := output.Table{Header: []string{"DIGEST", "TYPE", "SIZE"}}
		grown(&table, nodes)
		if format.Tables() {
			_, err := fmt.Fprint(a.Out, o.full(), "\n", drawn(nodes, ""))
			return err
		}
		return format.Print(a.Out, referrersOf{args[0], o.Descriptor.Digest, o.Descriptor.MediaType, nodes}, table)
	})
	return c
}

// subject opens what referrers are of: the name as it is, or the image of a platform when one is asked for.
func (p *places) subject(ctx context.Context, text string) (*opened, error) {
	if p.platform != "" {
		o, _, err := p.one(ctx, text)
		return o, err
	}
	return p.get(ctx, text)
}

func grown(t *output.Table, nodes []*referrer.Node) {
	for _, n := range nodes {
		t.Rows = append(t.Rows, []string{n.Digest.String(), kindOf(n), strconv.FormatInt(n.Size, 10)})
		grown(t, n.Referrers)
	}
}

func kindOf(n *referrer.Node) string {
	if n.Tag != "" {
		return n.Type + " (" + n.Tag + ")"
	}
	if n.Type == "" {
		return n.MediaType
	}
	return n.Type
}

// drawn is the tree with lines.
func drawn(nodes []*referrer.Node, indent string) string {
	var b strings.Builder
	for i, n := range nodes {
		branch, next := "├── ", "│   "
		if i == len(nodes)-1 {
			branch, next = "└── ", "    "
		}
		fmt.Fprintf(&b, "%s%s%s  %s\n", indent, branch, legible.Show(kindOf(n)), n.Digest)
		b.WriteString(drawn(n.Referrers, indent+next))
	}
	return b.String()
}
