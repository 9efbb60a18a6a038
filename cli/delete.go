package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func deleteCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "delete [flags] IMAGE", Short: a.t("delete an image; in a registry with all tags that point at it", "删除镜像；在仓库中会一并删除指向它的所有标签"),
		Example: "berth delete docker://registry.example.com/team/app:v1",
		Args:    a.args(1, 1), ValidArgsFunction: a.completeImage,
	}
	o := a.oneImageFlags(c.Flags(), false)
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		ref, err := a.parseImage(args[0])
		if err != nil {
			return err
		}
		if err := a.mayUseStorage(ref); err != nil {
			return err
		}
		sys, err := a.system(o.image)
		if err != nil {
			return err
		}
		if sys, err = withStored(sys, ref); err != nil {
			return err
		}
		err = a.again(ctx, o.retry, func() error { return ref.DeleteImage(ctx, sys) })
		return failed(err, a.t("cannot delete %s", "无法删除 %s"), args[0])
	})
	return c
}
