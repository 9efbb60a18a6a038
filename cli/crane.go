package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.podman.io/image/v5/docker/reference"

	"github.com/berth-registry/berth/cli/option"
	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/sync"
	"github.com/berth-registry/berth/oci/ref"
)

// craneFlags are those that crane takes with every command.
func craneFlags(a *app, root *cobra.Command) {
	f := root.PersistentFlags()
	f.VarPF(insecure{root.Flags()}, "insecure", "", a.t("reach registries without a trusted certificate, and by http", "不验证证书，并允许 http")).NoOptDefVal = "true"
	f.StringVar(&a.platform, "platform", "", a.t("take the image of an index for `OS/ARCH[/VARIANT]`; else all", "从索引中选择 OS/ARCH[/VARIANT] 的镜像；默认全部"))
	f.BoolVarP(&a.global.Debug, "verbose", "v", false, a.t("say what is asked and answered", "显示请求与应答"))
	option.Refuse(f, "allow-nondistributable-artifacts", "", "layers that a registry must not hand on stay where they are", true)
}

// craneCommands are crane's, by berth's own where those have crane's flags.
func craneCommands(a *app) []*cobra.Command {
	return []*cobra.Command{appendCommand(a), craneAuth(a), called("blob BLOB", blobGetCommand(a)), catalogCommand(a), craneConfig(a), craneCopy(a), craneDelete(a),
		digestCommand(a), exportCommand(a), flattenCommand(a), craneIndex(a), called("ls REPO", tagsListCommand(a)), craneManifest(a), mutateCommand(a),
		cranePull(a), cranePush(a), rebaseCommand(a), craneTag(a), validateCommand(a), completionCommand(a), versionCommand(a)}
}

func craneManifest(a *app) *cobra.Command {
	c := &cobra.Command{Use: "manifest IMAGE", Short: a.t("print the manifest of an image or index, to the byte", "显示镜像或索引的清单原文"), Args: a.args(1, 1)}
	p := a.placesFlags(c.Flags())
	c.RunE = p.onOne(func(ctx context.Context, args []string) error {
		o, err := p.get(ctx, args[0])
		if err != nil {
			return failed(err, a.t("cannot get the manifest of %s", "无法获取 %s 的清单"), args[0])
		}
		if p.platform != "" {
			w, err := p.wanted()
			if err != nil {
				return err
			}
			if o.Node, err = o.Choose(ctx, w); err != nil {
				return failed(err, a.t("cannot get the manifest of %s", "无法获取 %s 的清单"), args[0])
			}
		}
		_, err = a.Out.Write(o.Body)
		return err
	})
	return c
}

func craneConfig(a *app) *cobra.Command {
	c := &cobra.Command{Use: "config IMAGE", Short: a.t("print the configuration of an image, to the byte", "显示镜像配置原文"), Args: a.args(1, 1)}
	p := a.placesFlags(c.Flags())
	c.RunE = p.onOne(func(ctx context.Context, args []string) error {
		o, err := p.get(ctx, args[0])
		if err != nil {
			return failed(err, a.t("cannot open %s", "无法打开 %s"), args[0])
		}
		_, img, err := p.chosen(ctx, o)
		if err != nil {
			return failed(err, a.t("cannot open %s", "无法打开 %s"), args[0])
		}
		body, err := img.RawConfigFile()
		if err != nil {
			return failed(err, a.t("cannot get the configuration of %s", "无法获取 %s 的配置"), args[0])
		}
		_, err = a.Out.Write(body)
		return err
	})
	return c
}

func craneDelete(a *app) *cobra.Command {
	c := &cobra.Command{Use: "delete IMAGE", Short: a.t("delete a tag; or by digest an image, with all its tags", "删除标签；或按摘要删除镜像及其全部标签"), Args: a.args(1, 1)}
	p := a.placesFlags(c.Flags())
	c.RunE = p.onOne(func(ctx context.Context, args []string) error {
		named, err := p.remoteName(args[0])
		if err != nil {
			return err
		}
		repo, err := p.repository(named)
		if err != nil {
			return err
		}
		where, err := at(named)
		if err == nil {
			err = repo.Delete(ctx, where)
		}
		return failed(err, a.t("cannot delete %s", "无法删除 %s"), args[0])
	})
	return c
}

