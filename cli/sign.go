package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/cli/option"
	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/image/sign"
	"github.com/berth-registry/berth/image/sign/cosign"
	"github.com/berth-registry/berth/image/sign/gpg"
	"github.com/berth-registry/berth/image/sign/key"
	"github.com/berth-registry/berth/image/sign/notation"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// Formats of signatures, beside cosign's two.
const (
	gpgFormat      = "gpg"
	notationFormat = "notation"
)

// signing are the flags of sign and attest.
type signing struct {
	*oneImage
	key, passphrase, format string
	newBundle               option.Optional
	tlog, authority         bool
	recursive               bool
}

func (a *app) signingFlags(f *pflag.FlagSet, formats string) *signing {
	s := &signing{oneImage: a.oneImageFlags(f, true)}
	f.StringVarP(&s.key, "key", "k", "", a.t("private key `FILE`: of cosign, or for gpg an export of secret keys", "私钥文件：cosign 密钥；gpg 为导出的私钥"))
	f.StringVar(&s.passphrase, "passphrase-file", "", a.t("`FILE` whose first line is the password of the key; else BERTH_KEY_PASSWORD or COSIGN_PASSWORD, else it is asked", "首行为密钥口令的文件；否则取 BERTH_KEY_PASSWORD 或 COSIGN_PASSWORD，再否则询问"))
	f.StringVar(&s.format, "format", string(cosign.Bundle), a.t("`FORMAT`: ", "格式：")+formats)
	s.newBundle.Add(f, "new-bundle-format", "", a.t("as cosign: true is --format bundle, false --format tag", "与 cosign 相同：true 即 --format bundle，false 即 --format tag"))
	f.Lookup("new-bundle-format").NoOptDefVal = "true"
	f.BoolVarP(&s.recursive, "recursive", "r", false, a.t("sign the images of an index, too", "同时签名索引中的镜像"))
	f.BoolVar(&s.tlog, "tlog-upload", false, a.t("refused when true: nothing is sent to a transparency log", "为 true 时拒绝：不会上传到透明日志"))
	f.BoolVar(&s.authority, "use-signing-config", false, a.t("refused when true: no certificate authority is asked", "为 true 时拒绝：不会请求证书机构"))
	f.BoolP("yes", "y", false, a.t("as cosign; nothing is asked here", "与 cosign 相同；此处不会询问"))
	for _, name := range []string{"tlog-upload", "use-signing-config", "yes"} {
		f.Lookup(name).Hidden = true
	}
	insecureAlias(f)
	return s
}

// insecureAlias adds cosign's way to say --tls-verify=false.
func insecureAlias(f *pflag.FlagSet) {
	f.VarPF(insecure{f}, "allow-insecure-registry", "", "").NoOptDefVal = "true"
	f.VarPF(insecure{f}, "allow-http-registry", "", "").NoOptDefVal = "true"
	f.Lookup("allow-insecure-registry").Hidden = true
	f.Lookup("allow-http-registry").Hidden = true
}

// insecure is a flag that sets tls-verify to the contrary.
type insecure struct{ f *pflag.FlagSet }

func (insecure) String() string { return "" }
func (insecure) Type() string   { return "bool" }
func (i insecure) Set(s string) error {
	switch strings.ToLower(s) {
	case "1", "t", "true":
		return i.f.Set("tls-verify", "false")
	case "0", "f", "false":
		return i.f.Set("tls-verify", "true")
	}
	return fmt.Errorf("%q is neither true nor false", s)
}

// check refuses what cannot be, and settles the format.
func (s *signing) check(a *app) error {
	if s.tlog {
		return output.Usage("%s", a.t("--tlog-upload: this tool sends nothing to a transparency log", "--tlog-upload：本工具不会向透明日志上传")).WithFix("--tlog-upload=false")
	}
	if s.authority {
		return output.Usage("%s", a.t("--use-signing-config: keys are in files here, and no authority is asked", "--use-signing-config：此处使用密钥文件，不请求任何机构")).WithFix("--use-signing-config=false --key FILE")
	}
	if s.newBundle.Given {
		want := map[string]string{"true": string(cosign.Bundle), "false": string(cosign.Legacy)}[s.newBundle.Value]
		if want == "" {
			return output.Usage("--new-bundle-format expects true or false; got %q", s.newBundle.Value)
		}
		s.format = want
	}
	if s.key == "" {
		return output.Usage("%s", a.t("no key to sign with", "未指定签名密钥")).WithFix("--key FILE (berth keys new)")
	}
	return nil
}

