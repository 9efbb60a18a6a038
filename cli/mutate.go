package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/image/edit"
	"github.com/berth-registry/berth/image/view"
)

// result are the flags of where a changed image goes: crane's names.
type result struct {
	tag, file string
}

func (r *result) flags(a *app, c *cobra.Command, tag, short string) {
	c.Flags().StringVarP(&r.tag, tag, short, "", a.t("push it as this `IMAGE`; without it, by its digest into the repository that it came from", "推送为该镜像；省略时按摘要推送到原仓库"))
	c.Flags().StringVarP(&r.file, "output", "o", "", a.t("write it to this `FILE` as docker save does, and do not push it", "以 docker save 格式写入文件，不推送"))
}

// deliver pushes what was made, or writes it to a file, and prints its name. from is where it was made from; nil is nowhere.
func (r *result) deliver(ctx context.Context, p *places, c view.Content, from *opened, near ...*opened) error {
	a := p.a
	if r.file != "" {
		img, ok := c.(v1.Image)
		if !ok {
			return output.Usage("%s", a.t("an index cannot be written to a file of docker save; choose an image with --platform", "索引无法写入 docker save 文件；请用 --platform 选择镜像"))
		}
		tag := r.tag
		if tag == "" {
			tag = "localhost/image:latest"
		}
		ref, err := name.NewTag(strings.TrimPrefix(tag, "docker://"))
		if err != nil {
			return output.Usage(a.t("a file of docker save needs a name with a tag: %v", "docker save 文件需要带标签的名称：%v"), err)
		}
		return a.writeTo(r.file, func(w io.Writer) error { return tarball.Write(ref, img, w) })
	}
	to := r.tag
	if to == "" {
		if from == nil || from.named == nil {
			return output.Usage("%s", a.t("say where it goes: --tag IMAGE or --output FILE", "请指定目标：--tag IMAGE 或 --output FILE"))
		}
		to = from.named.Name()
	}
	d, named, err := p.put(ctx, to, c, append(near, from)...)
	if err != nil {
		return failed(err, a.t("cannot push %s", "无法推送 %s"), to)
	}
	_, err = fmt.Fprintf(a.Out, "%s@%s\n", named.Name(), d.Digest)
	return err
}

// workspace is a directory for layers that are made, gone at the end.
func (a *app) workspace() (dir string, remove func(), err error) {
	dir, err = os.MkdirTemp(a.global.TmpDir, "berth-")
	return dir, func() { _ = os.RemoveAll(dir) }, err
}

