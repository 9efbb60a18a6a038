package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/index"
	"github.com/berth-registry/berth/oci"
)

func manifestExistsCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "exists LIST",
		Short:   a.t("exit with 0 when there is a list of this name, and with 1 when not", "列表存在则退出码为 0，否则为 1"),
		Example: "berth manifest exists app:v1 && echo yes",
		Args:    a.args(1, 1),
		RunE: a.run(func(_ context.Context, args []string) error {
			store, err := a.lists()
			if err != nil {
				return err
			}
			_, err = store.Get(args[0])
			if fault.Is(err, fault.NotFound) {
				return &output.Failure{What: fmt.Sprintf(a.t("no list is called %s", "没有名为 %s 的列表"), args[0]), Exit: output.ExitFailure}
			}
			return err
		}),
	}
}

// listLine is a list of this machine.
type listLine struct {
	Name    string    `json:"name"`
	ID      string    `json:"id"`
	Images  int       `json:"images"`
	Changed time.Time `json:"changed"`
}

// platformsOf are the platforms of a list's images.
func platformsOf(l index.List) string {
	var out []string
	for _, e := range l.Entries {
		if e.Platform != nil {
			out = append(out, e.Platform.String())
		}
	}
	return strings.Join(out, ",")
}

func manifestListCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "ls [flags]",
		Short:   a.t("list the lists of this machine", "列出本机的列表"),
		Example: "berth manifest ls",
		Args:    a.args(0, 0),
	}
	format := a.formatFlag(c.Flags(), output.TableKind)
	c.RunE = a.run(func(context.Context, []string) error {
		store, err := a.lists()
		if err != nil {
			return err
		}
		all, err := store.All()
		if err != nil {
			return err
		}
		lines := []listLine{}
		table := output.Table{Header: []string{"NAME", "ID", "IMAGES", "CHANGED", "FULL ID", "PLATFORMS"}, Wide: 2}
		for _, s := range all {
			lines = append(lines, listLine{s.Name, s.ID, len(s.List.Entries), s.Changed})
			table.Rows = append(table.Rows, []string{s.Name, s.ID[:12], fmt.Sprint(len(s.List.Entries)), s.Changed.Format(time.DateTime), s.ID, platformsOf(s.List)})
		}
		return format.Print(a.Out, lines, table)
	})
	return c
}

// document is a list of this machine as it would be pushed, or what a name leads to elsewhere.
func (p *places) document(ctx context.Context, name string) ([]byte, error) {
	if transportOf(name) == nil {
		store, err := p.a.lists()
		if err != nil {
			return nil, err
		}
		saved, err := store.Get(name)
		if err == nil {
			return saved.List.Render(oci.MediaTypeIndex)
		}
		if !fault.Is(err, fault.NotFound) {
			return nil, err
		}
		if !strings.ContainsAny(name, "/.") {
			return nil, err // no host: it was a list that was meant
		}
	}
	if err := p.prepare(name); err != nil {
		return nil, err
	}
	defer p.close()
	o, err := p.get(ctx, name)
	if err != nil {
		return nil, err
	}
	if p.platform != "" {
		w, err := p.wanted()
		if err != nil {
			return nil, err
		}
		n, err := o.Choose(ctx, w)
		if err != nil {
			return nil, err
		}
		return n.Body, nil
	}
	return o.Body, nil
}

// documentCommand makes a command that prints something of a list or of a manifest elsewhere.
func (a *app) documentCommand(use, en, zh, example string, show func(body []byte) error) *cobra.Command {
	c := &cobra.Command{Use: use, Short: a.t(en, zh), Example: example, Args: a.args(1, 1)}
	p := a.placesFlags(c.Flags())
	p.platformFlag(c.Flags())
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		body, err := p.document(ctx, args[0])
		if err != nil {
			return failed(err, a.t("cannot open %s", "无法打开 %s"), args[0])
		}
		return show(body)
	})
	return c
}

func manifestInspectCommand(a *app) *cobra.Command {
	return a.documentCommand("inspect [flags] LIST|IMAGE", "print a list as it would be pushed, or the manifest of an image", "显示列表（推送后的样子）或镜像的清单",
		"berth manifest inspect app:v1\nberth manifest inspect docker://registry.example.com/team/app:v1", func(body []byte) error {
			_, err := a.Out.Write(pretty(body, "    "))
			return err
		})
}

func manifestRawCommand(a *app) *cobra.Command {
	return a.documentCommand("raw [flags] LIST|IMAGE", "print the bytes of a manifest as they are", "原样输出清单的字节",
		"berth manifest raw registry.example.com/team/app:v1 | sha256sum", func(body []byte) error {
			_, err := a.Out.Write(body)
			return err
		})
}

func manifestDigestOfCommand(a *app) *cobra.Command {
	return a.documentCommand("digest [flags] LIST|IMAGE", "print the digest that a list would be pushed with, or that of a manifest", "显示列表推送后的摘要或清单的摘要",
		"berth manifest digest app:v1", func(body []byte) error {
			_, err := fmt.Fprintln(a.Out, oci.FromBytes(oci.SHA256, body))
			return err
		})
}

func manifestDiffCommand(a *app) *cobra.Command {
	var lines int
	var full bool
	c := &cobra.Command{
		Use:     "diff [flags] LIST|IMAGE LIST|IMAGE",
		Short:   a.t("compare two manifests line by line", "逐行比较两个清单"),
		Example: "berth manifest diff registry.example.com/team/app:v1 registry.example.com/team/app:v2",
		Args:    a.args(2, 2),
	}
	p := a.placesFlags(c.Flags())
	p.platformFlag(c.Flags())
	c.Flags().IntVar(&lines, "context-lines", 3, a.t("show `N` lines around a difference", "差异前后显示 N 行"))
	c.Flags().BoolVar(&full, "context-full", false, a.t("show all lines", "显示全部行"))
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		var bodies [2][]byte
		for i, name := range args {
			body, err := p.document(ctx, name)
			if err != nil {
				return failed(err, a.t("cannot open %s", "无法打开 %s"), name)
			}
			bodies[i] = body
		}
		same := bytes.Equal(bodies[0], bodies[1])
		bodies[0], bodies[1] = index.Pretty(bodies[0]), index.Pretty(bodies[1])
		if full {
			lines = -1
		}
		text := index.Diff(args[0], args[1], bodies[0], bodies[1], lines)
		if text == "" && !same {
			fmt.Fprintln(a.Err, a.t("they say the same, and are written differently: their digests differ", "内容相同，但书写方式不同：摘要不同"))
		}
		_, err := io.WriteString(a.Out, text)
		return err
	})
	return c
}
