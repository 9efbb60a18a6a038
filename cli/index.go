package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/spf13/cobra"
	"go.podman.io/image/v5/docker/reference"

	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/index"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/image/view"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

func indexCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "index",
		Aliases: []string{"imagetools"},
		Short:   a.t("make, add to and filter an index in one step", "一步创建、追加与筛选索引"),
		Example: "berth index create -t registry.example.com/team/app:v1 registry.example.com/team/app:amd64 registry.example.com/team/app:arm64",
	}
	inspect := manifestInspectCommand(a)
	c.AddCommand(indexCreateCommand(a), indexAppendCommand(a), indexFilterCommand(a), inspect)
	return a.family(c)
}

// indexFlags are those of imagetools and regctl.
type indexFlags struct {
	tags, refs, files, platforms []string
	annotations                  []string
	kind, mediaType, subject     string
	appendTo, dryRun             bool
	metadata                     string
}

func (f *indexFlags) add(a *app, c *cobra.Command) {
	g := c.Flags()
	g.StringArrayVarP(&f.tags, "tag", "t", nil, a.t("push it as this `IMAGE`; may be given several times", "推送为该名称，可多次指定"))
	g.StringArrayVar(&f.refs, "ref", nil, a.t("take this `IMAGE`; the arguments are then what it is pushed as", "加入该镜像；此时参数为推送名称"))
	g.StringArrayVarP(&f.files, "file", "f", nil, a.t("take the descriptor in this JSON `FILE`, or the list of them, of the repository it goes to", "加入 JSON 文件中的描述符"))
	g.StringArrayVar(&f.platforms, "platform", nil, a.t("take only images for `OS/ARCH[/VARIANT]`; may be given several times", "只加入该平台的镜像，可多次指定"))
	g.StringArrayVar(&f.annotations, "annotation", nil, a.t("annotation `KEY=VALUE` of the index", "索引的注解 KEY=VALUE"))
	g.StringVar(&f.kind, "artifact-type", "", a.t("artifact `TYPE` of the index", "索引的制品类型"))
	g.StringVar(&f.mediaType, "media-type", oci.MediaTypeIndex, a.t("media `TYPE` of the index, or docker", "索引的媒体类型，或 docker"))
	g.StringVar(&f.subject, "subject", "", a.t("`IMAGE` of the repository that the index is about", "索引所描述的镜像"))
	g.BoolVar(&f.appendTo, "append", false, a.t("add to the index that is there", "加入到已有的索引"))
	g.BoolVar(&f.dryRun, "dry-run", false, a.t("print the index and push nothing", "只显示索引，不推送"))
	g.StringVar(&f.metadata, "metadata-file", "", a.t("write name and digest to this JSON `FILE`", "将名称与摘要写入 JSON 文件"))
}

func indexCreateCommand(a *app) *cobra.Command {
	var f indexFlags
	c := &cobra.Command{
		Use:   "create [flags] IMAGE...",
		Short: a.t("make an index of images and push it, with the images that its repository lacks", "由镜像创建并推送索引，补齐目标仓库缺少的镜像"),
		Long: a.t("Of an index, all images are taken, with the attestations that belong to them. Images may be in other repositories, registries, archives and layouts.",
			"若来源是索引，则加入其全部镜像及证明。镜像可来自其他仓库、归档与布局。"),
		Example: "berth index create -t registry.example.com/team/app:v1 registry.example.com/team/app:amd64 oci-archive:arm64.tar\n" +
			"berth index create --append -t registry.example.com/team/app:v1 registry.example.com/team/app:riscv64",
	}
	p := a.placesFlags(c.Flags())
	f.add(a, c)
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		if len(f.refs) > 0 {
			f.tags, args = append(f.tags, args...), f.refs
		}
		if len(f.tags) == 0 && !f.dryRun {
			return output.Usage("%s", a.t("say what it is pushed as: --tag IMAGE", "请指定推送名称：--tag IMAGE"))
		}
		if len(args)+len(f.files) == 0 && !f.appendTo {
			return output.Usage("%s", a.t("name the images of the index", "请指定索引中的镜像"))
		}
		if err := p.prepare(append(append([]string{}, f.tags...), append(args, "")...)[0]); err != nil {
			return err
		}
		defer p.close()
		b := &indexBuilder{places: p, flags: &f, nodes: map[v1.Hash]*opened{}, show: a.progress(false)}
		if err := b.collect(ctx, args); err != nil {
			return err
		}
		return b.deliver(ctx)
	})
	return c
}

