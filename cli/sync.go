package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/directory"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/transports"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/cli/option"
	"github.com/berth-registry/berth/cli/output"
)

// syncOptions are the flags of sync.
type syncOptions struct {
	shared     option.Shared
	source     *option.Image
	target     *option.Image
	retry      option.Retry
	convert    option.Convert
	from, to   string // transports
	scoped     bool
	suffix     string
	digestFile string
	all        bool
	dryRun     bool
	keepGoing  bool
	rules      syncRules
	flags      *pflag.FlagSet
}

func syncCommand(a *app) *cobra.Command {
	o := &syncOptions{}
	c := &cobra.Command{
		Use:   "sync [flags] --src TRANSPORT --dest TRANSPORT SOURCE DESTINATION",
		Short: a.t("copy many images, and only what is new", "批量同步镜像，只传输新增内容"),
		Long: a.t("Copy all images of SOURCE: a repository (docker), a directory (dir), or those that a file names (yaml), to DESTINATION: a registry or namespace (docker), or a directory (dir).",
			"将 SOURCE 的全部镜像（docker 仓库、dir 目录或 yaml 文件所列）复制到 DESTINATION（docker 仓库地址或 dir 目录）。"),
		Example: "berth sync --src docker --dest docker registry.example.com/team/app mirror.example.com/team\n" +
			"berth sync --src docker --dest dir --scoped registry.example.com/team/app /media/usb\n" +
			"berth sync --src yaml --dest docker images.yml mirror.example.com/all",
		Args: a.args(2, 2),
	}
	f := c.Flags()
	o.source, o.target = option.NewImage(&o.shared, "src-"), option.NewImage(&o.shared, "dest-")
	o.shared.AddFlags(f, a.t)
	o.source.AddRegistryFlags(f, a.t)
	o.target.AddRegistryFlags(f, a.t)
	option.BothSides(f, a.t, o.source, o.target)
	o.retry.AddFlags(f, a.t)
	o.convert.AddFlags(f, a.t)
	f.StringVarP(&o.from, "src", "s", "", a.t("what SOURCE is: docker, dir, yaml (skopeo's file), regsync (regsync's file)", "SOURCE 的类型：docker、dir、yaml（skopeo 文件）、regsync（regsync 文件）"))
	f.StringVarP(&o.to, "dest", "d", "", a.t("what DESTINATION is: docker, dir", "DESTINATION 的类型：docker、dir"))
	f.BoolVar(&o.scoped, "scoped", false, a.t("keep the whole name of the source below the destination", "在目标下保留来源的完整名称"))
	f.StringVar(&o.suffix, "append-suffix", "", a.t("put `TEXT` behind every tag", "附加在每个标签之后的文字"))
	f.StringVar(&o.digestFile, "digestfile", "", a.t("write digests and names to `FILE`, a line each", "将摘要与名称逐行写入文件"))
	f.BoolVarP(&o.all, "all", "a", false, a.t("copy the images of all platforms", "复制所有平台的镜像"))
	f.BoolVar(&o.dryRun, "dry-run", false, a.t("say what would be copied, and copy nothing", "只显示将要复制的内容"))
	f.BoolVar(&o.keepGoing, "keep-going", false, a.t("go on when an image cannot be copied", "某个镜像失败时继续"))
	o.rules.addFlags(a, f)
	o.flags = f
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		o.rules.related.given = f.Changed("referrers")
		if err := o.check(a); err != nil {
			return err
		}
		return failed(a.sync(ctx, o, args[0], args[1]), a.t("cannot sync %s to %s", "无法将 %s 同步到 %s"), args[0], args[1])
	})
	return c
}

func (o *syncOptions) check(a *app) error {
	for _, one := range []struct {
		flag, value string
		allowed     []string
	}{{"src", o.from, []string{"docker", "dir", "yaml", "regsync"}}, {"dest", o.to, []string{"docker", "dir"}}} {
		ok := false
		for _, v := range one.allowed {
			ok = ok || v == one.value
		}
		if !ok {
			return output.Usage("--%s %q is none of %s", one.flag, one.value, strings.Join(one.allowed, ", "))
		}
	}
	if err := o.convert.Check(); err != nil {
		return err
	}
	switch {
	case o.suffix != "" && !suffixForm.MatchString(o.suffix):
		return output.Usage("--append-suffix %q: a tag has letters, digits, and _ . - only", o.suffix)
	case o.scoped && o.from == "regsync":
		return output.Usage("--scoped: a regsync file says itself where images go")
	case o.dryRun && o.digestFile != "":
		return output.Usage("--dry-run and --digestfile contradict each other: nothing is written")
	case o.dryRun && o.rules.state != "":
		return output.Usage("--dry-run and --state contradict each other: nothing is done that could be noted")
	}
	if o.from == "dir" && o.to == "dir" {
		return output.Usage("%s", a.t("from dir to dir nothing is left to do but to copy files", "从 dir 到 dir 只需复制文件")).WithFix("cp -r, rsync")
	}
	return nil
}

