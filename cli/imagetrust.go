package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/image/sign"
	"github.com/berth-registry/berth/image/sign/gpg"
	"github.com/berth-registry/berth/image/sign/key"
	"github.com/berth-registry/berth/image/sign/policy"
)

// imageCommand holds the verbs that podman has below image.
func imageCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "image", Short: a.t("sign and verify images, and say whose signatures are asked for (policy.json)", "签名与验证镜像，设置要求谁的签名（policy.json）"),
		Example: "berth image trust show",
		Args:    a.args(1, 0), RunE: func(*cobra.Command, []string) error { return errUnknownCommand },
	}
	trust := &cobra.Command{
		Use: "trust", Short: a.t("show and change policy.json", "查看和修改 policy.json"),
		Example: "berth image trust show\nberth image trust set -t signedBy -f /etc/pki/signer.asc registry.example.com",
		Args:    a.args(1, 0), RunE: func(*cobra.Command, []string) error { return errUnknownCommand },
	}
	trust.AddCommand(imageTrustShowCommand(a), imageTrustSetCommand(a))
	c.AddCommand(trust)
	if a.name != "podman" { // whose image sign is another command
		c.AddCommand(signCommand(a), verifyCommand(a))
	}
	return c
}

// policyFiles are where podman and skopeo look for policy.json, the user's first.
func policyFiles() []string {
	var files []string
	if dir, err := os.UserConfigDir(); err == nil {
		files = append(files, filepath.Join(dir, "containers", "policy.json"))
	}
	return append(files, "/etc/containers/policy.json")
}

// policyFile is the one that counts: the one that is named, else the first that is there.
func (a *app) policyFile(named string) string {
	if named == "" {
		named = a.global.Policy
	}
	if named != "" {
		return named
	}
	files := policyFiles()
	for _, f := range files {
		if _, err := os.Stat(f); err == nil {
			return f
		}
	}
	return files[0]
}

// trusted is a line of trust show, as podman has it.
type trusted struct {
	Transport string `json:"transport"`
	Name      string `json:"name,omitempty"`
	RepoName  string `json:"repo_name,omitempty"`
	Type      string `json:"type"`
	ID        string `json:"gpg_id,omitempty"`
	Store     string `json:"sigstore,omitempty"`
}

func imageTrustShowCommand(a *app) *cobra.Command {
	var file, registries string
	var asJSON, raw bool
	c := &cobra.Command{
		Use: "show [flags] [REGISTRY]", Short: a.t("show whose signatures are asked for", "显示要求谁的签名"),
		Example: "berth image trust show\nberth image trust show --raw",
		Args:    a.args(0, 1),
	}
	f := c.Flags()
	f.BoolVarP(&asJSON, "json", "j", false, a.t("print as JSON", "以 JSON 输出"))
	f.BoolVar(&raw, "raw", false, a.t("print the file as it is", "原样输出文件"))
	f.StringVar(&file, "policypath", "", a.t("`FILE` in place of the user's or the system's policy.json", "替代用户或系统 policy.json 的文件"))
	f.StringVar(&registries, "registrypath", "", a.t("`DIR` in place of registries.d", "替代 registries.d 的目录"))
	f.Lookup("policypath").Hidden, f.Lookup("registrypath").Hidden = true, true
	format := a.formatFlag(f, output.TableKind)
	c.RunE = a.run(func(_ context.Context, args []string) error {
		path := a.policyFile(file)
		b, err := readFile(path, sign.MaxBytes)
		if err != nil {
			return failed(err, "%s", a.t("cannot show the policy", "无法显示策略"))
		}
		if raw {
			_, err := a.Out.Write(b)
			return err
		}
		p, err := policy.ReadFile(b)
		if err != nil {
			return failed(err, a.t("cannot show %s", "无法显示 %s"), path)
		}
		sys, err := a.global.System(version)
		if err != nil {
			return err
		}
		if registries != "" {
			sys.RegistriesDirPath = registries
		}
		rows := []trusted{}
		table := output.Table{Header: []string{"TRANSPORT", "NAME", "TYPE", "ID", "STORE"}}
		for _, e := range p.Entries() {
			if len(args) > 0 && e.Transport != "" && e.Scope != args[0] && !strings.HasPrefix(e.Scope, args[0]+"/") {
				continue
			}
			row := a.trustedBy(sys, e)
			rows = append(rows, row)
			table.Rows = append(table.Rows, []string{row.Transport, row.RepoName, row.Type, row.ID, row.Store})
		}
		if asJSON {
			return output.WriteJSON(a.Out, rows)
		}
		return format.Print(a.Out, rows, table)
	})
	return c
}

