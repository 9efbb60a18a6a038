package cli

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/cli/option"
	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/sign"
	"github.com/berth-registry/berth/image/sign/cosign"
	"github.com/berth-registry/berth/image/sign/gpg"
	"github.com/berth-registry/berth/image/sign/key"
	"github.com/berth-registry/berth/image/sign/notation"
	"github.com/berth-registry/berth/image/sign/policy"
)

// verifying are the flags of whom to believe.
type verifying struct {
	*oneImage
	keys         []string
	root         string
	identity     cosign.Identity
	noLog, noSCT bool
	newBundle    option.Optional
	format       string
	trust        string // notation's configuration directory
	annotations  []string
}

func (a *app) verifyingFlags(f *pflag.FlagSet) *verifying {
	v := &verifying{oneImage: a.oneImageFlags(f, true)}
	f.StringArrayVarP(&v.keys, "key", "k", nil, a.t("public key `FILE`; with several any one is enough", "公钥文件；可重复，任一匹配即可"))
	f.StringVar(&v.root, "trusted-root", "", a.t("trusted_root.json `FILE`: authorities and logs that certificates are checked against", "trusted_root.json 文件：验证证书所用的机构与日志"))
	f.StringVar(&v.identity.Subject, "certificate-identity", "", a.t("believe the certificate of this `SUBJECT`", "信任该主体的证书"))
	f.StringVar(&v.identity.SubjectRegexp, "certificate-identity-regexp", "", a.t("… of subjects that match all of this `EXPRESSION`", "主体须完整匹配该正则表达式"))
	f.StringVar(&v.identity.Issuer, "certificate-oidc-issuer", "", a.t("… when this `ISSUER` vouched for it", "签发者须为该 ISSUER"))
	f.StringVar(&v.identity.IssuerRegexp, "certificate-oidc-issuer-regexp", "", a.t("… when an issuer that matches all of this `EXPRESSION` did", "签发者须完整匹配该正则表达式"))
	f.BoolVar(&v.noLog, "insecure-ignore-tlog", false, a.t("do without an entry in a transparency log (with --trusted-root)", "不要求透明日志条目（配合 --trusted-root）"))
	f.BoolVar(&v.noSCT, "insecure-ignore-sct", false, a.t("do without proof that a certificate was published", "不要求证书公开证明"))
	v.newBundle.Add(f, "new-bundle-format", "", a.t("as cosign: look at bundles only (true), or at the tag only (false); else at both", "与 cosign 相同：true 仅查 bundle，false 仅查标签；默认两者皆查"))
	f.Lookup("new-bundle-format").NoOptDefVal = "true"
	f.Bool("offline", true, a.t("as cosign; nothing but the registry is ever asked", "与 cosign 相同；除仓库外不联网"))
	f.Lookup("offline").Hidden = true
	insecureAlias(f)
	return v
}

// cosignTrust is what the flags believe.
func (v *verifying) cosignTrust() (t cosign.Trust, err error) {
	t = cosign.Trust{Identity: v.identity, NoLog: v.noLog, NoSCT: v.noSCT}
	if v.newBundle.Given {
		if t.Only = map[string]cosign.Format{"true": cosign.Bundle, "false": cosign.Legacy}[v.newBundle.Value]; t.Only == "" {
			return t, output.Usage("--new-bundle-format expects true or false; got %q", v.newBundle.Value)
		}
	}
	for _, name := range v.keys {
		b, err := readFile(name, key.MaxFile)
		if err != nil {
			return t, err
		}
		k, err := key.ParsePublic(b)
		if err != nil {
			return t, about(name, err)
		}
		t.Keys = append(t.Keys, k)
	}
	if v.root != "" {
		b, err := readFile(v.root, sign.MaxBytes)
		if err != nil {
			return t, err
		}
		if t.Root, err = cosign.ParseRoot(b); err != nil {
			return t, about(v.root, err)
		}
	}
	return t, t.Check()
}

func verifyCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "verify [flags] IMAGE...", Short: a.t("verify the signatures of images in a registry", "验证仓库中镜像的签名"),
		Long: a.t(`Verify the signatures of images in a registry, by one of:
  --key FILE                 keys of cosign; both places where it keeps signatures are looked at
  --trusted-root FILE        certificates, of one --certificate-identity and --certificate-oidc-issuer
  --format gpg --key FILE    GPG keys: simple signing of podman, skopeo and CRI-O
  --format notation          the trust policy and trust store of notation (--notation-config DIR)
  --policy FILE              a policy.json, whatever it asks for; also without a registry: oci:, dir: …
Nothing but the registry is asked over the network. Whatever cannot be verified is not verified. Exit codes are those of
cosign: 10 no signature, 11 no such image, 12 none that is believed, 13 no certificate; and 6 when a policy refuses.`,
			`验证仓库中镜像的签名，方式之一：
  --key FILE                 cosign 公钥；两种存放位置都会检查
  --trusted-root FILE        证书，须给出 --certificate-identity 与 --certificate-oidc-issuer
  --format gpg --key FILE    GPG 公钥：podman、skopeo、CRI-O 的 simple signing
  --format notation          notation 的信任策略与信任库（--notation-config DIR）
  --policy FILE              policy.json 的任何要求；也适用于 oci:、dir: 等
除仓库外不联网；无法验证即视为未通过。退出码同 cosign：10 无签名，11 无此镜像，12 无可信签名，13 无证书；策略拒绝为 6。`),
		Example: "berth verify --key cosign.pub registry.example.com/team/app:v1\nberth verify --trusted-root trusted_root.json --certificate-identity ci@example.com --certificate-oidc-issuer https://issuer.example.com registry.example.com/team/app:v1\nberth verify --format gpg --key signer.asc docker://registry.example.com/team/app:v1\nberth verify --policy /etc/containers/policy.json docker://registry.example.com/team/app:v1",
		Args:    a.args(1, 0),
	}
	f := c.Flags()
	v := a.verifyingFlags(f)
	f.StringVar(&v.format, "format", "cosign", a.t("`FORMAT` of signatures: cosign, gpg, notation", "签名格式：cosign、gpg、notation"))
	f.StringVar(&v.trust, "notation-config", "", a.t("`DIR` with trustpolicy.json and truststore; else that of notation", "含 trustpolicy.json 与 truststore 的目录；默认为 notation 的配置目录"))
	f.StringArrayVarP(&v.annotations, "annotations", "a", nil, a.t("ask that `NAME=VALUE` was signed", "要求已签名 NAME=VALUE"))
	format := a.formatFlag(f, output.JSON)
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		check, err := v.checker(a)
		if err != nil {
			return failed(err, a.t("cannot verify %s", "无法验证 %s"), strings.Join(args, ", "))
		}
		all := []verified{}
		table := output.Table{Header: []string{"IMAGE", "FORMAT", "SIGNER", "WHERE"}}
		for _, name := range args {
			found, err := check(ctx, name)
			if err != nil {
				return failed(err, a.t("cannot verify %s", "无法验证 %s"), name)
			}
			for _, one := range found {
				table.Rows = append(table.Rows, []string{one.Image, one.Format, one.signer(), one.Where})
			}
			all = append(all, found...)
		}
		return format.Print(a.Out, all, table)
	})
	return c
}

// verified is what verify prints of a signature: what was signed as cosign prints it, and who signed.
type verified struct {
	Critical  json.RawMessage `json:"critical,omitempty"`
	Optional  map[string]any  `json:"optional"`
	Image     string          `json:"image"`
	Format    string          `json:"format"`
	Where     string          `json:"where,omitempty"`
	Key       string          `json:"key,omitempty"`
	Subject   string          `json:"subject,omitempty"`
	Issuer    string          `json:"issuer,omitempty"`
	Predicate string          `json:"predicateType,omitempty"`
}