// private reads the key.
func (s *signing) private(a *app) (*key.Private, error) {
	b, err := readFile(s.key, key.MaxFile)
	if err != nil {
		return nil, err
	}
	var password []byte
	if key.IsEncrypted(b) {
		if password, err = a.keyPassword(s.passphrase, false); err != nil {
			return nil, err
		}
	}
	p, err := key.ParsePrivate(b, password)
	return p, about(s.key, err)
}

// target is an image that is signed or verified: where it is, and what it is at this moment.
type target struct {
	named   reference.Named
	store   sign.Store
	content sign.Content
}

// at is host, repository and digest.
func (t target) at() string { return t.named.Name() + "@" + t.content.Digest.String() }

// find reads the manifest of an image.
func (a *app) find(ctx context.Context, sys *types.SystemContext, o *oneImage, name string) (t target, err error) {
	if t.named, err = a.parseRemote(name); err != nil {
		return t, err
	}
	repository, at, err := remoteRepository(a.client(sys, o.retry, nil), t.named)
	if err != nil {
		return t, err
	}
	t.store = sign.Registry(repository)
	t.content, err = t.store.Manifest(ctx, at)
	return t, err
}

// findAnywhere finds an image to read, and what belongs to it, where registries.conf says.
func (a *app) findAnywhere(ctx context.Context, sys *types.SystemContext, o *oneImage, name string) (t target, err error) {
	if t.named, err = a.parseRemote(name); err != nil {
		return t, err
	}
	c := a.client(sys, o.retry, nil)
	_, at, err := remoteRepository(c, t.named)
	if err != nil {
		return t, err
	}
	var repository *remote.Repository
	t.content, repository, err = anywhere(ctx, c, sys, t.named, func(r *remote.Repository) (sign.Content, error) { return sign.Registry(r).Manifest(ctx, at) })
	if err == nil {
		t.store = sign.Registry(repository)
	}
	return t, err
}

// all are the target and, when it is an index and that is asked, its images.
func (t target) all(ctx context.Context, recursive bool) ([]target, error) {
	list := []target{t}
	if !recursive {
		return list, nil
	}
	m, err := oci.ParseManifest(t.content.MediaType, t.content.Body)
	if err != nil {
		return nil, err
	}
	for _, d := range m.Manifests {
		child := t
		if child.content, err = t.store.Manifest(ctx, ref.Reference{Digest: d.Digest}); err != nil {
			return nil, err
		}
		list = append(list, child)
	}
	return list, nil
}

func signCommand(a *app) *cobra.Command {
	var annotations []string
	var signBy, chain, payload, identity string
	var expiry time.Duration
	c := &cobra.Command{
		Use: "sign [flags] --key FILE IMAGE...", Short: a.t("sign images in a registry", "为仓库中的镜像签名"),
		Long: a.t(`Sign images in a registry. The signature is stored beside the image, in one of four formats:
  bundle    a bundle that refers to the image, as cosign 3 keeps it
  tag       at the tag sha256-DIGEST.sig, as cosign 1 and 2
  gpg       simple signing of podman, skopeo and CRI-O: in the registry when it keeps such signatures (berthd does),
            else where registries.d says
  notation  JWS of the Notary Project, with a certificate
Nothing is sent to a transparency log.`, `为仓库中的镜像签名。签名与镜像存放在一起，有四种格式：
  bundle    引用镜像的 bundle（cosign 3）
  tag       标签 sha256-DIGEST.sig（cosign 1、2）
  gpg       podman、skopeo、CRI-O 的 simple signing：仓库支持时存入仓库（berthd 支持），否则存入 registries.d 指定的位置
  notation  Notary Project 的 JWS，使用证书
不会向透明日志上传任何内容。`),
		Example: "berth sign --key cosign.key registry.example.com/team/app:v1\nberth sign --format gpg --key secret.asc docker://registry.example.com/team/app:v1\nberth sign --format notation --key key.pem --certificate-chain chain.pem registry.example.com/team/app:v1",
		Args:    a.args(1, 0),
	}
	f := c.Flags()
	s := a.signingFlags(f, "bundle, tag, gpg, notation")
	f.StringArrayVarP(&annotations, "annotations", "a", nil, a.t("sign `NAME=VALUE`, too; may be given again", "同时签名 NAME=VALUE；可重复"))
	f.StringVar(&signBy, "sign-by", "", a.t("gpg: `KEY` of the file by fingerprint or address; else the only one", "gpg：以指纹或地址指定文件中的密钥"))
	f.StringVar(&identity, "sign-container-identity", "", a.t("tag, gpg: call the image `REFERENCE`; else its own name", "tag、gpg：签名中的镜像名称；默认为其自身名称"))
	f.StringVar(&chain, "certificate-chain", "", a.t("notation: `FILE` with the certificates of the key, its own first", "notation：密钥的证书链文件，自身证书在前"))
	f.DurationVar(&expiry, "expiry", 0, a.t("notation: believe the signature for this time only", "notation：签名的有效期"))
	f.StringVar(&payload, "output-payload", "", a.t("write what was signed to `FILE` (bundle, tag, one image)", "将签名内容写入文件（bundle、tag，单个镜像）"))
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		if err := s.check(a); err != nil {
			return err
		}
		notes, err := signedPairs(annotations)
		if err != nil {
			return err
		}
		w := &signer{a: a, s: s, annotations: notes, by: signBy, chain: chain, identity: identity, expiry: expiry}
		if err := w.check(payload != "" && len(args) > 1); err != nil {
			return err
		}
		for _, name := range args {
			if err := w.sign(ctx, name, payload); err != nil {
				return failed(err, a.t("cannot sign %s", "无法签名 %s"), name)
			}
		}
		return nil
	})
	return c
}

