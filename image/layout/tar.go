package layout

import (
	"archive/tar"
	"io"
	"path"
	"strings"
)

// Bounds of the memory that the headers of an archive take.
const (
	maxArchiveEntries = 1_000_000
	maxArchiveName    = 4096 // bytes
)

// walkTar reads the headers of an archive and calls each for every file, with its name below the root of the archive and its content. What
// two readers could understand in two ways is refused, and what is larger when it is unpacked than in the archive: names that
// are there twice, or as a file and as a link; sparse files; and endless names and lists. Blobs may be there twice, for their
// digests say what they are. Links and devices that stand alone are not called for: nothing of an image is one.
func walkTar(archive string, r io.Reader, each func(name string, h *tar.Header, content io.Reader) error) error {
	kinds := map[string]byte{}
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			if reasoned(err) {
				return err
			}
			return spoiled("archive %s is damaged or cut off: %s", archive, err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if len(h.Name) > maxArchiveName {
			return damaged("archive %s has a name of %d bytes; at most %d are read", archive, len(h.Name), maxArchiveName)
		}
		name := path.Clean(strings.TrimPrefix(h.Name, "./"))
		if sparse(h) {
			return damaged("archive %s has %s as a sparse file; write the archive without them (tar without --sparse)", archive, plainName(name))
		}
		kind := byte(tar.TypeReg)
		switch h.Typeflag {
		case tar.TypeReg:
		case tar.TypeDir:
			kind = tar.TypeDir
		default:
			kind = tar.TypeSymlink // or anything else that is not content
		}
		was, twice := kinds[name]
		if twice && (was != kind || kind == tar.TypeReg && !strings.HasPrefix(name, dirBlobs+"/")) {
			return damaged("archive %s has %s twice", archive, plainName(name))
		}
		if kinds[name] = kind; len(kinds) > maxArchiveEntries {
			return damaged("archive %s has more than %d files", archive, maxArchiveEntries)
		}
		if kind != tar.TypeReg {
			continue
		}
		if err := each(name, h, t); err != nil {
			return err
		}
	}
}

// sparse reports whether a file is larger than what the archive has of it. tar has three ways to say so.
func sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}