// changed opens a name and changes its image, or every image of its index unless a platform is asked for.
func (p *places) changed(ctx context.Context, text string, change func(v1.Image) (v1.Image, error)) (*opened, view.Content, error) {
	o, err := p.use(ctx, text)
	if err != nil {
		return nil, nil, err
	}
	if o.IsIndex() && p.platform == "" {
		idx, err := o.Index(ctx)
		if err != nil {
			return nil, nil, err
		}
		out, left, err := edit.Each(idx, change)
		if err == nil && left > 0 {
			p.a.warn(fmt.Sprintf("%d entries of the index are about the images as they were, and were left out", left), fmt.Sprintf("索引中有 %d 个条目描述原镜像，已略去", left))
		}
		return o, out, err
	}
	one, img, err := p.chosen(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	out, err := change(img)
	return one, out, err
}

// changeFlags are what mutate changes.
type changeFlags struct {
	annotations, labels           map[string]string
	env, entrypoint, cmd          []string
	ports, layers, volumes        []string
	user, workdir, stop, platform string
	created, format, repo         string
}

func (f *changeFlags) add(a *app, c *cobra.Command) {
	g := c.Flags()
	g.StringToStringVarP(&f.annotations, "annotation", "a", nil, a.t("set an annotation of the manifest; an empty value removes it", "设置清单注解；空值为删除"))
	g.StringToStringVarP(&f.labels, "label", "l", nil, a.t("set a label; an empty value removes it", "设置标签；空值为删除"))
	g.StringArrayVarP(&f.env, "env", "e", nil, a.t("set an environment variable `NAME=VALUE`; NAME alone removes it", "设置环境变量 NAME=VALUE；仅 NAME 为删除"))
	g.StringSliceVar(&f.entrypoint, "entrypoint", nil, a.t("set the entrypoint, comma-separated; the command is emptied", "设置入口点（逗号分隔），并清空命令"))
	g.StringSliceVar(&f.cmd, "cmd", nil, a.t("set the command, comma-separated", "设置命令（逗号分隔）"))
	g.StringVarP(&f.user, "user", "u", "", a.t("set the user", "设置用户"))
	g.StringVarP(&f.workdir, "workdir", "w", "", a.t("set the working directory", "设置工作目录"))
	g.StringVar(&f.stop, "stop-signal", "", a.t("set the signal that ends it", "设置停止信号"))
	g.StringSliceVar(&f.ports, "exposed-ports", nil, a.t("set the exposed ports", "设置暴露的端口"))
	g.StringSliceVar(&f.volumes, "volume", nil, a.t("add a volume", "添加卷"))
	g.StringSliceVar(&f.layers, "append", nil, a.t("put this archive `FILE` on top as a layer", "将归档文件追加为层"))
	g.StringVar(&f.platform, "set-platform", "", a.t("set the platform `OS/ARCH[/VARIANT][:OSVERSION]`", "设置平台"))
	g.StringVar(&f.created, "created", "", a.t("set the time of creation, of the image and its history: RFC 3339 or seconds", "设置创建时间：RFC 3339 或秒数"))
	g.StringVar(&f.format, "format", "", a.t("convert media types: oci or v2s2", "转换媒体类型：oci 或 v2s2"))
	g.StringVar(&f.repo, "repo", "", a.t("push it by digest into this `REPOSITORY`", "按摘要推送到该仓库"))
}

// change reads the flags; which of them were given is known by c.
func (f *changeFlags) change(a *app, c *cobra.Command) (edit.Change, error) {
	given := c.Flags().Changed
	out := edit.Change{Annotations: f.annotations, Labels: f.labels, Env: f.env, Volumes: f.volumes, MediaTypes: edit.MediaTypes(f.format)}
	if given("entrypoint") {
		out.Entrypoint, out.ClearEntry = f.entrypoint, true
	}
	if given("cmd") {
		out.Cmd, out.ClearCmd = f.cmd, true
	}
	for flag, to := range map[string]struct {
		from *string
		to   **string
	}{"user": {&f.user, &out.User}, "workdir": {&f.workdir, &out.WorkDir}, "stop-signal": {&f.stop, &out.StopSignal}} {
		if given(flag) {
			*to.to = to.from
		}
	}
	if given("exposed-ports") {
		out.ExposedPorts = append([]string{}, f.ports...)
	}
	if f.platform != "" {
		p, err := v1.ParsePlatform(f.platform)
		if err != nil || p.OS == "" || p.Architecture == "" {
			return out, output.Usage(a.t("--set-platform %q is not OS/ARCH[/VARIANT][:OSVERSION]", "--set-platform %q 不是 OS/ARCH[/VARIANT][:OSVERSION]"), f.platform)
		}
		out.Platform = p
	}
	if f.created != "" {
		when, err := moment(f.created)
		if err != nil {
			return out, output.Usage("--created: %v", err)
		}
		out.Created = &when
	}
	switch out.MediaTypes {
	case edit.Keep, edit.OCI, edit.Docker:
		return out, nil
	}
	return out, output.Usage(a.t("--format %q is neither oci nor v2s2", "--format %q 既不是 oci 也不是 v2s2"), f.format)
}

// moment reads a time of RFC 3339, or seconds since 1970.
func moment(s string) (time.Time, error) {
	if when, err := time.Parse(time.RFC3339, s); err == nil {
		return when, nil
	}
	var seconds int64
	if err := json.Unmarshal([]byte(s), &seconds); err != nil {
		return time.Time{}, fmt.Errorf("%q is neither a time such as 2026-01-02T03:04:05Z nor a number of seconds", s)
	}
	return time.Unix(seconds, 0), nil
}

func mutateCommand(a *app) *cobra.Command {
	var f changeFlags
	var r result
	c := &cobra.Command{
		Use:   "mutate [flags] IMAGE",
		Short: a.t("change the configuration of an image in its registry", "在仓库中修改镜像配置"),
		Example: "berth mutate --label team=web --env DEBUG= --tag registry.example.com/team/app:v2 registry.example.com/team/app:v1\n" +
			"berth mutate --entrypoint /app,--serve --user 1000 --tag registry.example.com/team/app:v2 registry.example.com/team/app:v1",
		Args: a.args(1, 1),
	}
	p := a.imageFlags(c)
	f.add(a, c)
	r.flags(a, c, "tag", "t")
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		change, err := f.change(a, c)
		if err != nil {
			return err
		}
		if f.repo != "" {
			if r.tag != "" {
				return output.Usage("%s", a.t("--repo and --tag contradict each other", "--repo 与 --tag 冲突"))
			}
			r.tag = f.repo
		}
		if err := p.prepare(args[0]); err != nil {
			return err
		}
		defer p.close()
		dir, remove, err := a.workspace()
		if err != nil {
			return err
		}
		defer remove()
		from, out, err := p.changed(ctx, args[0], func(img v1.Image) (v1.Image, error) {
			family := change.MediaTypes
			if family == edit.Keep {
				family = edit.Family(img)
			}
			one := change
			for _, path := range f.layers {
				l, err := edit.OpenLayer(ctx, path, dir, family, p.limits)
				if err != nil {
					return nil, err
				}
				one.Layers = append(one.Layers, l)
			}
			return edit.Apply(img, one)
		})
		if err != nil {
			return failed(err, a.t("cannot change %s", "无法修改 %s"), args[0])
		}
		return r.deliver(ctx, p, out, from)
	})
	return c
}

