package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
)

const (
	imageManifest = "application/vnd.oci.image.manifest.v1+json"
	imageIndex    = "application/vnd.oci.image.index.v1+json"
	imageConfig   = "application/vnd.oci.image.config.v1+json"
	imageLayer    = "application/vnd.oci.image.layer.v1.tar"
)

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// content makes the same bytes whenever it is asked, so that nobody has to hold them.
type content struct {
	seed uint64
	size int
}

func (c content) bytes() []byte {
	b := make([]byte, c.size)
	var key [32]byte
	for i := range 8 {
		key[i] = byte(c.seed >> (8 * i))
	}
	_, _ = rand.NewChaCha8(key).Read(b) // never fails
	return b
}

type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int    `json:"size"`
}

// manifest is what a writer pushes, and what has to be there with it.
type manifest struct {
	digest    string
	mediaType string
	body      []byte
	blobs     []string
}

func imageOf(name string, config descriptor, layers ...descriptor) manifest {
	m := manifest{blobs: []string{config.Digest}}
	for _, l := range layers {
		m.blobs = append(m.blobs, l.Digest)
	}
	m.mediaType, m.body = imageManifest, encode(map[string]any{
		"schemaVersion": 2, "mediaType": imageManifest, "config": config, "layers": append([]descriptor{}, layers...),
		"annotations": map[string]string{"org.opencontainers.image.title": name},
	})
	m.digest = digestOf(m.body)
	return m
}

// markOf is the smallest manifest: an index of nothing, with a name.
func markOf(name string) manifest {
	body := encode(map[string]any{
		"schemaVersion": 2, "mediaType": imageIndex, "manifests": []descriptor{},
		"annotations": map[string]string{"org.opencontainers.image.title": name},
	})
	return manifest{digest: digestOf(body), mediaType: imageIndex, body: body}
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // of maps and strings that we made
	}
	return b
}
