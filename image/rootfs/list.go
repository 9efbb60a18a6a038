package rootfs

import (
	"archive/tar"
	"context"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/berth-registry/berth/fault"
)

// File is one line of a list.
type File struct {
	Path    string      `json:"path"` // with a leading slash
	Mode    fs.FileMode `json:"-"`
	Perm    string      `json:"mode"` // as ls -l has it
	UID     int         `json:"uid"`
	GID     int         `json:"gid"`
	Size    int64       `json:"size"` // bytes of a regular file, else 0
	ModTime time.Time   `json:"modified"`
	Link    string      `json:"link,omitempty"` // target of a symbolic or hard link
	Layer   string      `json:"layer"`          // digest of the layer that has it
}

// List gives what is in the directory dir of the image, or below it at any depth when deep is set, sorted by path. A dir
// that is no directory gives itself. Symbolic links on the way to dir are followed. It has to read every layer.
//
// It fails with FILE_UNKNOWN when there is no dir, and with Walk's reasons.
func List(ctx context.Context, img v1.Image, dir string, deep bool, limits Limits) ([]File, error) {
	files := map[string]File{}
	err := Walk(ctx, img, limits, func(e *Entry, _ io.Reader) error {
		f := describe(e)
		if e.Header.Typeflag == tar.TypeLink { // a second name has the size and mode of the first
			if t, ok := files[e.Header.Linkname]; ok {
				f.Size, f.Mode, f.Perm = t.Size, t.Mode, t.Perm
			}
		}
		files[e.Path] = f
		for p := path.Dir(e.Path); ; p = path.Dir(p) {
			if _, ok := files[p]; ok {
				break
			}
			files[p] = File{Path: "/" + strings.TrimPrefix(p, "."), Mode: fs.ModeDir | 0o755, Perm: (fs.ModeDir | 0o755).String()}
			if p == "." {
				break
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	at, err := resolve(files, dir)
	if err != nil {
		return nil, err
	}
	if !files[at].Mode.IsDir() {
		return []File{files[at]}, nil
	}
	var out []File
	for p, f := range files {
		if p == "." || p == at {
			continue
		}
		if parent := path.Dir(p); parent == at || deep && (at == "." || strings.HasPrefix(p, at+"/")) {
			out = append(out, f)
		}
	}
	slices.SortFunc(out, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

func describe(e *Entry) File {
	mode := e.Header.FileInfo().Mode()
	f := File{Path: "/" + e.Path, Mode: mode, Perm: mode.String(), UID: e.Header.Uid, GID: e.Header.Gid,
		ModTime: e.Header.ModTime.UTC(), Layer: e.Layer.String()}
	switch e.Header.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		f.Size = e.Header.Size
	case tar.TypeSymlink:
		f.Link = e.Header.Linkname
	case tar.TypeLink:
		f.Link = "/" + e.Header.Linkname
	}
	if e.Path == "." {
		f.Path = "/"
	}
	return f
}

// resolve follows the symbolic links of a path.
func resolve(files map[string]File, asked string) (string, error) {
	unknown := func() error {
		return fault.New(fault.NotFound, FileUnknown, "the image has no file %.200q", "/"+strings.TrimPrefix(asked, "/"))
	}
	left, ok := local(asked)
	if !ok {
		return "", fault.New(fault.Invalid, FileUnknown, "path %.200q leaves the image", asked)
	}
	at := "."
	for hops := 0; left != "." && left != ""; {
		name, rest, _ := strings.Cut(left, "/")
		p := path.Join(at, name)
		f, ok := files[p]
		switch {
		case !ok:
			return "", unknown()
		case f.Mode&fs.ModeSymlink != 0:
			if hops++; hops > maxHops {
				return "", fault.New(fault.Invalid, FileUnknown, "path %.200q goes through more than %d symbolic links", asked, maxHops)
			}
			target := f.Link
			if !strings.HasPrefix(target, "/") {
				target = path.Join("/", at, target)
			}
			at, left = ".", strings.TrimPrefix(path.Clean("/"+target+"/"+rest), "/")
		case rest != "" && !f.Mode.IsDir():
			return "", unknown()
		default:
			at, left = p, rest
		}
	}
	return at, nil
}
