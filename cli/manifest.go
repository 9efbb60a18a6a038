package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/cli/option"
	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/index"
	"github.com/berth-registry/berth/image/view"
)

func manifestCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "manifest",
		Short: a.t("make and push indexes: images for several platforms under one name", "创建并推送索引：同一名称下的多平台镜像"),
		Long: a.t("A list is kept on this machine by its name until it is pushed; its images stay where they are until then.",
			"清单列表按名称保存在本机，推送前其镜像保持原处。"),
		Example: "berth manifest create app:v1\nberth manifest add app:v1 docker://registry.example.com/team/app:amd64\n" +
			"berth manifest add app:v1 oci-archive:arm64.tar\nberth manifest push app:v1 docker://registry.example.com/team/app:v1",
	}
	c.AddCommand(manifestCreateCommand(a), manifestAddCommand(a), manifestAnnotateCommand(a), manifestInspectCommand(a), manifestPushCommand(a),
		manifestRemoveCommand(a), manifestDeleteCommand(a), manifestExistsCommand(a), manifestListCommand(a), manifestDigestOfCommand(a),
		manifestRawCommand(a), manifestDiffCommand(a))
	return a.family(c)
}

// lists are the lists of this user.
func (a *app) lists() (*index.Store, error) {
	dir := os.Getenv("XDG_DATA_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, err
		}
		dir = filepath.Join(home, ".local", "share")
	}
	return index.NewStore(filepath.Join(dir, "berth", "lists"), a.now), nil
}

// entryFlags are what is recorded of an image: podman's names.
type entryFlags struct {
	annotations                  []string
	os, arch, variant, osVersion string
	features, osFeatures         []string
	all                          bool
}

func (f *entryFlags) add(a *app, c *cobra.Command) {
	g := c.Flags()
	g.StringArrayVar(&f.annotations, "annotation", nil, a.t("annotation `KEY=VALUE` of the entry", "条目的注解 KEY=VALUE"))
	g.StringVar(&f.os, "os", "", a.t("record this `OS`", "记录操作系统"))
	g.StringVar(&f.arch, "arch", "", a.t("record this `ARCHITECTURE`", "记录架构"))
	g.StringVar(&f.variant, "variant", "", a.t("record this `VARIANT` of the architecture", "记录架构变体"))
	g.StringVar(&f.osVersion, "os-version", "", a.t("record this `VERSION` of the operating system", "记录操作系统版本"))
	g.StringSliceVar(&f.features, "features", nil, a.t("record these `FEATURES` of the architecture", "记录架构特性"))
	g.StringSliceVar(&f.osFeatures, "os-features", nil, a.t("record these `FEATURES` of the operating system", "记录操作系统特性"))
}

func (f *entryFlags) change() (index.Change, error) {
	c := index.Change{OS: f.os, Architecture: f.arch, Variant: f.variant, OSVersion: f.osVersion, Features: f.features, OSFeatures: f.osFeatures}
	var err error
	c.Annotations, err = pairs(f.annotations)
	return c, err
}

// pairs reads KEY=VALUE.
func pairs(texts []string) (map[string]string, error) {
	out := map[string]string{}
	for _, t := range texts {
		k, v, ok := strings.Cut(t, "=")
		if !ok || k == "" {
			return nil, output.Usage("annotation %q is not KEY=VALUE", t)
		}
		out[k] = v
	}
	return out, nil
}

func manifestCreateCommand(a *app) *cobra.Command {
	var all, amend bool
	var annotations []string
	c := &cobra.Command{
		Use:     "create [flags] LIST [IMAGE]...",
		Short:   a.t("make a list, with these images in it", "创建列表并加入镜像"),
		Example: "berth manifest create app:v1\nberth manifest create --all app:v1 docker://registry.example.com/team/app:latest",
		Args:    a.args(1, -1),
	}
	p := a.placesFlags(c.Flags())
	c.Flags().BoolVar(&all, "all", false, a.t("add all images of an index, and not only that for this machine", "加入索引的全部镜像"))
	c.Flags().BoolVarP(&amend, "amend", "a", false, a.t("change the list when it is there", "列表已存在时修改它"))
	c.Flags().StringArrayVar(&annotations, "annotation", nil, a.t("annotation `KEY=VALUE` of the index", "索引的注解 KEY=VALUE"))
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		notes, err := pairs(annotations)
		if err != nil {
			return err
		}
		store, err := a.lists()
		if err != nil {
			return err
		}
		if err := p.prepare(append(args, "")[1]); err != nil {
			return err
		}
		defer p.close()
		var entries []index.Entry // looked at before the list is made, so that a wrong name leaves none behind
		for _, image := range args[1:] {
			more, err := p.entries(ctx, image, all, index.Change{})
			if err != nil {
				return failed(err, a.t("cannot add %s", "无法加入 %s"), image)
			}
			entries = append(entries, more...)
		}
		saved, err := store.Create(args[0])
		if amend && fault.Has(err, index.ListExists) {
			saved, err = store.Get(args[0])
		}
		if err == nil && (len(entries) > 0 || len(notes) > 0) {
			saved, err = store.Update(saved.ID, func(l *index.List) error {
				for _, e := range entries {
					l.Add(e)
				}
				annotate(l, notes)
				return nil
			})
		}
		if err != nil {
			return failed(err, a.t("cannot create the list %s", "无法创建列表 %s"), args[0])
		}
		_, err = fmt.Fprintln(a.Out, saved.ID)
		return err
	})
	return c
}

