package option

import (
	"context"
	"fmt"
	"strings"

	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"
	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/pkg/cli"
	"go.podman.io/image/v5/pkg/cli/sigstore"
	"go.podman.io/image/v5/signature/signer"

	"github.com/berth-registry/berth/cli/output"
)

// Convert are the flags of copy and sync about what an image becomes on its way: its form and its signatures.
type Convert struct {
	RemoveSignatures bool
	signBy           string
	sigstoreParams   string
	sigstoreKey      string
	passphraseFile   string
	PreserveDigests  bool
	format           Optional
}

// AddFlags adds them.
func (c *Convert) AddFlags(f *pflag.FlagSet, t Text) {
	f.BoolVar(&c.RemoveSignatures, "remove-signatures", false, t("leave the signatures of the source behind", "不复制来源的签名"))
	f.StringVar(&c.signBy, "sign-by", "", t("sign with the GPG key `FINGERPRINT`", "使用该指纹的 GPG 密钥签名"))
	f.StringVar(&c.sigstoreParams, "sign-by-sigstore", "", t("sign as the sigstore parameter `FILE` says", "按 sigstore 参数文件签名"))
	f.StringVar(&c.sigstoreKey, "sign-by-sigstore-private-key", "", t("sign with the sigstore private key `FILE`", "使用 sigstore 私钥文件签名"))
	f.StringVar(&c.passphraseFile, "sign-passphrase-file", "", t("`FILE` whose first line is the passphrase of the key", "首行为密钥口令的文件"))
	c.format.add(f, "format", "f", t("write the manifest as `TYPE`: oci, v2s2 or v2s1 (default: as it is)", "清单格式：oci、v2s2 或 v2s1（默认保持原样）"))
	f.BoolVar(&c.PreserveDigests, "preserve-digests", false, t("fail where the digest would change", "若摘要会改变则失败"))
	Refuse(f, "sign-by-sq-fingerprint", "", "it signs with Sequoia-PGP, a library in C that this build has not; use --sign-by with the same key in GnuPG", false)
}

// Converts reports whether the flags ask for more than the bytes of the source.
func (c *Convert) Converts() bool { return c.format.Given || c.Signs() }

// Signs reports whether a signature is to be made.
func (c *Convert) Signs() bool {
	return c.signBy != "" || c.sigstoreParams != "" || c.sigstoreKey != ""
}

// Check refuses what would be for a signature where none is made.
func (c *Convert) Check() error {
	if c.passphraseFile != "" && c.signBy == "" && c.sigstoreKey == "" {
		return output.Usage("--sign-passphrase-file needs a key: --sign-by or --sign-by-sigstore-private-key")
	}
	return nil
}

// Options makes what copy.Image takes. ask gets the passphrase for a key from a person. The caller calls done.
func (c *Convert) Options(_ context.Context, ask func(key string) (string, error)) (o *copy.Options, done func(), err error) {
	o = &copy.Options{RemoveSignatures: c.RemoveSignatures, SignBy: c.signBy, SignBySigstorePrivateKeyFile: c.sigstoreKey, PreserveDigests: c.PreserveDigests}
	if c.format.Given {
		if c.PreserveDigests {
			return nil, nil, output.Usage("--format and --preserve-digests contradict each other")
		}
		if o.ForceManifestMIMEType, err = manifestType(c.format.Value); err != nil {
			return nil, nil, err
		}
	}
	if c.passphraseFile != "" && c.signBy != "" && c.sigstoreKey != "" {
		return nil, nil, output.Usage("--sign-passphrase-file is for one key, and --sign-by and --sign-by-sigstore-private-key name two")
	}
	switch {
	case c.passphraseFile != "":
		passphrase, err := cli.ReadPassphraseFile(c.passphraseFile)
		if err != nil {
			return nil, nil, fmt.Errorf("--sign-passphrase-file: %w", err)
		}
		if c.signBy != "" && strings.TrimSpace(passphrase) == "" {
			return nil, nil, output.Usage("--sign-passphrase-file %s has an empty first line", c.passphraseFile)
		}
		o.SignPassphrase, o.SignSigstorePrivateKeyPassphrase = passphrase, []byte(passphrase)
	case c.sigstoreKey != "":
		passphrase, err := ask(c.sigstoreKey)
		if err != nil {
			return nil, nil, err
		}
		o.SignSigstorePrivateKeyPassphrase = []byte(passphrase)
	}
	done = func() {}
	if c.sigstoreParams != "" {
		s, err := sigstore.NewSignerFromParameterFile(c.sigstoreParams, &sigstore.Options{PrivateKeyPassphrasePrompt: ask})
		if err != nil {
			return nil, nil, fmt.Errorf("--sign-by-sigstore: %w", err)
		}
		o.Signers = []*signer.Signer{s}
		done = func() { _ = s.Close() }
	}
	return o, done, nil
}

// manifestType is the media type of a form that --format names.
func manifestType(name string) (string, error) {
	switch name {
	case "oci":
		return imgspec.MediaTypeImageManifest, nil
	case "v2s1":
		return manifest.DockerV2Schema1SignedMediaType, nil
	case "v2s2":
		return manifest.DockerV2Schema2MediaType, nil
	}
	return "", output.Usage("--format %q is none of oci, v2s1, v2s2", name)
}
