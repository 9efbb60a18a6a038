package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/cli/option"
	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/bundle"
	"github.com/berth-registry/berth/image/copy"
	"github.com/berth-registry/berth/image/layout"
	"github.com/berth-registry/berth/image/sign/key"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

func bundleCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "bundle",
		Short: a.t("carry images over an air gap in one signed file", "用一个签名文件跨越隔离网络搬运镜像"),
		Example: "berth bundle create images.tar docker://registry.example.com/team/app:v1 --key bundle.key\n" +
			"berth bundle verify images.tar --key bundle.pub\n" +
			"berth bundle apply images.tar docker://registry.internal/mirror --key bundle.pub --receipt receipt.json\n" +
			"berth bundle create next.tar docker://registry.example.com/team/app:v2 --key bundle.key --against receipt.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return output.Usage(a.t("%s has no command %s", "%s 没有命令 %s"), cmd.CommandPath(), args[0]).WithFix("%s --help", cmd.CommandPath())
			}
			return cmd.Help()
		},
	}
	c.AddCommand(bundleCreate(a), bundleVerify(a), bundleApply(a), bundleDiff(a), bundleInventory(a))
	return c
}

// bundleSide are the flags of reaching the registry of a bundle command.
type bundleSide struct {
	shared option.Shared
	image  *option.Image
}

func (s *bundleSide) add(a *app, c *cobra.Command) {
	s.image = option.NewImage(&s.shared, "")
	s.shared.AddFlags(c.Flags(), a.t)
	s.image.AddFlags(c.Flags(), a.t)
}

func bundleCreate(a *app) *cobra.Command {
	var (
		side                              bundleSide
		related                           relations
		keyFile                           string
		against, trust, configs, anything []string
		platforms                         []string
		parallel                          uint
		quiet                             bool
	)
	c := &cobra.Command{
		Use:   "create [flags] FILE IMAGE...",
		Short: a.t("write images, what refers to them, and files into a bundle", "将镜像、其引用内容及文件写入离线包"),
		Long: a.t("An interrupted run leaves FILE.partial, and the same command goes on from there; FILE appears when it is whole.",
			"中断后留下 FILE.partial，重复同一命令即可继续；完整之后才出现 FILE。"),
		Example: "berth bundle create images.tar docker://registry.example.com/team/app:v1 oci:layout:v2 --key bundle.key\n" +
			"berth bundle create delta.tar docker://registry.example.com/team/app:v2 --against receipt.json --trust-root root.pem",
		Args: a.args(2, -1), ValidArgsFunction: a.completeImage,
	}
	side.add(a, c)
	related.addFlags(c.Flags(), a.t)
	f := c.Flags()
	f.StringVar(&keyFile, "key", "", a.t("sign with the private key `FILE`", "签名所用的私钥文件"))
	f.StringArrayVar(&against, "against", nil, a.t("leave out blobs that the other side has by this receipt `FILE` (again for more)", "略去该回执所列、对方已有的 blob（可重复）"))
	f.StringArrayVar(&trust, "trust-root", nil, a.t("take this trust root `FILE` along", "附带信任根文件"))
	f.StringArrayVar(&configs, "config", nil, a.t("take this configuration `FILE` along", "附带配置文件"))
	f.StringArrayVar(&anything, "file", nil, a.t("take this `FILE` along", "附带文件"))
	f.StringSliceVar(&platforms, "platform", nil, a.t("of an index only the images for these `OS/ARCH`", "只含索引中这些平台的镜像"))
	f.UintVar(&parallel, "parallel", 6, a.t("layers on their way at the same time", "同时传输的层数"))
	f.BoolVarP(&quiet, "quiet", "q", false, a.t("show no progress", "不显示进度"))
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		o := bundle.Order{Copy: copy.Options{Parallel: int(parallel)}, Now: a.now} //nolint:gosec // a small number
		var err error
		if o.Copy.Referrers, err = related.choice(); err != nil {
			return err
		}
		for _, s := range platforms {
			p, err := copy.ParsePlatform(s)
			if err != nil {
				return err
			}
			o.Copy.Platforms = append(o.Copy.Platforms, p)
		}
		items, check, release, err := a.bundleItems(ctx, args[1:], side.image)
		if err != nil {
			return failed(err, a.t("cannot create %s", "无法创建 %s"), args[0])
		}
		defer release()
		o.Items, o.Copy.Check = items, check
		if o.Files, err = bundleFiles(map[string][]string{"trust": trust, "config": configs, "file": anything}); err != nil {
			return err
		}
		if o.Against, err = readReceipts(against); err != nil {
			return err
		}
		if keyFile != "" {
			if o.Key, err = a.privateKey(keyFile); err != nil {
				return failed(err, a.t("cannot read the key %s", "无法读取密钥 %s"), keyFile)
			}
		}
		show := a.progress(quiet)
		o.Tell = a.shown(show)
		list, err := bundle.Create(ctx, args[0], o)
		if err != nil {
			return failed(err, a.t("cannot create %s", "无法创建 %s"), args[0])
		}
		show.Summary(a.t("bundled", "已打包"))
		var left int64
		for _, l := range list.Lacks {
			left += l.Size
		}
		fmt.Fprintf(a.Err, a.t("%d images, %d files; %d blobs left out (%s)\n", "%d 个镜像，%d 个文件；略去 %d 个 blob（%s）\n"), len(list.Images), len(list.Files), len(list.Lacks), output.Bytes(left))
		return nil
	})
	return c
}

