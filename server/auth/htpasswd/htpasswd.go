// Package htpasswd is the source of accounts that Apache's htpasswd tool and registry:2 installations use: a text file
// with one name:hash a line.
//
// bcrypt is verified. apr1 (MD5) and {SHA} are verified too, with a warning once per user, since registry:2 refuses
// them without a word and people then weaken something else. Plain text and the crypt family are refused with a
// warning that names the user, the line and what to do. The file is read again when it changes, as a whole: a request
// sees the old users or the new ones, and a file that cannot be read or parsed leaves the old users in place.
//
// Start reading at [File]. [Set], [Remove] and [Verify] change and check a file for the command line.
package htpasswd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-registry/berth/server/auth"
)

// statEvery is how often the file is looked at, at most.
const statEvery = time.Second

// Options say which file.
type Options struct {
	Path   string
	Admins []string // names that are administrators; all others are ordinary users
	Now    func() time.Time
	Log    *slog.Logger
}

// File is an htpasswd file as an auth.Provider. Safe for concurrent use.
type File struct {
	o       Options
	users   atomic.Pointer[table]
	looked  atomic.Int64 // unix nanoseconds of the last look at the file
	mu      sync.Mutex   // one reload at a time; guards state, problem and left
	state   state
	problem string // the last one that was logged
	left    []string
	leaving atomic.Bool // there are names in left
	warned  sync.Map
}

// state is what tells one content of the file from the next without reading it.
type state struct {
	info fs.FileInfo
	// settled is false when the file was written within the resolution of its time stamp before it was read: it may
	// have changed since without a trace, and is read once more.
	settled bool
	sum     [sha256.Size]byte
}

// Open reads the file, which must be there and well-formed.
func Open(o Options) (*File, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	f := &File{o: o}
	f.looked.Store(o.Now().UnixNano())
	if err := f.load(true); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("htpasswd file %s does not exist; make it with: berthd htpasswd add %s USER", o.Path, o.Path)
		}
		return nil, err
	}
	return f, nil
}

// Source is "htpasswd".
func (f *File) Source() string { return "htpasswd" }

// Account looks the name up in memory, after a look at the file at most once a second.
func (f *File) Account(_ context.Context, name string) (auth.Account, error) {
	f.look()
	e, ok := f.users.Load().entries[name]
	if !ok {
		return auth.Account{}, auth.ErrNoAccount
	}
	return f.account(name, e), nil
}

// account makes the stamp from the entry, so that a new password or a change of Admins ends what was granted before.
func (f *File) account(name string, e entry) auth.Account {
	admin := slices.Contains(f.o.Admins, name)
	return auth.Account{Name: name, Admin: admin, Stamp: fmt.Sprintf("%t %s", admin, e.stamp)}
}

// Left hands over the names that were removed from the file since the last call that succeeded, also those that are in it again
// by now: that may be somebody else.
func (f *File) Left(end func(names []string) error) error {
	if !f.leaving.Load() {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.left) == 0 {
		return nil
	}
	if err := end(f.left); err != nil {
		return err
	}
	f.left = nil
	f.leaving.Store(false)
	return nil
}

// Login verifies the password.
func (f *File) Login(ctx context.Context, name, password string) (auth.Account, error) {
	f.look()
	users := f.users.Load()
	e, ok := users.entries[name]
	if !ok {
		return auth.Account{}, auth.ErrNoAccount
	}
	if e.scheme.weak() {
		if _, told := f.warned.LoadOrStore(name+"\x00"+e.hash, true); !told {
			f.o.Log.WarnContext(ctx, "htpasswd entry is weak; renew it with berthd htpasswd add", "principal", name, "line", e.line, "scheme", e.scheme.String())
		}
	}
	if !e.matches(password) {
		if e.scheme != bcryptScheme { // as slow as everybody else's
			users.decoy(password)
		}
		return auth.Account{}, auth.ErrPassword
	}
	return f.account(name, e), nil
}

// Decoy computes a bcrypt hash of the cost that is most common in the file.
func (f *File) Decoy(_ context.Context, password string) { f.users.Load().decoy(password) }

// Reload reads the file now if it changed. On an error the users stay as they were.
func (f *File) Reload() error {
	f.looked.Store(f.o.Now().UnixNano())
	return f.load(false)
}

// look reloads the file when it changed and a second has passed. One caller does it; the others go on with what is
// there.
func (f *File) look() {
	now, last := f.o.Now().UnixNano(), f.looked.Load()
	if now-last < int64(statEvery) && now >= last || !f.looked.CompareAndSwap(last, now) {
		return
	}
	if err := f.load(false); err != nil {
		f.complain(err)
		return
	}
	f.complain(nil)
}

// complain logs a problem when it is a new one.
func (f *File) complain(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != f.problem && text != "" {
		f.o.Log.Error("htpasswd file cannot be used; the users before it stay", "error", text)
	}
	f.problem = text
}

// load reads the file when its state differs from the known one.
func (f *File) load(first bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.o.Path)
	if err != nil {
		return fmt.Errorf("htpasswd: %w", err)
	}
	if !first && f.state.settled && same(info, f.state.info) {
		return nil
	}
	read := f.o.Now()
	data, err := readFile(f.o.Path)
	if err != nil {
		return err
	}
	users, warnings, err := parse(data)
	if err != nil {
		return fmt.Errorf("htpasswd file %s: %w", f.o.Path, err)
	}
	sum := sha256.Sum256(data)
	changed := sum != f.state.sum
	// The state is of before the read: a change during it shows as a difference next time.
	f.state = state{info: info, settled: read.Sub(info.ModTime()) > 2*time.Second, sum: sum}
	if !changed && !first {
		return nil
	}
	if before := f.users.Swap(users); before != nil {
		for name := range before.entries {
			if _, stays := users.entries[name]; !stays {
				f.left = append(f.left, name)
			}
		}
		f.leaving.Store(len(f.left) > 0)
	}
	for _, w := range warnings {
		f.o.Log.Warn("htpasswd entry "+w.problem, "principal", w.name, "line", w.line, "advice", "renew it with berthd htpasswd add")
	}
	f.o.Log.Info("htpasswd file read", "users", len(users.entries), "sum", hex.EncodeToString(sum[:4]))
	return nil
}

// same compares what a writer cannot help changing: size, time and the file itself, which an atomic replacement swaps.
func same(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
