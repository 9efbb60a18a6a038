package metadb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"github.com/berth-registry/berth/internal/durable"
)

// intakeLog is a lane's part of the log: two files beside the database, written in turn: while one is filled the rows of
// the other become durable, and then it is filled again in place, which costs a sync no allocation. Both are removed by a
// clean close.
//
// A file begins with a header: magic, salt, the number of its first entry, checksum. Entries follow. The salt is that of
// the log which the database names (intakeSetting), so that a log is never applied to a database that was put in its
// place. Numbers ascend, so that what an earlier turn left behind the end is told from what follows it; a checksum ends
// what was torn.
type intakeLog struct {
	path    string // without the number of the file
	files   [2]*os.File
	size    [2]int64
	last    [2]uint64 // number of the last entry in the file
	active  int
	settled atomic.Uint64 // rows are durable up to this number
	broken  bool          // a sync failed; known to who writes
	buf     []byte
}

const (
	intakeMagic  = "berthin2"
	intakeHeader = 8 + 8 + 8 + 4
	intakeRecord = 4 + 4 + 8 + 8 + 8 + 8 + 1 + 1 // before digest and content
	intakeTurn   = 1 << 20                       // bytes after which the other file is used, when it is free
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

func intakePath(path string, i int) string { return fmt.Sprintf("%s%d", path, i) }

// intakePaths are all files of a log.
func intakePaths(path string) (all []string) {
	for lane := range intakeLanes {
		for i := range 2 {
			all = append(all, intakePath(intakePath(path, lane), i))
		}
	}
	return all
}

// Beside are the files that belong to a SQLite database at path and lie beside it. Without the database they are what is left
// of another one, which must not be taken for its own by one that is put in the place.
func Beside(path string) (found []string, err error) {
	for _, p := range append(intakePaths(path+"-intake"), path+"-wal", path+"-shm", path+"-journal") {
		if _, err := os.Lstat(p); err == nil {
			found = append(found, p)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return found, nil
}

// append writes entries, in the order of their numbers, and returns when they are durable.
func (l *intakeLog) append(salt uint64, es []*intakeEntry) error {
	if l.broken {
		return errors.New("an earlier sync failed")
	}
	if other := 1 - l.active; l.size[l.active] >= intakeTurn && l.last[other] <= l.settled.Load() {
		l.active, l.size[other] = other, 0
	}
	f, err := l.open(l.active)
	if err != nil {
		return err
	}
	l.buf = l.buf[:0]
	if l.size[l.active] == 0 {
		l.buf = appendIntakeHeader(l.buf, salt, es[0].number)
	}
	for _, e := range es {
		l.buf = appendIntakeEntry(l.buf, e)
	}
	if _, err := f.WriteAt(l.buf, l.size[l.active]); err != nil {
		return err
	}
	if err := durable.SyncData(f); err != nil {
		l.broken = true
		return err
	}
	l.size[l.active] += int64(len(l.buf))
	l.last[l.active] = es[len(es)-1].number
	if cap(l.buf) > 1<<20 {
		l.buf = nil
	}
	return nil
}

// open gives the file, made when it is not there.
func (l *intakeLog) open(i int) (*os.File, error) {
	if l.files[i] != nil {
		return l.files[i], nil
	}
	f, err := os.OpenFile(intakePath(l.path, i), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	dir, err := os.Open(filepath.Dir(l.path))
	if err == nil {
		err = errors.Join(dir.Sync(), dir.Close())
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	l.files[i] = f
	return f, nil
}

// close ends the log; remove says that the database has everything.
func (l *intakeLog) close(remove bool) {
	for _, f := range l.files {
		if f != nil {
			_ = f.Close()
		}
	}
	if remove {
		_ = removeFiles(intakePath(l.path, 0), intakePath(l.path, 1))
	}
}

func removeFiles(paths ...string) error {
	var errs []error
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func appendIntakeHeader(b []byte, salt, first uint64) []byte {
	start := len(b)
	b = append(b, intakeMagic...)
	b = binary.LittleEndian.AppendUint64(b, salt)
	b = binary.LittleEndian.AppendUint64(b, first)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], crcTable))
}

// appendIntakeEntry writes checksum, length of what follows both, number, repository, time, lease, kind,
// digest, content.
func appendIntakeEntry(b []byte, e *intakeEntry) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(intakeRecord-8+len(e.digest)+len(e.content)))
	for _, n := range []uint64{e.number, uint64(e.repoID), uint64(e.at), uint64(e.lease)} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	kind := byte(0)
	if e.link {
		kind = 1
	}
	b = append(b, kind, byte(len(e.digest)))
	b = append(b, e.digest...)
	b = append(b, e.content...)
	binary.LittleEndian.PutUint32(b[start:], crc32.Checksum(b[start+4:], crcTable))
	return b
}

// readIntake reads what a log of this salt has behind a number, in order. Files of another log have nothing.
func readIntake(path string, salt, after uint64) ([]*intakeEntry, error) {
	var all []*intakeEntry
	for _, path := range intakePaths(path) {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range parseIntake(data, salt) {
			if e.number > after {
				all = append(all, e)
			}
		}
	}
	slices.SortFunc(all, func(a, b *intakeEntry) int { return int(int64(a.number - b.number)) })
	return all, nil
}

// parseIntake reads the entries of a file up to its end or the first that is not whole.
func parseIntake(data []byte, salt uint64) []*intakeEntry {
	u64 := binary.LittleEndian.Uint64
	if len(data) < intakeHeader || string(data[:8]) != intakeMagic || u64(data[8:]) != salt ||
		crc32.Checksum(data[:intakeHeader-4], crcTable) != binary.LittleEndian.Uint32(data[intakeHeader-4:]) {
		return nil
	}
	var es []*intakeEntry
	atLeast := u64(data[16:])
	for rest := data[intakeHeader:]; len(rest) >= intakeRecord; {
		n := int(binary.LittleEndian.Uint32(rest[4:]))
		if n < intakeRecord-8 || n > len(rest)-8 {
			break
		}
		record := rest[:8+n]
		rest = rest[8+n:]
		if crc32.Checksum(record[4:], crcTable) != binary.LittleEndian.Uint32(record) {
			break
		}
		digestEnd := intakeRecord + int(record[intakeRecord-1])
		if digestEnd > len(record) {
			break
		}
		e := &intakeEntry{
			number: u64(record[8:]), repoID: int64(u64(record[16:])), at: int64(u64(record[24:])), lease: int64(u64(record[32:])),
			link: record[intakeRecord-2] == 1, digest: string(record[intakeRecord:digestEnd]), content: record[digestEnd:],
		}
		if e.number < atLeast {
			break
		}
		atLeast = e.number + 1
		es = append(es, e)
	}
	return es
}