func (v verified) signer() string {
	if v.Subject != "" {
		return v.Subject
	}
	return v.Key
}

// shown makes it of what was verified.
func shown(image, format string, s sign.Verified) verified {
	v := verified{Optional: s.Optional, Image: image, Format: format, Where: s.Where, Key: s.Key, Subject: s.Identity, Issuer: s.Issuer, Predicate: s.Predicate}
	var doc struct{ Critical json.RawMessage }
	if json.Unmarshal(s.Payload, &doc) == nil {
		v.Critical = doc.Critical
	}
	if v.Critical == nil { // a statement: said in the form that scripts read
		_, digest, _ := strings.Cut(image, "@")
		v.Critical, _ = json.Marshal(map[string]any{ // of strings it cannot fail
			"identity": map[string]string{"docker-reference": s.Reference}, "image": map[string]string{"docker-manifest-digest": digest}, "type": s.Predicate,
		})
	}
	return v
}

// checker is how one image is verified by the flags. It refuses flags that do not go together.
func (v *verifying) checker(a *app) (func(ctx context.Context, name string) ([]verified, error), error) {
	sys, err := a.system(v.image)
	if err != nil {
		return nil, err
	}
	byCosign := v.root != "" || v.identity != (cosign.Identity{}) || v.newBundle.Given || len(v.annotations) > 0 || v.noLog || v.noSCT
	if a.global.Policy != "" {
		if byCosign || len(v.keys) > 0 || v.trust != "" {
			return nil, output.Usage("%s", a.t("--policy says all about whom to believe; other flags of trust have no meaning beside it", "--policy 已完整说明信任对象，不能与其他信任参数同用"))
		}
		return func(ctx context.Context, name string) ([]verified, error) { return v.byPolicy(ctx, a, sys, name) }, nil
	}
	if v.format != "cosign" && byCosign {
		return nil, output.Usage("certificates, logs, bundles and annotations belong to --format cosign, and not to %s", v.format)
	}
	if v.trust != "" && v.format != notationFormat {
		return nil, output.Usage("--notation-config belongs to --format notation")
	}
	switch v.format {
	case "cosign":
		return v.byCosign(a, sys)
	case gpgFormat:
		return v.byGPG(a, sys)
	case notationFormat:
		return v.byNotation(a, sys)
	}
	return nil, output.Usage("--format %q is none of cosign, gpg, notation", v.format)
}

// find is app.find, for which an image that is not there is a refusal.
func (v *verifying) find(ctx context.Context, a *app, sys *types.SystemContext, name string) (target, error) {
	t, err := a.findAnywhere(ctx, sys, v.oneImage, name)
	if fault.Is(err, fault.NotFound) {
		err = &sign.Refusal{Why: sign.NoImage, Message: fault.Of(err).Message}
	}
	return t, err
}

func (v *verifying) byCosign(a *app, sys *types.SystemContext) (func(context.Context, string) ([]verified, error), error) {
	trust, err := v.cosignTrust()
	if err != nil {
		return nil, err
	}
	notes, err := signedPairs(v.annotations)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, name string) ([]verified, error) {
		t, err := v.find(ctx, a, sys, name)
		if err != nil {
			return nil, err
		}
		found, err := cosign.Verify(ctx, t.store, t.content.Digest, trust, notes)
		if err != nil {
			return nil, err
		}
		out := make([]verified, len(found))
		for i, f := range found {
			out[i] = shown(t.at(), "cosign", f)
		}
		return out, nil
	}, nil
}

