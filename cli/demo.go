package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-registry/berth/cli/output"
)

func demoCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "demo [flags] [HOST[:PORT]]", Short: a.t("push a sample image, and read it back", "推送示例镜像并读回"),
		Long: a.t("Make a small image on this machine, push it as library/demo to a registry (localhost:5000 when none is named), and read it back. Nothing is fetched from elsewhere.",
			"在本机生成一个小镜像，推送到仓库的 library/demo（默认 localhost:5000）并读回。不从其他地方下载任何内容。"),
		Example: "berth demo\nberth demo registry.example.com", Args: a.args(0, 1),
	}
	o := &copyOptions{}
	hidden := pflag.NewFlagSet("copy", pflag.ContinueOnError)
	o.addFlags(a, hidden)
	for _, name := range []string{"dest-creds", "dest-tls-verify", "dest-cert-dir", "authfile"} {
		c.Flags().AddFlag(hidden.Lookup(name))
	}
	c.RunE = a.run(func(ctx context.Context, args []string) error {
		host := a.context.Registry
		if host == "" {
			host = "localhost:5000"
		}
		if len(args) > 0 {
			host = args[0]
		}
		return failed(a.demo(ctx, o, host), a.t("cannot push the sample to %s", "无法将示例推送到 %s"), host)
	})
	return c
}

func (a *app) demo(ctx context.Context, o *copyOptions, host string) error {
	dir, err := os.MkdirTemp(a.global.TmpDir, "berth-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	d, err := writeSample(dir, a.now())
	if err != nil {
		return err
	}
	name := "docker://" + host + "/library/demo:latest"
	if err := a.copy(ctx, o, "oci:"+dir+":latest", name); err != nil {
		return err
	}
	ref, err := a.parseImage(name)
	if err != nil {
		return err
	}
	sys, err := a.system(o.target)
	if err != nil {
		return err
	}
	source, err := ref.NewImageSource(ctx, sys)
	if err != nil {
		return fmt.Errorf("read it back: %w", err)
	}
	defer source.Close() //nolint:errcheck // it was only read
	body, _, err := source.GetManifest(ctx, nil)
	if err != nil {
		return fmt.Errorf("read it back: %w", err)
	}
	if got := digest.FromBytes(body); got != d {
		return &output.Failure{What: a.t("the registry gives another manifest than it was sent", "仓库返回的清单与推送的不同"), Why: got.String() + ", " + d.String(), Exit: output.ExitPolicy}
	}
	_, err = fmt.Fprintf(a.Out, "%s\n%s\n\n  berth inspect %s\n  podman pull %s/library/demo\n", name, d, name, host)
	return err
}

// writeSample makes an OCI layout with an image of one small layer, the same bytes for the same moment, and returns the
// digest of its manifest.
func writeSample(dir string, now time.Time) (digest.Digest, error) {
	text := "This image was made by berth demo to try a registry. It holds this file and does nothing.\n"
	var layer bytes.Buffer
	diff := digest.Canonical.Digester()
	z := gzip.NewWriter(&layer)
	t := tar.NewWriter(io.MultiWriter(z, diff.Hash()))
	if err := t.WriteHeader(&tar.Header{Name: "README", Mode: 0o644, Size: int64(len(text)), ModTime: time.Unix(0, 0)}); err != nil {
		return "", err
	}
	if _, err := io.WriteString(t, text); err != nil {
		return "", err
	}
	if err := t.Close(); err != nil {
		return "", err
	}
	if err := z.Close(); err != nil {
		return "", err
	}
	created := now.UTC().Truncate(time.Second)
	config := imgspec.Image{Created: &created, Platform: imgspec.Platform{Architecture: runtime.GOARCH, OS: "linux"},
		Config: imgspec.ImageConfig{Labels: map[string]string{"org.opencontainers.image.title": "berth demo"}},
		RootFS: imgspec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diff.Digest()}}}
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return "", err
	}
	put := func(mediaType string, content []byte) (imgspec.Descriptor, error) {
		d := digest.FromBytes(content)
		return imgspec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(content))}, os.WriteFile(filepath.Join(blobs, d.Encoded()), content, 0o644)
	}
	layerAt, err := put(imgspec.MediaTypeImageLayerGzip, layer.Bytes())
	if err != nil {
		return "", err
	}
	configBody, err := json.Marshal(config)
	if err != nil {
		return "", err
	}
	configAt, err := put(imgspec.MediaTypeImageConfig, configBody)
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(imgspec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imgspec.MediaTypeImageManifest, Config: configAt, Layers: []imgspec.Descriptor{layerAt}})
	if err != nil {
		return "", err
	}
	at, err := put(imgspec.MediaTypeImageManifest, body)
	if err != nil {
		return "", err
	}
	at.Annotations = map[string]string{imgspec.AnnotationRefName: "latest"}
	index, err := json.Marshal(imgspec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []imgspec.Descriptor{at}})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), index, 0o644); err != nil {
		return "", err
	}
	return at.Digest, os.WriteFile(filepath.Join(dir, imgspec.ImageLayoutFile), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)
}