func bundleVerify(a *app) *cobra.Command {
	var trust trusting
	c := &cobra.Command{
		Use: "verify [flags] FILE", Short: a.t("read all of a bundle and check it against its list, and the list against its signature", "完整读取离线包并校验列表与签名"),
		Example: "berth bundle verify images.tar --key bundle.pub", Args: a.args(1, 1),
	}
	trust.addFlags(a, c.Flags())
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		keys, _, err := trust.wanted(a)
		if err != nil {
			return err
		}
		b, err := a.openBundle(ctx, args[0], keys)
		if err != nil {
			return failed(err, a.t("%s is not accepted", "不接受 %s"), args[0])
		}
		defer b.Close() //nolint:errcheck // it was only read
		signed := a.t("not signed", "未签名")
		if b.Signed {
			signed = a.t("signed, ", "已签名，") + b.Created.Format("2006-01-02 15:04:05 MST")
			if len(keys) == 0 {
				signed += a.t(" (by whom was not checked: --key)", "（未核对签名者：--key）")
			}
		}
		_, err = fmt.Fprintf(a.Out, a.t("ok: %s\n  bundle: %s\n  state:  %s\n  images: %d, files: %d, left out: %d blobs\n  %s\n", "有效：%s\n  离线包：%s\n  状态：%s\n  镜像 %d，文件 %d，略去 %d 个 blob\n  %s\n"),
			args[0], b.ID, b.State, len(b.Images), len(b.Files), len(b.Lacks), signed)
		return err
	})
	return c
}

