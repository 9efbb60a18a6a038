package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/pkg/compression"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/cli/option"
	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/image/index"
	"github.com/berth-registry/berth/oci"
)

// pushFlags are podman's of manifest push.
type pushFlags struct {
	all, quiet, removeSignatures, remove, force bool
	compression, digestFile, format             string
	level                                       option.Optional
	signBy, signKey, passphraseFile             string
	retry                                       option.Retry
}

func (f *pushFlags) add(a *app, c *cobra.Command) {
	g := c.Flags()
	g.BoolVar(&f.all, "all", true, a.t("push the images, too, and not only the index", "同时推送镜像，而不仅是索引"))
	g.BoolVarP(&f.quiet, "quiet", "q", false, a.t("say nothing of progress", "不显示进度"))
	g.BoolVar(&f.removeSignatures, "remove-signatures", false, a.t("leave the signatures of the images behind", "不复制镜像的签名"))
	g.BoolVar(&f.remove, "rm", false, a.t("delete the list from this machine when it was pushed", "推送成功后删除本机列表"))
	g.BoolVarP(&f.remove, "purge", "p", false, a.t("the same as --rm", "同 --rm"))
	g.StringVar(&f.compression, "compression-format", "", a.t("compress layers as `FORMAT`: gzip, zstd, zstd:chunked", "层的压缩格式：gzip、zstd、zstd:chunked"))
	f.level.Add(g, "compression-level", "", a.t("`LEVEL` of compression", "压缩级别"))
	g.BoolVar(&f.force, "force-compression", false, a.t("compress layers anew that have another format", "对其他格式的层重新压缩"))
	g.StringVar(&f.digestFile, "digestfile", "", a.t("write the digest of the index to this `FILE`", "将索引摘要写入文件"))
	g.StringVarP(&f.format, "format", "f", "", a.t("push an index of this `FORMAT`: oci or v2s2", "索引格式：oci 或 v2s2"))
	g.StringVar(&f.signBy, "sign-by", "", a.t("sign with the GPG key of this `FINGERPRINT`", "用此指纹的 GPG 密钥签名"))
	g.StringVar(&f.signKey, "sign-by-sigstore-private-key", "", a.t("sign with the sigstore key in this `FILE`", "用文件中的 sigstore 私钥签名"))
	g.StringVar(&f.passphraseFile, "sign-passphrase-file", "", a.t("the passphrase of the key is in this `FILE`", "密钥口令文件"))
	g.IntVar(&f.retry.Times, "retry", 0, a.t("try again this many times", "重试次数"))
	g.DurationVar(&f.retry.Delay, "retry-delay", 0, a.t("wait this long before each; else 1s, 2s, 4s …", "重试间隔；默认 1s、2s、4s ……"))
	_ = g.MarkHidden("purge")
	option.Refuse(g, "add-compression", "", a.t("an index with two compressions of each image is not made; push with --compression-format zstd", "不支持为每个镜像附加第二种压缩；请使用 --compression-format zstd"), false)
	option.Refuse(g, "sign-by-sigstore", "", a.t("parameter files of sigstore need its public services; use --sign-by-sigstore-private-key", "sigstore 参数文件依赖公共服务；请使用 --sign-by-sigstore-private-key"), false)
}

func manifestPushCommand(a *app) *cobra.Command {
	var f pushFlags
	c := &cobra.Command{
		Use:   "push [flags] LIST [DESTINATION]",
		Short: a.t("push a list and its images", "推送列表及其镜像"),
		Long: a.t("Without a destination the list goes where its name says. Every image is copied from where it was when it was added. The digest of the index is printed.",
			"省略目标时推送到列表名称所指的位置。镜像从加入时的位置复制。输出索引的摘要。"),
		Example: "berth manifest push app:v1 docker://registry.example.com/team/app:v1\nberth manifest push --rm --format v2s2 app:v1 docker://registry.example.com/team/app:v1\nberth manifest push app:v1 oci-archive:app.tar",
		Args:    a.args(1, 2),
	}
	p := a.placesFlags(c.Flags())
	f.add(a, c)
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		store, err := a.lists()
		if err != nil {
			return err
		}
		saved, err := store.Get(args[0])
		if err != nil {
			return failed(err, a.t("cannot push %s", "无法推送 %s"), args[0])
		}
		to := saved.Name
		if len(args) > 1 {
			to = args[1]
		}
		if transportOf(to) == nil {
			to = "docker://" + to
		}
		if err := p.prepare(to); err != nil {
			return err
		}
		digest, err := a.pushList(ctx, p, &f, &saved.List, saved.Name, to)
		if err != nil {
			return failed(err, a.t("cannot push %s to %s", "无法推送 %s 到 %s"), args[0], to)
		}
		if f.digestFile != "" {
			if err := a.writeTo(f.digestFile, func(w io.Writer) error { _, err := io.WriteString(w, digest); return err }); err != nil {
				return failed(err, a.t("cannot write %s", "无法写入 %s"), f.digestFile)
			}
		}
		if f.remove {
			if _, err := store.Delete(saved.ID); err != nil {
				return err
			}
		}
		_, err = fmt.Fprintln(a.Out, digest)
		return err
	})
	return c
}