// signer signs by the flags of sign.
type signer struct {
	a                   *app
	s                   *signing
	annotations         map[string]string
	by, chain, identity string
	expiry              time.Duration
}

// check refuses flags that the format has no place for.
func (w *signer) check(manyPayloads bool) error {
	format := w.s.format
	for _, one := range []struct {
		flag  string
		given bool
		of    []string
	}{
		{"annotations", len(w.annotations) > 0, []string{string(cosign.Bundle), string(cosign.Legacy)}},
		{"sign-by", w.by != "", []string{gpgFormat}},
		{"sign-container-identity", w.identity != "", []string{string(cosign.Legacy), gpgFormat}},
		{"certificate-chain", w.chain != "", []string{notationFormat}},
		{"expiry", w.expiry != 0, []string{notationFormat}},
	} {
		if one.given && !slices.Contains(one.of, format) {
			return output.Usage("--%s belongs to --format %s, and not to %s", one.flag, strings.Join(one.of, ", "), format)
		}
	}
	if manyPayloads {
		return output.Usage("--output-payload takes one image")
	}
	if !slices.Contains([]string{string(cosign.Bundle), string(cosign.Legacy), gpgFormat, notationFormat}, format) {
		return output.Usage("--format %q is none of bundle, tag, gpg, notation", format)
	}
	if format == notationFormat && w.chain == "" {
		return output.Usage("--format notation needs --certificate-chain FILE")
	}
	return nil
}

func (w *signer) sign(ctx context.Context, name, payload string) error {
	sys, err := w.a.system(w.s.image)
	if err != nil {
		return err
	}
	t, err := w.a.find(ctx, sys, w.s.oneImage, name)
	if err != nil {
		return err
	}
	list, err := t.all(ctx, w.s.recursive)
	if err != nil {
		return err
	}
	one, err := w.by1(ctx, sys)
	if err != nil {
		return err
	}
	for _, t := range list {
		where, err := one(t)
		if err != nil {
			return err
		}
		fmt.Fprintf(w.a.Err, w.a.t("signed %s: %s\n", "已签名 %s：%s\n"), t.at(), where)
		if _, err := fmt.Fprintln(w.a.Out, t.at()); err != nil {
			return err
		}
	}
	if payload == "" {
		return nil
	}
	return w.payload(ctx, t, payload)
}

// by1 reads the key once and returns how one image is signed with it.
func (w *signer) by1(ctx context.Context, sys *types.SystemContext) (func(target) (string, error), error) {
	if w.s.format == gpgFormat {
		return w.byGPG(ctx, sys)
	}
	k, err := w.s.private(w.a)
	if err != nil {
		return nil, err
	}
	if w.s.format == notationFormat {
		b, err := readFile(w.chain, key.MaxFile)
		if err != nil {
			return nil, err
		}
		chain, err := notation.Chain(b)
		if err != nil {
			return nil, err
		}
		g := notation.Signer{Key: k.Signer(), Chain: chain, Expiry: w.expiry, Agent: "berth/" + version}
		return func(t target) (string, error) { return g.Sign(ctx, t.store, t.content) }, nil
	}
	notes := map[string]any{}
	for k, v := range w.annotations {
		notes[k] = v
	}
	g := cosign.Signer{Key: k, Format: cosign.Format(w.s.format), Now: w.a.now}
	return func(t target) (string, error) {
		name := t.named.Name()
		if w.identity != "" {
			name = w.identity
		}
		return g.Sign(ctx, t.store, t.content, name, notes)
	}, nil
}

