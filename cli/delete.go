package cli

import (
	"context"

	"github.com/spf13/cobra"
	"go.podman.io/image/v5/docker"
	liblayout "go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/cli/option"
	"github.com/berth-registry/berth/image/layout"
	"github.com/berth-registry/berth/oci/ref"
)

func deleteCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "delete [flags] IMAGE", Short: a.t("delete an image; in a registry with all tags that point at it", "删除镜像；在仓库中会一并删除指向它的所有标签"),
		Example: "berth delete docker://registry.example.com/team/app:v1",
		Args:    a.args(1, 1), ValidArgsFunction: a.completeImage,
	}
	o := a.oneImageFlags(c.Flags(), false)
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		img, err := a.parseImage(args[0])
		if err != nil {
			return err
		}
		if err := a.mayUseStorage(img); err != nil {
			return err
		}
		if err := o.image.Misplaced(img.Transport().Name()); err != nil {
			return err
		}
		a.ineffective(o.image, img)
		sys, err := a.system(o.image)
		if err != nil {
			return err
		}
		switch img.Transport() {
		case docker.Transport:
			err = a.deleteRemote(ctx, img, sys, o.retry)
		case liblayout.Transport:
			err = a.deleteLayout(ctx, args[0], img, sys)
		default:
			err = a.again(ctx, o.retry, func() error { return img.DeleteImage(ctx, sys) })
		}
		return failed(err, a.t("cannot delete %s", "无法删除 %s"), args[0])
	})
	return c
}

// deleteRemote deletes an image in a registry with all tags that point at it, and the signatures of it that lie in a folder
// which registries.d names.
func (a *app) deleteRemote(ctx context.Context, img types.ImageReference, sys *types.SystemContext, retry option.Retry) error {
	named := img.DockerReference()
	if _, err := plainRegistry(sys, named); err != nil { // blocked
		return err
	}
	repo, where, err := remoteRepository(a.client(sys, retry, func(text string) { a.warn(text, text) }), named)
	if err != nil {
		return err
	}
	d, err := repo.Head(ctx, where)
	if err != nil {
		return err
	}
	if err := repo.Delete(ctx, ref.Reference{Digest: d.Digest}); err != nil {
		return err
	}
	store := &signatureStores{a: a, system: func(string, bool) *types.SystemContext { return sys }}
	return store.remove(repo, d.Digest)
}

// deleteLayout deletes an image in a layout with what refers to it, and the blobs that nothing else there needs.
func (a *app) deleteLayout(ctx context.Context, name string, img types.ImageReference, sys *types.SystemContext) error {
	dir, at, ok := layoutName(name)
	if !ok || sys.OCISharedBlobDirPath != "" {
		return img.DeleteImage(ctx, sys)
	}
	l, err := layout.OpenDir(dir)
	if err != nil {
		return err
	}
	defer l.Close() //nolint:errcheck // what was changed is on the disk
	return l.Remove(ctx, at)
}
