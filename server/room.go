package server

import (
	"context"
	"os"
	"path/filepath"

	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/fs"
)

// room watches the disks of the blobs and of the database. A store without an end is asked nothing.
func (s *Server) room() *blob.Room {
	var disks []blob.Spacer
	if d, ok := s.blobs.(blob.Spacer); ok {
		disks = append(disks, d)
	}
	if s.conf.Berth.Database.URL.Reveal() == "" && s.conf.Storage.InMemory == nil {
		disks = append(disks, databaseDisk{s.conf.Berth.Data}) // also when the blobs are in a bucket
	}
	return blob.NewRoom(s.o.Now, disks...)
}

// databaseDisk is the disk that SQLite is on. What is in its log has yet to be copied into the database, which grows by
// as much: that is no free space any more.
type databaseDisk struct{ dir string }

// Space implements blob.Spacer.
func (d databaseDisk) Space(ctx context.Context) (blob.Space, error) {
	space, err := fs.Disk(d.dir).Space(ctx)
	if info, statErr := os.Stat(filepath.Join(d.dir, "berth.db-wal")); statErr == nil {
		space.Free -= info.Size()
	}
	return space, err
}
