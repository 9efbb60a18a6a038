package cli

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/image/sign/cosign"
)

func downloadCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "download", Short: a.t("fetch what is attached to an image, without verifying it", "下载镜像的附件（不验证）"),
		Example: "berth download signature registry.example.com/team/app:v1\nberth download attestation --predicate-type slsaprovenance1 registry.example.com/team/app:v1\nberth download sbom registry.example.com/team/app:v1",
		Args:    a.args(1, 0), RunE: func(*cobra.Command, []string) error { return errUnknownCommand },
	}
	for _, kind := range []struct{ name, noun, en, zh string }{
		{"signature", "签名", "print the signatures of an image, one JSON document a line", "逐行输出镜像签名（JSON）"},
		{"attestation", "证明", "print the attestations of an image, one JSON document a line", "逐行输出镜像的证明（JSON）"},
		{"sbom", "SBOM", "print the SBOM that is attached to an image", "输出镜像所附的 SBOM"},
	} {
		sub := &cobra.Command{Use: kind.name + " [flags] IMAGE", Short: a.t(kind.en, kind.zh), Args: a.args(1, 1), Example: "berth download " + kind.name + " registry.example.com/team/app:v1"}
		o := a.oneImageFlags(sub.Flags(), true)
		insecureAlias(sub.Flags())
		predicate := ""
		if kind.name == "attestation" {
			sub.Flags().StringVar(&predicate, "predicate-type", "", a.t("only of this `TYPE`", "仅此类型"))
		}
		sub.RunE = a.run(func(ctx context.Context, args []string) error {
			return failed(a.download(ctx, o, kind.name, args[0], predicate), a.t("cannot download the %s of %s", "无法下载 %[2]s 的%[1]s"), a.t(kind.name, kind.noun), args[0])
		})
		c.AddCommand(sub)
	}
	return c
}

func (a *app) download(ctx context.Context, o *oneImage, kind, name, predicate string) (err error) {
	if predicate != "" {
		if predicate, err = cosign.PredicateType(predicate); err != nil {
			return err
		}
	}
	sys, err := a.system(o.image)
	if err != nil {
		return err
	}
	t, err := (&verifying{oneImage: o}).find(ctx, a, sys, name)
	if err != nil {
		return err
	}
	var docs [][]byte
	switch kind {
	case "signature":
		docs, err = cosign.Signatures(ctx, t.store, t.content.Digest)
	case "attestation":
		docs, err = cosign.Attestations(ctx, t.store, t.content.Digest, predicate)
	default:
		body, mediaType, err := cosign.SBOM(ctx, t.store, t.content.Digest)
		if err != nil {
			return err
		}
		fmt.Fprintln(a.Err, mediaType)
		_, err = a.Out.Write(body)
		return err
	}
	if err != nil {
		return err
	}
	for _, d := range lines(docs) {
		if _, err := fmt.Fprintln(a.Out, d); err != nil {
			return err
		}
	}
	return nil
}

// lines makes a line of each JSON document.
func lines(docs [][]byte) []string {
	out := make([]string, len(docs))
	for i, d := range docs {
		var compact json.RawMessage
		if json.Unmarshal(d, &compact) == nil {
			if b, err := json.Marshal(compact); err == nil {
				d = b
			}
		}
		out[i] = string(d)
	}
	return out
}
