package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"go.podman.io/image/v5/manifest"
)

func manifestDigestCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "manifest-digest FILE", Short: a.t("compute the digest of a manifest in a file", "计算文件中清单的摘要"),
		Example: "berth manifest-digest manifest.json",
		Args:    a.args(1, 1),
		RunE: a.run(func(_ context.Context, args []string) error {
			body, err := os.ReadFile(args[0])
			if err != nil {
				return failed(err, a.t("cannot digest %s", "无法计算 %s 的摘要"), args[0])
			}
			d, err := manifest.Digest(body)
			if err != nil {
				return failed(err, a.t("cannot digest %s", "无法计算 %s 的摘要"), args[0])
			}
			_, err = fmt.Fprintln(a.Out, d)
			return err
		}),
	}
}
