package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/archive"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/cli/option"
	"github.com/berth-registry/berth/cli/output"
)

// tagList is what list-tags prints, as skopeo does.
type tagList struct {
	Repository string `json:",omitempty"`
	Tags       []string
}

func listTagsCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "list-tags [flags] REPOSITORY",
		Aliases: []string{"ls"},
		Short:   a.t("list the tags of a repository or of a docker archive", "列出仓库或 docker 归档的标签"),
		Example: "berth list-tags docker://registry.example.com/team/app\nberth list-tags docker-archive:images.tar",
		Args:    a.args(1, 1),
	}
	o := a.oneImageFlags(c.Flags(), true)
	format := a.formatFlag(c.Flags(), output.JSON)
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		sys, err := a.system(o.image)
		if err != nil {
			return err
		}
		var list tagList
		if strings.HasPrefix(args[0], archive.Transport.Name()+":") {
			list.Tags, err = a.archiveTags(ctx, sys, args[0])
		} else {
			list, err = a.registryTags(ctx, sys, args[0], o.retry)
		}
		if err != nil {
			return failed(err, a.t("cannot list the tags of %s", "无法列出 %s 的标签"), args[0])
		}
		rows := output.Table{Header: []string{"TAG"}}
		for _, tag := range list.Tags {
			rows.Rows = append(rows.Rows, []string{tag})
		}
		return format.Print(a.Out, list, rows)
	})
	return c
}

// registryTags asks a registry for all tags of docker://HOST/REPOSITORY.
func (a *app) registryTags(ctx context.Context, sys *types.SystemContext, name string, retry option.Retry) (tagList, error) {
	var list tagList
	repository, err := a.parseRepository(name)
	if err != nil {
		return list, err
	}
	list.Repository = repository.Name()
	list.Tags, err = a.tagsOf(ctx, sys, repository, retry)
	return list, err
}

// tagsOf asks a registry for all tags of a repository.
func (a *app) tagsOf(ctx context.Context, sys *types.SystemContext, repository reference.Named, retry option.Retry) ([]string, error) {
	_, tags, err := ownTags(ctx, a.client(sys, retry, func(text string) { a.warn(text, text) }), sys, repository)
	return tags, err
}

// parseRepository reads docker://HOST/REPOSITORY, without a tag or digest.
func (a *app) parseRepository(name string) (reference.Named, error) {
	t := transportOf(name)
	switch {
	case t == nil:
		return nil, a.noTransport(name)
	case t != docker.Transport:
		return nil, output.Usage(a.t("%s: images of transport %s have no list of tags; docker and docker-archive have", "%s：传输方式 %s 没有标签列表；docker 与 docker-archive 有"), name, t.Name())
	}
	rest, ok := strings.CutPrefix(name, "docker://")
	if !ok {
		return nil, output.Usage(a.t("%s does not begin with docker://", "%s 不以 docker:// 开头"), name)
	}
	named, err := reference.ParseNormalizedNamed(rest)
	if err != nil {
		return nil, output.Usage("%s: %v", name, err)
	}
	if !reference.IsNameOnly(named) {
		return nil, output.Usage(a.t("%s names an image, and not a repository", "%s 是镜像，不是仓库"), name).WithFix("docker://%s", named.Name())
	}
	return named, nil
}

// archiveTags reads the tags of a docker archive; an image without one is @ and its number.
func (a *app) archiveTags(ctx context.Context, sys *types.SystemContext, name string) ([]string, error) {
	ref, err := a.parseImage(name)
	if err != nil {
		return nil, err
	}
	if err := a.look(ctx, ref, sys); err != nil {
		return nil, err
	}
	r, _, err := archive.NewReaderForReference(sys, ref)
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // it was only read
	images, err := r.List()
	if err != nil {
		return nil, err
	}
	tags := []string{}
	for i, refs := range images {
		for _, ref := range refs {
			names, err := r.ManifestTagsForReference(ref)
			if err != nil {
				return nil, err
			}
			if len(names) == 0 {
				names = []string{fmt.Sprintf("@%d", i)}
			}
			tags = append(tags, names...)
		}
	}
	return tags, nil
}
