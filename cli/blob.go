package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"go.podman.io/image/v5/docker/reference"

	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/image/view"
	"github.com/berth-registry/berth/oci"
)

func blobCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "blob",
		Short:   a.t("get, put, look at and list blobs", "读取、写入、查看与列出 blob"),
		Example: "berth blob get registry.example.com/team/app@sha256:… > layer.tar.gz\nberth blob put registry.example.com/team/app < file\nberth blob ls registry.example.com/team/app:v1",
	}
	c.AddCommand(blobGetCommand(a), blobPutCommand(a), blobHeadCommand(a), blobListCommand(a))
	return a.family(c)
}

// blobName reads REPOSITORY@DIGEST, or REPOSITORY DIGEST. Of several places that registries.conf has, it is the first with the blob.
func (p *places) blobName(ctx context.Context, args []string) (*remote.Repository, oci.Descriptor, error) {
	text := strings.Join(args, "@")
	named, err := p.remoteName(text)
	if err != nil {
		return nil, oci.Descriptor{}, err
	}
	digested, ok := named.(reference.Digested)
	if !ok {
		return nil, oci.Descriptor{}, output.Usage(p.a.t("%s names no blob; a blob is HOST/REPOSITORY@DIGEST", "%s 没有摘要；应为 HOST/REPOSITORY@DIGEST"), text)
	}
	digest, err := oci.ParseDigest(digested.Digest().String())
	if err != nil {
		return nil, oci.Descriptor{}, err
	}
	sources, err := pullSources(p.sys, named)
	if err != nil {
		return nil, oci.Descriptor{}, err
	}
	if len(sources) == 1 {
		repo, err := p.repository(sources[0])
		return repo, oci.Descriptor{Digest: digest}, err
	}
	_, repo, err := anywhere(ctx, p.client, p.sys, named, func(r *remote.Repository) (int64, error) { return r.BlobSize(ctx, digest) })
	return repo, oci.Descriptor{Digest: digest}, err
}

func blobGetCommand(a *app) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:     "get [flags] REPOSITORY@DIGEST | REPOSITORY DIGEST",
		Short:   a.t("write a blob to standard output or to a file", "将 blob 写到标准输出或文件"),
		Example: "berth blob get registry.example.com/team/app@sha256:… > layer.tar.gz\nberth blob get -O layer.tar.gz registry.example.com/team/app sha256:…",
		Args:    a.args(1, 2),
	}
	p := a.placesFlags(c.Flags())
	c.Flags().StringVarP(&file, "output-file", "O", "", a.t("write to this `FILE`, which appears when the blob is whole", "写入该文件，完整后才出现"))
	c.RunE = p.onOne(func(ctx context.Context, args []string) error {
		repo, d, err := p.blobName(ctx, args)
		if err != nil {
			return err
		}
		return failed(a.writeTo(file, func(w io.Writer) error {
			if d.Size, err = repo.BlobSize(ctx, d.Digest); err != nil {
				return err
			}
			r, err := repo.Blob(ctx, d, 0)
			if err != nil {
				return err
			}
			defer r.Close() //nolint:errcheck // it was read to its end
			_, err = io.Copy(w, r)
			return err
		}), a.t("cannot get blob %s", "无法获取 blob %s"), strings.Join(args, "@"))
	})
	return c
}

func blobPutCommand(a *app) *cobra.Command {
	var digest string
	c := &cobra.Command{
		Use:     "put [flags] REPOSITORY [FILE]",
		Short:   a.t("send a file or standard input as a blob, and print its digest", "上传文件或标准输入为 blob，并显示摘要"),
		Example: "berth blob put registry.example.com/team/app layer.tar.gz\ntar c . | berth blob put registry.example.com/team/app",
		Args:    a.args(1, 2),
	}
	p := a.placesFlags(c.Flags())
	c.Flags().StringVar(&digest, "digest", "", a.t("fail unless the content has this `DIGEST`", "内容摘要不符则失败"))
	c.RunE = p.onRemote(func(ctx context.Context, named reference.Named, args []string) error {
		repo, err := p.repository(named)
		if err != nil {
			return err
		}
		source := "-"
		if len(args) > 1 {
			source = args[1]
		}
		path, remove, err := a.spool(source)
		if err != nil {
			return failed(err, a.t("cannot read %s", "无法读取 %s"), source)
		}
		defer remove()
		d, err := sendFile(ctx, repo, path, digest)
		if err != nil {
			return failed(err, a.t("cannot put a blob into %s", "无法写入 blob 到 %s"), args[0])
		}
		_, err = fmt.Fprintln(a.Out, d.Digest)
		return err
	})
	return c
}

