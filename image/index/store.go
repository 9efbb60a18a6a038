package index

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/internal/durable"
	"github.com/berth-registry/berth/oci/ref"
)

// Store keeps lists in a directory of this machine, one file for each. Changes are atomic and exclude each other, also
// between processes; a list that was being written when the machine stopped is the old one or the new one.
type Store struct {
	dir string
	now func() time.Time
}

// NewStore uses the directory, which it makes with the first list.
func NewStore(dir string, now func() time.Time) *Store { return &Store{dir: dir, now: now} }

// Saved is a list with its name.
type Saved struct {
	ID      string    `json:"id"`   // 64 hexadecimal digits, for the life of the list
	Name    string    `json:"name"` // host/repository:tag
	Created time.Time `json:"created"`
	Changed time.Time `json:"changed"`
	List    List      `json:"list"`
}

// FullName completes the name of a list as podman does: localhost/ in front of a name without a host, :latest behind one
// without a tag.
func FullName(name string) (string, error) {
	repository, tag := name, "latest"
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		repository, tag = name[:i], name[i+1:]
	}
	if strings.Contains(name, "@") {
		return "", fault.New(fault.Invalid, fault.NameInvalid, "name %.150q of a list has a digest; a list has a tag", name)
	}
	host, rest, ok := strings.Cut(repository, "/")
	if !ok || !strings.ContainsAny(host, ".:") && host != "localhost" {
		host, rest = "localhost", repository
	}
	if _, err := ref.ParseName(rest); err != nil {
		return "", err
	}
	if _, err := ref.ParseTag(tag); err != nil {
		return "", err
	}
	return host + "/" + rest + ":" + tag, nil
}

// Create saves an empty list under the name. It fails with LIST_EXISTS when there is one.
func (s *Store) Create(name string) (*Saved, error) {
	full, err := FullName(name)
	if err != nil {
		return nil, err
	}
	id := make([]byte, 32)
	_, _ = rand.Read(id) // it never fails
	saved := &Saved{ID: hex.EncodeToString(id), Name: full, Created: s.now().UTC(), Changed: s.now().UTC()}
	err = s.locked(func() error {
		all, err := s.all()
		if err != nil {
			return err
		}
		for _, other := range all {
			if other.Name == full {
				return fault.New(fault.Conflict, ListExists, "list %q exists already (id %.12s)", full, other.ID)
			}
		}
		return s.write(saved)
	})
	return saved, err
}

// Get finds a list by name, id, or a beginning of the id that only one has. It fails with LIST_UNKNOWN.
func (s *Store) Get(name string) (*Saved, error) {
	all, err := s.all()
	if err != nil {
		return nil, err
	}
	if full, err := FullName(name); err == nil {
		for _, saved := range all {
			if saved.Name == full {
				return saved, nil
			}
		}
	}
	var found []*Saved
	for _, saved := range all {
		if len(name) >= 4 && strings.HasPrefix(saved.ID, name) {
			found = append(found, saved)
		}
	}
	switch len(found) {
	case 0:
		return nil, fault.New(fault.NotFound, ListUnknown, "no list is called %.150q", name)
	case 1:
		return found[0], nil
	}
	return nil, fault.New(fault.Invalid, ListConflict, "%d lists have an id that begins with %q; give more of it", len(found), name)
}

// Update changes a list. When change fails, the list stays as it was, and its error is returned.
func (s *Store) Update(name string, change func(*List) error) (*Saved, error) {
	var saved *Saved
	err := s.locked(func() error {
		var err error
		if saved, err = s.Get(name); err != nil {
			return err
		}
		if err := change(&saved.List); err != nil {
			return err
		}
		saved.Changed = s.now().UTC()
		return s.write(saved)
	})
	return saved, err
}

// Delete forgets a list and returns it.
func (s *Store) Delete(name string) (*Saved, error) {
	var saved *Saved
	err := s.locked(func() error {
		var err error
		if saved, err = s.Get(name); err != nil {
			return err
		}
		if err := os.Remove(s.file(saved.ID)); err != nil {
			return fmt.Errorf("index: delete list %s: %w", saved.Name, err)
		}
		return nil
	})
	return saved, err
}

// All gives the lists, by name.
func (s *Store) All() ([]*Saved, error) { return s.all() }

func (s *Store) all() ([]*Saved, error) {
	files, err := filepath.Glob(filepath.Join(s.dir, "*.json"))
	if err != nil {
		return nil, fmt.Errorf("index: lists in %s: %w", s.dir, err)
	}
	var out []*Saved
	for _, file := range files {
		body, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) { // deleted meanwhile
			continue
		}
		saved := &Saved{}
		if err == nil {
			err = json.Unmarshal(body, saved)
		}
		if err != nil {
			return nil, fmt.Errorf("index: list in %s: %w", file, err)
		}
		out = append(out, saved)
	}
	slices.SortFunc(out, func(a, b *Saved) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func (s *Store) write(saved *Saved) error {
	body, err := json.MarshalIndent(saved, "", "  ")
	if err != nil {
		return fmt.Errorf("index: list %s: %w", saved.Name, err)
	}
	if err := durable.WriteFile(s.file(saved.ID), append(body, '\n'), 0o600); err != nil {
		return fmt.Errorf("index: save list %s: %w", saved.Name, err)
	}
	return nil
}

func (s *Store) file(id string) string { return filepath.Join(s.dir, id+".json") }

// locked does f while no other process changes the lists.
func (s *Store) locked(f func() error) error {
	if err := durable.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("index: directory of lists: %w", err)
	}
	unlock, err := lock(filepath.Join(s.dir, "lock"))
	if err != nil {
		return fmt.Errorf("index: lock %s: %w", s.dir, err)
	}
	defer unlock()
	return f()
}