func craneTag(a *app) *cobra.Command {
	c := &cobra.Command{Use: "tag IMG TAG", Short: a.t("give an image of a registry one more tag", "为仓库中的镜像添加标签"), Args: a.args(2, 2)}
	p := a.placesFlags(c.Flags())
	c.RunE = p.onOne(func(ctx context.Context, args []string) error {
		tag, err := ref.ParseTag(args[1])
		if err != nil {
			return output.Usage("%v", err)
		}
		o, err := p.get(ctx, args[0])
		if err != nil {
			return failed(err, a.t("cannot open %s", "无法打开 %s"), args[0])
		}
		if o.repo == nil {
			return output.Usage(a.t("%s is not in a registry", "%s 不在仓库中"), args[0])
		}
		return failed(o.repo.PutManifest(ctx, ref.Reference{Tag: tag}, o.Descriptor, o.Body), a.t("cannot tag %s", "无法为 %s 添加标签"), args[0])
	})
	return c
}

// craneTransfer are the flags of copy, push and pull, which copy.Image and our engine understand.
func (a *app) craneTransfer(c *cobra.Command) *copyOptions {
	o := &copyOptions{}
	all := pflag.NewFlagSet("", pflag.ContinueOnError)
	o.addFlags(a, all)
	for _, name := range []string{"authfile", "tls-verify"} {
		c.Flags().AddFlag(all.Lookup(name))
	}
	return o
}

// transfer copies for crane: all platforms, or the one of --platform.
func (a *app) transfer(ctx context.Context, o *copyOptions, from, to string) error {
	o.all = a.platform == "" || a.platform == "all"
	if !o.all {
		var variant string
		var ok bool
		if a.global.OverrideOS, a.global.OverrideArch, ok = strings.Cut(a.platform, "/"); !ok {
			return output.Usage(a.t("--platform %q is not OS/ARCH[/VARIANT], such as linux/arm64", "--platform %q 不是 OS/ARCH[/VARIANT]，例如 linux/arm64"), a.platform)
		}
		a.global.OverrideArch, variant, _ = strings.Cut(a.global.OverrideArch, "/")
		a.global.OverrideVar, _, _ = strings.Cut(variant, ":")
	}
	return failed(a.copy(ctx, o, from, to), a.t("cannot copy %s to %s", "无法将 %s 复制到 %s"), from, to)
}

func craneCopy(a *app) *cobra.Command {
	var tags, keep bool
	var jobs int
	c := &cobra.Command{Use: "copy SRC DST", Aliases: []string{"cp"}, Short: a.t("copy an image or index, with what refers to it; or all tags of a repository", "复制镜像或索引及其引用；或复制仓库的全部标签"), Args: a.args(2, 2)}
	o := a.craneTransfer(c)
	c.Flags().BoolVarP(&tags, "all-tags", "a", false, a.t("SRC and DST are repositories: copy all tags", "SRC 与 DST 为仓库：复制全部标签"))
	c.Flags().BoolVarP(&keep, "no-clobber", "n", false, a.t("leave tags that are there as they are", "不覆盖已有标签"))
	c.Flags().IntVarP(&jobs, "jobs", "j", 0, a.t("layers on their way at the same time", "同时传输的层数"))
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		o.parallel = uint(max(jobs, 0)) //nolint:gosec // not negative
		from, err := reference.ParseNormalizedNamed(args[0])
		if err != nil {
			return output.Usage("%s: %v", args[0], err)
		}
		to, err := reference.ParseNormalizedNamed(args[1])
		if err != nil {
			return output.Usage("%s: %v", args[1], err)
		}
		if tags {
			return failed(a.craneTags(ctx, o, from, to, keep), a.t("cannot copy the tags of %s to %s", "无法将 %s 的标签复制到 %s"), args[0], args[1])
		}
		if keep {
			there, err := a.inRegistry(ctx, o, to)
			if err != nil || there {
				return err
			}
		}
		return a.transfer(ctx, o, "docker://"+reference.TagNameOnly(from).String(), "docker://"+reference.TagNameOnly(to).String())
	})
	return c
}

