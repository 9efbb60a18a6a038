package cli

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-registry/berth/image/layout"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// sample is the image of berth demo: an index of two platforms that share a layer of two megabytes, and have a small one each.
type sample struct {
	index oci.Descriptor
	files []sampleFile
}

// sampleFile is a file of the image, for its SBOM.
type sampleFile struct {
	path, sha256 string
}

// sampleBytes is how large the shared layer is: enough to see it go.
const sampleBytes = 2 << 20

// writeSample makes the sample in an OCI layout under the name latest: the same bytes for the same moment.
func writeSample(ctx context.Context, dir string, now time.Time) (*sample, error) {
	l, err := layout.CreateDir(dir)
	if err != nil {
		return nil, err
	}
	defer l.Close() //nolint:errcheck // what is written is on the disk
	s := &sample{}
	data := make([]byte, sampleBytes)
	_, _ = rand.NewChaCha8([32]byte{'b', 'e', 'r', 't', 'h'}).Read(data) // never fails
	shared, err := s.layer(ctx, l, "usr/share/demo/sample.bin", data)
	if err != nil {
		return nil, err
	}
	var children []imgspec.Descriptor
	for _, arch := range []string{"amd64", "arm64"} {
		text := fmt.Sprintf("This image was made by berth demo to try a registry. It holds two files and does nothing, on linux/%s.\n", arch)
		own, err := s.layer(ctx, l, "README."+arch, []byte(text))
		if err != nil {
			return nil, err
		}
		child, err := s.image(ctx, l, arch, now, shared, own)
		if err != nil {
			return nil, err
		}
		children = append(children, child)
	}
	body, err := json.Marshal(imgspec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imgspec.MediaTypeImageIndex, Manifests: children,
		Annotations: map[string]string{imgspec.AnnotationTitle: "berth demo"}})
	if err != nil {
		return nil, err
	}
	s.index = describe(imgspec.MediaTypeImageIndex, body)
	return s, l.PutManifest(ctx, ref.Reference{Tag: "latest"}, s.index, body)
}

func describe(mediaType string, body []byte) oci.Descriptor {
	return oci.Descriptor{MediaType: mediaType, Digest: oci.FromBytes(oci.SHA256, body), Size: int64(len(body))}
}

// put writes a blob.
func put(ctx context.Context, l *layout.Dir, mediaType string, body []byte) (imgspec.Descriptor, error) {
	d := describe(mediaType, body)
	_, err := l.PutBlob(ctx, d, nil, func(_ context.Context, from int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(body[from:])), nil
	})
	return imgspec.Descriptor{MediaType: mediaType, Digest: digest.Digest(d.Digest.String()), Size: d.Size}, err
}

// layer writes a layer of one file, as a plain tar: what it has is not to be compressed.
func (s *sample) layer(ctx context.Context, l *layout.Dir, path string, content []byte) (imgspec.Descriptor, error) {
	var buf bytes.Buffer
	t := tar.NewWriter(&buf)
	err := t.WriteHeader(&tar.Header{Name: path, Mode: 0o644, Size: int64(len(content)), ModTime: time.Unix(0, 0)})
	if err == nil {
		_, err = t.Write(content)
	}
	if err = errors.Join(err, t.Close()); err != nil {
		return imgspec.Descriptor{}, err
	}
	s.files = append(s.files, sampleFile{path, oci.FromBytes(oci.SHA256, content).Hex()})
	return put(ctx, l, imgspec.MediaTypeImageLayer, buf.Bytes())
}

func (s *sample) image(ctx context.Context, l *layout.Dir, arch string, now time.Time, layers ...imgspec.Descriptor) (imgspec.Descriptor, error) {
	created := now.UTC().Truncate(time.Second)
	platform := imgspec.Platform{Architecture: arch, OS: "linux"}
	config := imgspec.Image{Created: &created, Platform: platform, RootFS: imgspec.RootFS{Type: "layers"},
		Config: imgspec.ImageConfig{Labels: map[string]string{imgspec.AnnotationTitle: "berth demo"}}}
	for _, layer := range layers { // which are not compressed, so that they are what they unpack to
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, layer.Digest)
	}
	body, err := json.Marshal(config)
	if err != nil {
		return imgspec.Descriptor{}, err
	}
	at, err := put(ctx, l, imgspec.MediaTypeImageConfig, body)
	if err != nil {
		return imgspec.Descriptor{}, err
	}
	body, err = json.Marshal(imgspec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imgspec.MediaTypeImageManifest, Config: at, Layers: layers})
	if err != nil {
		return imgspec.Descriptor{}, err
	}
	d := describe(imgspec.MediaTypeImageManifest, body)
	out := imgspec.Descriptor{MediaType: d.MediaType, Digest: digest.Digest(d.Digest.String()), Size: d.Size, Platform: &platform}
	return out, l.PutManifest(ctx, ref.Reference{Digest: d.Digest}, d, body)
}

// sbom is an SPDX document about the sample, which was made here: it knows every file.
//
// Spec: SPDX 2.3.
func (s *sample) sbom(name string, now time.Time) any {
	type object = map[string]any
	var files, has []object
	for i, f := range s.files {
		id := fmt.Sprintf("SPDXRef-File-%d", i)
		files = append(files, object{"SPDXID": id, "fileName": "./" + f.path, "checksums": []object{{"algorithm": "SHA256", "checksumValue": f.sha256}},
			"licenseConcluded": "Apache-2.0", "copyrightText": "NOASSERTION"})
		has = append(has, object{"spdxElementId": "SPDXRef-Image", "relationshipType": "CONTAINS", "relatedSpdxElement": id})
	}
	return object{
		"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": name,
		"documentNamespace": "https://spdx.org/spdxdocs/berth-demo-" + s.index.Digest.Hex(),
		"creationInfo":      object{"created": now.UTC().Format(time.RFC3339), "creators": []string{"Tool: berth demo"}},
		"packages": []object{{"SPDXID": "SPDXRef-Image", "name": "berth-demo", "versionInfo": s.index.Digest.String(), "downloadLocation": "NOASSERTION",
			"filesAnalyzed": false, "licenseConcluded": "Apache-2.0", "primaryPackagePurpose": "CONTAINER"}},
		"files":         files,
		"relationships": append([]object{{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-Image"}}, has...),
	}
}