func (v *verifying) byGPG(a *app, sys *types.SystemContext) (func(context.Context, string) ([]verified, error), error) {
	if len(v.keys) == 0 {
		return nil, output.Usage("--format gpg needs --key FILE").WithFix("gpg --export --armor KEY > signer.asc")
	}
	var rings []*gpg.Keyring
	for _, name := range v.keys {
		b, err := readFile(name, gpg.MaxFile)
		if err != nil {
			return nil, err
		}
		ring, err := gpg.ParseKeyring(b, a.now)
		if err != nil {
			return nil, failed(err, "--key %s", name)
		}
		rings = append(rings, ring)
	}
	return func(ctx context.Context, name string) ([]verified, error) {
		t, err := v.find(ctx, a, sys, name)
		if err != nil {
			return nil, err
		}
		tagged, ok := t.named.(reference.Tagged)
		if !ok {
			return nil, output.Usage(a.t("a GPG signature is about a name with a tag, and %s has none", "GPG 签名针对带标签的名称，而 %s 没有标签"), name)
		}
		sigs, err := a.simpleSignatures(ctx, sys, t)
		if err != nil {
			return nil, err
		}
		var found sign.Verified
		for _, ring := range rings {
			if found, err = ring.VerifyAny(sigs, t.content.Body, t.named.Name()+":"+tagged.Tag()); err == nil {
				return []verified{shown(t.at(), gpgFormat, found)}, nil
			}
		}
		return nil, err
	}, nil
}

func (v *verifying) byNotation(a *app, sys *types.SystemContext) (func(context.Context, string) ([]verified, error), error) {
	if len(v.keys) > 0 {
		return nil, output.Usage("%s", a.t("--format notation believes certificates of a trust store, and not keys", "--format notation 信任信任库中的证书，而不是密钥"))
	}
	dir := v.trust
	if dir == "" {
		home, err := os.UserConfigDir()
		if err != nil {
			return nil, err
		}
		dir = filepath.Join(home, "notation")
	}
	b, err := readFile(filepath.Join(dir, "trustpolicy.json"), sign.MaxBytes)
	if err != nil {
		return nil, failed(err, "%s", a.t("there is no trust policy", "没有信任策略"))
	}
	trust, err := notation.ParseTrust(b, dir)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, name string) ([]verified, error) {
		t, err := v.find(ctx, a, sys, name)
		if err != nil {
			return nil, err
		}
		found, err := trust.Verify(ctx, t.store, t.content, t.at())
		if err != nil {
			return nil, err
		}
		out := make([]verified, len(found))
		for i, f := range found {
			out[i] = shown(t.at(), notationFormat, f)
		}
		return out, nil
	}, nil
}

// byPolicy asks a policy.json. Its images may be anywhere, so they are named with their transport; one without is in a
// registry.
func (v *verifying) byPolicy(ctx context.Context, a *app, sys *types.SystemContext, name string) ([]verified, error) {
	p, err := signature.NewPolicyFromFile(a.global.Policy)
	if err != nil {
		return nil, failed(err, "--policy %s", a.global.Policy)
	}
	if transportOf(name) == nil {
		named, err := a.parseRemote(name)
		if err != nil {
			return nil, err
		}
		name = "docker://" + named.String()
	}
	r, err := a.parseImage(name)
	if err != nil {
		return nil, err
	}
	o := policy.Options{RequireSigned: a.global.RequireSigned}
	if named := r.DockerReference(); named != nil && r.Transport() == docker.Transport {
		repository, _, err := remoteRepository(a.client(sys, option.Retry{}, nil), named)
		if err != nil {
			return nil, err
		}
		o.Store = sign.Registry(repository)
	}
	if sys, err = a.withStored(ctx, sys, r); err != nil {
		return nil, err
	}
	checked, err := policy.Check(ctx, p, r, sys, o)
	if err != nil {
		return nil, err
	}
	image, asked := name+"@"+checked.Digest.String(), "" // what the policy was asked about
	if named := r.DockerReference(); named != nil {
		image, asked = named.Name()+"@"+checked.Digest.String(), named.String()
	}
	if !checked.Signed {
		a.warn("the policy accepts "+name+" without a signature", "策略在无签名的情况下放行 "+name)
	}
	return []verified{shown(image, "policy", sign.Verified{Where: a.global.Policy, Reference: asked})}, nil
}