func bundleApply(a *app) *cobra.Command {
	var (
		side                    bundleSide
		trust                   trusting
		receipt, signKey, files string
		dryRun, quiet           bool
		parallel                uint
	)
	c := &cobra.Command{
		Use:   "apply [flags] FILE docker://HOST[/PREFIX]",
		Short: a.t("bring what a bundle has to a registry, and print the receipt", "将离线包内容送入仓库，并输出回执"),
		Long: a.t("The bundle is verified first: with --key, else with the public keys in ~/.config/berth/bundle-keys or /etc/berth/bundle-keys. "+
			"One that none of them signed is refused, and any on a machine whose policy.json wants everything signed and that knows no key. "+
			"What the registry has is not sent; applying again does nothing and gives the same receipt.",
			"先校验离线包：使用 --key，否则使用 ~/.config/berth/bundle-keys 或 /etc/berth/bundle-keys 中的公钥。未由其中之一签名的离线包会被拒绝；"+
				"若 policy.json 要求一切内容签名而又没有公钥，则一律拒绝。仓库已有的内容不再发送，重复执行不产生变化，且回执相同。"),
		Example: "berth bundle apply images.tar docker://registry.internal/mirror --key bundle.pub --receipt receipt.json --files /etc/berth/trust", Args: a.args(2, 2),
	}
	side.add(a, c)
	f := c.Flags()
	trust.addFlags(a, f)
	f.StringVar(&receipt, "receipt", "", a.t("write the receipt to `FILE`, not to standard output", "将回执写入文件"))
	f.StringVar(&signKey, "sign-receipt", "", a.t("sign the receipt with the private key `FILE`", "用私钥签署回执"))
	f.StringVar(&files, "files", "", a.t("write the bundle's files into `DIR`", "将附带文件写入目录"))
	f.BoolVar(&dryRun, "dry-run", false, a.t("say what would be sent, and send nothing", "只显示将要发送的内容"))
	f.UintVar(&parallel, "parallel", 6, a.t("layers on their way at the same time", "同时传输的层数"))
	f.BoolVarP(&quiet, "quiet", "q", false, a.t("show no progress", "不显示进度"))
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		what := func(err error) error {
			return failed(err, a.t("cannot apply %s to %s", "无法将 %s 应用到 %s"), args[0], args[1])
		}
		var signer *key.Private
		var err error
		if signKey != "" { // before anything is sent
			if signer, err = a.privateKey(signKey); err != nil {
				return failed(err, a.t("cannot read the key %s", "无法读取密钥 %s"), signKey)
			}
		}
		keys, required, err := trust.wanted(a)
		if err != nil {
			return err
		}
		if required && len(keys) == 0 {
			return what(a.unvouched(args[0]))
		}
		b, err := a.openBundle(ctx, args[0], keys)
		if err != nil {
			return what(err)
		}
		defer b.Close() //nolint:errcheck // it was only read
		if len(keys) == 0 {
			a.warn("nobody vouches for this bundle: without --key its signature is not checked", "未核对签名：请使用 --key 指定公钥")
		}
		use, err := a.bundleUse(args[1], side.image)
		if err != nil {
			return err
		}
		show := a.progress(quiet)
		use.Files = files
		use.Copy = copy.Options{Parallel: int(parallel), Progress: a.shown(show), DryRun: dryRun} //nolint:gosec // a small number
		if dryRun {
			return what(a.printDiff(ctx, b, use, output.Format{Kind: output.TableKind}))
		}
		r, _, err := b.Apply(ctx, use)
		if err != nil {
			return what(err)
		}
		show.Summary(a.t("applied", "已应用"))
		if signer != nil {
			if err := r.Sign(signer); err != nil {
				return what(err)
			}
		}
		return a.writeReceipt(r, receipt)
	})
	return c
}

func bundleDiff(a *app) *cobra.Command {
	var side bundleSide
	c := &cobra.Command{
		Use: "diff [flags] FILE docker://HOST[/PREFIX]", Short: a.t("show what a registry lacks of a bundle", "显示仓库缺少离线包中的哪些内容"),
		Example: "berth bundle diff images.tar docker://registry.internal/mirror", Args: a.args(2, 2),
	}
	side.add(a, c)
	format := a.formatFlag(c.Flags(), output.TableKind)
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		b, err := bundle.Open(args[0])
		if err != nil {
			return failed(unsound(err), a.t("cannot read %s", "无法读取 %s"), args[0])
		}
		defer b.Close() //nolint:errcheck // it was only read
		use, err := a.bundleUse(args[1], side.image)
		if err != nil {
			return err
		}
		return failed(a.printDiff(ctx, b, use, *format), a.t("cannot compare %s with %s", "无法比较 %s 与 %s"), args[0], args[1])
	})
	return c
}

