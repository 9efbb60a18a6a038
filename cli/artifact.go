package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"go.podman.io/image/v5/docker/reference"

	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/artifact"
	"github.com/berth-registry/berth/image/view"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

func artifactCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "artifact",
		Short: a.t("push, pull and look at artifacts: files that are no images", "推送、拉取与查看制品：非镜像的文件"),
		Example: "berth artifact push --artifact-type application/vnd.example.policy registry.example.com/team/policy:v1 policy.rego:text/plain\n" +
			"berth artifact pull registry.example.com/team/policy:v1\nberth artifact ls registry.example.com/team/policy",
	}
	c.AddCommand(artifactPushCommand(a), artifactPullCommand(a), artifactExtractCommand(a), artifactListCommand(a), artifactInspectCommand(a),
		a.storeless("add", a.t("podman artifact add keeps files in a store of this machine until they are pushed; berth keeps none and pushes them at once",
			"podman artifact add 先将文件保存在本机存储再推送；berth 不在本机保存，直接推送"), "berth artifact push HOST/REPOSITORY:TAG FILE..."),
		a.storeless("rm", a.t("podman artifact rm takes an artifact out of a store of this machine, and berth keeps none; in a registry it is a tag that goes, or the artifact with all its tags",
			"podman artifact rm 从本机存储中删除制品，而 berth 不在本机保存；在仓库中可删除标签，或删除制品及其全部标签"), "berth tags rm HOST/REPOSITORY:TAG, berth delete docker://HOST/REPOSITORY:TAG"))
	return a.family(c)
}

// storeless is a command of podman about its store of artifacts, with the way that berth has for it.
func (a *app) storeless(name, why, way string) *cobra.Command {
	return &cobra.Command{Use: name, Hidden: true, DisableFlagParsing: true, RunE: func(cmd *cobra.Command, _ []string) error {
		f := output.Usage(a.t("berth has no %s", "berth 没有 %s"), cmd.CommandPath())
		f.Why = why
		return f.WithFix("%s", way)
	}}
}

// packFlags say what an artifact is made of: oras' and regctl's names.
type packFlags struct {
	kind, config, configType, mediaType, created string
	annotations                                  map[string]string
	strip                                        bool
}

func (f *packFlags) add(a *app, c *cobra.Command) {
	g := c.Flags()
	g.StringVar(&f.kind, "artifact-type", "", a.t("what the artifact is: a media `TYPE`", "制品类型（媒体类型）"))
	g.StringVar(&f.config, "config", "", a.t("configuration `FILE[:TYPE]`; else an empty one", "配置文件[:类型]；默认为空"))
	g.StringVar(&f.configType, "config-type", "", a.t("media `TYPE` of the configuration", "配置的媒体类型"))
	g.StringVar(&f.mediaType, "file-media-type", "", a.t("media `TYPE` of files that are given without one", "未注明类型的文件的媒体类型"))
	g.StringToStringVarP(&f.annotations, "annotation", "a", nil, a.t("annotation of the manifest", "清单注解"))
	g.StringVar(&f.created, "created", "", a.t("say this time of creation, RFC 3339 or seconds; without it none, and the same files make the same artifact", "记录创建时间；省略则不记录，相同文件得到相同制品"))
	g.BoolVar(&f.strip, "strip-dirs", false, a.t("call files by their last name, and not by their path", "仅以文件名命名，不含路径"))
}

// pack reads FILE[:TYPE] arguments.
func (f *packFlags) pack(a *app, files []string) (artifact.Pack, error) {
	p := artifact.Pack{Type: f.kind, ConfigType: f.configType, Annotations: f.annotations, Work: a.global.TmpDir}
	for _, text := range files {
		path, kind := splitType(text)
		if kind == "" {
			kind = f.mediaType
		}
		one := artifact.File{Path: path, MediaType: kind}
		if f.strip || filepath.IsAbs(path) && filepath.Clean(path) != "/" {
			one.Name = filepath.Base(path)
		}
		p.Files = append(p.Files, one)
	}
	if f.config != "" {
		path, kind := splitType(f.config)
		body, err := os.ReadFile(path)
		if err != nil {
			return p, err
		}
		if p.Config = body; kind != "" {
			p.ConfigType = kind
		}
		if p.ConfigType == "" {
			p.ConfigType = "application/vnd.unknown.config.v1+json"
		}
	}
	if f.created != "" {
		when, err := moment(f.created)
		if err != nil {
			return p, output.Usage("--created: %v", err)
		}
		p.Created = when
	}
	return p, nil
}