// indexAppendCommand and indexFilterCommand are crane's.
func indexAppendCommand(a *app) *cobra.Command {
	var f indexFlags
	var manifests []string
	var tag string
	var docker bool
	c := &cobra.Command{
		Use:   "append [flags] [BASE]",
		Short: a.t("push an index with the images of another one, and more", "在已有索引的基础上追加镜像并推送"),
		Long:  a.t("Without --tag it is pushed as BASE. Of an index among what is added, its images are taken. Without BASE the index is a new one.", "省略 --tag 时推送为 BASE。追加的若为索引则加入其全部镜像。省略 BASE 时创建新索引。"),
		Example: "berth index append registry.example.com/team/app:v1 -m registry.example.com/team/app:riscv64\n" +
			"berth index append -m registry.example.com/team/app-amd64:v1 -m registry.example.com/team/app-arm64:v1 -t registry.example.com/team/app:v1",
		Args: a.args(0, 1),
	}
	p := a.placesFlags(c.Flags())
	c.Flags().StringArrayVarP(&manifests, "manifest", "m", nil, a.t("add this `IMAGE`; may be given several times", "追加该镜像，可多次指定"))
	c.Flags().StringVarP(&tag, "tag", "t", "", a.t("push it as this `IMAGE`", "推送为该名称"))
	c.Flags().BoolVar(&docker, "docker-empty-base", false, a.t("without BASE make an index of docker's type", "省略 BASE 时使用 docker 的索引类型"))
	c.Flags().Bool("flatten", true, a.t("take the images of an index that is added", "追加索引时加入其镜像"))
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		if flatten, err := c.Flags().GetBool("flatten"); err != nil || !flatten {
			return output.Usage("%s", a.t("--flatten=false would put an index into an index, which clients do not look into", "--flatten=false 会产生嵌套索引，客户端不会查看"))
		}
		if len(manifests) == 0 {
			return output.Usage("%s", a.t("name what is added: --manifest IMAGE", "请指定追加的镜像：--manifest IMAGE"))
		}
		f.mediaType = oci.MediaTypeIndex
		if docker && len(args) == 0 {
			f.mediaType = oci.MediaTypeDockerList
		}
		return a.reindex(ctx, p, &f, args, manifests, tag)
	})
	return c
}

func indexFilterCommand(a *app) *cobra.Command {
	var f indexFlags
	var tag string
	c := &cobra.Command{
		Use:     "filter [flags] BASE --platform OS[/ARCH[/VARIANT]]...",
		Short:   a.t("push an index with some platforms of another one", "筛选索引中的平台并推送"),
		Long:    a.t("Without --tag it is pushed as BASE. Attestations of the images that stay are kept.", "省略 --tag 时推送为 BASE。保留的镜像的证明也会保留。"),
		Example: "berth index filter registry.example.com/team/app:v1 --platform linux/amd64 --platform linux/arm64 -t registry.example.com/team/app:small",
		Args:    a.args(1, 1),
	}
	p := a.placesFlags(c.Flags())
	c.Flags().StringSliceVar(&f.platforms, "platform", nil, a.t("keep the images for `OS[/ARCH[/VARIANT]]`; may be given several times", "保留该平台的镜像，可多次指定"))
	c.Flags().StringVarP(&tag, "tag", "t", "", a.t("push it as this `IMAGE`", "推送为该名称"))
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		if len(f.platforms) == 0 {
			return output.Usage("%s", a.t("say which platforms stay: --platform OS/ARCH", "请指定保留的平台：--platform OS/ARCH"))
		}
		f.mediaType = oci.MediaTypeIndex
		return a.reindex(ctx, p, &f, args, nil, tag)
	})
	return c
}

// reindex makes an index of what base, if there is one, and more have, and pushes it as tag or in the place of base. The index
// keeps the type that base has.
func (a *app) reindex(ctx context.Context, p *places, f *indexFlags, base, more []string, tag string) error {
	if tag == "" {
		if len(base) == 0 {
			return output.Usage("%s", a.t("say what it is pushed as: --tag IMAGE", "请指定推送名称：--tag IMAGE"))
		}
		tag = base[0]
	}
	if err := p.prepare(tag); err != nil {
		return err
	}
	defer p.close()
	if named, err := p.remoteName(tag); err != nil {
		return err
	} else if _, digested := named.(reference.Digested); digested {
		tag = named.Name() // the new index has another digest, and is pushed under that
	}
	if len(base) > 0 {
		o, err := p.get(ctx, base[0])
		if err != nil {
			return failed(err, a.t("cannot open %s", "无法打开 %s"), base[0])
		}
		if !o.IsIndex() {
			return output.Usage(a.t("%s is an image and no index", "%s 是镜像而不是索引"), base[0]).WithFix("berth index create -t NAME %s …", base[0])
		}
		f.mediaType = o.Descriptor.MediaType
	}
	f.tags = []string{tag}
	b := &indexBuilder{places: p, flags: f, nodes: map[v1.Hash]*opened{}, show: a.progress(false)}
	if err := b.collect(ctx, append(base, more...)); err != nil {
		return err
	}
	return b.deliver(ctx)
}

