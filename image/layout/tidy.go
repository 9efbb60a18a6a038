package layout

import (
	"io/fs"
	"os"
	"regexp"
	"time"

	"github.com/berth-registry/berth/internal/durable"
)

// What a process that was killed leaves in a layout: parts of blobs, which the next PutBlob of the same blob takes up, and the
// files in which skopeo, podman and the library of both write blobs (oci-put-blob and a number), which nobody takes up.
var (
	partName    = regexp.MustCompile(`^\.[0-9a-f]{64,128}\.part(\.[a-z2-7]+)?$`)
	foreignName = regexp.MustCompile(`^oci-put-blob[0-9]+$`)
)

// partAge is how long the part of a blob waits for somebody who goes on, as long as uploads do in registries. foreignAge is how long a
// file of another program has not been written to before it is looked at: a transfer that stands still for longer has ended elsewhere.
const (
	partAge    = 7 * 24 * time.Hour
	foreignAge = 24 * time.Hour
)

// Tidy removes what killed processes left, and nothing that may be somebody's. Age alone proves nothing: a slow process may still
// write. So, of what is old enough, a part goes when its lock is free, for whoever writes one here holds it. Other programs take no lock; of
// theirs a file goes when the system says that no process has it open, and stays where it cannot say that. What cannot be removed stays.
func (l *Dir) Tidy(now time.Time) {
	old := func(name string, age time.Duration) bool {
		info, err := l.d.Lstat(name)
		return err == nil && info.Mode().IsRegular() && now.Sub(info.ModTime()) > age
	}
	for _, name := range l.names(".") {
		if foreignName.MatchString(name) && old(name, foreignAge) {
			l.removeUnused(name)
		}
	}
	for _, algorithm := range l.names(dirBlobs) {
		dir := dirBlobs + "/" + algorithm
		for _, name := range l.names(dir) {
			if partName.MatchString(name) && old(dir+"/"+name, partAge) {
				l.removeUnlocked(dir + "/" + name)
			}
		}
	}
}

func (l *Dir) names(dir string) []string {
	if info, err := l.d.Lstat(dir); err != nil || !info.IsDir() {
		return nil
	}
	names, _ := l.d.Names(dir) // what cannot be listed is not tidied
	return names
}

// removeUnlocked removes a file whose lock nobody holds, holding it.
func (l *Dir) removeUnlocked(name string) {
	f, err := l.d.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close() //nolint:errcheck // nothing was written
	if got, err := f.Lock(false); err != nil || !got || !l.same(f.Info, name) {
		return
	}
	_ = l.d.Remove(name)
}

// removeUnused removes a file that no other process has open, and sees to it that none opens it meanwhile.
func (l *Dir) removeUnused(name string) {
	f, err := l.d.Open(name)
	if err != nil {
		return
	}
	defer f.Close() //nolint:errcheck // nothing was written
	if durable.Unused(f) && l.same(f.Stat, name) {
		_ = l.d.Remove(name)
	}
}

// same reports whether an open file is still the one of that name.
func (l *Dir) same(stat func() (fs.FileInfo, error), name string) bool {
	mine, err := stat()
	named, err2 := l.d.Lstat(name)
	return err == nil && err2 == nil && os.SameFile(mine, named)
}