// splitType takes FILE:TYPE apart; a file may have colons in its name, a type has a slash.
func splitType(text string) (path, kind string) {
	if i := strings.LastIndexByte(text, ':'); i > 0 && strings.Contains(text[i:], "/") {
		if _, err := os.Stat(text); err != nil {
			return text[:i], text[i+1:]
		}
	}
	return text, ""
}

func artifactPushCommand(a *app) *cobra.Command {
	var f packFlags
	var subject string
	c := &cobra.Command{
		Use:     "push [flags] REPOSITORY[:TAG] [FILE[:TYPE]]...",
		Aliases: []string{"put"},
		Short:   a.t("push files as an artifact", "将文件推送为制品"),
		Long: a.t("A directory becomes an archive that is unpacked when it is pulled. The digest is printed as HOST/REPOSITORY@DIGEST.",
			"目录会打包为归档，拉取时解包。输出 HOST/REPOSITORY@DIGEST。"),
		Example: "berth artifact push --artifact-type application/vnd.example.policy registry.example.com/team/policy:v1 policy.rego:text/plain data/",
		Args:    a.args(1, -1),
	}
	p := a.placesFlags(c.Flags())
	f.add(a, c)
	c.Flags().StringVar(&subject, "subject", "", a.t("`IMAGE` of the repository that the artifact is about", "制品所描述的镜像"))
	c.RunE = p.onRemote(func(ctx context.Context, named reference.Named, args []string) error {
		var about *opened
		var err error
		if subject != "" {
			if about, err = p.get(ctx, subject); err != nil {
				return failed(err, a.t("cannot open the subject %s", "无法打开主体 %s"), subject)
			}
		}
		var where ref.Reference
		if !reference.IsNameOnly(named) {
			if where, err = at(named); err != nil {
				return err
			}
		}
		return failed(a.pushArtifact(ctx, p, &f, named, where, about, args[1:]), a.t("cannot push the artifact %s", "无法推送制品 %s"), args[0])
	})
	return c
}

// pushArtifact pushes and prints the name by digest.
func (a *app) pushArtifact(ctx context.Context, p *places, f *packFlags, named reference.Named, where ref.Reference, about *opened, files []string) error {
	repo, err := p.repository(named)
	if err != nil {
		return err
	}
	pack, err := f.pack(a, files)
	if err != nil {
		return err
	}
	if about != nil {
		if about.named != nil && about.named.Name() != named.Name() {
			return fault.New(fault.Invalid, fault.ManifestInvalid, "the subject is in %s, and the artifact goes to %s; both have to be in one repository", about.named.Name(), named.Name())
		}
		pack.Subject = &oci.Descriptor{MediaType: about.Descriptor.MediaType, Digest: about.Descriptor.Digest, Size: about.Descriptor.Size}
	}
	if !where.Digest.IsZero() {
		return output.Usage("%s", a.t("an artifact gets its digest from its files; name a tag, or the repository alone", "制品的摘要由文件决定；请使用标签或仅使用仓库名"))
	}
	d, err := artifact.Push(ctx, repo, where, pack)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.Out, "%s@%s\n", named.Name(), d.Digest)
	return err
}

func attachCommand(a *app) *cobra.Command {
	var f packFlags
	c := &cobra.Command{
		Use:   "attach [flags] IMAGE FILE[:TYPE]...",
		Short: a.t("attach files to an image as a referrer: an SBOM, a report, a note", "将文件作为引用者附加到镜像：SBOM、报告、说明"),
		Example: "berth attach --artifact-type application/spdx+json registry.example.com/team/app:v1 sbom.spdx.json:application/spdx+json\n" +
			"berth attach --artifact-type application/vnd.example.review --annotation by=team registry.example.com/team/app:v1",
		Args: a.args(1, -1),
	}
	p := a.placesFlags(c.Flags())
	p.platformFlag(c.Flags())
	f.add(a, c)
	c.RunE = p.onRemote(func(ctx context.Context, named reference.Named, args []string) error {
		if f.kind == "" {
			return output.Usage("%s", a.t("say what it is: --artifact-type TYPE", "请指定类型：--artifact-type TYPE")).WithFix("%s", "--artifact-type application/spdx+json")
		}
		about, err := p.subject(ctx, args[0])
		if err != nil {
			return failed(err, a.t("cannot open %s", "无法打开 %s"), args[0])
		}
		return failed(a.pushArtifact(ctx, p, &f, named, ref.Reference{}, about, args[1:]), a.t("cannot attach to %s", "无法附加到 %s"), args[0])
	})
	return c
}

