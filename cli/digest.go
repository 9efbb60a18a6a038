package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"go.podman.io/image/v5/docker/reference"

	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/oci"
)

func digestCommand(a *app) *cobra.Command {
	var tarball string
	var fullRef bool
	c := &cobra.Command{
		Use:     "digest [flags] IMAGE",
		Short:   a.t("print the digest of an image or index", "显示镜像或索引的摘要"),
		Example: "berth digest registry.example.com/team/app:v1\nberth digest --platform linux/arm64 registry.example.com/team/app:v1\nberth digest oci:./layout:v1",
	}
	p := a.placesFlags(c.Flags())
	p.platformFlag(c.Flags())
	c.Flags().StringVar(&tarball, "tarball", "", a.t("the image is in this `FILE` of docker save; IMAGE is its name there", "镜像位于 docker save 的文件中"))
	c.Flags().BoolVar(&fullRef, "full-ref", false, a.t("print HOST/REPOSITORY@DIGEST", "显示 HOST/REPOSITORY@DIGEST"))
	c.Args = func(cmd *cobra.Command, args []string) error {
		if tarball != "" {
			return a.args(0, 1)(cmd, args)
		}
		return a.args(1, 1)(cmd, args)
	}
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		name := strings.Join(args, "")
		if tarball != "" {
			if fullRef {
				return output.Usage("%s", a.t("--full-ref needs an image in a registry, and --tarball names a file", "--full-ref 需要仓库中的镜像，而 --tarball 指定的是文件"))
			}
			name = inArchive(tarball, name)
		}
		if err := p.prepare(name); err != nil {
			return err
		}
		defer p.close()
		digest, err := p.digestOf(ctx, name, fullRef)
		if err != nil {
			return failed(err, a.t("cannot get the digest of %s", "无法获取 %s 的摘要"), name)
		}
		_, err = fmt.Fprintln(a.Out, digest)
		return err
	})
	return c
}

// inArchive names an image in a file of docker save.
func inArchive(file, name string) string {
	if name != "" {
		return "docker-archive:" + file + ":" + name
	}
	return "docker-archive:" + file
}

// digestOf asks without reading the manifest where that is enough.
func (p *places) digestOf(ctx context.Context, name string, full bool) (string, error) {
	named, err := p.named(name)
	if err != nil {
		return "", err
	}
	if named != nil && p.platform == "" {
		where, err := at(named)
		if err != nil {
			return "", err
		}
		d, _, err := anywhere(ctx, p.client, p.sys, named, func(r *remote.Repository) (oci.Descriptor, error) { return r.Head(ctx, where) })
		if err != nil {
			return "", err
		}
		if full {
			return named.Name() + "@" + d.Digest.String(), nil
		}
		return d.Digest.String(), nil
	}
	o, err := p.get(ctx, name)
	if err != nil {
		return "", err
	}
	if p.platform != "" {
		w, err := p.wanted()
		if err != nil {
			return "", err
		}
		if o.Node, err = o.Choose(ctx, w); err != nil {
			return "", err
		}
	}
	if full {
		return o.full(), nil
	}
	return o.Descriptor.Digest.String(), nil
}

func catalogCommand(a *app) *cobra.Command {
	var fullRef bool
	c := &cobra.Command{
		Use:   "catalog [flags] [HOST]",
		Short: a.t("list the repositories of a registry", "列出仓库服务器上的所有仓库"),
		Long: a.t("Without HOST it is the registry of the context. Mirrors of registries.conf are not asked: what they have is not all there is.",
			"省略 HOST 时为上下文的仓库。不查询 registries.conf 的镜像站：它们的内容可能不完整。"),
		Example: "berth catalog registry.example.com\nberth catalog --full-ref registry.example.com",
		Args:    a.args(0, 1),
	}
	p := a.placesFlags(c.Flags())
	c.Flags().BoolVar(&fullRef, "full-ref", false, a.t("print HOST/REPOSITORY", "显示 HOST/REPOSITORY"))
	format := a.formatFlag(c.Flags(), output.Name)
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		name, err := a.hostOf(args)
		if err != nil {
			return err
		}
		host := strings.TrimSuffix(strings.TrimPrefix(name, "docker://"), "/")
		if strings.Contains(host, "/") || host == "" {
			return output.Usage(a.t("%s is not a registry; a registry is HOST or HOST:PORT", "%s 不是仓库服务器；应为 HOST 或 HOST:PORT"), name)
		}
		if err := p.prepare("docker://" + host + "/x"); err != nil {
			return err
		}
		names, err := p.catalog(ctx, host)
		if err != nil {
			return failed(err, a.t("cannot list the repositories of %s", "无法列出 %s 的仓库"), host)
		}
		list := make([]string, 0, len(names))
		table := output.Table{Header: []string{"REPOSITORY"}}
		for _, s := range names {
			if fullRef {
				s = host + "/" + s
			}
			list = append(list, s)
			table.Rows = append(table.Rows, []string{s})
		}
		return format.Print(a.Out, struct {
			Repositories []string `json:"repositories"`
		}{list}, table)
	})
	return c
}

// hostOf is the registry that a command is about: its argument, or that of the context.
func (a *app) hostOf(args []string) (string, error) {
	switch {
	case len(args) > 0:
		return args[0], nil
	case a.context.Registry != "":
		return a.context.Registry, nil
	}
	return "", output.Usage("%s", a.t("no registry was named, and there is no context", "未指定仓库，也没有上下文")).WithFix("%s", a.t("name it: HOST[:PORT]; or keep it: berth context add NAME --registry HOST", "请指定 HOST[:PORT]；或保存：berth context add NAME --registry HOST"))
}

// catalog asks a registry itself for its repositories, at the location that registries.conf has for all of it.
func (p *places) catalog(ctx context.Context, host string) ([]string, error) {
	named, err := reference.ParseNormalizedNamed(host + "/x")
	if err != nil {
		return nil, output.Usage(p.a.t("%s is not a registry; a registry is HOST or HOST:PORT", "%s 不是仓库服务器；应为 HOST 或 HOST:PORT"), host)
	}
	at, err := itself(p.sys, named)
	if err != nil {
		return nil, err
	}
	all, err := p.client.Catalog(ctx, reference.Domain(at))
	if err != nil {
		return nil, err
	}
	below := strings.TrimSuffix(reference.Path(at), reference.Path(named)) // a registry may stand in a folder of another
	var names []string
	for _, n := range all {
		if name, ok := strings.CutPrefix(n.String(), below); ok {
			names = append(names, name)
		}
	}
	return names, nil
}