// inRegistry reports whether a name leads to something.
func (a *app) inRegistry(ctx context.Context, o *copyOptions, named reference.Named) (bool, error) {
	sys, err := a.system(o.target)
	if err != nil {
		return false, err
	}
	r, where, err := remoteRepository(a.client(sys, o.retry, nil), reference.TagNameOnly(named))
	if err == nil {
		_, err = r.Head(ctx, where)
	}
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// craneTags copies all tags of a repository, by the engine of sync.
func (a *app) craneTags(ctx context.Context, o *copyOptions, from, to reference.Named, keep bool) error {
	s := &syncOptions{from: "docker", to: "docker", all: a.platform == "" || a.platform == "all", source: o.source, target: o.target.Image, retry: o.retry}
	s.rules.layers = o.parallel
	s.rules.related.which = []string{"all"}
	d := newDirectSync(a, s)
	var err error
	if d.sourceSys, err = a.system(o.source); err != nil {
		return err
	}
	if d.targetSys, err = a.system(o.target); err != nil {
		return err
	}
	rule := sync.Rule{From: from.Name(), To: to.Name()}
	if keep {
		if rule.Select.Deny, err = d.present(ctx, to.Name()); err != nil {
			return err
		}
	}
	if !s.all {
		return output.Usage("%s", a.t("--all-tags copies what the tags name, for all platforms", "--all-tags 复制标签所指的全部内容")).WithFix("--platform all")
	}
	d.targets[rule.To] = true
	d.sources[reference.Domain(from)] = true
	return d.run(ctx, []sync.Rule{rule})
}

func cranePush(a *app) *cobra.Command {
	var refs string
	c := &cobra.Command{Use: "push PATH IMAGE", Short: a.t("push an OCI layout or an archive of docker save", "推送 OCI 布局或 docker save 归档"), Args: a.args(2, 2)}
	o := a.craneTransfer(c)
	c.Flags().StringVar(&refs, "image-refs", "", a.t("write the name with the digest to `FILE`", "将带摘要的名称写入文件"))
	option.Refuse(c.Flags(), "index", "", "make an index of several images with berth index create", true)
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		named, err := reference.ParseNormalizedNamed(args[1])
		if err != nil {
			return output.Usage("%s: %v", args[1], err)
		}
		info, err := os.Stat(args[0])
		if err != nil {
			return err
		}
		from := "docker-archive:" + args[0]
		if info.IsDir() {
			from = "oci:" + args[0]
		}
		dir, err := os.MkdirTemp("", "berth-push-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir) //nolint:errcheck // a digest in a file, which was read
		o.digestFile = filepath.Join(dir, "digest")
		if err := a.transfer(ctx, o, from, "docker://"+reference.TagNameOnly(named).String()); err != nil {
			return err
		}
		digest, err := os.ReadFile(o.digestFile)
		if err != nil {
			return err
		}
		full := named.Name() + "@" + string(digest) + "\n"
		if refs != "" {
			if err := os.WriteFile(refs, []byte(full), 0o644); err != nil {
				return err
			}
		}
		_, err = fmt.Fprint(a.Out, full)
		return err
	})
	return c
}

func cranePull(a *app) *cobra.Command {
	var format string
	c := &cobra.Command{Use: "pull IMAGE TARBALL", Short: a.t("write an image to an archive as docker save does, or into an OCI layout", "将镜像保存为 docker save 归档或 OCI 布局"), Args: a.args(2, 2)}
	o := a.craneTransfer(c)
	c.Flags().StringVar(&format, "format", "tarball", a.t("`FORMAT`: tarball, oci", "格式：tarball、oci"))
	option.Refuse(c.Flags(), "cache_path", "c", "nothing is kept between runs; an OCI layout that is there is not fetched again: --format oci", false)
	option.Refuse(c.Flags(), "annotate-ref", "", "in an OCI layout every image has the name that it was pulled by", true)
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		named, err := reference.ParseNormalizedNamed(args[0])
		if err != nil {
			return output.Usage("%s: %v", args[0], err)
		}
		named = reference.TagNameOnly(named)
		switch format {
		case "oci":
			to := "oci:" + args[1]
			if t, ok := named.(reference.Tagged); ok {
				to += ":" + t.Tag()
			}
			return a.transfer(ctx, o, "docker://"+named.String(), to)
		case "tarball":
			if err := os.Remove(args[1]); err != nil && !errors.Is(err, fs.ErrNotExist) { // an archive is not added to
				return err
			}
			if a.platform == "" || a.platform == "all" {
				o.all = false
				return failed(a.copy(ctx, o, "docker://"+named.String(), "docker-archive:"+args[1]+":"+archiveName(named)), a.t("cannot pull %s", "无法拉取 %s"), args[0])
			}
			return a.transfer(ctx, o, "docker://"+named.String(), "docker-archive:"+args[1]+":"+archiveName(named))
		case "legacy":
			return output.Usage("%s", a.t("--format legacy is the form of docker before 1.10, which berth does not write", "--format legacy 为 docker 1.10 之前的格式，berth 不支持")).WithFix("--format tarball")
		}
		return output.Usage("--format %q is none of tarball, oci", format)
	})
	return c
}

