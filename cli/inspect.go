package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/remote"
)

// inspection is what inspect prints, with skopeo's names in skopeo's order.
type inspection struct {
	Name          string `json:",omitempty"`
	Tag           string `json:",omitempty"`
	Digest        digest.Digest
	RepoTags      []string
	Created       *time.Time
	DockerVersion string
	Labels        map[string]string
	Architecture  string
	Os            string
	Layers        []string
	LayersData    []types.ImageInspectLayer
	Env           []string
}

type inspectOptions struct {
	*oneImage
	raw, config, noTags bool
	template, algorithm string
	format              *output.Format
}

func inspectCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "inspect [flags] IMAGE", Short: a.t("show what an image is", "查看镜像信息"),
		Example: "berth inspect docker://registry.example.com/team/app:v1\n" +
			"berth inspect --config docker://registry.example.com/team/app:v1\n" +
			"berth inspect --format '{{.Name}} {{.Digest}}' docker://registry.example.com/team/app:v1",
		Args: a.args(1, 1), ValidArgsFunction: a.completeImage,
	}
	f := c.Flags()
	o := &inspectOptions{oneImage: a.oneImageFlags(f, false)}
	f.BoolVar(&o.raw, "raw", false, a.t("print the manifest, or with --config the configuration, byte for byte", "原样输出清单，与 --config 同用时输出配置"))
	f.BoolVar(&o.config, "config", false, a.t("print the configuration", "输出配置"))
	f.StringVarP(&o.template, "format", "f", "", a.t("print by a Go `TEMPLATE`", "按 Go 模板输出"))
	f.BoolVarP(&o.noTags, "no-tags", "n", false, a.t("do not list the tags of the repository", "不列出仓库的标签"))
	f.StringVar(&o.algorithm, "manifest-digest", "", a.t("compute the digest by `ALGORITHM`: sha256, sha512", "摘要算法：sha256、sha512"))
	o.format = a.formatFlag(f, output.JSON)
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		if o.raw && o.template != "" {
			return output.Usage("--raw and --format contradict each other")
		}
		return failed(a.inspect(ctx, o, args[0]), a.t("cannot inspect %s", "无法查看 %s"), args[0])
	})
	return c
}

func (a *app) inspect(ctx context.Context, o *inspectOptions, name string) error {
	ref, err := a.parseImage(name)
	if err != nil {
		return err
	}
	if err := a.mayUseStorage(ref); err != nil {
		return err
	}
	if err := o.image.Misplaced(ref.Transport().Name()); err != nil {
		return err
	}
	a.ineffective(o.image, ref)
	sys, err := a.system(o.image)
	if err != nil {
		return err
	}
	if sys, err = a.withStored(ctx, sys, ref); err != nil {
		return err
	}
	if err := a.look(ctx, ref, sys); err != nil {
		return err
	}
	var source types.ImageSource
	var body []byte
	err = a.again(ctx, o.retry, func() error {
		if source, err = a.imageSource(ctx, ref, sys, o.retry); err != nil {
			return err
		}
		if body, _, err = image.UnparsedInstance(source, nil).Manifest(ctx); err != nil {
			_ = source.Close()
		}
		return err
	})
	if err != nil {
		return err
	}
	defer source.Close() //nolint:errcheck // it was only read
	if o.raw && !o.config {
		_, err := a.Out.Write(body)
		return err
	}
	img, err := image.FromUnparsedImage(ctx, sys, image.UnparsedInstance(source, nil))
	if err != nil {
		return err
	}
	if o.config {
		return a.inspectConfig(ctx, o, img)
	}
	found, err := a.describe(ctx, o, sys, img, body)
	if err != nil {
		return err
	}
	return o.print(a, found, output.Table{Header: []string{"NAME", "DIGEST", "PLATFORM", "LAYERS", "CREATED", "SIZE", "TAGS"}, Wide: 2,
		Rows: [][]string{{found.Name, found.Digest.String(), found.Os + "/" + found.Architecture, fmt.Sprint(len(found.Layers)), when(found.Created),
			strconv.FormatInt(found.size(), 10), fmt.Sprint(len(found.RepoTags))}}})
}

// size is that of all layers as they are stored.
func (i *inspection) size() (n int64) {
	for _, l := range i.LayersData {
		n += max(l.Size, 0)
	}
	return n
}

func (a *app) inspectConfig(ctx context.Context, o *inspectOptions, img types.Image) error {
	if o.raw {
		var blob []byte
		err := a.again(ctx, o.retry, func() (err error) {
			blob, err = img.ConfigBlob(ctx)
			return err
		})
		if err != nil {
			return err
		}
		_, err = a.Out.Write(blob)
		return err
	}
	config, err := img.OCIConfig(ctx)
	if err != nil {
		return err
	}
	return o.print(a, config, output.Table{Header: []string{"PLATFORM", "CREATED"}, Rows: [][]string{{config.OS + "/" + config.Architecture, when(config.Created)}}})
}

// print writes by --format, as skopeo has it, or else by -o.
func (o *inspectOptions) print(a *app, value any, table output.Table) error {
	if o.template != "" && o.template != "json" {
		return output.ExecuteTemplate(a.Out, o.template, value)
	}
	return o.format.Print(a.Out, value, table)
}

// describe gathers what inspect prints of one image.
func (a *app) describe(ctx context.Context, o *inspectOptions, sys *types.SystemContext, img types.Image, body []byte) (*inspection, error) {
	info, err := img.Inspect(ctx)
	if err != nil {
		return nil, err
	}
	found := &inspection{Tag: info.Tag, RepoTags: []string{}, Created: info.Created, DockerVersion: info.DockerVersion, Labels: info.Labels,
		Architecture: info.Architecture, Os: info.Os, Layers: info.Layers, LayersData: info.LayersData, Env: info.Env}
	if named := img.Reference().DockerReference(); named != nil {
		found.Name = named.Name()
	}
	if found.Digest, err = manifestDigest(body, o.algorithm, img.ConfigInfo().Digest); err != nil {
		return nil, err
	}
	if o.noTags || img.Reference().Transport() != docker.Transport {
		return found, nil
	}
	tags, err := a.tagsOf(ctx, sys, img.Reference().DockerReference(), o.retry)
	switch {
	case err == nil:
		found.RepoTags = append(found.RepoTags, tags...)
	case tagsAreKept(err):
		a.warn("the registry does not say which tags the repository has", "仓库不提供标签列表")
	default:
		return nil, fmt.Errorf("tags of the repository: %w", err)
	}
	return found, nil
}

// tagsAreKept reports whether a registry lets the image be read and not the list of tags: it denies that, or has no
// such route.
func tagsAreKept(err error) bool {
	var answer *remote.Answer
	return fault.Is(err, fault.Denied) || fault.Has(err, fault.DeniedReason) || errors.As(err, &answer) && answer.Status == http.StatusNotFound && answer.Code == ""
}

// manifestDigest is the digest of a manifest by the algorithm that is named, or else by that of its configuration.
func manifestDigest(body []byte, algorithm string, config digest.Digest) (digest.Digest, error) {
	chosen := digest.Canonical
	switch {
	case algorithm != "":
		chosen = digest.Algorithm(algorithm)
	case config != "":
		chosen = config.Algorithm()
	}
	if !chosen.Available() {
		return "", output.Usage("the digest algorithm %q is not available; sha256 and sha512 are", chosen)
	}
	return manifest.DigestWithAlgorithm(body, chosen)
}

func when(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.DateTime)
}
