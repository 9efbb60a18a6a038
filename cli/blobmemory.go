package cli

import (
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/blobinfocache"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// blobMemory remembers where registries have blobs: copy.Memory, in the file in which skopeo, podman and buildah do
// (blob-info-cache-v1.sqlite), with their words for places, so that what one of them saw the others need not send. Where that file
// cannot be written, it remembers until the process ends.
//
// A write waits for the disk, so it is done beside the copy; close waits for what is left. What is lost costs bytes only.
type blobMemory struct {
	sys   *types.SystemContext
	notes chan note
	done  chan struct{}

	once sync.Once
	file types.BlobInfoCache // nil until it is asked or told something
}

// note is one thing to remember.
type note struct {
	host string
	in   ref.Name
	d    oci.Digest
	sent bool
}

// manyNotes is how many things wait to be written; beyond them a slow disk would hold up the copy.
const manyNotes = 256

func newBlobMemory(sys *types.SystemContext) *blobMemory {
	m := &blobMemory{sys: sys, notes: make(chan note, manyNotes), done: make(chan struct{})}
	go func() {
		defer close(m.done)
		for n := range m.notes {
			m.write(n)
		}
	}()
	return m
}

func (m *blobMemory) open() types.BlobInfoCache {
	m.once.Do(func() {
		m.file = blobinfocache.DefaultCache(m.sys)
		if f, ok := m.file.(interface{ Open() }); ok { // else it opens its file for each question
			f.Open()
		}
	})
	return m.file
}

// scope and location are what the transport docker of the library calls a registry and a repository.
func scope(host string) types.BICTransportScope { return types.BICTransportScope{Opaque: host} }

func location(host string, in ref.Name) types.BICLocationReference {
	return types.BICLocationReference{Opaque: host + "/" + in.String()}
}

// Has are repositories of a host that had the blob.
func (m *blobMemory) Has(host string, d oci.Digest) (names []ref.Name) {
	for _, c := range m.open().CandidateLocations(docker.Transport, scope(host), digest.Digest(d.String()), false) {
		named, err := reference.ParseNormalizedNamed(c.Location.Opaque)
		if err != nil || reference.Domain(named) != host {
			continue // others write the file, too
		}
		if n, err := ref.ParseName(reference.Path(named)); err == nil {
			names = append(names, n)
		}
	}
	return names
}

// Remember notes that a repository has a blob.
func (m *blobMemory) Remember(host string, in ref.Name, d oci.Digest, sent bool) {
	select {
	case m.notes <- note{host, in, d, sent}:
	default: // see manyNotes
	}
}

// write writes what is new: a repository that helps where none is known, or where those that are known did not. Looking costs no sync.
func (m *blobMemory) write(n note) {
	f, d := m.open(), digest.Digest(n.d.String())
	for _, known := range f.CandidateLocations(docker.Transport, scope(n.host), d, false) {
		if known.Location == location(n.host, n.in) || !n.sent && strings.HasPrefix(known.Location.Opaque, n.host+"/") {
			return
		}
	}
	f.RecordKnownLocation(docker.Transport, scope(n.host), d, location(n.host, n.in))
}

// close ends the memory when nobody uses it any more.
func (m *blobMemory) close() {
	close(m.notes)
	<-m.done
	if f, ok := m.file.(interface{ Close() }); ok {
		f.Close()
	}
}
