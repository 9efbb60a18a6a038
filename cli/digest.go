package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

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
		Use:     "catalog [flags] HOST",
		Short:   a.t("list the repositories of a registry", "列出仓库服务器上的所有仓库"),
		Example: "berth catalog registry.example.com\nberth catalog --full-ref registry.example.com",
		Args:    a.args(1, 1),
	}
	p := a.placesFlags(c.Flags())
	c.Flags().BoolVar(&fullRef, "full-ref", false, a.t("print HOST/REPOSITORY", "显示 HOST/REPOSITORY"))
	format := a.formatFlag(c.Flags(), output.Name)
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		host := strings.TrimSuffix(strings.TrimPrefix(args[0], "docker://"), "/")
		if strings.Contains(host, "/") || host == "" {
			return output.Usage(a.t("%s is not a registry; a registry is HOST or HOST:PORT", "%s 不是仓库服务器；应为 HOST 或 HOST:PORT"), args[0])
		}
		if err := p.prepare(host + "/x"); err != nil {
			return err
		}
		names, err := p.client.Catalog(ctx, host)
		if err != nil {
			return failed(err, a.t("cannot list the repositories of %s", "无法列出 %s 的仓库"), host)
		}
		list := make([]string, 0, len(names))
		table := output.Table{Header: []string{"REPOSITORY"}}
		for _, n := range names {
			s := n.String()
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
