package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/berth-registry/berth/fault"
)

// Walk calls visit for every file that a container of the image would see, with its bytes when it is a regular file. The
// order is that of the layers from the top down and, inside of one, that of the archive; a hard link comes after its
// target. The reader is valid during the call. An error of visit ends the walk and is returned as it is.
//
// A hard link whose target was replaced by a higher layer comes as a regular file with the content it was linked to.
// Every layer is read to its end, so its digest has been compared when Walk returns nil.
//
// It fails with LAYER_UNSAFE, LAYER_TOO_LARGE or LAYER_DAMAGED; what was visited until then must be thrown away.
//
// Spec: OCI image v1.1.1, layer.md, "Applying Changesets" and "Whiteouts".
func Walk(ctx context.Context, img v1.Image, limits Limits, visit func(*Entry, io.Reader) error) error {
	layers, err := img.Layers()
	if err != nil {
		return fmt.Errorf("rootfs: layers of the image: %w", err)
	}
	w := walker{meter: &meter{limits: limits.orDefaults()}, layers: layers, above: shadow{}, visit: visit}
	for i := len(layers) - 1; i >= 0; i-- {
		if err := w.layer(ctx, i); err != nil {
			return err
		}
	}
	for _, e := range w.late { // links to files of layers below their own
		if w.above[e.Header.Linkname] != file {
			return fault.New(fault.Invalid, LayerDamaged, "layer %s has at %.200q a hard link to %.200q, which the image does not have", e.Layer, e.Path, e.Header.Linkname)
		}
		if err := visit(e, nil); err != nil {
			return err
		}
	}
	return nil
}

type walker struct {
	meter  *meter
	layers []v1.Layer
	above  shadow // of the layers that were read
	late   []*Entry
	visit  func(*Entry, io.Reader) error
}

// layer visits what is seen of one layer. Two entries of one path in one layer are both visited: whoever unpacks what he
// is given ends with the second, as whoever unpacks the layer.
func (w *walker) layer(ctx context.Context, i int) error {
	l, err := w.meter.open(ctx, w.layers[i], i)
	if err != nil {
		return err
	}
	defer l.close()
	own, links, orphans := shadow{}, map[string]string{}, []*Entry(nil)
	for {
		e, mark, err := l.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		own.note(e, mark, w.above)
		if e.Header.Typeflag == tar.TypeLink {
			if t, ok := links[e.Header.Linkname]; ok { // the name of a name
				e.Header.Linkname = t
			}
			if e.Header.Linkname == e.Path {
				return fault.New(fault.Invalid, LayerDamaged, "layer %s has at %.200q a hard link that leads to itself", e.Layer, e.Path)
			}
			links[e.Path] = e.Header.Linkname
		}
		if mark != plain || !w.above.sees(e.Path, e.Header.Typeflag == tar.TypeDir) {
			continue
		}
		if e.Header.Typeflag == tar.TypeLink {
			switch target := e.Header.Linkname; {
			case !w.above.sees(target, false):
				orphans = append(orphans, e)
				continue
			case own[target] != file:
				w.late = append(w.late, e)
				continue
			}
		}
		if err := w.visit(e, l.content()); err != nil {
			return err
		}
	}
	if err := l.finish(); err != nil {
		return err
	}
	if err := w.adopt(ctx, i, orphans); err != nil {
		return err
	}
	for p, k := range own {
		w.above.lower(p, k)
	}
	return nil
}

// adopt visits links whose targets are replaced above their layer: the first one of a target as a file with the content of
// the target, the others as links to the first.
func (w *walker) adopt(ctx context.Context, i int, orphans []*Entry) error {
	first := map[string]string{}
	for _, e := range orphans {
		target := e.Header.Linkname
		if p, ok := first[target]; ok {
			e.Header.Linkname = p
			if err := w.visit(e, nil); err != nil {
				return err
			}
			continue
		}
		first[target] = e.Path
		found, err := find(ctx, w.meter, w.layers[:i+1], target, maxHops, FindOptions{Verify: true}, func(t *Entry, r io.Reader) error {
			h := *t.Header
			h.Name = e.Path
			return w.visit(&Entry{Path: e.Path, Layer: e.Layer, Number: e.Number, Header: &h}, r)
		})
		if err != nil {
			return err
		}
		if !found.ok {
			return fault.New(fault.Invalid, LayerDamaged, "layer %s has at %.200q a hard link to %.200q, which the image does not have", e.Layer, e.Path, target)
		}
	}
	return nil
}
