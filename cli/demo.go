package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.podman.io/image/v5/docker/reference"

	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/image/sign"
	"github.com/berth-registry/berth/image/sign/cosign"
	"github.com/berth-registry/berth/image/sign/key"
	"github.com/berth-registry/berth/internal/durable"
	"github.com/berth-registry/berth/oci/ref"
)

func demoCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "demo [flags] [HOST[:PORT]]", Short: a.t("push a signed sample image, and verify it", "推送已签名的示例镜像并验证"),
		Long: a.t("Make an image for two platforms on this machine, push it as library/demo to a registry (localhost:5000 when none is named), sign it "+
			"with a key made for it, attach a signed SBOM, read it all back and verify it. Nothing is fetched from elsewhere. The private key is "+
			"not kept; the public one is written to demo.pub in ~/.local/state/berth, so that everybody can verify.",
			"在本机生成一个双平台镜像，推送到仓库的 library/demo（默认 localhost:5000），用临时密钥签名，附加签名的 SBOM，并全部读回验证。"+
				"不从其他地方下载任何内容。私钥不保存；公钥写入 ~/.local/state/berth/demo.pub，供验证使用。"),
		Example: "berth demo\nberth demo registry.example.com", Args: a.args(0, 1),
	}
	o := &copyOptions{}
	hidden := pflag.NewFlagSet("copy", pflag.ContinueOnError)
	o.addFlags(a, hidden)
	for _, name := range []string{"dest-creds", "dest-tls-verify", "dest-cert-dir", "authfile"} {
		c.Flags().AddFlag(hidden.Lookup(name))
	}
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		host := a.context.Registry
		if host == "" {
			host = "localhost:5000"
		}
		if len(args) > 0 {
			host = args[0]
		}
		return failed(a.demo(ctx, o, host), a.t("cannot push the sample to %s", "无法将示例推送到 %s"), host)
	})
	return c
}

func (a *app) demo(ctx context.Context, o *copyOptions, host string) error {
	dir, err := os.MkdirTemp(a.global.TmpDir, "berth-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	sample, err := writeSample(ctx, dir, a.now())
	if err != nil {
		return err
	}
	name := "docker://" + host + "/library/demo:latest"
	o.all = true
	if err := a.copy(ctx, o, "oci:"+dir+":latest", name); err != nil {
		return err
	}
	named, err := a.parseRemote(name)
	if err != nil {
		return err
	}
	sys, err := a.system(o.target)
	if err != nil {
		return err
	}
	repository, _, err := remoteRepository(a.client(sys, o.retry, nil), named)
	if err != nil {
		return err
	}
	public, err := a.signSample(ctx, sign.Registry(repository), sample, named)
	if err != nil {
		return err
	}
	at := host + "/library/demo"
	_, err = fmt.Fprintf(a.Out, "%s\n%s\n\n  berth inspect %s\n  berth verify --key %s %s\n  berth verify-attestation --key %s --type spdxjson %s\n  berth referrers %s\n  podman pull %s\n",
		name, sample.index.Digest, name, public, at, public, at, at, at)
	return err
}

// signSample signs the sample and states its SBOM, with a key made for it, and reads back what is in the registry by then. It returns
// the file of the public key.
func (a *app) signSample(ctx context.Context, store sign.Store, s *sample, named reference.Named) (string, error) {
	back, err := store.Manifest(ctx, ref.Reference{Tag: "latest"})
	if err != nil {
		return "", fmt.Errorf("read it back: %w", err)
	}
	if back.Digest != s.index.Digest {
		return "", &output.Failure{What: a.t("the registry gives another manifest than it was sent", "仓库返回的清单与推送的不同"), Why: back.Digest.String() + ", " + s.index.Digest.String(), Exit: output.ExitPolicy}
	}
	k, err := key.New(key.P256)
	if err != nil {
		return "", err
	}
	g := cosign.Signer{Key: k, Format: cosign.Bundle, Now: a.now}
	if _, err := g.Sign(ctx, store, back, named.Name(), nil); err != nil {
		return "", fmt.Errorf("sign it: %w", err)
	}
	spdx, err := cosign.PredicateType("spdxjson")
	if err != nil {
		return "", err
	}
	sbom, err := json.Marshal(s.sbom(named.Name(), a.now()))
	if err != nil {
		return "", err
	}
	if _, err := g.Attest(ctx, store, back, named.Name(), spdx, sbom); err != nil {
		return "", fmt.Errorf("attach the SBOM: %w", err)
	}
	trust := cosign.Trust{Keys: []*key.Public{k.Public()}}
	_, err = cosign.Verify(ctx, store, back.Digest, trust, nil)
	if err == nil {
		_, err = cosign.VerifyAttestations(ctx, store, back.Digest, trust, spdx)
	}
	if err != nil {
		return "", fmt.Errorf("verify it: %w", err)
	}
	return keepPublic(k.Public())
}

// keepPublic writes the public key of the newest sample.
func keepPublic(k *key.Public) (string, error) {
	dir, err := stateDir()
	if err != nil {
		return "", err
	}
	text, err := k.PEM()
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "demo.pub")
	return file, errors.Join(os.MkdirAll(dir, 0o700), durable.WriteFile(file, text, 0o644))
}
