package oracle

import (
	"fmt"

	"github.com/berth-registry/berth/internal/testkit/stand"
)

// universe is everything that is ever pushed. It is small and all walkers share it, so that the same digests are pushed,
// deleted and collected again and again, in several repositories at once.
type universe struct {
	blobs     []stand.Blob
	images    []stand.Manifest
	indexes   []stand.Manifest
	referrers []stand.Manifest
	manifests map[string]stand.Manifest // all of them
	sizes     map[string]stand.Blob
	names     map[string]string // digest → what a report calls it
	tags      []string
}

const (
	inlineBytes = stand.InlineBytes
	blobCount   = 24
	imageCount  = 14
)

func newUniverse() *universe {
	u := &universe{manifests: map[string]stand.Manifest{}, sizes: map[string]stand.Blob{}, names: map[string]string{}}
	for i := range blobCount {
		size := []int{100, 4_000, inlineBytes, inlineBytes + 1, 70_000, 150_000}[i%6]
		b := stand.NewBlob(uint64(1000+i), size)
		u.blobs = append(u.blobs, b)
		u.sizes[b.Digest] = b
		u.names[b.Digest] = fmt.Sprintf("blob %d (%s, %d bytes)", i, b.Digest[:19], size)
	}
	for i := range imageCount {
		m := stand.NewImage(fmt.Sprint("image ", i), nil, u.blobs[i%blobCount], u.blobs[(i*5+3)%blobCount], u.blobs[(i*7+11)%blobCount])
		u.images = append(u.images, m)
	}
	for i := range 4 {
		u.indexes = append(u.indexes, stand.NewIndex(fmt.Sprint("index ", i), u.images[i], u.images[(i*3+4)%imageCount]))
	}
	for i := range 6 {
		subject := u.images[i%3]
		if i == 5 {
			subject = u.indexes[0]
		}
		u.referrers = append(u.referrers, stand.NewImage(fmt.Sprint("referrer ", i), &subject, u.blobs[(i*4)%blobCount], u.blobs[(i*4+1)%blobCount]))
	}
	for kind, list := range map[string][]stand.Manifest{"image": u.images, "index": u.indexes, "referrer": u.referrers} {
		for i, m := range list {
			u.manifests[m.Digest] = m
			u.names[m.Digest] = fmt.Sprintf("%s %d (%s)", kind, i, m.Digest[:19])
		}
	}
	for i := range 5 {
		u.tags = append(u.tags, fmt.Sprint("t", i))
	}
	return u
}

// name is what a report calls a digest.
func (u *universe) name(digest string) string {
	if n, ok := u.names[digest]; ok {
		return n
	}
	return digest
}

// keys are what an operation on a manifest touches.
func (u *universe) keys(digest string) []string {
	m := u.manifests[digest]
	all := append([]string{digest}, m.Blobs...)
	all = append(all, m.Children...)
	if m.Subject != "" {
		all = append(all, m.Subject)
	}
	return all
}