func annotate(l *index.List, notes map[string]string) {
	for k, v := range notes {
		if l.Annotations == nil {
			l.Annotations = map[string]string{}
		}
		l.Annotations[k] = v
	}
}

// entries looks at an image and says what a list records of it: one image, or all of an index.
func (p *places) entries(ctx context.Context, name string, all bool, c index.Change) ([]index.Entry, error) {
	o, err := p.get(ctx, name)
	if err != nil {
		return nil, err
	}
	source, err := p.origin(o)
	if err != nil {
		return nil, err
	}
	if o.IsIndex() && all {
		l, err := index.Parse(o.Descriptor.MediaType, o.Body, source)
		if err != nil {
			return nil, err
		}
		for i := range l.Entries {
			l.Entries[i].Source = p.child(o, l.Entries[i].Digest.String(), source)
			l.Entries[i].Apply(c)
		}
		return l.Entries, nil
	}
	n, platform, err := p.pick(ctx, o, c)
	if err != nil {
		return nil, err
	}
	e := index.Entry{Source: p.child(o, n.Descriptor.Digest.String(), source), Descriptor: v1.Descriptor{
		MediaType: types.MediaType(n.Descriptor.MediaType), Digest: view.Hash(n.Descriptor.Digest), Size: n.Descriptor.Size, Platform: platform}}
	if n.Manifest.ArtifactType != "" && n.Manifest.Config != nil && n.Manifest.ArtifactType != n.Manifest.Config.MediaType {
		e.ArtifactType = n.Manifest.ArtifactType
	}
	e.Apply(c)
	return []index.Entry{e}, nil
}

// pick chooses the image of an index, for the platform that is to be recorded or that is asked for, and finds what its
// configuration says of the platform.
func (p *places) pick(ctx context.Context, o *opened, c index.Change) (*view.Node, *v1.Platform, error) {
	w, err := p.wanted()
	if err != nil {
		return nil, nil, err
	}
	if c.OS != "" {
		w.OS = c.OS
	}
	if c.Architecture != "" {
		w.Architecture, w.Variant = c.Architecture, c.Variant
	}
	n, err := o.Choose(ctx, w)
	if err != nil {
		return nil, nil, err
	}
	if o.IsIndex() {
		if l, err := index.Parse(o.Descriptor.MediaType, o.Body, ""); err == nil {
			if e, err := l.Find(n.Descriptor.Digest.String()); err == nil && e.Platform != nil {
				return n, e.Platform, nil
			}
		}
	}
	if n.IsIndex() || n.Manifest.Config == nil || !isImage(n.Manifest) {
		return n, nil, nil // an artifact has no platform
	}
	img, err := n.Image(ctx)
	if err != nil {
		return nil, nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, nil, err
	}
	return n, file.Platform(), nil
}

// origin is where an image is, so that it is found from another directory, too.
func (p *places) origin(o *opened) (string, error) {
	if o.named != nil {
		return "docker://" + o.named.Name(), nil
	}
	transport, details, _ := strings.Cut(o.text, ":")
	switch transport {
	case "dir", "oci", "oci-archive", "docker-archive":
		path, rest, _ := strings.Cut(details, ":")
		full, err := filepath.Abs(path)
		if err != nil {
			return "", err
		}
		if details = full; rest != "" {
			details += ":" + rest
		}
	}
	return transport + ":" + details, nil
}

// child is where one image of what was opened is: by its digest in a registry, beside the others in an archive.
func (p *places) child(o *opened, digest, source string) string {
	if o.named != nil {
		return source + "@" + digest
	}
	return source
}

