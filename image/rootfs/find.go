package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/berth-registry/berth/fault"
)

// maxHops is how many symbolic links are followed for one path, as in Linux.
const maxHops = 40

// FindOptions say how Find looks.
type FindOptions struct {
	Limits Limits
	Keep   bool // give a symbolic link itself and not what it points at
	Verify bool // read the layer that has the file to its end, so that its digest is compared
}

// Find calls visit with the file that a container of the image would see at p, and its bytes when it is a regular file.
// Symbolic links are followed inside of the image, as after chroot. Layers are read from the top down until the file is
// found, and no further: without Verify the bytes come from a layer whose digest was not compared to the end, and a layer
// that has the path twice gives its first entry.
//
// It fails with FILE_UNKNOWN when there is no such file, and with Walk's reasons.
func Find(ctx context.Context, img v1.Image, p string, o FindOptions, visit func(*Entry, io.Reader) error) error {
	layers, err := img.Layers()
	if err != nil {
		return fmt.Errorf("rootfs: layers of the image: %w", err)
	}
	asked := p
	p, ok := local(p)
	if !ok {
		return fault.New(fault.Invalid, FileUnknown, "path %.200q leaves the image", asked)
	}
	m := &meter{limits: o.Limits.orDefaults()}
	for range maxHops {
		found, err := find(ctx, m, layers, p, maxHops, o, visit)
		switch {
		case err != nil:
			return err
		case found.ok:
			return nil
		case found.next == "":
			return fault.New(fault.NotFound, FileUnknown, "the image has no file %.200q", "/"+strings.TrimPrefix(asked, "/"))
		}
		p = found.next
	}
	return fault.New(fault.Invalid, FileUnknown, "path %.200q goes through more than %d symbolic links", asked, maxHops)
}

// outcome of a search: visited, or to be continued at another path, or neither.
type outcome struct {
	ok   bool
	next string
}

// find searches the layers for exactly p, through at most so many hard links.
func find(ctx context.Context, m *meter, layers []v1.Layer, p string, links int, o FindOptions, visit func(*Entry, io.Reader) error) (outcome, error) {
	above := shadow{} // of p and its parents only
	for i := len(layers) - 1; i >= 0; i-- {
		s := search{meter: m, layers: layers[:i+1], path: p, links: links, options: o, above: above, own: shadow{}, visit: visit}
		found, err := s.layer(ctx)
		if err != nil || found.ok || found.next != "" {
			return found, err
		}
		for q, k := range s.own {
			above.lower(q, k)
		}
		if !above.sees(p, true) {
			break
		}
	}
	if k := above[p]; p == "." || k == directory || k == implied || k == emptied || k == sealed { // known by what is in it
		h := &tar.Header{Typeflag: tar.TypeDir, Name: p, Mode: 0o755}
		return outcome{ok: true}, visit(&Entry{Path: p, Header: h}, nil)
	}
	return outcome{}, nil
}

// search is the look for one path in the highest of some layers.
type search struct {
	meter   *meter
	layers  []v1.Layer
	path    string
	links   int
	options FindOptions
	above   shadow
	own     shadow
	visit   func(*Entry, io.Reader) error
}

func (s *search) layer(ctx context.Context) (outcome, error) {
	number := len(s.layers) - 1
	l, err := s.meter.open(ctx, s.layers[number], number)
	if err != nil {
		return outcome{}, err
	}
	defer l.close()
	for {
		e, mark, err := l.next()
		if errors.Is(err, io.EOF) {
			return outcome{}, l.finish()
		}
		if err != nil {
			return outcome{}, err
		}
		if !s.concerns(e.Path) {
			continue
		}
		s.own.note(e, mark, s.above)
		dir := e.Header.Typeflag == tar.TypeDir
		if mark != plain || !s.above.sees(e.Path, dir) {
			continue
		}
		switch {
		case e.Path == s.path:
			return s.found(ctx, l, e)
		case e.Header.Typeflag == tar.TypeSymlink && strings.HasPrefix(s.path, e.Path+"/"):
			return outcome{next: along(e, strings.TrimPrefix(s.path, e.Path))}, nil
		}
	}
}

// concerns reports whether an entry can decide about the path: the path itself, a parent, or what is in it.
func (s *search) concerns(p string) bool {
	return p == s.path || strings.HasPrefix(s.path, p+"/") || strings.HasPrefix(p, s.path+"/") || s.path == "." || p == "."
}

func (s *search) found(ctx context.Context, l *layer, e *Entry) (outcome, error) {
	switch e.Header.Typeflag {
	case tar.TypeSymlink:
		if !s.options.Keep {
			return outcome{next: along(e, "")}, nil
		}
	case tar.TypeLink:
		if s.links == 0 {
			return outcome{}, fault.New(fault.Invalid, LayerDamaged, "layer %s has at %.200q a hard link that leads to itself", e.Layer, e.Path)
		}
		// The file is where the link was made: in this layer or below, whatever layers above made of its name.
		return find(ctx, s.meter, s.layers, e.Header.Linkname, s.links-1, s.options, func(t *Entry, r io.Reader) error {
			h := *t.Header
			h.Name = e.Path
			return s.visit(&Entry{Path: e.Path, Layer: t.Layer, Number: t.Number, Header: &h}, r)
		})
	}
	if err := s.visit(e, l.content()); err != nil {
		return outcome{}, err
	}
	if s.options.Verify {
		return outcome{ok: true}, l.finish()
	}
	return outcome{ok: true}, nil
}

// along is where a symbolic link leads, with the rest of the path behind it. It never leaves the root.
func along(e *Entry, rest string) string {
	target := e.Header.Linkname
	if !strings.HasPrefix(target, "/") {
		target = path.Dir("/"+e.Path) + "/" + target
	}
	if p := path.Clean("/" + target + rest); p != "/" {
		return p[1:]
	}
	return "." // the root has no other name here
}