// suffixForm is what may stand behind a tag.
var suffixForm = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,127}$`)

// syncSource is images that are read with the same settings.
type syncSource struct {
	base   string // of dir: the directory that was named
	images []types.ImageReference
	system *types.SystemContext
}

func (a *app) sync(ctx context.Context, o *syncOptions, from, to string) (err error) {
	if done, err := a.syncDirect(ctx, o, from, to); done || err != nil {
		return err
	}
	if o.from == "regsync" {
		return output.Usage("%s", a.t("a regsync file is for registries at both ends, without mirrors of registries.conf, and no flag that changes images", "regsync 文件要求两端均为镜像仓库，且不改变镜像"))
	}
	sourceSystem, err := a.system(o.source)
	if err != nil {
		return err
	}
	targetSystem, err := a.system(o.target)
	if err != nil {
		return err
	}
	policy, err := a.global.PolicyContext(sourceSystem)
	if err != nil {
		return err
	}
	defer policy.Destroy() //nolint:errcheck // it holds nothing that could be lost
	var sources []syncSource
	err = a.again(ctx, o.retry, func() error {
		sources, err = a.syncSources(ctx, o, from, sourceSystem)
		return err
	})
	if err != nil {
		return err
	}
	options, done, err := o.convert.Options(ctx, a.askPassphrase)
	if err != nil {
		return err
	}
	defer done()
	options.DestinationCtx = targetSystem
	options.OptimizeDestinationImageAlreadyExists = true
	if o.all {
		options.ImageListSelection = copy.CopyAllImages
	}
	s := &syncRun{app: a, o: o, policy: policy, options: options, to: to}
	if o.digestFile != "" && !o.dryRun {
		if s.digests, err = os.Create(o.digestFile); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.digests.Close()) }()
	}
	for _, source := range sources {
		options.SourceCtx = source.system
		for _, image := range source.images {
			if err := s.one(ctx, source, image); err != nil {
				return err
			}
		}
	}
	return s.end(len(sources))
}

// syncRun is a sync that is under way.
type syncRun struct {
	app            *app
	o              *syncOptions
	policy         *signature.PolicyContext
	options        *copy.Options
	to             string
	digests        *os.File
	copied, failed int
}

func (s *syncRun) one(ctx context.Context, source syncSource, image types.ImageReference) error {
	name, err := s.target(source, image)
	if err != nil {
		return err
	}
	names := transports.ImageName(image) + " -> " + name
	if s.o.dryRun {
		s.copied++
		_, err := fmt.Fprintln(s.app.Out, names)
		return err
	}
	if dir, ok := strings.CutPrefix(name, "dir:"); ok {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	target, err := s.app.parseImage(name)
	if err != nil {
		return err
	}
	if err := s.app.look(ctx, image, s.options.SourceCtx); err != nil {
		return err
	}
	options := *s.options
	if options.SourceCtx, err = s.app.withStored(ctx, options.SourceCtx, image); err != nil {
		return err
	}
	if options.DestinationCtx, err = s.app.withStored(ctx, options.DestinationCtx, target); err != nil {
		return err
	}
	target, keepOrNot, err := keep(ctx, target, options.DestinationCtx)
	if err != nil {
		return err
	}
	limited, show, finish := s.app.follow(ctx, false, target, &options)
	var written []byte
	err = s.app.again(limited, s.o.retry, func() error {
		written, err = copy.Image(limited, s.policy, target, image, &options)
		return err
	})
	if err = s.app.blame(ctx, keepOrNot(finish(err)), image, options.SourceCtx); err != nil {
		if !s.o.keepGoing || ctx.Err() != nil {
			return failed(err, s.app.t("cannot copy %s", "无法复制 %s"), transports.ImageName(image))
		}
		s.failed++
		f := s.app.classify(ctx, err)
		if f.Why == "" {
			f.Why = f.What
		}
		f.What = fmt.Sprintf(s.app.t("cannot copy %s", "无法复制 %s"), names)
		f.Print(s.app.Err, s.app.lang, s.app.colored(s.app.Err))
		return nil
	}
	show.Summary(names + ": " + s.app.t("copied", "已复制"))
	s.copied++
	if s.digests == nil {
		return nil
	}
	digest, err := manifest.Digest(written)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.digests, "%s %s\n", digest, name)
	return err
}

// target names where an image goes: below the destination under the last part of its name, or with --scoped the whole.
func (s *syncRun) target(source syncSource, image types.ImageReference) (string, error) {
	var name string
	if image.Transport() == directory.Transport {
		if name = strings.TrimPrefix(image.StringWithinTransport(), source.base); name == "" {
			name = path.Base(source.base)
		}
	} else {
		name = image.DockerReference().String()
	}
	if !s.o.scoped {
		name = path.Base(name)
	}
	where := path.Join(s.to, name) + s.o.suffix
	if s.o.to == "docker" {
		return "docker://" + where, nil
	}
	old, err := os.ReadDir(where)
	unfinished := err == nil && mayReplace(where, old) && !slices.ContainsFunc(old, func(e os.DirEntry) bool { return e.Name() == "manifest.json" })
	if _, err := os.Lstat(where); err == nil && !unfinished {
		return "", &output.Failure{What: where + s.app.t(" is there already, and is not written over", " 已存在，不会覆盖"), Exit: output.ExitFailure}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return "dir:" + where, nil
}

// end says what was done.
func (s *syncRun) end(sources int) error {
	text := s.app.t("synced %d images from %d sources\n", "已同步 %d 个镜像，来自 %d 个来源\n")
	if s.o.dryRun {
		text = s.app.t("would sync %d images from %d sources\n", "将同步 %d 个镜像，来自 %d 个来源\n")
	}
	fmt.Fprintf(s.app.Err, text, s.copied, sources)
	if s.failed == 0 {
		return nil
	}
	exit := output.ExitInterrupted
	if s.copied == 0 {
		exit = output.ExitFailure
	}
	return &output.Failure{What: fmt.Sprintf(s.app.t("%d images could not be copied, %d were", "%d 个镜像失败，%d 个成功"), s.failed, s.copied), Exit: exit}
}

// syncSources finds the images of a source.
func (a *app) syncSources(ctx context.Context, o *syncOptions, from string, sys *types.SystemContext) ([]syncSource, error) {
	switch o.from {
	case "docker":
		named, err := reference.ParseNormalizedNamed(from)
		if err != nil {
			return nil, output.Usage("%s: %v", from, err)
		}
		images := []types.ImageReference{}
		if reference.IsNameOnly(named) {
			if images, err = a.tagged(ctx, sys, named, func(string) bool { return true }); err != nil {
				return nil, err
			}
		} else {
			ref, err := docker.NewReference(named)
			if err != nil {
				return nil, err
			}
			images = append(images, ref)
		}
		return someImages(a, from, syncSource{images: images, system: sys})
	case "dir":
		base := filepath.Clean(from)
		s := syncSource{base: base, system: sys}
		err := filepath.WalkDir(base, func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || d.Name() != "manifest.json" {
				return err
			}
			ref, err := directory.NewReference(filepath.Dir(p))
			if err != nil {
				return err
			}
			s.images = append(s.images, ref)
			return fs.SkipDir
		})
		if err != nil {
			return nil, err
		}
		if len(s.images) > 0 { // how the library writes a directory: absolute, without links
			s.base, _ = filepath.Abs(base)
			if real, err := filepath.EvalSymlinks(s.base); err == nil {
				s.base = real
			}
		}
		return someImages(a, from, s)
	}
	return a.yamlSources(ctx, from, sys)
}

func someImages(a *app, from string, s syncSource) ([]syncSource, error) {
	if len(s.images) == 0 {
		return nil, &output.Failure{What: a.t("there is no image in ", "没有镜像：") + from, Exit: output.ExitNotFound}
	}
	return []syncSource{s}, nil
}

// tagged lists the images of a repository whose tags are wanted.
func (a *app) tagged(ctx context.Context, sys *types.SystemContext, repository reference.Named, want func(tag string) bool) ([]types.ImageReference, error) {
	tags, err := a.tagsOf(ctx, sys, repository, option.Retry{})
	if err != nil {
		return nil, fmt.Errorf("tags of %s: %w", repository.Name(), err)
	}
	var images []types.ImageReference
	for _, tag := range tags {
		if !want(tag) {
			continue
		}
		named, err := reference.WithTag(repository, tag)
		if err != nil {
			return nil, err
		}
		ref, err := docker.NewReference(named)
		if err != nil {
			return nil, err
		}
		images = append(images, ref)
	}
	return images, nil
}
