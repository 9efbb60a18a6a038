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
	c.RunE = p.onOne(func(ctx context.Context, args []string) error {
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
		table := output.Table{Header: []string{"DIGEST", "KIND", "TYPE", "SIZE"}}
		a.grown(&table, nodes)
		if format.Tables() {
			_, err := fmt.Fprint(a.Out, o.full(), "\n", a.drawn(nodes, ""))
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

func (a *app) grown(t *output.Table, nodes []*referrer.Node) {
	for _, n := range nodes {
		t.Rows = append(t.Rows, []string{n.Digest.String(), a.kindOf(n), typeOf(n), strconv.FormatInt(n.Size, 10)})
		a.grown(t, n.Referrers)
	}
}

// typeOf is the type that a referrer was given, or the tag that it is kept under.
func typeOf(n *referrer.Node) string { return orElse(n.Tag, orElse(n.Type, n.MediaType)) }

// kindOf says in words what a referrer is: signature (cosign), SBOM (spdx), attestation (SBOM, spdx). "" is what nobody knows.
func (a *app) kindOf(n *referrer.Node) string {
	words := map[referrer.Kind]string{referrer.Signature: a.t("signature", "签名"), referrer.Attestation: a.t("attestation", "证明"), referrer.SBOM: "SBOM"}
	word, format := words[n.Kind], n.Format
	switch {
	case n.Kind == "" && format != "":
		word = a.t("signature or attestation", "签名或证明")
	case n.Kind == referrer.Attestation:
		for _, s := range []struct{ of, en, zh string }{{"spdx", "SBOM, spdx", "SBOM，spdx"}, {"cyclonedx", "SBOM, cyclonedx", "SBOM，cyclonedx"},
			{"slsa.dev/provenance", "provenance, slsa", "来源，slsa"}, {"/vuln", "vulnerabilities", "漏洞"}, {"openvex", "openvex", "openvex"}} {
			if strings.Contains(strings.ToLower(format), s.of) {
				format = a.t(s.en, s.zh)
				break
			}
		}
	}
	if format == "" {
		return word
	}
	return word + a.t(" (", "（") + format + a.t(")", "）")
}

// drawn is the tree with lines.
func (a *app) drawn(nodes []*referrer.Node, indent string) string {
	var b strings.Builder
	for i, n := range nodes {
		branch, next := "├── ", "│   "
		if i == len(nodes)-1 {
			branch, next = "└── ", "    "
		}
		text := typeOf(n)
		if kind := a.kindOf(n); kind != "" {
			text = kind + "  " + text
		}
		fmt.Fprintf(&b, "%s%s%s  %s\n", indent, branch, legible.Show(text), n.Digest)
		b.WriteString(a.drawn(n.Referrers, indent+next))
	}
	return b.String()
}