func artifactPullCommand(a *app) *cobra.Command {
	var dir string
	var o artifact.PullOptions
	c := &cobra.Command{
		Use:     "pull [flags] ARTIFACT",
		Aliases: []string{"get"},
		Short:   a.t("write the files of an artifact to a directory", "将制品中的文件写入目录"),
		Example: "berth artifact pull registry.example.com/team/policy:v1\nberth artifact pull --output-dir out registry.example.com/team/policy@sha256:…",
		Args:    a.args(1, 1),
	}
	p := a.placesFlags(c.Flags())
	p.limitFlags(c.Flags())
	c.Flags().StringVarP(&dir, "output-dir", "d", ".", a.t("`DIR` to write into", "输出目录"))
	c.Flags().BoolVarP(&o.Keep, "keep-old-files", "k", false, a.t("fail rather than replace a file that is there", "不替换已有文件，改为失败"))
	c.Flags().BoolVar(&o.Pack, "no-unpack", false, a.t("leave directories as archives", "目录保留为归档"))
	format := a.formatFlag(c.Flags(), output.Name)
	c.RunE = p.onOne(func(ctx context.Context, args []string) error {
		got, err := p.use(ctx, args[0])
		if err != nil {
			return failed(err, a.t("cannot pull %s", "无法拉取 %s"), args[0])
		}
		o.Limits = p.limits
		files, err := artifact.Pull(ctx, got.Node, dir, o)
		if err != nil {
			return failed(err, a.t("cannot pull %s", "无法拉取 %s"), args[0])
		}
		if files == nil {
			files = []artifact.Written{}
		}
		table := output.Table{Header: []string{"FILE", "DIGEST", "SIZE", "TYPE"}}
		for _, f := range files {
			table.Rows = append(table.Rows, []string{f.Name, f.Digest, strconv.FormatInt(f.Size, 10), f.Type})
		}
		return format.Print(a.Out, files, table)
	})
	return c
}

// artifactExtractCommand is podman's artifact extract, out of a registry or a layout: podman takes it out of its store, into which it
// was pulled.
func artifactExtractCommand(a *app) *cobra.Command {
	var o artifact.PullOptions
	c := &cobra.Command{
		Use:   "extract [flags] ARTIFACT PATH",
		Short: a.t("write the files of an artifact into a directory, or one of them to a file", "将制品的文件写入目录，或将其中一个写入文件"),
		Long: a.t("As podman artifact extract, and nothing has to be pulled before. PATH is a directory that is there, or the file to write when the artifact has one file, or one is chosen.",
			"与 podman artifact extract 相同，无需事先拉取。PATH 为已有的目录；若制品只有一个文件或已选定一个，则为要写入的文件。"),
		Example: "berth artifact extract registry.example.com/team/policy:v1 .\nberth artifact extract --title policy.rego registry.example.com/team/policy:v1 /etc/policy.rego",
		Args:    a.args(2, 2),
	}
	p := a.placesFlags(c.Flags())
	p.limitFlags(c.Flags())
	c.Flags().StringVar(&o.Title, "title", "", a.t("only the file of this `NAME`", "仅此名称的文件"))
	c.Flags().StringVar(&o.Digest, "digest", "", a.t("only the file with this `DIGEST`", "仅此摘要的文件"))
	c.RunE = p.onOne(func(ctx context.Context, args []string) error {
		if o.Title != "" && o.Digest != "" {
			return output.Usage("--title and --digest contradict each other")
		}
		got, err := p.use(ctx, args[0])
		if err != nil {
			return failed(err, a.t("cannot pull %s", "无法拉取 %s"), args[0])
		}
		o.Limits = p.limits
		info, err := os.Stat(args[1])
		if err == nil && info.IsDir() {
			_, err = artifact.Pull(ctx, got.Node, args[1], o)
		} else {
			err = artifact.PullFile(ctx, got.Node, args[1], o)
		}
		return failed(err, a.t("cannot extract %s to %s", "无法将 %s 写入 %s"), args[0], args[1])
	})
	return c
}

// artifactLine is one artifact of a repository.
type artifactLine struct {
	Tag     string `json:"tag,omitempty"`
	Digest  string `json:"digest"`
	Type    string `json:"artifactType"`
	Files   int    `json:"files"`
	Size    int64  `json:"size"` // of the files
	Subject string `json:"subject,omitempty"`
	Created string `json:"created,omitempty"` // as its annotation says
}

