package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
)

const (
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
	typeEmpty    = "application/vnd.oci.empty.v1+json"
	layersPerImg = 3
	layerSize    = 16 << 10
	streamBlock  = 1 << 20
	streamStamp  = 32 << 10
)

// content is a blob or a manifest with its name.
type content struct {
	digest string
	data   []byte
}

func newContent(data []byte) content {
	sum := sha256.Sum256(data)
	return content{digest: "sha256:" + hex.EncodeToString(sum[:]), data: data}
}

// mix is splitmix64: one step of a generator whose every state gives an unrelated output.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// fillRandom fills p with bytes that depend on seed only.
func fillRandom(p []byte, seed uint64) {
	state := mix(seed)
	for len(p) >= 8 {
		state += 0x9e3779b97f4a7c15
		binary.LittleEndian.PutUint64(p, mix(state))
		p = p[8:]
	}
	for i := range p {
		p[i] = byte(mix(state + uint64(i)))
	}
}

// newBlob is a blob of pseudo-random bytes.
func newBlob(size int, seed uint64) content {
	data := make([]byte, size)
	fillRandom(data, seed)
	return newContent(data)
}

// image is a small image: a config, three layers and their manifest.
type image struct {
	blobs    []content // the config first
	manifest content
}

// newImage makes the image of a seed; two seeds share no byte string.
func newImage(seed uint64) image { return newImageOf(seed, layerSize) }

// newImageOf is newImage with layers of another size.
func newImageOf(seed uint64, layer int) image {
	img := image{blobs: make([]content, 0, layersPerImg+1)}
	config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","created":"2026-01-01T00:00:00Z","config":{"Env":["PATH=/usr/bin"],"Labels":{"seed":"%d"}},`+
		`"rootfs":{"type":"layers","diff_ids":[]},"history":[]}`, seed)
	img.blobs = append(img.blobs, newContent([]byte(config)))
	for i := range layersPerImg {
		img.blobs = append(img.blobs, newBlob(layer, seed*layersPerImg+uint64(i)))
	}
	m := make([]byte, 0, 1024)
	m = fmt.Appendf(m, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[`,
		typeManifest, typeConfig, img.blobs[0].digest, len(img.blobs[0].data))
	for i, l := range img.blobs[1:] {
		if i > 0 {
			m = append(m, ',')
		}
		m = fmt.Appendf(m, `{"mediaType":%q,"digest":%q,"size":%d}`, typeLayer, l.digest, len(l.data))
	}
	img.manifest = newContent(append(m, "]}"...))
	return img
}

// newEmptyIndex is the cheapest valid manifest: an index that lists nothing.
func newEmptyIndex(note string) content {
	return newContent(fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[],"annotations":{"note":%q}}`, typeIndex, note))
}

// newReferrer is an artifact manifest that points at subject.
func newReferrer(subject content, n int) content {
	empty := newContent([]byte("{}"))
	return newContent(fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"artifactType":"application/vnd.example.sbom","config":{"mediaType":%q,"digest":%q,"size":2},`+
		`"layers":[{"mediaType":%q,"digest":%q,"size":2}],"subject":{"mediaType":%q,"digest":%q,"size":%d},"annotations":{"n":"%d"}}`,
		typeManifest, typeEmpty, empty.digest, typeEmpty, empty.digest, typeManifest, subject.digest, len(subject.data), n))
}

// large is a blob too big to hold: one random block repeated, each 32 KiB of it stamped with seed and offset, so that making
// it costs next to nothing and no two parts are equal. A multiple of 1 MiB.
type large struct {
	size   int64
	seed   uint64
	digest string
}

// newLarge computes the digest by one pass over the bytes (0.6 s per GiB).
func newLarge(size int64, seed uint64) large {
	l := large{size: size, seed: seed}
	h := sha256.New()
	_ = l.writeTo(h) // a hash does not fail
	l.digest = "sha256:" + hex.EncodeToString(h.Sum(nil))
	return l
}

func (l large) writeTo(w io.Writer) error { return l.writeRange(w, 0, l.size) }

// writeRange writes the bytes from from up to but not including to, both multiples of 1 MiB.
func (l large) writeRange(w io.Writer, from, to int64) error {
	block := make([]byte, streamBlock)
	fillRandom(block, l.seed)
	for off := from; off < to; off += streamBlock {
		for i := 0; i < streamBlock; i += streamStamp {
			binary.LittleEndian.PutUint64(block[i:], l.seed)
			binary.LittleEndian.PutUint64(block[i+8:], uint64(off)+uint64(i))
		}
		if _, err := w.Write(block); err != nil {
			return err
		}
	}
	return nil
}
