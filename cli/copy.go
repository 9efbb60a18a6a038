package cli

import (
	"context"
	"fmt"
	"os"

	encconfig "github.com/containers/ocicrypt/config"
	enchelpers "github.com/containers/ocicrypt/helpers"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/docker/archive"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/cli/option"
	"github.com/berth-registry/berth/cli/output"
)

// copyOptions are the flags of copy.
type copyOptions struct {
	shared       option.Shared
	source       *option.Image
	target       *option.Destination
	retry        option.Retry
	convert      option.Convert
	tags         []string
	quiet, all   bool
	multiArch    option.Optional
	signIdentity string
	digestFile   string
	encryptKeys  []string
	encryptLayer []int
	decryptKeys  []string
	parallel     uint
	related      relations
	platforms    []string
	dryRun       bool

	show    *output.Progress // of the layers that were brought before the library copies; nil without
	brought map[string]bool  // their digests
}

func copyCommand(a *app) *cobra.Command {
	o := &copyOptions{}
	c := &cobra.Command{
		Use: "copy [flags] SOURCE-IMAGE DESTINATION-IMAGE", Aliases: []string{"cp"},
		Short: a.t("copy an image from one place to another", "将镜像从一处复制到另一处"),
		Example: "berth copy docker://registry.example.com/team/app:v1 docker://mirror.example.com/team/app:v1\n" +
			"berth copy --all docker://docker.io/library/alpine:3 oci:alpine:3\n" +
			"berth copy docker-archive:app.tar docker://registry.example.com/team/app:v1",
		Args: a.args(2, 2), ValidArgsFunction: a.completeImage,
	}
	o.addFlags(a, c.Flags())
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		o.related.given = c.Flags().Changed("referrers")
		return failed(a.copy(ctx, o, args[0], args[1]), a.t("cannot copy %s to %s", "无法将 %s 复制到 %s"), args[0], args[1])
	})
	return c
}

func (o *copyOptions) addFlags(a *app, f *pflag.FlagSet) {
	o.source, o.target = option.NewImage(&o.shared, "src-"), option.NewDestination(&o.shared, "dest-")
	o.shared.AddFlags(f, a.t)
	o.source.AddFlags(f, a.t)
	o.target.AddFlags(f, a.t)
	option.BothSides(f, a.t, o.source, o.target.Image)
	o.retry.AddFlags(f, a.t)
	o.convert.AddFlags(f, a.t)
	f.StringSliceVar(&o.tags, "additional-tag", nil, a.t("further names in a docker-archive", "docker-archive 中的附加名称"))
	f.BoolVarP(&o.quiet, "quiet", "q", false, a.t("show no progress", "不显示进度"))
	f.BoolVarP(&o.all, "all", "a", false, a.t("copy the images of all platforms", "复制所有平台的镜像"))
	o.multiArch.Add(f, "multi-arch", "", a.t("of an index copy `WHICH`: system, all, index-only", "复制索引的哪一部分：system、all、index-only"))
	f.StringVar(&o.signIdentity, "sign-identity", "", a.t("the `REFERENCE` to sign for, where it is not the destination", "签名所针对的引用，默认为目标"))
	f.StringVar(&o.digestFile, "digestfile", "", a.t("write the digest to `FILE`", "将摘要写入文件"))
	f.StringSliceVar(&o.encryptKeys, "encryption-key", nil, a.t("encrypt for this `KEY` (jwe:FILE, pgp:ADDRESS, pkcs7:FILE)", "加密所用的密钥（jwe:FILE、pgp:ADDRESS、pkcs7:FILE）"))
	f.IntSliceVar(&o.encryptLayer, "encrypt-layer", nil, a.t("encrypt only these layers; 0 is the first, -1 the last", "只加密这些层；0 为第一层，-1 为最后一层"))
	f.StringSliceVar(&o.decryptKeys, "decryption-key", nil, a.t("decrypt with this `KEY[:PASSPHRASE]`", "解密所用的密钥"))
	o.related.addFlags(f, a.t)
	f.StringSliceVar(&o.platforms, "platform", nil, a.t("of an index copy the images for these `OS/ARCH` only, and the index as it is", "只复制索引中这些平台的镜像，索引保持不变"))
	f.BoolVar(&o.dryRun, "dry-run", false, a.t("say what would be copied, and copy nothing", "只显示将要复制的内容"))
	f.UintVar(&o.parallel, "image-parallel-copies", 0, a.t("layers on their way at the same time", "同时传输的层数"))
}