func bundleInventory(a *app) *cobra.Command {
	var side bundleSide
	var receipt string
	c := &cobra.Command{
		Use: "inventory [flags] docker://HOST/REPOSITORY[:TAG]...", Short: a.t("write a receipt of what a registry has, for bundle create --against", "生成仓库现有内容的回执，供 bundle create --against 使用"),
		Example: "berth bundle inventory docker://registry.internal/mirror/team/app -w receipt.json", Args: a.args(1, -1),
	}
	side.add(a, c)
	c.Flags().StringVarP(&receipt, "receipt", "w", "", a.t("write the receipt to `FILE`, not to standard output", "将回执写入文件"))
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		names, err := a.everyTag(ctx, args, side.image)
		if err != nil {
			return failed(err, a.t("cannot list %s", "无法列出 %s"), strings.Join(args, " "))
		}
		items, _, release, err := a.bundleItems(ctx, names, side.image)
		if err != nil {
			return err
		}
		defer release()
		r, err := bundle.Inventory(ctx, strings.TrimPrefix(args[0], "docker://"), items, copy.Options{})
		if err != nil {
			return failed(err, a.t("cannot read %s", "无法读取 %s"), args[0])
		}
		return a.writeReceipt(r, receipt)
	})
	return c
}

// everyTag replaces repositories by their tags.
func (a *app) everyTag(ctx context.Context, names []string, side *option.Image) ([]string, error) {
	sys, err := a.system(side)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, n := range names {
		named, err := reference.ParseNormalizedNamed(strings.TrimPrefix(n, "docker://"))
		if err != nil || !strings.HasPrefix(n, "docker://") || !reference.IsNameOnly(named) {
			out = append(out, n)
			continue
		}
		list, err := a.registryTags(ctx, sys, n, option.Retry{})
		if err != nil {
			return nil, err
		}
		for _, t := range list.Tags {
			if !copy.CosignTag(t) {
				out = append(out, n+":"+t)
			}
		}
	}
	return out, nil
}

// bundleItems opens images. In the bundle they are called as in their registry, without its host; those of layouts by the name of
// the file or folder, unless their name there has a repository in it. check asks policy.json about each.
func (a *app) bundleItems(ctx context.Context, names []string, side *option.Image) (items []bundle.Item, check policyChecker, release func(), err error) {
	var open []func()
	release = func() {
		for _, f := range open {
			f()
		}
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	sys, err := a.system(side)
	if err != nil {
		return nil, nil, release, err
	}
	checks := map[copy.Source]policyChecker{}
	check = func(ctx context.Context, from copy.Source, at ref.Reference, d oci.Descriptor, body []byte) error {
		return checks[from](ctx, from, at, d, body)
	}
	for _, name := range names {
		img, err := a.parseImage(name)
		if err != nil {
			return nil, nil, release, err
		}
		from, err := a.from(ctx, name, img, sys, option.Retry{})
		if err != nil {
			return nil, nil, release, err
		}
		if from == nil {
			return nil, nil, release, output.Usage(a.t("%s: a bundle is made of docker:, oci: and oci-archive: images", "%s：离线包只接受 docker:、oci:、oci-archive: 镜像"), name)
		}
		open = append(open, from.release)
		checks[from.source] = a.policyCheck(img, sys, option.Retry{})
		it := bundle.Item{From: from.source, At: from.at, Tag: from.at.Tag}
		if it.Repository, it.Tag, err = nameInBundle(name, img, it.Tag); err != nil {
			return nil, nil, release, err
		}
		items = append(items, it)
	}
	return items, check, release, nil
}

func nameInBundle(name string, img types.ImageReference, tag string) (ref.Name, string, error) {
	if named := img.DockerReference(); named != nil {
		n, err := ref.ParseName(reference.Path(named))
		return n, tag, err
	}
	path, _, _ := layoutName(name)
	repository := strings.ToLower(strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)))
	if i := strings.LastIndexByte(tag, ':'); i > 0 {
		repository, tag = tag[:i], tag[i+1:]
	}
	if tag == "" {
		tag = "latest"
	}
	if _, err := ref.ParseTag(tag); err != nil {
		return ref.Name{}, "", err
	}
	n, err := ref.ParseName(repository)
	return n, tag, err
}