// sendFile sends a file as a blob. want is a digest that it must have, "" any.
func sendFile(ctx context.Context, t view.Target, path, want string) (oci.Descriptor, error) {
	algorithm := oci.SHA256
	if want != "" {
		d, err := oci.ParseDigest(want)
		if err != nil {
			return oci.Descriptor{}, err
		}
		algorithm = d.Algorithm()
	}
	d, err := view.DescribeFile(path, algorithm)
	if err != nil {
		return oci.Descriptor{}, err
	}
	if want != "" && d.Digest.String() != want {
		return oci.Descriptor{}, fault.New(fault.Invalid, fault.DigestInvalid, "the content has the digest %s, and %s was asked for; nothing was sent", d.Digest, want)
	}
	has, err := t.HasBlob(ctx, d)
	if err != nil || has {
		return d, err
	}
	_, err = t.PutBlob(ctx, d, nil, view.File(path))
	return d, err
}

func blobHeadCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "head [flags] REPOSITORY@DIGEST | REPOSITORY DIGEST",
		Short:   a.t("say whether a blob is there, and how large", "查看 blob 是否存在及其大小"),
		Example: "berth blob head registry.example.com/team/app@sha256:…",
		Args:    a.args(1, 2),
	}
	p := a.placesFlags(c.Flags())
	format := a.formatFlag(c.Flags(), output.TableKind)
	c.RunE = p.onOne(func(ctx context.Context, args []string) error {
		repo, d, err := p.blobName(ctx, args)
		if err != nil {
			return err
		}
		if d.Size, err = repo.BlobSize(ctx, d.Digest); err != nil {
			return failed(err, a.t("cannot look for blob %s", "无法查看 blob %s"), strings.Join(args, "@"))
		}
		return format.Print(a.Out, struct {
			Digest string `json:"digest"`
			Size   int64  `json:"size"`
		}{d.Digest.String(), d.Size}, output.Table{Header: []string{"DIGEST", "SIZE"}, Rows: [][]string{{d.Digest.String(), strconv.FormatInt(d.Size, 10)}}})
	})
	return c
}

// blobLine is a blob of an image.
type blobLine struct {
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
	MediaType string `json:"mediaType"`
	Role      string `json:"role"` // config, layer
}

func blobListCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "ls [flags] IMAGE",
		Short:   a.t("list the blobs of an image", "列出镜像的 blob"),
		Example: "berth blob ls registry.example.com/team/app:v1",
		Args:    a.args(1, 1),
	}
	p := a.placesFlags(c.Flags())
	p.platformFlag(c.Flags())
	format := a.formatFlag(c.Flags(), output.TableKind)
	c.RunE = p.onOne(func(ctx context.Context, args []string) error {
		o, _, err := p.one(ctx, args[0])
		if err != nil {
			return failed(err, a.t("cannot list the blobs of %s", "无法列出 %s 的 blob"), args[0])
		}
		lines := []blobLine{{o.Manifest.Config.Digest.String(), o.Manifest.Config.Size, o.Manifest.Config.MediaType, "config"}}
		for _, l := range o.Manifest.Layers {
			lines = append(lines, blobLine{l.Digest.String(), l.Size, l.MediaType, "layer"})
		}
		table := output.Table{Header: []string{"DIGEST", "SIZE", "ROLE", "TYPE"}}
		for _, l := range lines {
			table.Rows = append(table.Rows, []string{l.Digest, strconv.FormatInt(l.Size, 10), l.Role, l.MediaType})
		}
		return format.Print(a.Out, lines, table)
	})
	return c
}

// spool gives the path of a file; what comes on standard input is kept in a temporary one.
func (a *app) spool(path string) (name string, remove func(), err error) {
	if path != "-" {
		_, err := os.Stat(path)
		return path, func() {}, err
	}
	f, err := os.CreateTemp(a.global.TmpDir, "berth-")
	if err != nil {
		return "", nil, err
	}
	remove = func() { _ = os.Remove(f.Name()) }
	_, err = io.Copy(f, a.In)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		remove()
		return "", nil, err
	}
	return f.Name(), remove, nil
}

// family makes a command that only has others: by itself it prints its help, and a word that is none of them is an error.
func (a *app) family(c *cobra.Command) *cobra.Command {
	c.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return errUnknownCommand
		}
		return nil
	}
	c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	return c
}
