package cli

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/rootfs"
)

func fileCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "file",
		Short: a.t("list, print and get files of an image without pulling it", "无需拉取镜像即可列出、查看与获取其中的文件"),
		Example: "berth file cat registry.example.com/team/app:v1 /etc/os-release\nberth file ls registry.example.com/team/app:v1 /etc\n" +
			"berth file get registry.example.com/team/app:v1 /usr/bin/app ./app",
	}
	c.AddCommand(fileListCommand(a), fileCatCommand(a), fileGetCommand(a))
	return a.family(c)
}

// imageFlags are those of a command that reads the layers of one image.
func (a *app) imageFlags(c *cobra.Command) *places {
	p := a.placesFlags(c.Flags())
	p.platformFlag(c.Flags())
	p.limitFlags(c.Flags())
	return p
}

func fileListCommand(a *app) *cobra.Command {
	var deep bool
	c := &cobra.Command{
		Use:     "ls [flags] IMAGE [DIRECTORY]",
		Short:   a.t("list a directory of an image", "列出镜像中的目录"),
		Example: "berth file ls registry.example.com/team/app:v1 /etc\nberth file ls -r -o json registry.example.com/team/app:v1",
		Args:    a.args(1, 2),
	}
	p := a.imageFlags(c)
	c.Flags().BoolVarP(&deep, "recursive", "r", false, a.t("also what is in directories below", "包括子目录"))
	format := a.formatFlag(c.Flags(), output.TableKind)
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		dir := "/"
		if len(args) > 1 {
			dir = args[1]
		}
		return p.withImage(ctx, args[0], a.t("cannot list files of %s", "无法列出 %s 的文件"), func(img v1.Image) error {
			files, err := rootfs.List(ctx, img, dir, deep, p.limits)
			if err != nil {
				return err
			}
			table := output.Table{Header: []string{"PATH", "MODE", "OWNER", "SIZE", "MODIFIED"}}
			for _, f := range files {
				name := f.Path
				if f.Mode&fs.ModeSymlink != 0 {
					name += " -> " + f.Link
				}
				modified := ""
				if !f.ModTime.IsZero() {
					modified = f.ModTime.Format(time.DateTime)
				}
				table.Rows = append(table.Rows, []string{name, f.Perm, fmt.Sprintf("%d:%d", f.UID, f.GID), strconv.FormatInt(f.Size, 10), modified})
			}
			return format.Print(a.Out, files, table)
		})
	})
	return c
}

// withImage opens one image for use and closes it.
func (p *places) withImage(ctx context.Context, name, what string, use func(v1.Image) error) error {
	if err := p.prepare(name); err != nil {
		return err
	}
	defer p.close()
	_, img, err := p.one(ctx, name)
	if err == nil {
		err = use(img)
	}
	return failed(err, what, name)
}

func fileCatCommand(a *app) *cobra.Command {
	var verify bool
	c := &cobra.Command{
		Use:     "cat [flags] IMAGE FILE",
		Short:   a.t("print a file of an image", "显示镜像中的文件"),
		Example: "berth file cat registry.example.com/team/app:v1 /etc/os-release",
		Args:    a.args(2, 2),
	}
	p := a.imageFlags(c)
	a.verifyFlag(c, &verify)
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		return p.withImage(ctx, args[0], a.t("cannot read a file of %s", "无法读取 %s 中的文件"), func(img v1.Image) error {
			return a.writeTo("-", func(w io.Writer) error {
				return rootfs.Find(ctx, img, args[1], rootfs.FindOptions{Limits: p.limits, Verify: verify}, regular(args[1], w))
			})
		})
	})
	return c
}

func (a *app) verifyFlag(c *cobra.Command, verify *bool) {
	c.Flags().BoolVar(verify, "verify", false, a.t("read the layer to its end, so that its digest is compared; without it reading ends with the file", "读完整层以校验摘要；否则读到文件即止"))
}

// regular copies a regular file.
func regular(name string, w io.Writer) func(*rootfs.Entry, io.Reader) error {
	return func(e *rootfs.Entry, r io.Reader) error {
		switch e.Header.Typeflag {
		case tar.TypeReg, tar.TypeGNUSparse:
			_, err := io.Copy(w, r)
			return err
		case tar.TypeDir:
			return fault.New(fault.Invalid, rootfs.FileUnknown, "%s is a directory; list it with berth file ls", name)
		}
		return fault.New(fault.Invalid, rootfs.FileUnknown, "%s is a device or pipe and has no content", name)
	}
}

func fileGetCommand(a *app) *cobra.Command {
	var verify bool
	c := &cobra.Command{
		Use:     "get [flags] IMAGE FILE [DESTINATION]",
		Short:   a.t("write a file of an image to a file here", "将镜像中的文件保存到本地"),
		Long:    a.t("DESTINATION is a file, or - for standard output; without it the file has its own name, in this directory. It appears when it is whole, and what was there stays if that fails.", "DESTINATION 为文件，- 表示标准输出；省略时以原名保存在当前目录。文件完整后才出现，失败时原有文件保持不变。"),
		Example: "berth file get registry.example.com/team/app:v1 /usr/bin/app ./app",
		Args:    a.args(2, 3),
	}
	p := a.imageFlags(c)
	a.verifyFlag(c, &verify)
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		to := path.Base(path.Clean("/" + args[1]))
		if len(args) > 2 {
			to = args[2]
		}
		return p.withImage(ctx, args[0], a.t("cannot get a file of %s", "无法获取 %s 中的文件"), func(img v1.Image) error {
			return a.writeTo(to, func(w io.Writer) error {
				return rootfs.Find(ctx, img, args[1], rootfs.FindOptions{Limits: p.limits, Verify: verify}, regular(args[1], w))
			})
		})
	})
	return c
}

func exportCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "export [flags] IMAGE [FILE]",
		Short:   a.t("write the file system of an image as one tar archive", "将镜像的文件系统导出为一个 tar 归档"),
		Example: "berth export registry.example.com/team/app:v1 app.tar\nberth export registry.example.com/team/app:v1 - | tar t",
		Args:    a.args(1, 2),
	}
	p := a.imageFlags(c)
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		to := "-"
		if len(args) > 1 {
			to = args[1]
		}
		if to == "-" && isTerminal(a.Out) {
			return output.Usage("%s", a.t("an archive is not for a terminal", "归档不能输出到终端")).WithFix("berth export %s FILE", args[0])
		}
		return p.withImage(ctx, args[0], a.t("cannot export %s", "无法导出 %s"), func(img v1.Image) error {
			return a.writeTo(to, func(w io.Writer) error { return rootfs.Tar(ctx, img, p.limits, w) })
		})
	})
	return c
}
