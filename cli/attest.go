package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/image/sign"
	"github.com/berth-registry/berth/image/sign/cosign"
)

func attestCommand(a *app) *cobra.Command {
	var predicate, kind string
	c := &cobra.Command{
		Use: "attest [flags] --key FILE --predicate FILE IMAGE", Short: a.t("sign a statement about an image: provenance, an SBOM, a test", "为镜像签署证明：来源、SBOM、测试结果"),
		Example: "berth attest --key cosign.key --type slsaprovenance1 --predicate provenance.json registry.example.com/team/app:v1\nberth attest --key cosign.key --type cyclonedx --predicate sbom.json registry.example.com/team/app:v1",
		Args:    a.args(1, 1),
	}
	f := c.Flags()
	s := a.signingFlags(f, "bundle, tag")
	f.StringVar(&predicate, "predicate", "", a.t("JSON `FILE` with what is stated; - is standard input", "声明内容的 JSON 文件；- 为标准输入"))
	f.StringVar(&kind, "type", "custom", a.t("`TYPE` of statement: a URI, or custom, slsaprovenance, slsaprovenance1, spdx, spdxjson, cyclonedx, link, vuln, openvex", "声明类型：URI，或 custom、slsaprovenance、slsaprovenance1、spdx、spdxjson、cyclonedx、link、vuln、openvex"))
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		if err := s.check(a); err != nil {
			return err
		}
		if s.format != string(cosign.Bundle) && s.format != string(cosign.Legacy) {
			return output.Usage("--format %q is none of bundle, tag", s.format)
		}
		if predicate == "" {
			return output.Usage("attest needs --predicate FILE")
		}
		return failed(a.attest(ctx, s, args[0], kind, predicate), a.t("cannot attest %s", "无法为 %s 签署证明"), args[0])
	})
	return c
}

func (a *app) attest(ctx context.Context, s *signing, name, kind, file string) error {
	uri, err := cosign.PredicateType(kind)
	if err != nil {
		return err
	}
	var body []byte
	if file == "-" {
		body, err = readBounded(a.In, file, sign.MaxBytes)
	} else {
		body, err = readFile(file, sign.MaxBytes)
	}
	if err != nil {
		return err
	}
	if uri == "https://cosign.sigstore.dev/attestation/v1" { // cosign's own wraps what is stated
		if body, err = json.Marshal(map[string]any{"Data": string(body), "Timestamp": a.now().UTC().Format(time.RFC3339)}); err != nil {
			return err
		}
	}
	k, err := s.private(a)
	if err != nil {
		return err
	}
	sys, err := a.system(s.image)
	if err != nil {
		return err
	}
	t, err := a.find(ctx, sys, s.oneImage, name)
	if err != nil {
		return err
	}
	list, err := t.all(ctx, s.recursive)
	if err != nil {
		return err
	}
	g := cosign.Signer{Key: k, Format: cosign.Format(s.format), Now: a.now}
	for _, t := range list {
		where, err := g.Attest(ctx, t.store, t.content, t.named.Name(), uri, body)
		if err != nil {
			return err
		}
		fmt.Fprintf(a.Err, a.t("attested %s: %s\n", "已为 %s 签署证明：%s\n"), t.at(), where)
		if _, err := fmt.Fprintln(a.Out, t.at()); err != nil {
			return err
		}
	}
	return nil
}

func verifyAttestationCommand(a *app) *cobra.Command {
	var kind string
	c := &cobra.Command{
		Use: "verify-attestation [flags] IMAGE", Short: a.t("verify what was stated about an image, and print it", "验证镜像的证明并输出"),
		Long: a.t("Verify the attestations of an image as verify does signatures, and print each as a DSSE envelope, one a line.",
			"按 verify 的方式验证镜像的证明，并逐行输出 DSSE 信封。"),
		Example: "berth verify-attestation --key cosign.pub --type slsaprovenance1 registry.example.com/team/app:v1",
		Args:    a.args(1, 1),
	}
	v := a.verifyingFlags(c.Flags())
	c.Flags().StringVar(&kind, "type", "", a.t("only of this `TYPE`: a URI, or custom, slsaprovenance1, spdxjson, cyclonedx, vuln, openvex; else any", "仅此类型：URI，或 custom、slsaprovenance1、spdxjson、cyclonedx、vuln、openvex；默认任意"))
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		return failed(a.verifyAttestation(ctx, v, args[0], kind), a.t("cannot verify what is stated about %s", "无法验证 %s 的证明"), args[0])
	})
	return c
}

func (a *app) verifyAttestation(ctx context.Context, v *verifying, name, kind string) (err error) {
	if kind != "" {
		if kind, err = cosign.PredicateType(kind); err != nil {
			return err
		}
	}
	trust, err := v.cosignTrust()
	if err != nil {
		return err
	}
	sys, err := a.system(v.image)
	if err != nil {
		return err
	}
	t, err := v.find(ctx, a, sys, name)
	if err != nil {
		return err
	}
	found, err := cosign.VerifyAttestations(ctx, t.store, t.content.Digest, trust, kind)
	if err != nil {
		return err
	}
	for _, f := range found {
		if _, err := fmt.Fprintf(a.Out, "%s\n", f.Envelope); err != nil {
			return err
		}
	}
	return nil
}
