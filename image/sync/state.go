package sync

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/berth-registry/berth/oci"
)

// State remembers what an interrupted run has done: one JSON object a line, appended. It is removed at the end of a run in
// which nothing failed. Safe for concurrent use.
type State struct {
	path string

	mu   sync.Mutex
	f    *os.File
	done map[string]oci.Digest
}

type stateLine struct {
	From   string     `json:"from"`
	To     string     `json:"to"`
	Digest oci.Digest `json:"digest"`
}

// OpenState opens a state file, making it where there is none. A last line that was cut off does not count.
func OpenState(path string) (*State, error) {
	s := &State{path: path, done: map[string]oci.Digest{}}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("sync: open state: %w", err)
	}
	s.f = f
	good := int64(0)
	r := bufio.NewReader(f)
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			break
		}
		var l stateLine
		if json.Unmarshal(line, &l) != nil || l.Digest.IsZero() {
			return nil, errors.Join(invalid("%s is not a state file of berth sync; it is left as it is", path), f.Close())
		}
		s.done[l.From+" "+l.To] = l.Digest
		good += int64(len(line))
	}
	if err := f.Truncate(good); err != nil {
		return nil, errors.Join(fmt.Errorf("sync: open state: %w", err), f.Close())
	}
	if _, err := f.Seek(good, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("sync: open state: %w", err), f.Close())
	}
	return s, nil
}

// has reports whether an earlier run copied exactly this.
func (s *State) has(from, to string, d oci.Digest) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return !d.IsZero() && s.done[from+" "+to] == d
}

func (s *State) add(from, to string, d oci.Digest) error {
	if s == nil {
		return nil
	}
	line, err := json.Marshal(stateLine{from, to, d})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.f.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("sync: write state: %w", err)
	}
	return nil
}

// Close closes the file, and removes it when the run is complete.
func (s *State) Close(complete bool) error {
	if s == nil {
		return nil
	}
	err := s.f.Close()
	if complete {
		if e := os.Remove(s.path); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}