// byGPG signs by a key from a file. The signature goes where the transport keeps such: into the registry, or where
// registries.d says.
func (w *signer) byGPG(ctx context.Context, sys *types.SystemContext) (func(target) (string, error), error) {
	b, err := readFile(w.s.key, gpg.MaxFile)
	if err != nil {
		return nil, err
	}
	ring, err := gpg.ParseKeyring(b, w.a.now)
	if err != nil {
		return nil, err
	}
	var password []byte
	if ring.Locked() {
		if password, err = w.a.keyPassword(w.s.passphrase, false); err != nil {
			return nil, err
		}
	}
	return func(t target) (string, error) {
		name := w.identity
		if tagged, ok := t.named.(reference.Tagged); ok && name == "" {
			name = t.named.Name() + ":" + tagged.Tag()
		} else if name == "" {
			return "", output.Usage(w.a.t("a GPG signature is about a name with a tag, and %s has none", "GPG 签名针对带标签的名称，而 %s 没有标签"), t.named.String()).WithFix("--sign-container-identity %s:TAG", t.named.Name())
		}
		sig, err := ring.Sign(t.content.Body, name, w.by, password)
		if err != nil {
			return "", err
		}
		return name, w.a.putSimple(ctx, sys, t, sig)
	}, nil
}

// putSimple adds a signature to those that the image has.
func (a *app) putSimple(ctx context.Context, sys *types.SystemContext, t target, sig []byte) (err error) {
	r, err := transportReference(t)
	if err != nil {
		return err
	}
	have, err := a.simpleSignatures(ctx, sys, t)
	if err != nil {
		return err
	}
	if sys, err = a.withStored(ctx, sys, r); err != nil {
		return err
	}
	dest, err := r.NewImageDestination(ctx, sys)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dest.Close()) }()
	if err := dest.SupportsSignatures(ctx); err != nil {
		return fault.New(fault.Unsupported, fault.UnsupportedReason, "there is no place for GPG signatures of %s: the registry keeps none, and registries.d names no lookaside", t.named.Name()).Because(err)
	}
	d := digest.Digest(t.content.Digest.String())
	return dest.PutSignatures(ctx, append(have, sig), &d)
}

// transportReference is the image as a transport names it, by its digest.
func transportReference(t target) (types.ImageReference, error) {
	named, err := reference.WithDigest(reference.TrimNamed(t.named), digest.Digest(t.content.Digest.String()))
	if err != nil {
		return nil, err
	}
	return docker.NewReference(named)
}

// simpleSignatures are the GPG signatures that an image has, in the registry or in its lookaside.
func (a *app) simpleSignatures(ctx context.Context, sys *types.SystemContext, t target) (sigs [][]byte, err error) {
	r, err := transportReference(t)
	if err != nil {
		return nil, err
	}
	if sys, err = a.withStored(ctx, sys, r); err != nil {
		return nil, err
	}
	src, err := r.NewImageSource(ctx, sys)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	d := digest.Digest(t.content.Digest.String())
	return src.GetSignatures(ctx, &d)
}

// payload writes what the newest signature of the key signs.
func (w *signer) payload(ctx context.Context, t target, file string) error {
	k, err := w.s.private(w.a)
	if err != nil {
		return err
	}
	found, err := cosign.Verify(ctx, t.store, t.content.Digest, cosign.Trust{Keys: []*key.Public{k.Public()}}, w.annotations)
	if err != nil {
		return err
	}
	return os.WriteFile(file, found[len(found)-1].Payload, 0o644)
}

// signedPairs reads NAME=VALUE.
func signedPairs(list []string) (map[string]string, error) {
	out := map[string]string{}
	for _, s := range list {
		for _, one := range strings.Split(s, ",") {
			name, value, ok := strings.Cut(one, "=")
			if !ok || name == "" {
				return nil, output.Usage("%q is not NAME=VALUE", one)
			}
			out[name] = value
		}
	}
	return out, nil
}
