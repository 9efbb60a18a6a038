package edit_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/edit"
	"github.com/berth-registry/berth/image/rootfs"
)

func archive(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		p, text, _ := strings.Cut(f, "=")
		if err := w.WriteHeader(&tar.Header{Name: p, Size: int64(len(text)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, text)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func layerOf(t testing.TB, files ...string) v1.Layer {
	t.Helper()
	l, err := edit.NewLayer(t.Context(), t.TempDir(), edit.OCI, rootfs.Limits{}, func(w io.Writer) error {
		_, err := w.Write(archive(t, files...))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// image has a layer for each list of files, and between them an entry of the history without one.
func image(t testing.TB, layers ...[]string) v1.Image {
	t.Helper()
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	file := &v1.ConfigFile{OS: "linux", Architecture: "amd64", RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{Env: []string{"PATH=/bin", "A=1"}, Entrypoint: []string{"/app"}, Cmd: []string{"-v"}, Labels: map[string]string{"old": "1"}}}
	img, err := mutate.ConfigFile(img, file)
	if err != nil {
		t.Fatal(err)
	}
	for i, files := range layers {
		img, err = mutate.Append(img,
			mutate.Addendum{Layer: layerOf(t, files...), History: v1.History{CreatedBy: fmt.Sprintf("COPY %v", files)}},
			mutate.Addendum{History: v1.History{CreatedBy: fmt.Sprintf("ENV N=%d", i), EmptyLayer: true}})
		if err != nil {
			t.Fatal(err)
		}
	}
	return img
}

func configOf(t testing.TB, img v1.Image) *v1.ConfigFile {
	t.Helper()
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func digest(t testing.TB, c interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	h, err := c.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

func sound(t testing.TB, img v1.Image) {
	t.Helper()
	if err := validate.Image(unpacking{img}); err != nil {
		t.Error(err)
	}
}

// unpacking lets validate unpack layers that only know how they are kept.
type unpacking struct{ v1.Image }

func (u unpacking) Layers() ([]v1.Layer, error) {
	layers, err := u.Image.Layers()
	for i, l := range layers {
		if err == nil {
			layers[i], err = partial.CompressedToLayer(l)
		}
	}
	return layers, err
}

func (u unpacking) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	l, err := u.Image.LayerByDigest(h)
	if err != nil {
		return nil, err
	}
	return partial.CompressedToLayer(l)
}

func (u unpacking) LayerByDiffID(h v1.Hash) (v1.Layer, error) {
	l, err := u.Image.LayerByDiffID(h)
	if err != nil {
		return nil, err
	}
	return partial.CompressedToLayer(l)
}

func TestApply(t *testing.T) {
	img := image(t, []string{"a=1"})
	user, when := "1000:1000", time.Unix(1700000000, 0)
	out, err := edit.Apply(img, edit.Change{
		Annotations: map[string]string{"k": "v"}, Labels: map[string]string{"new": "2", "old": ""}, Env: []string{"A=2", "PATH", "B=3"},
		Entrypoint: []string{"/new"}, User: &user, ExposedPorts: []string{"80", "53/udp"}, Created: &when,
		Platform: &v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, Layers: []v1.Layer{layerOf(t, "b=2")},
	})
	if err != nil {
		t.Fatal(err)
	}
	sound(t, out)
	file := configOf(t, out)
	if got := fmt.Sprintf("%v %v %v %v %v %v %v %v", file.Config.Env, file.Config.Labels, file.Config.Entrypoint, file.Config.Cmd, file.Config.User, file.Config.ExposedPorts, file.Variant, file.Created.Unix()); got !=
		"[A=2 B=3] map[new:2] [/new] [] 1000:1000 map[53/udp:{} 80/tcp:{}] v8 1700000000" {
		t.Error(got)
	}
	m, err := out.Manifest()
	if err != nil || m.Annotations["k"] != "v" || len(m.Layers) != 2 {
		t.Errorf("%v %+v", err, m)
	}
	if out, err = edit.Annotate(out, map[string]string{"k": ""}); err != nil {
		t.Fatal(err)
	}
	if m, _ = out.Manifest(); len(m.Annotations) != 0 || len(m.Layers) != 2 {
		t.Errorf("annotation stayed: %+v", m)
	}
	// The image that it was made of is as it was, and a change of nothing changes no byte.
	same, err := edit.Apply(img, edit.Change{Env: []string{"A=1"}})
	if err != nil || digest(t, same) != digest(t, img) || configOf(t, img).Config.Env[1] != "A=1" {
		t.Errorf("%v; %s became %s", err, digest(t, img), digest(t, same))
	}
	for _, bad := range []edit.Change{{ExposedPorts: []string{"http"}}, {ExposedPorts: []string{"80/icmp"}}, {Env: []string{"=x"}}} {
		if _, err := edit.Apply(img, bad); !fault.Has(err, edit.ChangeInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestConvert(t *testing.T) {
	img := image(t, []string{"a=1"}, []string{"b=2"})
	docker, err := edit.Convert(img, edit.Docker)
	if err != nil {
		t.Fatal(err)
	}
	sound(t, docker)
	m, _ := docker.Manifest()
	if m.MediaType != types.DockerManifestSchema2 || m.Config.MediaType != types.DockerConfigJSON || m.Layers[1].MediaType != types.DockerLayer {
		t.Errorf("%+v", m)
	}
	if _, err := edit.Annotate(docker, map[string]string{"k": "v"}); !fault.Has(err, edit.ChangeInvalid) {
		t.Errorf("annotations of a docker manifest: %v; they would be lost", err)
	}
	back, err := edit.Convert(docker, edit.OCI)
	if err != nil || digest(t, back) != digest(t, img) {
		t.Errorf("%v; there and back %s, was %s", err, digest(t, back), digest(t, img))
	}
}

func TestFlatten(t *testing.T) {
	img := image(t, []string{"a=1", "b=1"}, []string{"a=2", ".wh.b="}, []string{"c=3"})
	img, err := edit.Annotate(img, map[string]string{"k": "v"})
	if err != nil {
		t.Fatal(err)
	}
	out, err := edit.Flatten(t.Context(), img, t.TempDir(), rootfs.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	sound(t, out)
	m, _ := out.Manifest()
	file := configOf(t, out)
	if len(m.Layers) != 1 || m.Annotations["k"] != "v" || len(file.History) != 1 || file.Config.Env[1] != "A=1" {
		t.Errorf("%+v %+v", m, file)
	}
	var before, after bytes.Buffer
	if err := rootfs.Tar(t.Context(), img, rootfs.Limits{}, &before); err != nil {
		t.Fatal(err)
	}
	if err := rootfs.Tar(t.Context(), out, rootfs.Limits{}, &after); err != nil || !bytes.Equal(before.Bytes(), after.Bytes()) {
		t.Errorf("%v; the flattened image shows other files", err)
	}
	again, err := edit.Flatten(t.Context(), img, t.TempDir(), rootfs.Limits{})
	if err != nil || digest(t, again) != digest(t, out) {
		t.Errorf("%v; not the same when done again", err)
	}
}

func TestRebase(t *testing.T) {
	old, base := image(t, []string{"os=1"}), image(t, []string{"os=2"}, []string{"more=2"})
	layers := []mutate.Addendum{{Layer: layerOf(t, "app=1"), History: v1.History{CreatedBy: "COPY app"}}, {History: v1.History{CreatedBy: "CMD app", EmptyLayer: true}}}
	img, err := mutate.Append(old, layers...)
	if err != nil {
		t.Fatal(err)
	}
	out, err := edit.Rebase(img, old, base)
	if err != nil {
		t.Fatal(err)
	}
	sound(t, out)
	m, _ := out.Manifest()
	var history []string
	for _, h := range configOf(t, out).History {
		history = append(history, h.CreatedBy)
	}
	if got := strings.Join(history, ", "); len(m.Layers) != 3 || got != "COPY [os=2], ENV N=0, COPY [more=2], ENV N=1, COPY app, CMD app" {
		t.Errorf("%d layers, history %s", len(m.Layers), got)
	}
	if _, err := edit.Rebase(img, base, old); !fault.Has(err, edit.NotBased) {
		t.Errorf("not its base: %v", err)
	}
	arm, err := edit.Apply(base, edit.Change{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := edit.Rebase(img, old, arm); !fault.Has(err, edit.ChangeInvalid) {
		t.Errorf("base for another machine: %v", err)
	}
	// A docker image keeps its family on an OCI base.
	docker, err := edit.Convert(img, edit.Docker)
	if err != nil {
		t.Fatal(err)
	}
	oldDocker, err := edit.Convert(old, edit.Docker)
	if err != nil {
		t.Fatal(err)
	}
	if out, err = edit.Rebase(docker, oldDocker, base); err != nil {
		t.Fatal(err)
	}
	if m, _ = out.Manifest(); m.MediaType != types.DockerManifestSchema2 || m.Layers[0].MediaType != types.DockerLayer {
		t.Errorf("%+v", m)
	}
}

func TestOpenLayer(t *testing.T) {
	write := func(b []byte) string {
		p := filepath.Join(t.TempDir(), "layer.tar")
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	l, err := edit.OpenLayer(t.Context(), write(archive(t, "a=1")), t.TempDir(), edit.Docker, rootfs.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if kind, _ := l.MediaType(); kind != types.DockerLayer {
		t.Errorf("type %s", kind)
	}
	for name, file := range map[string]string{
		"leaves the image": write(archive(t, "../../etc/passwd=x")), "no archive": write([]byte(strings.Repeat("text", 1000))),
	} {
		if _, err := edit.OpenLayer(t.Context(), file, t.TempDir(), edit.OCI, rootfs.Limits{}); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "layer") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What was refused leaves no file behind in the directory.
	dir := t.TempDir()
	_, err = edit.NewLayer(t.Context(), dir, edit.OCI, rootfs.Limits{}, func(io.Writer) error { return io.ErrClosedPipe })
	if left, _ := os.ReadDir(dir); err == nil || len(left) != 0 {
		t.Errorf("%v, %d files left", err, len(left))
	}
}

func TestEach(t *testing.T) {
	idx := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range []v1.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}, {OS: "unknown", Architecture: "unknown"}} {
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: image(t, []string{"a=" + p.Architecture}), Descriptor: v1.Descriptor{Platform: &p}})
	}
	out, left, err := edit.Each(idx, func(img v1.Image) (v1.Image, error) {
		return edit.Apply(img, edit.Change{Env: []string{"NEW=1"}})
	})
	if err != nil || left != 1 {
		t.Fatalf("%v, %d left out", err, left)
	}
	m, err := out.IndexManifest()
	if err != nil || len(m.Manifests) != 2 || m.Manifests[1].Platform.Architecture != "arm64" {
		t.Fatalf("%v, %+v", err, m)
	}
	img, err := out.Image(m.Manifests[0].Digest)
	if err != nil || configOf(t, img).Config.Env[2] != "NEW=1" {
		t.Errorf("%v", err)
	}
}
