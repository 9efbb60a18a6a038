package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"go.podman.io/image/v5/pkg/cli"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/signature/sigstore"

	"github.com/berth-registry/berth/cli/output"
)

func standaloneSignCommand(a *app) *cobra.Command {
	var to, passphraseFile string
	c := &cobra.Command{
		Use: "standalone-sign [flags] MANIFEST DOCKER-REFERENCE KEY-FINGERPRINT --output SIGNATURE", Short: a.t("sign a manifest in a file with a GPG key", "用 GPG 密钥为文件中的清单签名"),
		Example: "berth standalone-sign manifest.json registry.example.com/team/app:v1 1D8230F6CDB6A06716E414C1DB72F2188BB46CC8 --output app.signature",
		Args:    a.args(3, 3),
	}
	c.Flags().StringVarP(&to, "output", "o", "", a.t("write the signature to `FILE`", "签名写入的文件"))
	c.Flags().StringVar(&passphraseFile, "passphrase-file", "", a.t("`FILE` whose first line is the passphrase of the key", "首行为密钥口令的文件"))
	c.RunE = a.run(func(_ context.Context, args []string) error {
		if to == "" {
			return output.Usage("standalone-sign needs --output FILE")
		}
		return failed(standaloneSign(args, to, passphraseFile), a.t("cannot sign %s", "无法签名 %s"), args[0])
	})
	return c
}

func standaloneSign(args []string, to, passphraseFile string) error {
	body, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	passphrase, err := cli.ReadPassphraseFile(passphraseFile)
	if err != nil {
		return err
	}
	mechanism, err := signature.NewGPGSigningMechanism()
	if err != nil {
		return err
	}
	defer mechanism.Close() //nolint:errcheck // nothing is written through it
	signed, err := signature.SignDockerManifestWithOptions(body, args[1], mechanism, args[2], &signature.SignOptions{Passphrase: passphrase})
	if err != nil {
		return err
	}
	return os.WriteFile(to, signed, 0o644)
}

func standaloneVerifyCommand(a *app) *cobra.Command {
	var keys string
	c := &cobra.Command{
		Use: "standalone-verify [flags] MANIFEST DOCKER-REFERENCE KEY-FINGERPRINTS SIGNATURE", Short: a.t("verify a GPG signature in a file", "验证文件中的 GPG 签名"),
		Long: a.t("Verify a signature in a file. KEY-FINGERPRINTS is a list with commas, or any: every key of --public-key-file.",
			"验证文件中的签名。KEY-FINGERPRINTS 为逗号分隔的指纹，或 any：--public-key-file 中的任何密钥。"),
		Example: "berth standalone-verify manifest.json registry.example.com/team/app:v1 1D8230F6CDB6A06716E414C1DB72F2188BB46CC8 app.signature",
		Args:    a.args(4, 4),
	}
	c.Flags().StringVar(&keys, "public-key-file", "", a.t("`FILE` with public keys; else those of GnuPG", "公钥文件；默认使用 GnuPG 的公钥"))
	c.RunE = a.run(func(_ context.Context, args []string) error {
		fingerprint, digest, err := standaloneVerify(args, keys)
		var failure *output.Failure
		if err != nil && !errors.As(err, &failure) {
			err = &output.Failure{What: err.Error(), Exit: output.ExitPolicy, Cause: err}
		}
		if err != nil {
			return failed(err, a.t("cannot verify %s", "无法验证 %s"), args[3])
		}
		_, err = fmt.Fprintf(a.Out, "Signature verified using fingerprint %s, digest %s\n", fingerprint, digest)
		return err
	})
	return c
}

func standaloneVerify(args []string, keyFile string) (fingerprint, digest string, err error) {
	expected := strings.Split(args[2], ",")
	anyKey := len(expected) == 1 && expected[0] == "any"
	if anyKey && keyFile == "" {
		return "", "", output.Usage("any needs --public-key-file: every key that GnuPG knows would do")
	}
	body, err := os.ReadFile(args[0])
	if err != nil {
		return "", "", err
	}
	signed, err := os.ReadFile(args[3])
	if err != nil {
		return "", "", err
	}
	var mechanism signature.SigningMechanism
	var known []string
	if keyFile == "" {
		mechanism, err = signature.NewGPGSigningMechanism()
	} else {
		var blob []byte
		if blob, err = os.ReadFile(keyFile); err != nil {
			return "", "", err
		}
		mechanism, known, err = signature.NewEphemeralGPGSigningMechanism(blob)
	}
	if err != nil {
		return "", "", err
	}
	defer mechanism.Close() //nolint:errcheck // nothing is written through it
	if anyKey {
		expected = known
	}
	s, fingerprint, err := signature.VerifyImageManifestSignatureUsingKeyIdentityList(signed, body, args[1], mechanism, expected)
	if err != nil {
		return "", "", err
	}
	return fingerprint, s.DockerManifestDigest.String(), nil
}

func generateSigstoreKeyCommand(a *app) *cobra.Command {
	var prefix, passphraseFile string
	c := &cobra.Command{
		Use: "generate-sigstore-key [flags] --output-prefix PREFIX", Short: a.t("make a key pair for sigstore signatures", "生成 sigstore 签名密钥对"),
		Example: "berth generate-sigstore-key --output-prefix mykey",
		Args:    a.args(0, 0),
	}
	c.Flags().StringVar(&prefix, "output-prefix", "", a.t("write `PREFIX`.pub and PREFIX.private", "写入 PREFIX.pub 与 PREFIX.private"))
	c.Flags().StringVar(&passphraseFile, "passphrase-file", "", a.t("`FILE` whose first line is the passphrase", "首行为口令的文件"))
	c.RunE = a.run(func(context.Context, []string) error {
		if prefix == "" {
			return output.Usage("generate-sigstore-key needs --output-prefix PREFIX")
		}
		return failed(a.generateKey(prefix, passphraseFile), "%s", a.t("cannot make a key pair", "无法生成密钥对"))
	})
	return c
}

func (a *app) generateKey(prefix, passphraseFile string) error {
	public, private := prefix+".pub", prefix+".private"
	for _, file := range []string{public, private} {
		switch _, err := os.Lstat(file); {
		case err == nil:
			return &output.Failure{What: file + a.t(" is there already, and a key is not written over", " 已存在，不会覆盖密钥"), Exit: output.ExitFailure}
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	var passphrase string
	var err error
	if passphraseFile != "" {
		passphrase, err = cli.ReadPassphraseFile(passphraseFile)
	} else {
		passphrase, err = a.askPassphrase(private)
	}
	if err != nil {
		return err
	}
	keys, err := sigstore.GenerateKeyPair([]byte(passphrase))
	if err != nil {
		return err
	}
	if err := os.WriteFile(private, keys.PrivateKey, 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(public, keys.PublicKey, 0o644); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.Out, "Key written to %q and %q\n", public, private)
	return err
}
