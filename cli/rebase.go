package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	"go.podman.io/image/v5/docker/reference"

	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/image/edit"
)

func rebaseCommand(a *app) *cobra.Command {
	var r result
	var oldBase, newBase, original, rebased string
	c := &cobra.Command{
		Use:   "rebase [flags] IMAGE",
		Short: a.t("put the layers of an image onto another base, without rebuilding it", "无需重建，将镜像的层迁移到另一个基础镜像上"),
		Long: a.t("Without --old_base and --new_base they are taken from the annotations "+edit.BaseDigest+" and "+edit.BaseName+".",
			"省略 --old_base 与 --new_base 时取自注解 "+edit.BaseDigest+" 与 "+edit.BaseName+"。"),
		Example: "berth rebase --old_base registry.example.com/team/base:v1 --new_base registry.example.com/team/base:v2 --tag registry.example.com/team/app:v2 registry.example.com/team/app:v1",
		Args:    a.args(0, 1),
	}
	p := a.imageFlags(c)
	r.flags(a, c, "tag", "t")
	c.Flags().StringVar(&oldBase, "old_base", "", a.t("`IMAGE` that it is built on", "原基础镜像"))
	c.Flags().StringVar(&newBase, "new_base", "", a.t("`IMAGE` to put it on", "新基础镜像"))
	c.Flags().StringVar(&original, "original", "", a.t("`IMAGE` to rebase; the argument", "要迁移的镜像，同参数"))
	c.Flags().StringVar(&rebased, "rebased", "", a.t("the same as --tag", "同 --tag"))
	_, _ = c.Flags().MarkHidden("original"), c.Flags().MarkHidden("rebased")
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		image := orElse(original, strings.Join(args, ""))
		r.tag = orElse(r.tag, rebased)
		if image == "" || original != "" && len(args) > 0 {
			return output.Usage("%s", a.t("name one image to rebase", "请指定一个要迁移的镜像"))
		}
		if err := p.prepare(image); err != nil {
			return err
		}
		defer p.close()
		from, img, err := p.one(ctx, image)
		if err != nil {
			return failed(err, a.t("cannot open %s", "无法打开 %s"), image)
		}
		if oldBase == "" || newBase == "" {
			if oldBase, newBase, err = p.bases(from, oldBase, newBase); err != nil {
				return err
			}
		}
		_, old, err := p.one(ctx, oldBase)
		if err != nil {
			return failed(err, a.t("cannot open the old base %s", "无法打开原基础镜像 %s"), oldBase)
		}
		base, now, err := p.one(ctx, newBase)
		if err != nil {
			return failed(err, a.t("cannot open the new base %s", "无法打开新基础镜像 %s"), newBase)
		}
		out, err := edit.Rebase(img, old, now)
		if err == nil && edit.Family(out) == edit.OCI {
			out, err = edit.Annotate(out, map[string]string{edit.BaseDigest: base.Descriptor.Digest.String(), edit.BaseName: newBase})
		}
		if err != nil {
			return failed(err, a.t("cannot rebase %s", "无法迁移 %s"), image)
		}
		return r.deliver(ctx, p, out, from, base)
	})
	return c
}

// bases reads from annotations which bases are meant.
func (p *places) bases(o *opened, oldBase, newBase string) (string, string, error) {
	base, digest := o.Manifest.Annotations[edit.BaseName], o.Manifest.Annotations[edit.BaseDigest]
	if base == "" || digest == "" {
		return "", "", output.Usage(p.a.t("%s does not say in annotations which base it has; name --old_base and --new_base", "%s 的注解中没有基础镜像信息；请指定 --old_base 与 --new_base"), o.text)
	}
	named, err := p.remoteName(base)
	if err != nil {
		return "", "", err
	}
	return orElse(oldBase, reference.TrimNamed(named).String()+"@"+digest), orElse(newBase, base), nil
}