func manifestAddCommand(a *app) *cobra.Command {
	var f entryFlags
	c := &cobra.Command{
		Use:     "add [flags] LIST IMAGE...",
		Short:   a.t("add images to a list", "向列表加入镜像"),
		Example: "berth manifest add app:v1 docker://registry.example.com/team/app:amd64\nberth manifest add --arch arm64 --variant v8 app:v1 oci-archive:arm64.tar",
		Args:    a.args(2, -1),
	}
	p := a.placesFlags(c.Flags())
	f.add(a, c)
	c.Flags().BoolVar(&f.all, "all", false, a.t("add all images of an index, and not only that for this machine", "加入索引的全部镜像"))
	for _, name := range []string{"artifact", "artifact-exclude-titles"} {
		option.Refuse(c.Flags(), name, "", a.t("a list keeps no files; push them with berth artifact push and add the artifact by its name", "列表不保存文件；请先用 berth artifact push 推送，再按名称加入"), true)
	}
	for _, name := range []string{"artifact-type", "artifact-config", "artifact-config-type", "artifact-layer-type", "artifact-subject"} {
		option.Refuse(c.Flags(), name, "", a.t("a list keeps no files; push them with berth artifact push and add the artifact by its name", "列表不保存文件；请先用 berth artifact push 推送，再按名称加入"), false)
	}
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		change, err := f.change()
		if err != nil {
			return err
		}
		store, err := a.lists()
		if err != nil {
			return err
		}
		if _, err := store.Get(args[0]); err != nil {
			return failed(err, a.t("cannot add to %s", "无法加入到 %s"), args[0])
		}
		if err := p.prepare(args[1]); err != nil {
			return err
		}
		defer p.close()
		var entries []index.Entry
		for _, image := range args[1:] {
			more, err := p.entries(ctx, image, f.all, change)
			if err != nil {
				return failed(err, a.t("cannot add %s", "无法加入 %s"), image)
			}
			entries = append(entries, more...)
		}
		return a.update(store, args[0], func(l *index.List) error {
			for _, e := range entries {
				if f.all { // an index may list one image for several platforms
					l.Add(e)
				} else {
					l.Put(e)
				}
			}
			return nil
		})
	})
	return c
}

// update changes a list and prints its id.
func (a *app) update(store *index.Store, name string, change func(*index.List) error) error {
	saved, err := store.Update(name, change)
	if err != nil {
		return failed(err, a.t("cannot change the list %s", "无法修改列表 %s"), name)
	}
	_, err = fmt.Fprintln(a.Out, saved.ID)
	return err
}

func manifestAnnotateCommand(a *app) *cobra.Command {
	var f entryFlags
	var whole bool
	c := &cobra.Command{
		Use:     "annotate [flags] LIST DIGEST",
		Short:   a.t("change what a list records of an image", "修改列表中镜像的记录"),
		Example: "berth manifest annotate --arch arm64 --variant v8 app:v1 sha256:59eec8837a4d942cc19a52b8c09ea75121acc38114a2c68b98983ce9356b8610\nberth manifest annotate --index --annotation team=web app:v1",
		Args:    a.args(1, 2),
	}
	f.add(a, c)
	c.Flags().BoolVar(&whole, "index", false, a.t("annotate the index itself", "注解索引本身"))
	option.Refuse(c.Flags(), "subject", "", a.t("the subject of an index is set when it is pushed in one step: berth index create --subject", "索引的主体请用 berth index create --subject 设置"), false)
	c.RunE = a.run(func(_ context.Context, args []string) error {
		change, err := f.change()
		if err != nil {
			return err
		}
		store, err := a.lists()
		if err != nil {
			return err
		}
		if whole {
			return a.update(store, args[0], func(l *index.List) error { annotate(l, change.Annotations); return nil })
		}
		if len(args) < 2 {
			return output.Usage("%s", a.t("name the digest of the image, or --index", "请指定镜像摘要，或使用 --index"))
		}
		return a.update(store, args[0], func(l *index.List) error {
			e, err := l.Find(digestIn(args[1]))
			if err != nil {
				return err
			}
			e.Apply(change)
			return nil
		})
	})
	return c
}

// digestIn takes the digest of docker://HOST/REPOSITORY@DIGEST, or the text as it is.
func digestIn(text string) string {
	if i := strings.LastIndexByte(text, '@'); i >= 0 {
		return text[i+1:]
	}
	return text
}

func manifestRemoveCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "remove LIST DIGEST",
		Short:   a.t("take an image out of a list", "从列表移除镜像"),
		Example: "berth manifest remove app:v1 sha256:cb8a924afdf0229ef7515d9e5b3024e23b3eb03ddbba287f4a19c6ac90b8d221",
		Args:    a.args(2, 2),
		RunE: a.run(func(_ context.Context, args []string) error {
			store, err := a.lists()
			if err != nil {
				return err
			}
			return a.update(store, args[0], func(l *index.List) error { _, err := l.Remove(digestIn(args[1])); return err })
		}),
	}
}

func manifestDeleteCommand(a *app) *cobra.Command {
	var ignore bool
	c := &cobra.Command{
		Use:     "rm [flags] LIST...",
		Short:   a.t("delete lists from this machine", "从本机删除列表"),
		Example: "berth manifest rm app:v1",
		Args:    a.args(1, -1),
	}
	c.Flags().BoolVarP(&ignore, "ignore", "i", false, a.t("a list that is not there is no error", "列表不存在时不报错"))
	c.RunE = a.run(func(_ context.Context, args []string) error {
		store, err := a.lists()
		if err != nil {
			return err
		}
		for _, name := range args {
			gone, err := store.Delete(name)
			if ignore && fault.Is(err, fault.NotFound) {
				continue
			}
			if err != nil {
				return failed(err, a.t("cannot delete the list %s", "无法删除列表 %s"), name)
			}
			if _, err := fmt.Fprintf(a.Out, "Untagged: %s\nDeleted: %s\n", gone.Name, gone.ID); err != nil {
				return err
			}
		}
		return nil
	})
	return c
}