func artifactListCommand(a *app) *cobra.Command {
	var kind string
	c := &cobra.Command{
		Use:     "ls [flags] REPOSITORY",
		Aliases: []string{"list"},
		Short:   a.t("list the tags of a repository that are artifacts", "列出仓库中属于制品的标签"),
		Long:    a.t("Every tag is looked at. What refers to an image is listed by berth referrers.", "会查看每个标签。引用镜像的内容请用 berth referrers 列出。"),
		Example: "berth artifact ls registry.example.com/team/policy",
		Args:    a.args(1, 1),
	}
	p := a.placesFlags(c.Flags())
	c.Flags().StringVar(&kind, "artifact-type", "", a.t("only those of this `TYPE`", "仅此类型"))
	format := a.formatFlag(c.Flags(), output.TableKind)
	c.RunE = p.onRemote(func(ctx context.Context, named reference.Named, args []string) error {
		lines, err := p.artifacts(ctx, named, kind)
		if err != nil {
			return failed(err, a.t("cannot list the artifacts of %s", "无法列出 %s 的制品"), args[0])
		}
		table := output.Table{Header: []string{"TAG", "TYPE", "FILES", "SIZE", "DIGEST", "SUBJECT", "CREATED"}, Wide: 2}
		for _, l := range lines {
			table.Rows = append(table.Rows, []string{l.Tag, l.Type, strconv.Itoa(l.Files), strconv.FormatInt(l.Size, 10), l.Digest, l.Subject, l.Created})
		}
		return format.Print(a.Out, lines, table)
	})
	return c
}

func (p *places) artifacts(ctx context.Context, named reference.Named, kind string) ([]artifactLine, error) {
	repo, tags, err := ownTags(ctx, p.client, p.sys, named)
	if err != nil {
		return nil, err
	}
	slices.Sort(tags)
	lines := []artifactLine{}
	for _, tag := range tags {
		n, err := view.Open(ctx, repo, ref.Reference{Tag: tag})
		if fault.Is(err, fault.NotFound) { // deleted meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		if n.IsIndex() || isImage(n.Manifest) || kind != "" && n.Manifest.ArtifactType != kind {
			continue
		}
		l := artifactLine{Tag: tag, Digest: n.Descriptor.Digest.String(), Type: n.Manifest.ArtifactType, Created: n.Manifest.Annotations["org.opencontainers.image.created"]}
		if s := n.Manifest.Subject; s != nil {
			l.Subject = s.Digest.String()
		}
		for _, f := range n.Manifest.Layers {
			if f.MediaType != oci.MediaTypeEmpty {
				l.Files++
				l.Size += f.Size
			}
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// isImage reports whether a manifest is of something that runs.
func isImage(m *oci.Manifest) bool {
	return m.Config != nil && (m.Config.MediaType == "application/vnd.oci.image.config.v1+json" || m.Config.MediaType == "application/vnd.docker.container.image.v1+json") &&
		(m.ArtifactType == "" || m.ArtifactType == m.Config.MediaType)
}

// artifactFile is a file of an artifact.
type artifactFile struct {
	Name        string            `json:"name"`
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// artifactFacts is what inspect prints.
type artifactFacts struct {
	Name        string            `json:"name"`
	Digest      string            `json:"digest"`
	Type        string            `json:"artifactType"`
	Subject     string            `json:"subject,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Files       []artifactFile    `json:"files"`
}

func artifactInspectCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "inspect [flags] ARTIFACT",
		Short:   a.t("say what an artifact is made of", "查看制品的组成"),
		Example: "berth artifact inspect registry.example.com/team/policy:v1",
		Args:    a.args(1, 1),
	}
	p := a.placesFlags(c.Flags())
	format := a.formatFlag(c.Flags(), output.JSON)
	c.RunE = p.onOne(func(ctx context.Context, args []string) error {
		o, err := p.get(ctx, args[0])
		if err != nil {
			return failed(err, a.t("cannot open %s", "无法打开 %s"), args[0])
		}
		f := artifactFacts{Name: o.full(), Digest: o.Descriptor.Digest.String(), Type: o.Manifest.ArtifactType, Annotations: o.Manifest.Annotations, Files: []artifactFile{}}
		if s := o.Manifest.Subject; s != nil {
			f.Subject = s.Digest.String()
		}
		table := output.Table{Header: []string{"NAME", "TYPE", "SIZE", "DIGEST"}}
		for _, l := range o.Manifest.Layers {
			if l.MediaType == oci.MediaTypeEmpty {
				continue
			}
			f.Files = append(f.Files, artifactFile{l.Annotations[artifact.Title], l.MediaType, l.Digest.String(), l.Size, l.Annotations})
			table.Rows = append(table.Rows, []string{l.Annotations[artifact.Title], l.MediaType, strconv.FormatInt(l.Size, 10), l.Digest.String()})
		}
		return format.Print(a.Out, f, table)
	})
	return c
}