// pushList copies the images and the index, and gives the digest of what arrived.
func (a *app) pushList(ctx context.Context, p *places, f *pushFlags, l *index.List, name, to string) (string, error) {
	kind, forced, err := f.kind()
	if err != nil {
		return "", err
	}
	body, err := l.Render(kind)
	if err != nil {
		return "", err
	}
	dest, err := a.parseImage(to)
	if err != nil {
		return "", err
	}
	options, err := f.options(a, p.sys)
	if err != nil {
		return "", err
	}
	options.ForceManifestMIMEType = forced
	policy, err := a.global.PolicyContext(p.sys)
	if err != nil {
		return "", err
	}
	defer policy.Destroy() //nolint:errcheck // nothing of it is used any more
	if f.all {
		for _, e := range l.Entries {
			if err := a.trusted(ctx, policy, p, e); err != nil {
				return "", err
			}
		}
	}
	// The images were accepted where they come from; the list in the making comes from here.
	open, err := signature.NewPolicyContext(&signature.Policy{Default: []signature.PolicyRequirement{signature.NewPRInsecureAcceptAnything()}})
	if err != nil {
		return "", err
	}
	defer open.Destroy() //nolint:errcheck // nothing of it is used any more
	source := index.Reference(name, kind, body, l, p.opener)
	if options.DestinationCtx, err = a.withStored(ctx, options.DestinationCtx, dest); err != nil {
		return "", err
	}
	dest, keepOrNot, err := keep(ctx, dest, options.DestinationCtx)
	if err != nil {
		return "", err
	}
	var pushed []byte
	err = a.again(ctx, f.retry, func() error {
		limited, show, finish := a.follow(ctx, f.quiet, dest, options)
		pushed, err = copy.Image(limited, open, dest, source, options)
		if err = finish(err); err == nil {
			show.Summary(a.t("pushed", "已推送"))
		}
		return err
	})
	if err = keepOrNot(err); err != nil {
		return "", err
	}
	d, err := manifest.Digest(pushed)
	return d.String(), err
}

// kind is the media type of the index, and that of the images when one is forced.
func (f *pushFlags) kind() (index, forced string, err error) {
	switch f.format {
	case "", "oci":
		return oci.MediaTypeIndex, "", nil
	case "v2s2", "docker":
		return oci.MediaTypeDockerList, oci.MediaTypeDockerManifest, nil
	}
	return "", "", output.Usage("--format %q is neither oci nor v2s2", f.format)
}

func (f *pushFlags) options(a *app, sys *types.SystemContext) (*copy.Options, error) {
	dest := *sys
	o := &copy.Options{SourceCtx: sys, DestinationCtx: &dest, RemoveSignatures: f.removeSignatures, SignBy: f.signBy,
		SignBySigstorePrivateKeyFile: f.signKey, ImageListSelection: copy.CopyAllImages, ForceCompressionFormat: f.force}
	if !f.all {
		o.ImageListSelection, o.Instances = copy.CopySpecificImages, []digest.Digest{}
	}
	if f.compression != "" {
		algorithm, err := compression.AlgorithmByName(f.compression)
		if err != nil {
			return nil, output.Usage("--compression-format %q is not known; gzip, zstd and zstd:chunked are", f.compression)
		}
		dest.CompressionFormat = &algorithm
	}
	if f.level.Given {
		var level int
		if _, err := fmt.Sscan(f.level.Value, &level); err != nil {
			return nil, output.Usage("--compression-level expects a number; got %q", f.level.Value)
		}
		dest.CompressionLevel = &level
	}
	if f.signBy != "" && f.signKey != "" {
		return nil, output.Usage("--sign-by and --sign-by-sigstore-private-key contradict each other")
	}
	if f.passphraseFile != "" {
		text, err := os.ReadFile(f.passphraseFile)
		if err != nil {
			return nil, err
		}
		line, _, _ := strings.Cut(string(text), "\n")
		o.SignPassphrase, o.SignSigstorePrivateKeyPassphrase = line, []byte(line)
	}
	return o, nil
}

// opener opens a source of a list. The credentials of the command line are for the registry that is pushed to, and go to no
// other.
func (p *places) opener(source string) (types.ImageReference, *types.SystemContext, error) {
	from, err := p.a.parseImage(source)
	if err != nil {
		return nil, nil, err
	}
	if named := from.DockerReference(); from.Transport() != docker.Transport || named != nil && reference.Domain(named) == p.reach.home {
		sys, err := p.a.withStored(context.Background(), p.sys, from)
		return from, sys, err
	}
	sys := *p.sys
	sys.DockerAuthConfig, sys.DockerBearerRegistryToken = nil, ""
	own, err := p.a.withStored(context.Background(), &sys, from)
	return from, own, err
}

// trusted asks the policy about an image of the list, where it is.
func (a *app) trusted(ctx context.Context, policy *signature.PolicyContext, p *places, e index.Entry) error {
	ref, sys, err := p.opener(e.Source)
	if err != nil {
		return err
	}
	if err := a.look(ctx, ref, sys); err != nil {
		return err
	}
	src, err := ref.NewImageSource(ctx, sys)
	if err != nil {
		return fmt.Errorf("image %s is not at %s any more: %w", e.Digest, e.Source, err)
	}
	defer src.Close() //nolint:errcheck // it was only read
	var instance *digest.Digest
	if body, _, err := src.GetManifest(ctx, nil); err != nil {
		return err
	} else if digest.FromBytes(body).String() != e.Digest.String() {
		d := digest.Digest(e.Digest.String())
		instance = &d
	}
	_, err = policy.IsRunningImageAllowed(ctx, image.UnparsedInstance(src, instance))
	return err
}