// archiveName is the name of an image in an archive of docker save, where a digest cannot stand.
func archiveName(named reference.Named) string {
	if t, ok := named.(reference.NamedTagged); ok {
		return t.Name() + ":" + t.Tag()
	}
	return named.Name() + ":i-was-a-digest" // as crane has it
}

func craneAuth(a *app) *cobra.Command {
	c := &cobra.Command{Use: "auth", Short: a.t("sign in, sign out, and show who is signed in", "登录、退出与查看凭据")}
	get := &cobra.Command{Use: "get REGISTRY", Short: a.t("print the credentials for a registry as JSON, the secret included", "以 JSON 输出凭据（含密钥）"), Args: a.args(1, 1)}
	p := a.placesFlags(get.Flags())
	get.RunE = p.onOne(func(ctx context.Context, args []string) error {
		_, r := a.registries(p.sys, "", option.Retry{}, nil)
		found, err := r.credentials(ctx, args[0], "")
		if err != nil {
			return err
		}
		if found.None() {
			return &output.Failure{What: a.t("nobody is signed in to "+args[0], "未登录 "+args[0]), Fix: "berth login " + args[0], Exit: output.ExitFailure}
		}
		_, err = fmt.Fprintf(a.Out, "{\"Username\":%q,\"Secret\":%q}\n", found.User, found.Password)
		return err
	})
	login := called("login SERVER", loginCommand(a))
	login.ResetFlags()
	o := &account{}
	o.addFlags(login.Flags(), a)
	login.Flags().StringVarP(&o.username, "username", "u", "", a.t("`USERNAME`", "用户名"))
	login.Flags().StringVarP(&o.password, "password", "p", "", a.t("`PASSWORD`; others on this machine may see it, use --password-stdin", "密码；本机其他用户可能看到，建议使用 --password-stdin"))
	login.Flags().BoolVar(&o.stdin, "password-stdin", false, a.t("read the password from standard input", "从标准输入读取密码"))
	login.RunE = a.run(func(ctx context.Context, args []string) error {
		sys, err := o.system(a)
		if err != nil {
			return err
		}
		key, host, err := a.registryKey(sys, args)
		if err != nil {
			return err
		}
		return failed(a.login(ctx, o, sys, key, host), a.t("cannot sign in to %s", "无法登录 %s"), key)
	})
	c.AddCommand(login, called("logout SERVER", logoutCommand(a)), get,
		a.lacking("token", a.t("a token that is printed outlives the command in the history of a shell; berth asks for one when it needs it", "输出令牌不安全；berth 需要时会自行获取")))
	return a.family(c)
}

func craneIndex(a *app) *cobra.Command {
	c := &cobra.Command{Use: "index", Short: a.t("change an index", "修改索引")}
	c.AddCommand(indexAppendCommand(a), indexFilterCommand(a), craneIndexList(a))
	return a.family(c)
}

// craneIndexList prints what an index lists, in crane's columns.
func craneIndexList(a *app) *cobra.Command {
	c := &cobra.Command{Use: "list INDEX", Short: a.t("list what an index has", "列出索引中的清单"), Args: a.args(1, 1)}
	p := a.placesFlags(c.Flags())
	c.RunE = p.onOne(func(ctx context.Context, args []string) error {
		name := args[0]
		if info, err := os.Stat(name); err == nil && info.IsDir() {
			name = "oci:" + name
		}
		o, err := p.get(ctx, name)
		if err != nil {
			return failed(err, a.t("cannot open %s", "无法打开 %s"), args[0])
		}
		if !o.IsIndex() {
			return output.Usage(a.t("%s is no index but %s", "%s 不是索引，而是 %s"), args[0], o.Descriptor.MediaType)
		}
		var ix v1.IndexManifest
		if err := json.Unmarshal(o.Body, &ix); err != nil {
			return failed(err, a.t("cannot open %s", "无法打开 %s"), args[0])
		}
		const columns = "%-70s %-20s %s\n"
		_, err = fmt.Fprintf(a.Out, columns, "Digest", "MediaType", "Platform")
		for _, d := range ix.Manifests {
			platform := "-"
			if d.Platform != nil {
				platform = d.Platform.String()
			}
			if err == nil {
				_, err = fmt.Fprintf(a.Out, columns, d.Digest, d.MediaType, platform)
			}
		}
		return err
	})
	return c
}