// trustedBy describes a requirement.
func (a *app) trustedBy(sys *types.SystemContext, e policy.Entry) trusted {
	t := trusted{Transport: e.Transport, Name: e.Scope, RepoName: e.Scope, Type: map[string]string{
		"insecureAcceptAnything": "accept", "signedBy": "signed", "reject": "reject",
	}[e.Type()]}
	if t.Type == "" {
		t.Type = e.Type()
	}
	switch e.Transport {
	case "":
		t.Transport, t.Name, t.RepoName = "all", "* (default)", "default"
	case "docker":
		t.Transport = "repository"
		if named, err := reference.ParseNormalizedNamed(e.Scope); err == nil && t.Type != "accept" && t.Type != "reject" {
			if r, err := docker.NewReference(reference.TagNameOnly(named)); err == nil {
				if base, err := docker.SignatureStorageBaseURL(sys, r, false); err == nil && base != nil {
					t.Store = strings.TrimSuffix(base.String(), "/"+reference.Path(named))
				}
			}
		}
	}
	t.ID = strings.Join(a.keyIDs(e.Requirement), ", ")
	return t
}

// keyIDs names the keys of a requirement: the addresses or fingerprints of GPG keys, the ids of others.
func (a *app) keyIDs(r policy.Requirement) (ids []string) {
	var files [][]byte
	for _, path := range r.KeyPaths() {
		b, err := readFile(path, gpg.MaxFile)
		if err != nil {
			ids = append(ids, a.t("cannot be read: ", "无法读取：")+path)
			continue
		}
		files = append(files, b)
	}
	if d := r.KeyData(); d != nil {
		files = append(files, d)
	}
	for _, b := range files {
		if ring, err := gpg.ParseKeyring(b, a.now); err == nil {
			ids = append(ids, ring.Names()...)
			continue
		}
		if pub, err := key.ParsePublic(b); err == nil {
			ids = append(ids, pub.ID()[:16])
			continue
		}
		ids = append(ids, a.t("no key: ", "不是密钥：")+base64.StdEncoding.EncodeToString(b[:min(8, len(b))]))
	}
	return ids
}

func imageTrustSetCommand(a *app) *cobra.Command {
	var file, kind string
	var keys []string
	c := &cobra.Command{
		Use: "set [flags] REGISTRY", Short: a.t("ask for signatures of a registry, repository or image; or of all: default", "为仓库、镜像或全部（default）设置信任要求"),
		Long: a.t("Change policy.json: what is asked of images of a REGISTRY such as registry.example.com/team, or of all that nothing else is said about (default). The user's file is written, and begins as the system's when there is none; --policy FILE names another. The rest of it stays as it is.",
			"修改 policy.json：对 REGISTRY（如 registry.example.com/team）或其余全部（default）的要求。写入用户的文件（没有时以系统文件为基础），或 --policy 指定的文件；其余部分保持不变。"),
		Example: "berth image trust set -t reject default\nberth image trust set -t signedBy -f /etc/pki/signer.asc registry.example.com\nberth image trust set -t sigstoreSigned -f /etc/pki/cosign.pub registry.example.com/team",
		Args:    a.args(1, 1),
	}
	f := c.Flags()
	f.StringSliceVarP(&keys, "pubkeysfile", "f", nil, a.t("`FILE` of public keys; may be given again, and then all have to have signed", "公钥文件；可重复，此时须全部签名"))
	f.StringVarP(&kind, "type", "t", "signedBy", a.t("`TYPE`: signedBy (GPG), sigstoreSigned (cosign), accept, reject", "类型：signedBy（GPG）、sigstoreSigned（cosign）、accept、reject"))
	f.StringVar(&file, "policypath", "", a.t("`FILE` in place of the user's or the system's policy.json", "替代用户或系统 policy.json 的文件"))
	f.Lookup("policypath").Hidden = true
	c.RunE = a.run(func(_ context.Context, args []string) error {
		from := a.policyFile(file)
		to := from
		if file == "" && a.global.Policy == "" {
			to = policyFiles()[0] // never the system's unless it is named
		}
		return failed(a.setTrust(from, to, args[0], kind, keys), a.t("cannot set the trust of %s", "无法设置 %s 的信任"), args[0])
	})
	return c
}

// setTrust writes the policy that is read from one file, and counts now, to another or the same.
func (a *app) setTrust(from, to, scope, kind string, keys []string) error {
	for i, k := range keys {
		abs, err := filepath.Abs(k)
		if err != nil {
			return err
		}
		b, err := readFile(abs, gpg.MaxFile)
		if err != nil {
			return err
		}
		if kind == "signedBy" {
			if _, err = gpg.ParseKeyring(b, a.now); err != nil {
				return failed(err, "%s", k)
			}
		} else if _, err = key.ParsePublic(b); err != nil {
			return failed(err, "%s", k)
		}
		keys[i] = abs
	}
	// A machine without the file accepts everything; so it begins.
	p := &policy.File{Default: []policy.Requirement{{"type": []byte(`"insecureAcceptAnything"`)}}}
	b, err := readFile(from, sign.MaxBytes)
	switch {
	case err == nil:
		if p, err = policy.ReadFile(b); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := p.Set(scope, kind, keys); err != nil {
		return err
	}
	out, err := p.JSON()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if err := replaceFile(to, out, 0o644); err != nil {
		return err
	}
	fmt.Fprintf(a.Err, a.t("wrote %s\n", "已写入 %s\n"), to)
	return nil
}
