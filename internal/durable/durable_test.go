package durable_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/berth-registry/berth/internal/durable"
)

var errDisk = errors.New("the disk is gone")

// journal is a hook that writes down what happens, and fails the operations on names that fail names.
type journal struct {
	mu    sync.Mutex
	lines []string
	fail  map[durable.Op]error
	only  string // the name that fails; "" is every one
}

func (j *journal) hook(op durable.Op, name, to string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.only != "" && name != j.only {
		return nil
	}
	j.lines = append(j.lines, strings.TrimSpace(fmt.Sprint(op, " ", name, " ", to)))
	return j.fail[op]
}

func opened(t *testing.T, path string, hook durable.Hook) *durable.Dir {
	t.Helper()
	d, err := durable.OpenDir(path, hook)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func written(t *testing.T, d *durable.Dir, name, content string) *durable.File {
	t.Helper()
	f, err := d.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(content), 0); err != nil {
		t.Fatal(err)
	}
	return f
}

func requireFile(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s holds %q, %v; want %q", filepath.Base(path), got, err, want)
	}
}

func requireNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("directory holds %v, want %v", got, want)
	}
}

func TestPublishOrder(t *testing.T) {
	var j journal
	dir := t.TempDir()
	d := opened(t, dir, j.hook)
	if err := d.Mkdir("sub", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.Publish(written(t, d, "temp", "content"), "sub/name"); err != nil {
		t.Fatal(err)
	}
	want := []string{"mkdir sub", "syncdir .", "open temp", "write temp", "sync temp", "rename temp sub/name", "syncdir sub"}
	if !slices.Equal(j.lines, want) {
		t.Errorf("%q, want %q", j.lines, want)
	}
	requireFile(t, filepath.Join(dir, "sub/name"), "content")
}

// Whatever fails, the name holds all of the old content or all of the new, and nothing else is left behind.
func TestPublishFails(t *testing.T) {
	for op, after := range map[durable.Op]string{durable.OpSync: "old", durable.OpRename: "old", durable.OpSyncDir: "new"} {
		t.Run(string(op), func(t *testing.T) {
			j := journal{fail: map[durable.Op]error{}}
			dir := t.TempDir()
			d := opened(t, dir, j.hook)
			if err := d.WriteFile("name", []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			f := written(t, d, "temp", "new")
			j.fail[op] = errDisk
			err := d.Publish(f, "name")
			if !errors.Is(err, errDisk) {
				t.Errorf("publish: %v", err)
			}
			if doubtful := errors.Is(err, durable.ErrDoubtful); doubtful != (op == durable.OpSyncDir) {
				t.Errorf("doubtful: %t", doubtful)
			}
			requireFile(t, filepath.Join(dir, "name"), after)
			requireNames(t, dir, "name")
		})
	}
}

// No file has its name before all are durable, and each directory is synced once, behind its last name.
func TestPublishAllOrder(t *testing.T) {
	var j journal
	dir := t.TempDir()
	d := opened(t, dir, j.hook)
	for _, sub := range []string{"a", "b"} {
		if err := d.Mkdir(sub, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var files []durable.Publication
	const many = 21 // more than are synced at the same time
	for i := range many {
		temp := fmt.Sprint("temp", i)
		files = append(files, durable.Publication{File: written(t, d, temp, temp), Name: []string{"a/", "b/"}[i%2] + temp})
	}
	j.lines = nil
	if err := d.PublishAll(files); err != nil {
		t.Fatal(err)
	}
	kind := func(lines []string, op durable.Op) bool {
		return !slices.ContainsFunc(lines, func(l string) bool { return !strings.HasPrefix(l, string(op)+" ") })
	}
	if len(j.lines) != 2*many+2 || !kind(j.lines[:many], durable.OpSync) || !kind(j.lines[many:2*many], durable.OpRename) || !kind(j.lines[2*many:], durable.OpSyncDir) {
		t.Errorf("%q", j.lines)
	}
	for i, f := range files {
		requireFile(t, filepath.Join(dir, f.Name), fmt.Sprint("temp", i))
	}
	requireNames(t, dir, "a", "b")
}

// One file that cannot be made durable is gone and told, and the others have their names.
func TestPublishAllFails(t *testing.T) {
	for _, op := range []durable.Op{durable.OpSync, durable.OpRename} {
		j := journal{only: "t2"}
		dir := t.TempDir()
		d := opened(t, dir, j.hook)
		if err := d.WriteFile("2", []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		var files []durable.Publication
		for _, n := range []string{"1", "2", "3"} {
			files = append(files, durable.Publication{File: written(t, d, "t"+n, n), Name: n})
		}
		j.fail = map[durable.Op]error{op: errDisk}
		if err := d.PublishAll(files); !errors.Is(err, errDisk) || errors.Is(err, durable.ErrDoubtful) {
			t.Errorf("%s: %v", op, err)
		}
		requireFile(t, filepath.Join(dir, "1"), "1")
		requireFile(t, filepath.Join(dir, "2"), "old")
		requireFile(t, filepath.Join(dir, "3"), "3")
		requireNames(t, dir, "1", "2", "3")
	}
	j := journal{fail: map[durable.Op]error{durable.OpSyncDir: errDisk}}
	dir := t.TempDir()
	d := opened(t, dir, j.hook)
	err := d.PublishAll([]durable.Publication{{File: written(t, d, "t1", "1"), Name: "1"}})
	if !errors.Is(err, errDisk) || !errors.Is(err, durable.ErrDoubtful) {
		t.Errorf("a directory that cannot be synced: %v", err)
	}
	requireNames(t, dir, "1")
}

// A second sync that succeeds would prove nothing: the kernel reports a lost write once.
func TestFileIsUselessAfterFailedSync(t *testing.T) {
	j := journal{fail: map[durable.Op]error{durable.OpSync: errDisk}}
	d := opened(t, t.TempDir(), j.hook)
	f := written(t, d, "file", "content")
	defer f.Close()
	if err := f.Sync(); !errors.Is(err, errDisk) {
		t.Fatalf("sync: %v", err)
	}
	j.fail = nil
	if err := f.Sync(); !errors.Is(err, errDisk) {
		t.Errorf("sync again: %v", err)
	}
	if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, errDisk) {
		t.Errorf("write: %v", err)
	}
	if err := f.Truncate(0); !errors.Is(err, errDisk) {
		t.Errorf("truncate: %v", err)
	}
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "name")
	for _, content := range []string{"first, and longer", "second", ""} {
		if err := durable.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		requireFile(t, name, content)
	}
	requireNames(t, dir, "name")
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := durable.WriteFile(filepath.Join(dir, "missing", "name"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("into a directory that is not there: %v", err)
	}
}

func TestWriteFileKeepsOldContent(t *testing.T) {
	for _, op := range []durable.Op{durable.OpOpen, durable.OpWrite, durable.OpSync, durable.OpRename} {
		j := journal{fail: map[durable.Op]error{}}
		dir := t.TempDir()
		d := opened(t, dir, j.hook)
		if err := d.WriteFile("name", []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		j.fail[op] = syscall.ENOSPC
		if err := d.WriteFile("name", []byte("new"), 0o600); !durable.IsFull(err) {
			t.Errorf("%s fails: %v", op, err)
		}
		requireFile(t, filepath.Join(dir, "name"), "old")
		requireNames(t, dir, "name")
	}
}

// Readers of a file that is written again and again see whole contents only.
func TestWriteFileIsAtomic(t *testing.T) {
	name := filepath.Join(t.TempDir(), "name")
	content := func(i int) string { return strings.Repeat(fmt.Sprintf("%03d", i), 1+i*100) }
	if err := durable.WriteFile(name, []byte(content(0)), 0o600); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for writer := range 2 {
		wg.Go(func() {
			for i := range 50 {
				if err := durable.WriteFile(name, []byte(content(i*2+writer)), 0o600); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for {
		b, err := os.ReadFile(name)
		var i int
		if len(b) >= 3 {
			fmt.Sscanf(string(b[:3]), "%d", &i)
		}
		if err != nil || string(b) != content(i) {
			t.Fatalf("read %d bytes that were never written, %v", len(b), err)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

func TestMkdir(t *testing.T) {
	var j journal
	dir := t.TempDir()
	d := opened(t, dir, j.hook)
	for range 2 {
		if err := d.Mkdir("sub", 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"mkdir sub", "syncdir .", "mkdir sub", "syncdir ."}; !slices.Equal(j.lines, want) {
		t.Errorf("%q, want %q", j.lines, want)
	}
	written(t, d, "file", "").Close()
	if err := d.Mkdir("file", 0o700); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
	j.fail = map[durable.Op]error{durable.OpSyncDir: errDisk}
	if err := d.Mkdir("other", 0o700); !errors.Is(err, errDisk) {
		t.Errorf("with a failing sync: %v", err)
	}
}

func TestMkdirAll(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		if err := durable.MkdirAll(filepath.Join(dir, "a/b/c"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "a/b/c")); err != nil || !info.IsDir() {
		t.Errorf("%v, %v", info, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := durable.MkdirAll(file, 0o700); err == nil {
		t.Error("a file was accepted as a directory")
	}
	if err := durable.MkdirAll(filepath.Join(file, "below"), 0o700); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("below a file: %v", err)
	}
	// A directory that a link leads to is a directory that was given to us.
	target := t.TempDir()
	if err := os.Symlink(target, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(durable.MkdirAll(filepath.Join(dir, "link"), 0o700), durable.MkdirAll(filepath.Join(dir, "link/sub"), 0o700)); err != nil {
		t.Errorf("through a link: %v", err)
	}
	requireNames(t, target, "sub")
	t.Chdir(dir)
	if err := errors.Join(durable.MkdirAll(".", 0o700), durable.MkdirAll("relative/sub", 0o700), durable.MkdirAll("../"+filepath.Base(dir), 0o700)); err != nil {
		t.Errorf("relative: %v", err)
	}
}

func TestNamesDoNotLeadOut(t *testing.T) {
	parent := t.TempDir()
	if err := os.Mkdir(filepath.Join(parent, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	d := opened(t, filepath.Join(parent, "dir"), nil)
	for _, name := range []string{"../out", "/out", "sub/../../out"} {
		if f, err := d.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o600); err == nil {
			f.Close()
			t.Errorf("%s was opened", name)
		}
		if err := d.WriteFile(name, nil, 0o600); err == nil {
			t.Errorf("%s was written", name)
		}
		if err := d.Mkdir(name, 0o700); err == nil {
			t.Errorf("%s was made", name)
		}
	}
	requireNames(t, parent, "dir")
}

func TestIsFull(t *testing.T) {
	for err, want := range map[error]bool{
		syscall.ENOSPC: true, syscall.EDQUOT: true, syscall.EFBIG: true, syscall.EIO: false, errDisk: false, nil: false,
		&fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}: true,
	} {
		if got := durable.IsFull(err); got != want {
			t.Errorf("IsFull(%v) is %t", err, got)
		}
	}
}

// A directory that its file server has forgotten is opened again, by its path.
func TestStaleDirectory(t *testing.T) {
	parent := t.TempDir()
	name := filepath.Join(parent, "d")
	stale := map[durable.Op]bool{}
	hook := func(op durable.Op, _, _ string) error {
		if stale[op] {
			stale[op] = false
			return syscall.ESTALE
		}
		return nil
	}
	tree := func() {
		if err := os.MkdirAll(filepath.Join(name, "sub"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	tree()
	d, err := durable.OpenDir(name, hook)
	if err != nil {
		t.Fatal(err)
	}
	sub, err := d.Sub("sub")
	if err != nil {
		t.Fatal(err)
	}
	// What is open leads elsewhere from now on, as after a restore on the server.
	if err := os.Rename(name, name+"-before"); err != nil {
		t.Fatal(err)
	}
	tree()
	stale[durable.OpOpen] = true
	if err := d.WriteFile("x", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	stale[durable.OpMkdir] = true
	if err := sub.Mkdir("made", 0o700); err != nil {
		t.Fatal(err)
	}
	stale[durable.OpRename] = true
	if err := d.Rename("x", "y"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"y", "sub/made"} {
		if _, err := os.Stat(filepath.Join(name, want)); err != nil {
			t.Errorf("%s is not where the path leads: %v", want, err)
		}
	}
	stale[durable.OpRemove] = true
	if err := d.Remove("y"); err != nil {
		t.Error(err)
	}
}

// A lock belongs to one open file at a time, and closing the file gives it back.
func TestLock(t *testing.T) {
	d, err := durable.OpenDir(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	open := func() *durable.File {
		f, err := d.OpenFile("lock", os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	a, b := open(), open()
	defer b.Close()
	if got, err := a.Lock(true); !got || err != nil {
		t.Fatalf("%v, %v", got, err)
	}
	if got, err := b.Lock(false); got || err != nil {
		t.Errorf("two have it: %v, %v", got, err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Lock(false); !got || err != nil {
		t.Errorf("nobody has it, and it cannot be got: %v, %v", got, err)
	}
}
