package fs

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"strings"

	"github.com/berth-registry/berth/internal/durable"
	"github.com/berth-registry/berth/server/blob"
)

// On a directory that several processes share, nobody knows who else is writing to an upload: a client that lost its
// connection to one replica goes on at another, while the first still puts away what it has received; a process that was
// stopped for minutes goes on writing when it wakes. So no two attempts ever write to one file. Each Upload makes a file
// of its own, uploads/<id>.<token>, and the state lists those that count: what an attempt wrote whose state was not
// recorded is in a file that no state names. There is no lock, no lease and no clock in it.
//
// Almost every upload is one attempt, which Commit renames like any other. Several are joined in one more copy.

// attempt is a file of an upload, in the order of the bytes.
type attempt struct {
	token string // "" names uploads/<id> itself, of a process that had the directory alone
	size  int64
}

const (
	attemptsMark = 'a' // the first byte of a driver state with attempts
	tokenBytes   = 8
)

func newToken() string {
	var b [tokenBytes]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// inAttempts says whether the upload's state lists attempts, or begins to.
func (s *Store) inAttempts(state blob.State) bool {
	return s.shared || len(state.Driver) > 0 && state.Driver[0] == attemptsMark
}

// attemptState is the driver's part of a state: the mark, then of each attempt its size, the length of its token, and that.
func attemptState(all []attempt) (b []byte) {
	b = append(b, attemptsMark)
	for _, a := range all {
		b = binary.AppendUvarint(b, uint64(a.size))
		b = append(b, byte(len(a.token)/2))
		b, _ = hex.AppendDecode(b, []byte(a.token)) // made by newToken
	}
	return b
}

// attempts reads attemptState, or makes one attempt of what a process that had the directory alone has left.
func attempts(id string, state blob.State) ([]attempt, error) {
	b := state.Driver
	switch {
	case state.Offset == 0 && len(b) == 0:
		return nil, nil
	case state.Offset < 0:
		return nil, blob.UploadUnknown(id)
	case len(b) == 0 || b[0] != attemptsMark:
		return []attempt{{size: state.Offset}}, nil
	}
	var all []attempt
	var total int64
	for b = b[1:]; len(b) > 0; {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > 1<<62 || len(b) <= n || len(b) < n+1+int(b[n]) {
			return nil, blob.UploadUnknown(id)
		}
		token := b[n+1 : n+1+int(b[n])]
		b = b[n+1+len(token):]
		total += int64(size)
		all = append(all, attempt{token: hex.EncodeToString(token), size: int64(size)})
	}
	if total != state.Offset {
		return nil, blob.UploadUnknown(id)
	}
	return all, nil
}

func (s *Store) attemptName(id string, a attempt) string {
	if a.token == "" {
		return s.uploadName(id)
	}
	return s.uploadName(id) + "." + a.token
}

// begin makes the file of a new attempt behind those of the state.
func (s *Store) begin(id string, state blob.State) (blob.Writer, error) {
	before, err := attempts(id, state)
	if err != nil {
		return nil, err
	}
	if n := len(before); n > 0 { // the others are looked at when they are read
		f, err := s.openAttempt(id, before[n-1])
		if err != nil {
			return nil, err
		}
		if err := f.Close(); err != nil {
			return nil, failed("upload", err)
		}
	}
	own := attempt{token: newToken()}
	name := s.attemptName(id, own)
	f, err := s.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		return nil, failed("upload", err)
	}
	return &attemptWriter{s: s, id: id, before: before, own: own, base: state.Offset, name: name, f: f}, nil
}