// indexBuilder puts an index together.
type indexBuilder struct {
	*places
	flags *indexFlags
	list  index.List
	nodes map[v1.Hash]*opened // where each entry, or the index that had it, was read
	show  *output.Progress
}

// collect looks at all images.
func (b *indexBuilder) collect(ctx context.Context, args []string) error {
	f := b.flags
	notes, err := pairs(stripped(f.annotations))
	if err != nil {
		return err
	}
	if f.appendTo {
		if len(f.tags) == 0 {
			return output.Usage("%s", b.a.t("--append needs the index to add to: --tag IMAGE", "--append 需要 --tag IMAGE"))
		}
		if err := b.take(ctx, f.tags[0]); err != nil && !fault.Is(err, fault.NotFound) {
			return failed(err, b.a.t("cannot open %s", "无法打开 %s"), f.tags[0])
		}
	}
	for _, name := range args {
		if err := b.take(ctx, name); err != nil {
			return failed(err, b.a.t("cannot take %s", "无法加入 %s"), name)
		}
	}
	for _, file := range f.files {
		if err := b.describe(file); err != nil {
			return failed(err, b.a.t("cannot read %s", "无法读取 %s"), file)
		}
	}
	if err := b.filter(); err != nil {
		return err
	}
	annotate(&b.list, notes)
	if f.kind != "" {
		b.list.ArtifactType = f.kind
	}
	if f.subject != "" {
		o, err := b.get(ctx, f.subject)
		if err != nil {
			return failed(err, b.a.t("cannot open the subject %s", "无法打开主体 %s"), f.subject)
		}
		b.list.Subject = &v1.Descriptor{MediaType: types.MediaType(o.Descriptor.MediaType), Digest: view.Hash(o.Descriptor.Digest), Size: o.Descriptor.Size}
	}
	return nil
}

// stripped takes the level off annotations as imagetools writes them: index:KEY=VALUE.
func stripped(annotations []string) []string {
	out := make([]string, len(annotations))
	for i, s := range annotations {
		out[i] = strings.TrimPrefix(s, "index:")
	}
	return out
}

func (b *indexBuilder) take(ctx context.Context, name string) error {
	o, err := b.use(ctx, name)
	if err != nil {
		return err
	}
	if o.IsIndex() {
		l, err := index.Parse(o.Descriptor.MediaType, o.Body, "")
		if err != nil {
			return err
		}
		for _, e := range l.Entries {
			b.list.Add(e)
			b.nodes[e.Digest] = o
		}
		annotate(&b.list, l.Annotations)
		if b.list.ArtifactType == "" {
			b.list.ArtifactType = l.ArtifactType
		}
		return nil
	}
	entries, err := b.entriesOf(ctx, o)
	if err != nil {
		return err
	}
	b.list.Add(entries)
	b.nodes[entries.Digest] = o
	return nil
}

func (b *indexBuilder) entriesOf(ctx context.Context, o *opened) (index.Entry, error) {
	_, platform, err := b.pick(ctx, o, index.Change{})
	if err != nil {
		return index.Entry{}, err
	}
	e := index.Entry{Descriptor: v1.Descriptor{MediaType: types.MediaType(o.Descriptor.MediaType), Digest: view.Hash(o.Descriptor.Digest), Size: o.Descriptor.Size, Platform: platform}}
	if !isImage(o.Manifest) {
		e.ArtifactType = o.Manifest.ArtifactType
	}
	return e, nil
}

// describe reads a descriptor, or a list of them, as imagetools takes it.
func (b *indexBuilder) describe(file string) error {
	body, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var many []v1.Descriptor
	if bytes.HasPrefix(bytes.TrimSpace(body), []byte("[")) {
		err = json.Unmarshal(body, &many)
	} else {
		many = make([]v1.Descriptor, 1)
		err = json.Unmarshal(body, &many[0])
	}
	if err != nil {
		return output.Usage("%s: %v", file, err)
	}
	for _, d := range many {
		if _, err := view.Digest(d.Digest); err != nil || d.Size <= 0 || d.MediaType == "" {
			return output.Usage("%s: a descriptor needs mediaType, digest and size", file)
		}
		b.list.Add(index.Entry{Descriptor: d})
	}
	return nil
}

