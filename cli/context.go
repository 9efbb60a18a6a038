package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.podman.io/image/v5/docker/reference"
	"go.yaml.in/yaml/v3"

	"github.com/berth-registry/berth/cli/output"
)

// contexts is the file contexts.yaml: registries that one works with, by a short name.
type contexts struct {
	Current  string                 `yaml:"current,omitempty" json:"current,omitempty"`
	Contexts map[string]contextView `yaml:"contexts" json:"contexts"`
}

// contextView is one of them: where login, logout, doctor, trust and demo go without a host, and which files are used.
type contextView struct {
	Registry string `yaml:"registry" json:"registry"`
	AuthFile string `yaml:"authfile,omitempty" json:"authfile,omitempty"`
	Policy   string `yaml:"policy,omitempty" json:"policy,omitempty"`
}

func contextsFile() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("where contexts.yaml is: %w", err)
	}
	return filepath.Join(dir, "berth", "contexts.yaml"), nil
}

// loadContexts reads the file; none is as good as an empty one.
func loadContexts() (*contexts, error) {
	c := &contexts{Contexts: map[string]contextView{}}
	file, err := contextsFile()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(bytes.TrimSpace(text)) == 0 {
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(c); err != nil {
		return nil, output.Usage("%s: %v", file, err)
	}
	if c.Contexts == nil {
		c.Contexts = map[string]contextView{}
	}
	return c, nil
}

func (c *contexts) save() error {
	file, err := contextsFile()
	if err != nil {
		return err
	}
	text, err := yaml.Marshal(c)
	if err != nil {
		return err
	}
	return writeTrust(trustedFile{path: file, body: text})
}

// useContext applies the context of --context, or the current one, to the flags that were not given.
func (a *app) useContext() error {
	all, err := loadContexts()
	if err != nil {
		if a.global.Context == "" { // a file that is not asked for must not stop every command
			return nil
		}
		return err
	}
	name := a.global.Context
	if name == "" {
		name = all.Current
	}
	if name == "" {
		return nil
	}
	view, ok := all.Contexts[name]
	if !ok {
		if a.global.Context == "" {
			return nil
		}
		return noContext(a, name, all)
	}
	a.context = view
	if a.global.Policy == "" && !a.global.InsecurePolicy {
		a.global.Policy = view.Policy
	}
	a.global.AuthFile = view.AuthFile
	return nil
}

func noContext(a *app, name string, all *contexts) error {
	f := output.Usage(a.t("there is no context %s", "没有上下文 %s"), name)
	if near := output.Closest(name, slices.Collect(maps.Keys(all.Contexts))); near != "" {
		return f.WithFix("%s", a.meant(near))
	}
	return f.WithFix("berth context ls")
}

func contextCommand(a *app) *cobra.Command {
	c := &cobra.Command{Use: "context", Short: a.t("keep registries under short names", "以短名称保存常用仓库"), Args: a.args(0, 0),
		Example: "berth context add work --registry registry.example.com\nberth context use work\nberth --context work login"}
	c.AddCommand(contextAddCommand(a), contextListCommand(a),
		contextVerb(a, "use NAME", a.t("make a context the current one", "设为当前上下文"), func(all *contexts, name string) error {
			all.Current = name
			return all.save()
		}),
		contextVerb(a, "rm NAME", a.t("forget a context", "删除上下文"), func(all *contexts, name string) error {
			delete(all.Contexts, name)
			if all.Current == name {
				all.Current = ""
			}
			return all.save()
		}),
		contextVerb(a, "show [NAME]", a.t("show a context, or the current one", "显示指定或当前上下文"), func(all *contexts, name string) error {
			return (&output.Format{Kind: output.YAML}).Print(a.Out, all.Contexts[name], output.Table{})
		}))
	return c
}

// contextVerb is a command about one context that must be there.
func contextVerb(a *app, use, short string, do func(*contexts, string) error) *cobra.Command {
	least := 1
	if strings.HasSuffix(use, "[NAME]") {
		least = 0
	}
	return &cobra.Command{Use: use, Short: short, Args: a.args(least, 1), RunE: a.run(func(_ context.Context, args []string) error {
		all, err := loadContexts()
		if err != nil {
			return err
		}
		if len(args) == 0 {
			if args = []string{all.Current}; all.Current == "" {
				return output.Usage("%s", a.t("there is no current context", "没有当前上下文")).WithFix("berth context use NAME")
			}
		}
		if _, ok := all.Contexts[args[0]]; !ok {
			return noContext(a, args[0], all)
		}
		return do(all, args[0])
	})}
}

func contextAddCommand(a *app) *cobra.Command {
	var view contextView
	c := &cobra.Command{Use: "add NAME --registry HOST", Short: a.t("keep a registry under a name", "以名称保存仓库"), Args: a.args(1, 1)}
	f := c.Flags()
	f.StringVar(&view.Registry, "registry", "", a.t("`HOST[:PORT]` of the registry", "仓库的 HOST[:PORT]"))
	f.StringVar(&view.AuthFile, "authfile", "", a.t("credentials `FILE` for it", "所用的凭据文件"))
	f.StringVar(&view.Policy, "trust-policy", "", a.t("trust policy `FILE` for it", "所用的信任策略文件"))
	c.RunE = a.run(func(_ context.Context, args []string) error {
		if view.Registry == "" {
			return output.Usage("context add needs --registry HOST")
		}
		if named, err := reference.ParseNormalizedNamed(view.Registry + "/a"); err != nil || reference.Domain(named) != view.Registry {
			return output.Usage(a.t("%q is no name of a registry", "%q 不是仓库名称"), view.Registry).WithFix("--registry HOST[:PORT]")
		}
		all, err := loadContexts()
		if err != nil {
			return err
		}
		all.Contexts[args[0]] = view
		if all.Current == "" {
			all.Current = args[0]
		}
		return all.save()
	})
	return c
}

func contextListCommand(a *app) *cobra.Command {
	c := &cobra.Command{Use: "ls", Aliases: []string{"list"}, Short: a.t("list the contexts", "列出上下文"), Args: a.args(0, 0)}
	format := a.formatFlag(c.Flags(), output.TableKind)
	c.RunE = a.run(func(context.Context, []string) error {
		all, err := loadContexts()
		if err != nil {
			return err
		}
		table := output.Table{Header: []string{"NAME", "CURRENT", "REGISTRY", "AUTHFILE", "TRUST-POLICY"}, Wide: 2}
		for _, name := range slices.Sorted(maps.Keys(all.Contexts)) {
			mark := ""
			if name == all.Current {
				mark = "*"
			}
			c := all.Contexts[name]
			table.Rows = append(table.Rows, []string{name, mark, c.Registry, c.AuthFile, c.Policy})
		}
		return format.Print(a.Out, all, table)
	})
	return c
}
