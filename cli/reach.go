package cli

import (
	"context"
	"fmt"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/cli/option"
	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/copy"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/image/rootfs"
	"github.com/berth-registry/berth/image/view"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// places are the flags of a command that names images anywhere, and what it opened. A name without a transport is in a
// registry, as crane and regctl have it.
type places struct {
	a        *app
	shared   option.Shared
	image    *option.Image
	platform string
	limits   rootfs.Limits

	sys    *types.SystemContext
	client *remote.Client
	reach  *reach
	open   []func() error
}

// placesFlags adds the flags of how images are reached.
func (a *app) placesFlags(f *pflag.FlagSet) *places {
	p := &places{a: a}
	p.image = option.NewImage(&p.shared, "")
	p.shared.AddFlags(f, a.t)
	p.image.AddFlags(f, a.t)
	return p
}

// platformFlag adds the choice of an image of an index.
func (p *places) platformFlag(f *pflag.FlagSet) {
	f.StringVar(&p.platform, "platform", "", p.a.t("take the image of an index for `OS/ARCH[/VARIANT]`, not for this machine", "从索引中选择 OS/ARCH[/VARIANT] 的镜像"))
}

// limitFlags adds the bounds of what layers may unpack to.
func (p *places) limitFlags(f *pflag.FlagSet) {
	d := rootfs.Defaults()
	f.Int64Var(&p.limits.Bytes, "max-bytes", d.Bytes, p.a.t("refuse an image that unpacks to more `BYTES`", "拒绝解压后超过该字节数的镜像"))
	f.Int64Var(&p.limits.Ratio, "max-ratio", d.Ratio, p.a.t("refuse a layer that unpacks to more than `N` times its size", "拒绝解压比超过 N 倍的层"))
	f.IntVar(&p.limits.Entries, "max-files", d.Entries, p.a.t("refuse an image with more than `N` files", "拒绝文件数超过 N 的镜像"))
}

// prepare reads the flags; home is a name of the registry that --creds is for. It has to come first.
func (p *places) prepare(home string) error {
	sys, err := p.a.system(p.image)
	if err != nil {
		return err
	}
	p.sys = sys
	host := ""
	if named, err := p.named(home); err == nil && named != nil {
		host = reference.Domain(named)
	}
	p.client, p.reach = p.a.registries(sys, host, option.Retry{}, func(text string) { p.a.warn(text, text) })
	return nil
}

// onOne makes the RunE of a command about one name, its first argument.
func (p *places) onOne(do func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return p.a.run(func(ctx context.Context, args []string) error {
		if p.platform == "" && p.a.platform != "all" {
			p.platform = p.a.platform
		}
		if err := p.prepare(args[0]); err != nil {
			return err
		}
		defer p.close()
		return do(ctx, args)
	})
}

// onRemote is onOne for a name that has to be in a registry.
func (p *places) onRemote(do func(ctx context.Context, named reference.Named, args []string) error) func(*cobra.Command, []string) error {
	return p.onOne(func(ctx context.Context, args []string) error {
		named, err := p.remoteName(args[0])
		if err != nil {
			return err
		}
		return do(ctx, named, args)
	})
}

// close ends what was opened.
func (p *places) close() {
	for _, c := range p.open {
		_ = c() // it was only read
	}
}

// named reads the name of something in a registry; nil is a name with another transport.
func (p *places) named(text string) (reference.Named, error) {
	if t := transportOf(text); t != nil && t != docker.Transport {
		return nil, nil
	}
	if strings.HasPrefix(text, "containers-storage:") { // not in every build
		return nil, p.a.noTransport(text)
	}
	return p.a.parseNamed(text)
}

// remoteName reads the name of something that has to be in a registry.
func (p *places) remoteName(text string) (reference.Named, error) {
	named, err := p.named(text)
	if err == nil && named == nil {
		err = output.Usage(p.a.t("%s is not in a registry", "%s 不在仓库中"), text).WithFix("%s", p.a.t("name it as HOST/REPOSITORY[:TAG]", "请使用 HOST/REPOSITORY[:TAG]"))
	}
	return named, err
}

// repository is the one of a name, when registries.conf permits it.
func (p *places) repository(named reference.Named) (*remote.Repository, error) {
	if _, err := plainRegistry(p.sys, named); err != nil { // blocked
		return nil, err
	}
	n, err := ref.ParseName(reference.Path(named))
	if err != nil {
		return nil, err
	}
	return p.client.Repository(reference.Domain(named), n), nil
}

// at is the tag or digest of a name; the digest wins, and latest is the tag of a name that has neither.
func at(named reference.Named) (ref.Reference, error) {
	if d, ok := named.(reference.Digested); ok {
		digest, err := oci.ParseDigest(d.Digest().String())
		return ref.Reference{Digest: digest}, err
	}
	if t, ok := reference.TagNameOnly(named).(reference.Tagged); ok {
		return ref.Reference{Tag: t.Tag()}, nil
	}
	return ref.Reference{}, fmt.Errorf("%s has no tag", named)
}

// opened is content that a name leads to.
type opened struct {
	*view.Node
	text  string
	named reference.Named    // nil: not in a registry
	repo  *remote.Repository // likewise
}

// full is the name with the digest of what was found: HOST/REPOSITORY@DIGEST, or the text itself.
func (o *opened) full() string {
	if o.named == nil {
		return o.text
	}
	return o.named.Name() + "@" + o.Descriptor.Digest.String()
}

// get opens a manifest by name.
func (p *places) get(ctx context.Context, text string) (*opened, error) {
	named, err := p.named(text)
	if err != nil {
		return nil, err
	}
	if named == nil {
		return p.local(ctx, text)
	}
	where, err := at(named)
	if err != nil {
		return nil, err
	}
	n, repo, err := anywhere(ctx, p.client, p.sys, named, func(r *remote.Repository) (*view.Node, error) { return view.Open(ctx, r, where) })
	if err != nil {
		return nil, err
	}
	return &opened{n, text, named, repo}, nil
}

// local opens what a transport other than a registry has.
func (p *places) local(ctx context.Context, text string) (*opened, error) {
	reference, err := p.a.parseImage(text)
	if err != nil {
		return nil, err
	}
	if err := p.a.look(ctx, reference, p.sys); err != nil {
		return nil, err
	}
	src, err := reference.NewImageSource(ctx, p.sys)
	if err != nil {
		return nil, err
	}
	p.open = append(p.open, src.Close)
	n, err := view.Open(ctx, view.NewTransport(src), ref.Reference{})
	if err != nil {
		return nil, err
	}
	return &opened{n, text, nil, nil}, nil
}

// use opens a manifest whose content is about to be moved or used: policy.json decides whether it may be. It is asked about what the
// name leads to, an index as a whole, as copy asks it.
func (p *places) use(ctx context.Context, text string) (*opened, error) {
	o, err := p.get(ctx, text)
	if err != nil {
		return nil, err
	}
	return o, p.may(ctx, o, o.Node)
}

// may asks policy.json about what a name leads to, or about an image of it when it is an index.
func (p *places) may(ctx context.Context, o *opened, n *view.Node) error {
	source := o.text
	var from copy.Source
	var where ref.Reference
	if o.named != nil {
		var err error
		if where, err = at(o.named); err != nil {
			return err
		}
		source = "docker://" + reference.TrimNamed(o.named).String() + ":" + where.Tag
		if !where.Digest.IsZero() {
			source = "docker://" + reference.TrimNamed(o.named).String() + "@" + where.Digest.String()
		}
		from = o.repo
	}
	img, sys, err := p.opener(source)
	if err != nil {
		return err
	}
	return p.a.policyCheck(img, sys, option.Retry{})(ctx, from, where, n.Descriptor, n.Body)
}

// wanted is the platform of --platform, else of --override-os and its brothers, else linux on this machine's architecture.
func (p *places) wanted() (v1.Platform, error) {
	if p.platform != "" {
		w, err := v1.ParsePlatform(p.platform)
		if err != nil || w.OS == "" || w.Architecture == "" {
			return v1.Platform{}, output.Usage(p.a.t("--platform %q is not OS/ARCH[/VARIANT], such as linux/arm64", "--platform %q 不是 OS/ARCH[/VARIANT]，例如 linux/arm64"), p.platform)
		}
		return *w, nil
	}
	w := v1.Platform{OS: "linux", Architecture: runtime.GOARCH, Variant: p.a.global.OverrideVar}
	if p.a.global.OverrideOS != "" {
		w.OS = p.a.global.OverrideOS
	}
	if p.a.global.OverrideArch != "" {
		w.Architecture = p.a.global.OverrideArch
	}
	return w, nil
}

// one opens one image for use: that of the platform when the name leads to an index.
func (p *places) one(ctx context.Context, text string) (*opened, v1.Image, error) {
	o, err := p.get(ctx, text)
	if err != nil {
		return nil, nil, err
	}
	refused := p.may(ctx, o, o.Node)
	if refused != nil && !o.IsIndex() {
		return nil, nil, refused
	}
	got, img, err := p.chosen(ctx, o)
	if refused != nil && (err != nil || p.may(ctx, o, got.Node) != nil) { // as copy has it: one of both is enough
		return nil, nil, refused
	}
	return got, img, err
}

// chosen is the image of what was opened: that of the platform of an index.
func (p *places) chosen(ctx context.Context, o *opened) (*opened, v1.Image, error) {
	w, err := p.wanted()
	if err != nil {
		return nil, nil, err
	}
	n, err := o.Choose(ctx, w)
	if err != nil {
		return nil, nil, err
	}
	img, err := n.Image(ctx)
	if err != nil {
		return nil, nil, err
	}
	return &opened{n, o.text, o.named, o.repo}, img, nil
}

// put pushes an image or index. near are names whose repositories may have the blobs: those of the same registry are mounted.
func (p *places) put(ctx context.Context, text string, c view.Content, near ...*opened) (oci.Descriptor, reference.Named, error) {
	named, err := p.remoteName(text)
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	repo, err := p.repository(named)
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	show := p.a.progress(false)
	o := watching(p.a, show)
	for _, n := range near {
		if n != nil && n.repo != nil && n.repo.Host() == repo.Host() && n.repo.Name() != repo.Name() {
			o.From = append(o.From, n.repo.Name())
		}
	}
	var where ref.Reference
	if !reference.IsNameOnly(named) {
		if where, err = at(named); err != nil {
			return oci.Descriptor{}, nil, err
		}
	}
	d, err := view.Push(ctx, repo, where, c, o)
	if err == nil {
		show.Summary(p.a.t("pushed", "已推送"))
	}
	return d, named, err
}

// pullSources are where registries.conf says that something is read from, in the order in which they are asked: the mirrors, then
// the location of the registry itself.
func pullSources(sys *types.SystemContext, named reference.Named) ([]reference.Named, error) {
	known, err := sysregistriesv2.FindRegistry(sys, named.Name())
	if err != nil || known == nil {
		return []reference.Named{named}, err
	}
	if known.Blocked {
		return nil, fault.New(fault.Denied, fault.DeniedReason, "registry %s is blocked by registries.conf", known.Prefix)
	}
	sources, err := known.PullSourcesFromReference(named)
	if err != nil {
		return nil, err
	}
	names := make([]reference.Named, len(sources))
	for i, s := range sources {
		names[i] = s.Reference
	}
	return names, nil
}

// itself is the registry's own place of a name: the location of registries.conf, and no mirror. Lists are asked for there, as skopeo
// asks for them: a mirror has a part, and a list of a part looks like a list of all.
func itself(sys *types.SystemContext, named reference.Named) (reference.Named, error) {
	sources, err := pullSources(sys, reference.TrimNamed(named))
	if err != nil || len(sources) == 0 {
		return named, err
	}
	return sources[len(sources)-1], nil
}

// ownTags asks the registry itself for all tags of a repository.
func ownTags(ctx context.Context, c *remote.Client, sys *types.SystemContext, named reference.Named) (*remote.Repository, []string, error) {
	at, err := itself(sys, named)
	if err != nil {
		return nil, nil, err
	}
	n, err := ref.ParseName(reference.Path(at))
	if err != nil {
		return nil, nil, err
	}
	repo := c.Repository(reference.Domain(at), n)
	tags, err := repo.Tags(ctx)
	if tags == nil {
		tags = []string{}
	}
	return repo, tags, err
}

// anywhere reads something where registries.conf says that a name is read from. The first place that has it is enough; the failure is
// that of the last, which is the registry itself.
func anywhere[T any](ctx context.Context, c *remote.Client, sys *types.SystemContext, named reference.Named, read func(*remote.Repository) (T, error)) (out T, at *remote.Repository, err error) {
	sources, err := pullSources(sys, named)
	if err != nil {
		return out, nil, err
	}
	for i, s := range sources {
		n, err := ref.ParseName(reference.Path(s))
		if err != nil {
			return out, nil, err
		}
		at = c.Repository(reference.Domain(s), n)
		if out, err = read(at); err == nil || ctx.Err() != nil {
			return out, at, err
		}
		if i == len(sources)-1 {
			return out, nil, err
		}
	}
	return out, nil, fault.New(fault.NotFound, fault.NameUnknown, "registries.conf has no place for %s", named.Name())
}

// watching shows a push.
func watching(a *app, show *output.Progress) view.Options {
	id := func(d oci.Descriptor) string { return d.Digest.String() }
	return view.Options{
		Start: func(d oci.Descriptor) { show.Start(id(d), shortDigest(id(d)), d.Size) },
		Moved: func(d oci.Descriptor, n int64) { show.Move(id(d), n) },
		Done: func(d oci.Descriptor, how string) {
			switch how {
			case "sent":
				show.Done(id(d))
			case "mounted":
				show.Skip(id(d), shortDigest(id(d)), d.Size, a.t("mounted", "已挂载"))
			case "exists":
				show.Skip(id(d), shortDigest(id(d)), d.Size, a.t("already there", "已存在"))
			}
		},
	}
}