// selection says which images of an index are copied.
func (o *copyOptions) selection() (copy.ImageListSelection, error) {
	switch {
	case o.multiArch.Given && o.all:
		return 0, output.Usage("--all and --multi-arch contradict each other")
	case o.all:
		return copy.CopyAllImages, nil
	case !o.multiArch.Given:
		return copy.CopySystemImage, nil
	}
	switch o.multiArch.Value {
	case "system":
		return copy.CopySystemImage, nil
	case "all":
		return copy.CopyAllImages, nil
	case "index-only":
		return copy.CopySpecificImages, nil // of which none is named
	}
	return 0, output.Usage("--multi-arch %q is none of system, all, index-only", o.multiArch.Value)
}

func (a *app) copy(ctx context.Context, o *copyOptions, from, to string) error {
	source, err := a.parseImage(from)
	if err != nil {
		return err
	}
	target, err := a.parseImage(to)
	if err != nil {
		return err
	}
	if err := a.mayUseStorage(source, target); err != nil {
		return err
	}
	if _, err := o.selection(); err != nil {
		return err
	}
	if err := o.check(source, target); err != nil {
		return err
	}
	a.ineffective(o.source, source)
	a.ineffective(o.target.Image, target)
	if !o.dryRun {
		a.tidy(target)
	}
	if done, err := a.direct(ctx, o, [2]string{from, to}, source, target); done || err != nil {
		return err
	}
	if len(o.platforms) > 0 {
		return output.Usage("--platform needs docker:, oci: or oci-archive: at both ends, and no flag that changes the image")
	}
	options, done, err := a.libraryOptions(ctx, o, target)
	if err != nil {
		return err
	}
	defer done()
	policy, err := a.global.PolicyContext(options.SourceCtx)
	if err != nil {
		return err
	}
	if err := a.look(ctx, source, options.SourceCtx); err != nil {
		return err
	}
	if err := daemonAnswers(ctx, target, options.DestinationCtx); err != nil {
		return err
	}
	defer policy.Destroy() //nolint:errcheck // it holds nothing that could be lost
	if options.SourceCtx, err = a.withStored(ctx, options.SourceCtx, source); err != nil {
		return err
	}
	if options.DestinationCtx, err = a.withStored(ctx, options.DestinationCtx, target); err != nil {
		return err
	}
	target, keepOrNot, err := keep(ctx, target, options.DestinationCtx)
	if err != nil {
		return err
	}
	if target, err = a.guardUnpacked(ctx, source, target, options.SourceCtx, o.retry); err != nil {
		return a.blame(ctx, keepOrNot(err), source, options.SourceCtx)
	}
	show := o.show
	if show == nil {
		show = a.progress(o.quiet)
	}
	limited, finish := a.followOn(ctx, show, target, options, o.brought)
	var written []byte
	err = a.again(limited, o.retry, func() error {
		written, err = copy.Image(limited, policy, target, source, options)
		return err
	})
	if pinned := a.byBundle(limited, err, source, options.SourceCtx, o.retry); pinned != nil {
		err = a.again(limited, o.retry, func() error {
			written, err = a.copyAccepted(limited, target, pinned, options)
			return err
		})
	}
	err = a.blame(ctx, keepOrNot(finish(err)), source, options.SourceCtx)
	if err != nil {
		return err
	}
	show.Summary(a.t("copied", "已复制"))
	if n := a.unconverted(ctx, o, source, options.SourceCtx); n > 0 && !o.quiet {
		a.notConverted(n, target)
	}
	if o.digestFile == "" {
		return nil
	}
	digest, err := manifest.Digest(written)
	if err != nil {
		return err
	}
	return os.WriteFile(o.digestFile, []byte(digest.String()), 0o644)
}