func bundleFiles(byKind map[string][]string) ([]bundle.File, error) {
	var out []bundle.File
	for _, kind := range []string{"trust", "config", "file"} {
		for _, name := range byKind[kind] {
			info, err := os.Stat(name)
			if err != nil {
				return nil, err
			}
			if info.Size() > bundle.MaxFile {
				return nil, fault.New(fault.TooLarge, fault.SizeInvalid, "%s is larger than %d MiB", name, bundle.MaxFile>>20)
			}
			body, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			out = append(out, bundle.File{Kind: kind, Name: filepath.Base(name), Body: body})
		}
	}
	return out, nil
}

func readReceipts(names []string) ([]*bundle.Receipt, error) {
	var out []*bundle.Receipt
	for _, name := range names {
		body, err := readFile(name, bundle.MaxList)
		if err != nil {
			return nil, err
		}
		r, err := bundle.ParseReceipt(body)
		if err != nil {
			return nil, about(name, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// privateKey reads a key, asking for its password where it has one and no variable says it.
func (a *app) privateKey(name string) (*key.Private, error) {
	body, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var password []byte
	if key.IsEncrypted(body) {
		if password, err = a.keyPassword("", false); err != nil {
			return nil, err
		}
	}
	return key.ParsePrivate(body, password)
}

// bundleKeys reads public keys.
func bundleKeys(names []string) ([]*key.Public, error) {
	var keys []*key.Public
	for _, name := range names {
		body, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		k, err := key.ParsePublic(body)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// trusting are the flags that say who must vouch for a bundle.
type trusting struct {
	keys   []string
	ignore bool
}

func (t *trusting) addFlags(a *app, f *pflag.FlagSet) {
	f.StringArrayVar(&t.keys, "key", nil, a.t("public key `FILE` that must have signed it (again for others); else those in bundle-keys", "必须为其签名的公钥文件（可重复）；默认取 bundle-keys 目录中的公钥"))
	f.BoolVar(&t.ignore, "insecure-ignore-signature", false, a.t("do not ask who signed it", "不核对签名者"))
}

// wanted are the keys of which one must have signed: of the flags, else those that this machine trusts. required says that the bundle is
// refused without: keys are known, or the trust policy of the machine accepts nothing that is not signed.
func (t *trusting) wanted(a *app) (keys []string, required bool, err error) {
	switch {
	case t.ignore && len(t.keys) > 0:
		return nil, false, output.Usage("%s", a.t("--key and --insecure-ignore-signature contradict each other", "--key 与 --insecure-ignore-signature 互相矛盾"))
	case t.ignore:
		return nil, false, nil
	case len(t.keys) > 0:
		return t.keys, true, nil
	}
	for _, dir := range bundleKeyDirs() {
		found, err := filepath.Glob(filepath.Join(dir, "*.pub"))
		if err != nil {
			return nil, false, err
		}
		if len(found) > 0 {
			return found, true, nil
		}
	}
	if a.global.InsecurePolicy {
		return nil, false, nil
	}
	open, err := a.acceptsAnything(&types.SystemContext{})
	return nil, !open, err
}

// bundleKeyDirs are where this machine has the public keys that bundles are signed with: the user's, else the system's.
func bundleKeyDirs() []string {
	dirs := []string{"/etc/berth/bundle-keys"}
	if dir, err := os.UserConfigDir(); err == nil {
		dirs = append([]string{filepath.Join(dir, "berth", "bundle-keys")}, dirs...)
	}
	return dirs
}

// unvouched refuses a bundle for which no key is known, on a machine whose policy wants everything signed.
func (a *app) unvouched(name string) error {
	return &output.Failure{What: name, Why: a.t("the trust policy of this machine accepts nothing that is not signed, and no key is known that the bundle must be signed with", "本机的信任策略不接受未签名的内容，且不知道离线包应由哪个密钥签名"),
		Fix:  a.t("--key FILE, or put the public key into ~/.config/berth/bundle-keys; --insecure-ignore-signature asks nobody", "--key FILE，或将公钥放入 ~/.config/berth/bundle-keys；--insecure-ignore-signature 则不核对"),
		Code: string(bundle.ReasonUnsigned), Exit: output.ExitPolicy}
}

// openBundle opens a bundle and verifies all of it, the signature first.
func (a *app) openBundle(ctx context.Context, name string, keys []string) (*bundle.Bundle, error) {
	public, err := bundleKeys(keys)
	if err != nil {
		return nil, err
	}
	b, err := bundle.Open(name)
	if err != nil {
		return nil, unsound(err)
	}
	if len(public) > 0 {
		err = b.VerifySignature(public...)
	}
	if err == nil {
		err = b.Verify(ctx)
	}
	if err == nil {
		return b, nil
	}
	return nil, errors.Join(unsound(err), b.Close())
}

// unsound gives the exit code of a verification that failed to what says of a bundle that it is not what was made: not signed as it
// has to be, changed, or cut off. What is said names the bundle.
func unsound(err error) error {
	if fault.Has(err, bundle.ReasonUnsigned) || fault.Has(err, bundle.ReasonDamaged) || fault.Has(err, layout.ReasonLayout) {
		return &output.Failure{What: fault.Of(err).Message, Code: string(fault.Of(err).Reason), Exit: output.ExitPolicy, Cause: err}
	}
	return err
}

// bundleUse is where a bundle goes: a registry, below a prefix or not.
func (a *app) bundleUse(target string, side *option.Image) (bundle.Use, error) {
	rest, ok := strings.CutPrefix(target, "docker://")
	rest = strings.Trim(rest, "/")
	if !ok || rest == "" {
		return bundle.Use{}, output.Usage(a.t("%s: a bundle goes to docker://HOST or docker://HOST/PREFIX", "%s：目标应为 docker://HOST 或 docker://HOST/PREFIX"), target)
	}
	sys, err := a.system(side)
	if err != nil {
		return bundle.Use{}, err
	}
	host, prefix, deep := strings.Cut(rest, "/")
	if deep {
		prefix += "/"
	}
	client := a.client(sys, option.Retry{}, func(text string) { a.warn(text, text) })
	rename := func(repository string) (ref.Name, error) { return ref.ParseName(prefix + repository) }
	return bundle.Use{Name: rest, Rename: rename, Target: func(n ref.Name) (copy.Target, error) {
		n, err := rename(n.String())
		return client.Repository(host, n), err
	}}, nil
}

// printDiff prints what a registry lacks.
func (a *app) printDiff(ctx context.Context, b *bundle.Bundle, use bundle.Use, format output.Format) error {
	results, err := b.Diff(ctx, use)
	if err != nil {
		return err
	}
	rows := output.Table{Header: []string{"IMAGE", "CHANGES", "MANIFESTS", "BLOBS", "SIZE"}}
	for _, r := range results {
		changes := "no"
		if r.Changed {
			changes = "yes"
		}
		rows.Rows = append(rows.Rows, []string{r.To, changes, fmt.Sprint(r.Manifests), fmt.Sprint(r.Sent), output.Bytes(r.Bytes)})
	}
	return format.Print(a.Out, results, rows)
}

func (a *app) writeReceipt(r *bundle.Receipt, name string) error {
	text, err := json.MarshalIndent(r, "", "    ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if name == "" {
		_, err = a.Out.Write(text)
		return err
	}
	return os.WriteFile(name, text, 0o644)
}