// filter leaves the images of the platforms that were asked for, and what is attached to them.
func (b *indexBuilder) filter() error {
	if len(b.flags.platforms) == 0 {
		return nil
	}
	var want []v1.Platform
	for _, text := range b.flags.platforms {
		w, err := v1.ParsePlatform(text)
		if err != nil || w.OS == "" {
			return output.Usage("--platform %q is not OS[/ARCH[/VARIANT]]", text)
		}
		want = append(want, *w)
	}
	keep := map[string]bool{}
	for _, e := range b.list.Entries {
		if !view.IsPlatformless(e.Descriptor) && slices.ContainsFunc(want, func(w v1.Platform) bool { return e.Platform.Satisfies(w) }) {
			keep[e.Digest.String()] = true
		}
	}
	b.list.Entries = slices.DeleteFunc(b.list.Entries, func(e index.Entry) bool {
		return !keep[e.Digest.String()] && !keep[e.Annotations["vnd.docker.reference.digest"]]
	})
	if len(b.list.Entries) == 0 {
		return output.Usage(b.a.t("no image is for %s", "没有 %s 的镜像"), strings.Join(b.flags.platforms, ", "))
	}
	return nil
}

// deliver pushes the images that are missing, then the index under each name.
func (b *indexBuilder) deliver(ctx context.Context) error {
	mediaType := b.flags.mediaType
	if mediaType == "docker" || mediaType == "v2s2" {
		mediaType = oci.MediaTypeDockerList
	}
	body, err := b.list.Render(mediaType)
	if err != nil {
		return err
	}
	if b.flags.dryRun {
		_, err := b.a.Out.Write(pretty(body, "  "))
		return err
	}
	d := oci.Descriptor{MediaType: mediaType, Digest: oci.FromBytes(oci.SHA256, body), Size: int64(len(body))}
	var names []string
	for _, tag := range b.flags.tags {
		named, err := b.remoteName(tag)
		if err != nil {
			return err
		}
		if err := b.push(ctx, named, d, body); err != nil {
			return failed(err, b.a.t("cannot push %s", "无法推送 %s"), tag)
		}
		names = append(names, named.Name()+"@"+d.Digest.String())
	}
	b.show.Summary(b.a.t("pushed", "已推送"))
	if b.flags.metadata != "" {
		err := b.a.writeTo(b.flags.metadata, func(w io.Writer) error {
			return output.WriteJSON(w, map[string]any{"image.name": strings.Join(b.flags.tags, ","), "containerimage.digest": d.Digest.String(), "containerimage.descriptor": d})
		})
		if err != nil {
			return failed(err, b.a.t("cannot write %s", "无法写入 %s"), b.flags.metadata)
		}
	}
	slices.Sort(names)
	_, err = fmt.Fprintln(b.a.Out, strings.Join(slices.Compact(names), "\n"))
	return err
}

func (b *indexBuilder) push(ctx context.Context, named reference.Named, d oci.Descriptor, body []byte) error {
	repo, err := b.repository(named)
	if err != nil {
		return err
	}
	for _, e := range b.list.Entries {
		if err := b.image(ctx, repo, e); err != nil {
			return err
		}
	}
	var where ref.Reference
	if !reference.IsNameOnly(named) {
		if where, err = at(named); err != nil {
			return err
		}
	}
	return repo.PutManifest(ctx, where, d, body)
}

// image brings one image to the repository unless it is there.
func (b *indexBuilder) image(ctx context.Context, repo *remote.Repository, e index.Entry) error {
	digest, err := view.Digest(e.Digest)
	if err != nil {
		return err
	}
	_, err = repo.Head(ctx, ref.Reference{Digest: digest})
	if !fault.Is(err, fault.NotFound) {
		return err
	}
	o := b.nodes[e.Digest]
	if o == nil {
		return fault.New(fault.NotFound, fault.ManifestUnknown, "the image %s of a descriptor is not in %s", e.Digest, repo)
	}
	n := o.Node
	if n.Descriptor.Digest != digest {
		if n, err = n.Child(ctx, digest); err != nil {
			return err
		}
	}
	var c view.Content
	if n.IsIndex() {
		c, err = n.Index(ctx)
	} else {
		c, err = n.Image(ctx)
	}
	if err != nil {
		return err
	}
	options := watching(b.a, b.show)
	if o.repo != nil && o.repo.Host() == repo.Host() && o.repo.Name() != repo.Name() {
		options.From = []ref.Name{o.repo.Name()}
	}
	_, err = view.Push(ctx, repo, ref.Reference{}, c, options)
	return err
}

// pretty is JSON with one value on a line.
func pretty(body []byte, indent string) []byte {
	var out bytes.Buffer
	if json.Indent(&out, body, "", indent) != nil {
		return body
	}
	return append(out.Bytes(), '\n')
}
