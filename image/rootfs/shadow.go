package rootfs

import (
	"archive/tar"
	"path"
)

// kind is what one or more layers make of a path, for those below them.
type kind uint8

const (
	gone      kind = iota + 1 // removed, with all below it
	file                      // something that is no directory: hides the path and all below it
	implied                   // a directory, known by what is in it; one further down may say its mode
	directory                 // a directory; what is in it further down shows through
	emptied                   // as implied, and what is in it further down is hidden
	sealed                    // as directory, and what is in it further down is hidden
)

// shadow is what layers hide of those below them. It is used for one layer while it is read, and for all that were read.
type shadow map[string]kind

// sees reports whether an entry of a lower layer is seen.
func (s shadow) sees(p string, dir bool) bool {
	switch s[p] {
	case gone, file, directory, sealed:
		return false
	case implied, emptied:
		if !dir {
			return false
		}
	}
	for p != "." {
		p = path.Dir(p)
		switch s[p] {
		case gone, file, emptied, sealed:
			return false
		}
	}
	return true
}

// note takes an entry of the layer that s is about; above is what higher layers hide of it.
func (s shadow) note(e *Entry, m marker, above shadow) {
	k := kind(0)
	switch {
	case m == ignore:
		return
	case m == hide:
		k = gone
	case m == opaque:
		k = emptied
	case e.Header.Typeflag == tar.TypeDir:
		k = directory
	case above[e.Path] == directory, above[e.Path] == implied:
		k = emptied // the directory is not made of this file, nor of what is below the file's layer
	default:
		k = file
	}
	s[e.Path] = within(s[e.Path], k)
	for p := e.Path; p != "."; {
		p = path.Dir(p)
		old := s[p]
		if s[p] = within(old, implied); s[p] == old {
			return
		}
	}
}

// within joins two entries of one path in one layer. A whiteout speaks of the layers below, whatever the order.
func within(old, k kind) kind {
	switch {
	case old == 0 || k == file:
		return k
	case k == 0 || old == k:
		return old
	}
	removes := old == gone || old == emptied || old == sealed || k == gone || k == emptied || k == sealed
	stated := old == directory || old == sealed || k == directory || k == sealed
	switch {
	case old == file && k == directory:
		return sealed
	case old == file:
		return file
	case removes && stated:
		return sealed
	case removes:
		return emptied
	case stated:
		return directory
	}
	return implied
}

// lower joins what the next layer down makes of a path.
func (s shadow) lower(p string, k kind) {
	switch old := s[p]; old {
	case 0:
		s[p] = k
	case implied, directory, emptied:
		if k == file {
			k = emptied
		}
		s[p] = within(old, k)
	}
}