// openAttempt opens an attempt's file for reading, when it has what the state says.
func (s *Store) openAttempt(id string, a attempt) (*os.File, error) {
	f, err := s.root.Open(s.attemptName(id, a))
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, blob.UploadUnknown(id)
	} else if err != nil {
		return nil, failed("read upload", err)
	}
	info, err := f.Stat() // of the open file: by name it may be what this machine remembers
	if err == nil && info.Size() < a.size {
		err = blob.UploadUnknown(id)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// attemptWriter writes the file of one attempt.
type attemptWriter struct {
	s       *Store
	id      string
	before  []attempt
	own     attempt
	base    int64
	name    string
	f       *durable.File // nil once closed
	started int64         // up to where the kernel was asked to write
}

func (w *attemptWriter) Write(p []byte) (int, error) {
	if w.f == nil {
		return 0, errors.New("fs: write to a closed upload")
	}
	if err := w.s.allow(len(p)); err != nil {
		return 0, err
	}
	n, err := w.f.WriteAt(p, w.own.size)
	w.own.size += int64(n)
	if err != nil {
		return n, failed("upload", err)
	}
	if due := w.own.size - w.started; due >= writeback {
		w.f.StartWriteback(w.started, due)
		w.started = w.own.size
	}
	return n, nil
}

// Suspend is as that of a process alone: see writer.
func (w *attemptWriter) Suspend(context.Context) (blob.State, error) {
	if w.f == nil {
		return blob.State{}, errors.New("fs: suspend of a closed upload")
	}
	f := w.f
	w.f = nil
	err := f.Sync()
	if err == nil {
		err = w.s.root.SyncDir("uploads")
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	empty := w.own.size == 0 && len(w.before) > 0
	if err != nil || empty {
		err = errors.Join(err, w.remove())
	}
	if err != nil {
		return blob.State{}, failed("suspend", err)
	}
	all := w.before
	if !empty {
		all = append(all[:len(all):len(all)], w.own)
	}
	return blob.State{Offset: w.base + w.own.size, Driver: attemptState(all)}, nil
}

func (w *attemptWriter) Close() error {
	if w.f == nil {
		return nil
	}
	f := w.f
	w.f = nil
	return errors.Join(f.Close(), w.remove())
}

// remove takes away a file that no state will name.
func (w *attemptWriter) remove() error {
	if err := w.s.root.Remove(w.name); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return fmt.Errorf("fs: an abandoned upload: %w", err)
	}
	return nil
}

// readAttempts is OpenUpload.
func (s *Store) readAttempts(id string, state blob.State) (io.ReadCloser, error) {
	all, err := attempts(id, state)
	if err == nil && len(all) == 0 {
		err = blob.UploadUnknown(id)
	}
	if err != nil {
		return nil, err
	}
	first, err := s.openAttempt(id, all[0])
	if err != nil {
		return nil, err
	}
	return &attemptReader{s: s, id: id, rest: all[1:], f: first, from: io.NewSectionReader(first, 0, all[0].size)}, nil
}

// attemptReader reads the attempts of an upload one behind the other, with one of them open at a time.
type attemptReader struct {
	s    *Store
	id   string
	rest []attempt
	f    *os.File
	from io.Reader
}

func (r *attemptReader) Read(p []byte) (int, error) {
	for {
		if r.f == nil {
			if len(r.rest) == 0 {
				return 0, io.EOF
			}
			f, err := r.s.openAttempt(r.id, r.rest[0])
			if err != nil {
				return 0, err
			}
			r.f, r.from = f, io.NewSectionReader(f, 0, r.rest[0].size)
			r.rest = r.rest[1:]
		}
		n, err := r.from.Read(p)
		if errors.Is(err, io.EOF) {
			err = r.Close()
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (r *attemptReader) Close() error {
	if r.f == nil {
		return nil
	}
	f := r.f
	r.f = nil
	return f.Close()
}

// publishAttempts makes the attempts of an upload the content of name: the one as it is, several as a copy.
func (s *Store) publishAttempts(id string, state blob.State, name string) error {
	all, err := attempts(id, state)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return blob.UploadUnknown(id)
	}
	for _, a := range all {
		f, err := s.openAttempt(id, a) // there and whole, before anything is done
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	if len(all) > 1 {
		return s.join(id, all, name)
	}
	if all[0].token != "" { // nobody writes to it after its Suspend, which synced it
		return s.root.Rename(s.attemptName(id, all[0]), name)
	}
	f, err := s.root.OpenFile(s.attemptName(id, all[0]), os.O_WRONLY, filePerm)
	if err != nil {
		return err
	}
	if err := f.Truncate(all[0].size); err != nil {
		return errors.Join(err, f.Close())
	}
	return s.root.Publish(f, name)
}

// join copies the attempts into one file and publishes that. What is left of them if it ends in the middle is swept.
func (s *Store) join(id string, all []attempt, name string) error {
	whole := s.attemptName(id, attempt{token: newToken()})
	f, err := s.root.OpenFile(whole, os.O_WRONLY|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		return err
	}
	r := &attemptReader{s: s, id: id, rest: all}
	_, err = io.CopyBuffer(io.NewOffsetWriter(f, 0), struct{ io.Reader }{r}, make([]byte, 1<<20))
	if err = errors.Join(err, r.Close()); err != nil {
		return errors.Join(err, f.Close(), s.root.Remove(whole))
	}
	err = s.root.Publish(f, name)
	if err == nil {
		s.removeAttempts(id, all)
	}
	return err
}

// removeAttempts removes files that are of no use any more. What it leaves is swept.
func (s *Store) removeAttempts(id string, all []attempt) {
	for _, a := range all {
		_ = s.root.Remove(s.attemptName(id, a))
	}
}

// abortAttempts removes the attempts of the state; without any, every file of the upload.
func (s *Store) abortAttempts(id string, state blob.State) error {
	all, err := attempts(id, state)
	var names []string
	for _, a := range all {
		names = append(names, s.attemptName(id, a))
	}
	if len(all) == 0 || err != nil {
		if names, err = s.filesOf(id); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := s.root.Remove(name); err != nil && !errors.Is(err, iofs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// filesOf lists the files of an upload.
func (s *Store) filesOf(id string) (files []string, err error) {
	names, err := s.root.Names("uploads")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if upload, _, _ := strings.Cut(name, "."); upload == id {
			files = append(files, s.uploadName(name))
		}
	}
	return files, nil
}
