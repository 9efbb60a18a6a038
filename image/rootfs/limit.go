// Package rootfs reads the file system that the layers of an image add up to, without unpacking it: one file, a list, or
// all of it as one tar stream. Layers are read from the top down, whiteouts and replaced files are honoured, and reading
// ends as soon as the answer is known, so a small file of a large image costs a part of one layer.
//
// A layer is somebody else's archive. Every path is checked before it is used, what a layer may unpack to is bounded by
// [Limits], and nothing here writes to a disk. It knows no registry: it takes any image of go-containerregistry.
//
// Start reading at [Walk], then [Find].
//
// Spec: OCI image v1.1.1, layer.md.
package rootfs

import (
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/internal/inflate"
)

// Reasons of this room's failures.
const (
	LayerUnsafe   fault.Reason = "LAYER_UNSAFE"    // a path or link leaves the image, or a whiteout has no name
	LayerTooLarge fault.Reason = "LAYER_TOO_LARGE" // more bytes or entries than the limits allow
	LayerDamaged  fault.Reason = "LAYER_DAMAGED"   // not the archive that its type says, cut short, or of another digest
	FileUnknown   fault.Reason = "FILE_UNKNOWN"    // no such file in the image, or another kind of file
)

// Limits bound what an image may cost. A field of zero takes its value from Defaults.
type Limits struct {
	Bytes   int64 // decompressed bytes of all layers that one call reads
	Ratio   int64 // decompressed bytes for one compressed byte, once a layer has given more than Free
	Free    int64 // decompressed bytes of a layer before Ratio counts: a small archive of zeros is no bomb
	Entries int   // archive entries of all layers that one call reads
}

// Defaults are those of package inflate, far above what images have, and four million entries.
func Defaults() Limits { return Limits{}.orDefaults() }

func (l Limits) orDefaults() Limits {
	g := l.growth().OrDefaults()
	l.Bytes, l.Ratio, l.Free = g.Bytes, g.Ratio, g.Free
	if l.Entries == 0 {
		l.Entries = 4 << 20
	}
	return l
}

// growth are the limits of one layer.
func (l Limits) growth() inflate.Limits {
	return inflate.Limits{Bytes: l.Bytes, Ratio: l.Ratio, Free: l.Free}
}

// meter counts what one call has read, over all layers.
type meter struct {
	limits  Limits
	bytes   int64
	entries int
}

func (m *meter) entry(layer v1.Hash) error {
	if m.entries++; m.entries > m.limits.Entries {
		return fault.New(fault.TooLarge, LayerTooLarge, "layer %s: the image has more than %d files; raise --max-files if it is meant to", layer, m.limits.Entries)
	}
	return nil
}

// guard stops the decompressed stream of a layer that grows beyond the limits.
type guard struct {
	r      io.Reader
	meter  *meter
	layer  v1.Hash
	packed *inflate.Counter
	n      int64
}

func (g *guard) Read(p []byte) (int, error) {
	n, err := g.r.Read(p)
	g.n += int64(n)
	g.meter.bytes += int64(n)
	limits := g.meter.limits
	if g.meter.bytes > limits.Bytes {
		return 0, g.tooMuch()
	}
	if limits.growth().Bomb(g.n, g.packed.N) {
		return 0, g.bomb()
	}
	return n, err
}

func (g *guard) tooMuch() error {
	return fault.New(fault.TooLarge, LayerTooLarge, "layer %s: the image unpacks to more than %d bytes; raise --max-bytes if it is meant to", g.layer, g.meter.limits.Bytes)
}

func (g *guard) bomb() error {
	return fault.New(fault.TooLarge, LayerTooLarge,
		"layer %s unpacks to more than %d times its size, as an archive bomb does; raise --max-ratio if it is meant to", g.layer, g.meter.limits.Ratio)
}
