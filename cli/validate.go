package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/image/validate"
)

func validateCommand(a *app) *cobra.Command {
	var tarball, remoteName string
	var fast bool
	c := &cobra.Command{
		Use:   "validate [flags] [IMAGE]...",
		Short: a.t("find out whether images are whole: every blob there and what its digest says", "检查镜像是否完整：每个 blob 都存在且与摘要一致"),
		Example: "berth validate registry.example.com/team/app:v1\nberth validate --fast registry.example.com/team/app:v1\n" +
			"berth validate --tarball app.tar",
	}
	p := a.imageFlags(c)
	c.Flags().StringVar(&tarball, "tarball", "", a.t("look at the image in this `FILE` of docker save", "检查 docker save 文件中的镜像"))
	c.Flags().StringVar(&remoteName, "remote", "", a.t("look at this `IMAGE` of a registry; the argument", "检查仓库中的镜像，同参数"))
	c.Flags().BoolVar(&fast, "fast", false, a.t("ask only whether blobs are there, and read none", "仅检查 blob 是否存在，不读取内容"))
	format := a.formatFlag(c.Flags(), output.TableKind)
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		if remoteName != "" {
			args = append(args, remoteName)
		}
		if tarball != "" {
			args = append(args, inArchive(tarball, ""))
		}
		if len(args) == 0 {
			return output.Usage("%s", a.t("name an image to look at", "请指定要检查的镜像"))
		}
		if err := p.prepare(args[0]); err != nil {
			return err
		}
		defer p.close()
		bad := 0
		reports := []validated{}
		table := output.Table{Header: []string{"RESULT", "IMAGE", "FINDING"}}
		for _, name := range args {
			r, err := p.validate(ctx, name, fast)
			if err != nil {
				return failed(err, a.t("cannot look at %s", "无法检查 %s"), name)
			}
			reports = append(reports, validated{name, *r})
			if len(r.Findings) == 0 {
				table.Rows = append(table.Rows, []string{"PASS", name, fmt.Sprintf(a.t("%d manifests, %d blobs, %d bytes", "%d 个清单，%d 个 blob，%d 字节"), r.Manifests, r.Blobs, r.Bytes)})
				continue
			}
			bad++
			for _, f := range r.Findings {
				table.Rows = append(table.Rows, []string{"FAIL", name, f.Manifest.Short() + ": " + a.lang.Say(f.Text)})
			}
		}
		if err := format.Print(a.Out, reports, table); err != nil || bad == 0 {
			return err
		}
		return &output.Failure{What: fmt.Sprintf(a.t("%d of %d images are not whole", "%d/%d 个镜像不完整"), bad, len(args)),
			Why: a.t("the findings are above", "详见上文"), Exit: output.ExitFailure}
	})
	return c
}

// validated is a report with the image's name.
type validated struct {
	Image string `json:"image"`
	validate.Report
}

func (p *places) validate(ctx context.Context, name string, fast bool) (*validate.Report, error) {
	o, err := p.get(ctx, name)
	if err != nil {
		return nil, err
	}
	n := o.Node
	if strings.TrimSpace(p.platform) != "" {
		w, err := p.wanted()
		if err != nil {
			return nil, err
		}
		if n, err = o.Choose(ctx, w); err != nil {
			return nil, err
		}
	}
	return validate.Check(ctx, n, validate.Options{Limits: p.limits, Fast: fast})
}
