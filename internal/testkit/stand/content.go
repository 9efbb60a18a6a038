package stand

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
)

// The media types of what is pushed.
const (
	ImageManifest = "application/vnd.oci.image.manifest.v1+json"
	ImageIndex    = "application/vnd.oci.image.index.v1+json"
	configType    = "application/vnd.oci.image.config.v1+json"
	layerType     = "application/vnd.oci.image.layer.v1.tar"
)

// Blob is content that its seed makes again, so that nobody has to hold the bytes.
type Blob struct {
	Seed   uint64
	Size   int
	Digest string
}

// NewBlob is the blob of a seed, of size bytes.
func NewBlob(seed uint64, size int) Blob {
	b := Blob{Seed: seed, Size: size}
	b.Digest = DigestOf(b.Bytes())
	return b
}

// Bytes are those of the blob.
func (b Blob) Bytes() []byte {
	out := make([]byte, b.Size)
	var key [32]byte
	for i := range 8 {
		key[i] = byte(b.Seed >> (8 * i))
	}
	_, _ = rand.NewChaCha8(key).Read(out) // it never fails
	return out
}

// Descriptor is as the specification has it, without what is optional.
type Descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int    `json:"size"`
}

// Manifest is a manifest or index, and what it names.
type Manifest struct {
	Digest    string
	MediaType string
	Body      []byte
	Blobs     []string // config and layers
	Children  []string // manifests of an index
	Subject   string
}

// Describe is the descriptor of a manifest.
func (m Manifest) Describe() Descriptor { return Descriptor{m.MediaType, m.Digest, len(m.Body)} }

// NewImage is an image of the first blob as its config and the others as layers. subject may be nil.
func NewImage(title string, subject *Manifest, blobs ...Blob) Manifest {
	m := Manifest{MediaType: ImageManifest}
	layers := []Descriptor{}
	for _, b := range blobs {
		m.Blobs = append(m.Blobs, b.Digest)
		layers = append(layers, Descriptor{layerType, b.Digest, b.Size})
	}
	layers[0].MediaType = configType
	content := map[string]any{
		"schemaVersion": 2, "mediaType": ImageManifest, "config": layers[0], "layers": layers[1:],
		"annotations": map[string]string{"org.opencontainers.image.title": title},
	}
	if subject != nil {
		m.Subject = subject.Digest
		content["subject"] = subject.Describe()
	}
	return m.with(content)
}

// NewIndex is an index of manifests.
func NewIndex(title string, children ...Manifest) Manifest {
	m := Manifest{MediaType: ImageIndex}
	list := []Descriptor{}
	for _, c := range children {
		m.Children = append(m.Children, c.Digest)
		list = append(list, c.Describe())
	}
	return m.with(map[string]any{
		"schemaVersion": 2, "mediaType": ImageIndex, "manifests": list,
		"annotations": map[string]string{"org.opencontainers.image.title": title},
	})
}

func (m Manifest) with(content map[string]any) Manifest {
	body, err := json.Marshal(content)
	if err != nil {
		panic(err) // of maps, numbers and strings that we made
	}
	m.Body, m.Digest = body, DigestOf(body)
	return m
}

// DigestOf is the sha256 digest of bytes.
func DigestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}