func appendCommand(a *app) *cobra.Command {
	var r result
	var base string
	var layers []string
	var annotate, ociEmpty bool
	c := &cobra.Command{
		Use:     "append [flags] [FILE]...",
		Short:   a.t("put archives on top of an image as layers, or make an image of them", "将归档追加为镜像的层，或由其创建镜像"),
		Example: "berth append --base registry.example.com/team/base:v1 --new_layer app.tar --new_tag registry.example.com/team/app:v1",
	}
	p := a.imageFlags(c)
	r.flags(a, c, "new_tag", "t")
	c.Flags().StringVarP(&base, "base", "b", "", a.t("`IMAGE` to build on; nothing without it", "基础镜像；省略时为空镜像"))
	c.Flags().StringSliceVarP(&layers, "new_layer", "f", nil, a.t("archive `FILE` of the layer: tar, tar.gz, tar.zst", "层的归档文件：tar、tar.gz、tar.zst"))
	c.Flags().BoolVar(&annotate, "set-base-image-annotations", false, a.t("say in annotations which base it has", "在注解中记录基础镜像"))
	c.Flags().BoolVar(&ociEmpty, "oci-empty-base", false, a.t("without --base make an OCI image, not docker's", "无 --base 时创建 OCI 镜像"))
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		layers = append(layers, args...)
		if len(layers) == 0 {
			return output.Usage("%s", a.t("name the layers: --new_layer FILE", "请指定层：--new_layer FILE"))
		}
		if err := p.prepare(orElse(base, r.tag)); err != nil {
			return err
		}
		defer p.close()
		dir, remove, err := a.workspace()
		if err != nil {
			return err
		}
		defer remove()
		img, from, err := p.baseOf(ctx, base, ociEmpty)
		if err != nil {
			return failed(err, a.t("cannot open the base %s", "无法打开基础镜像 %s"), base)
		}
		var add []v1.Layer
		for _, path := range layers {
			file, gone, err := a.spool(path)
			if err != nil {
				return failed(err, a.t("cannot read %s", "无法读取 %s"), path)
			}
			defer gone()
			l, err := edit.OpenLayer(ctx, file, dir, edit.Family(img), p.limits)
			if err != nil {
				return failed(err, a.t("cannot take %s as a layer", "无法将 %s 用作层"), path)
			}
			add = append(add, l)
		}
		out, err := edit.Append(img, add...)
		if err == nil && annotate && from != nil {
			out, err = edit.Annotate(out, map[string]string{edit.BaseDigest: from.Descriptor.Digest.String(), edit.BaseName: base})
		}
		if err != nil {
			return failed(err, a.t("cannot append to %s", "无法追加到 %s"), base)
		}
		return r.deliver(ctx, p, out, from)
	})
	return c
}

func orElse(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// baseOf opens the image to build on; an empty one without a name.
func (p *places) baseOf(ctx context.Context, name string, oci bool) (v1.Image, *opened, error) {
	if name != "" {
		o, img, err := p.one(ctx, name)
		return img, o, err
	}
	w, err := p.wanted()
	if err != nil {
		return nil, nil, err
	}
	manifest, config := types.DockerManifestSchema2, types.DockerConfigJSON
	if oci {
		manifest, config = types.OCIManifestSchema1, types.OCIConfigJSON
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, manifest), config)
	img, err = edit.Apply(img, edit.Change{Platform: &w})
	return img, nil, err
}

func flattenCommand(a *app) *cobra.Command {
	var r result
	c := &cobra.Command{
		Use:     "flatten [flags] IMAGE",
		Short:   a.t("make one layer of all layers of an image", "将镜像的所有层合并为一层"),
		Example: "berth flatten --tag registry.example.com/team/app:flat registry.example.com/team/app:v1",
		Args:    a.args(1, 1),
	}
	p := a.imageFlags(c)
	r.flags(a, c, "tag", "t")
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		if err := p.prepare(args[0]); err != nil {
			return err
		}
		defer p.close()
		dir, remove, err := a.workspace()
		if err != nil {
			return err
		}
		defer remove()
		from, out, err := p.changed(ctx, args[0], func(img v1.Image) (v1.Image, error) { return edit.Flatten(ctx, img, dir, p.limits) })
		if err != nil {
			return failed(err, a.t("cannot flatten %s", "无法合并 %s"), args[0])
		}
		return r.deliver(ctx, p, out, from)
	})
	return c
}