// check refuses flags that mean nothing for these images, or nothing together: what was asked for would not be done.
func (o *copyOptions) check(source, target types.ImageReference) error {
	to := target.Transport().Name()
	for _, err := range []error{o.source.Misplaced(source.Transport().Name()), o.target.Misplaced(to), o.convert.Check()} {
		if err != nil {
			return err
		}
	}
	switch {
	case len(o.tags) > 0 && to != archive.Transport.Name():
		return output.Usage("--additional-tag is for docker-archive:, and the image goes to %s:", to)
	case o.signIdentity != "" && !o.convert.Signs():
		return output.Usage("--sign-identity needs a signature: --sign-by, --sign-by-sigstore or --sign-by-sigstore-private-key")
	case o.dryRun && o.digestFile != "":
		return output.Usage("--dry-run and --digestfile contradict each other: the plan on standard output has the digest")
	}
	return nil
}

// ineffective says which flags do nothing for an image.
func (a *app) ineffective(side *option.Image, img types.ImageReference) {
	name := img.Transport().Name()
	for _, flag := range side.Ineffective(name) {
		a.warn(flag+" does nothing for an image in "+name+":", flag+" 对 "+name+": 的镜像无效")
	}
}

// libraryOptions makes what copy.Image takes.
func (a *app) libraryOptions(ctx context.Context, o *copyOptions, target types.ImageReference) (*copy.Options, func(), error) {
	selection, err := o.selection()
	if err != nil {
		return nil, nil, err
	}
	sourceSystem, err := a.system(o.source)
	if err != nil {
		return nil, nil, err
	}
	targetSystem, err := a.system(o.target)
	if err != nil {
		return nil, nil, err
	}
	for _, flag := range o.target.OnlyForDir(target.Transport().Name()) {
		a.warn(flag+" has an effect only with a dir: destination", flag+" 仅对 dir: 目标有效")
	}
	for _, tag := range o.tags {
		named, err := reference.ParseNormalizedNamed(tag)
		tagged, ok := named.(reference.NamedTagged)
		if err != nil || !ok {
			return nil, nil, output.Usage("--additional-tag expects NAME:TAG; got %q", tag)
		}
		targetSystem.DockerArchiveAdditionalTags = append(targetSystem.DockerArchiveAdditionalTags, tagged)
	}
	options, done, err := o.convert.Options(ctx, a.askPassphrase)
	if err != nil {
		return nil, nil, err
	}
	options.SourceCtx, options.DestinationCtx = sourceSystem, targetSystem
	options.ImageListSelection = selection
	options.MaxParallelDownloads = o.parallel
	options.ForceCompressionFormat = o.target.Force
	if o.signIdentity != "" {
		if options.SignIdentity, err = reference.ParseNamed(o.signIdentity); err != nil {
			done()
			return nil, nil, output.Usage("--sign-identity: %v", err)
		}
	}
	if err := o.encryption(options); err != nil {
		done()
		return nil, nil, err
	}
	return options, done, nil
}

// encryption sets keys for encrypted layers.
func (o *copyOptions) encryption(options *copy.Options) error {
	switch {
	case len(o.encryptKeys) > 0 && len(o.decryptKeys) > 0:
		return output.Usage("--encryption-key and --decryption-key contradict each other")
	case len(o.encryptLayer) > 0 && len(o.encryptKeys) == 0:
		return output.Usage("--encrypt-layer needs --encryption-key")
	case len(o.encryptKeys) > 0:
		keys, err := enchelpers.CreateCryptoConfig(o.encryptKeys, nil)
		if err != nil {
			return fmt.Errorf("--encryption-key: %w", err)
		}
		options.OciEncryptConfig = encconfig.CombineCryptoConfigs([]encconfig.CryptoConfig{keys}).EncryptConfig
		options.OciEncryptLayers = &o.encryptLayer
	case len(o.decryptKeys) > 0:
		keys, err := enchelpers.CreateCryptoConfig(nil, o.decryptKeys)
		if err != nil {
			return fmt.Errorf("--decryption-key: %w", err)
		}
		options.OciDecryptConfig = encconfig.CombineCryptoConfigs([]encconfig.CryptoConfig{keys}).DecryptConfig
	}
	return nil
}
