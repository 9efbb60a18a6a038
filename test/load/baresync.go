package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
)

// bareSync is the ceiling of a durable upload with one file for each blob, manifest and tag: hash and write while bytes come,
// sync the file, rename, sync the folder. No sessions, no authorization, no membership: a mount is a look whether the blob is
// there.
type bareSync struct {
	dir  string
	next atomic.Uint64
}

func newBareSync(dir string) (*bareSync, error) {
	for i := range 256 {
		if err := os.MkdirAll(filepath.Join(dir, "blobs", fmt.Sprintf("%02x", i)), 0o755); err != nil {
			return nil, fmt.Errorf("make folders: %w", err)
		}
	}
	return &bareSync{dir: dir}, nil
}

func (s *bareSync) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, rest, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/blobs/")
	if !ok {
		if name, rest, ok = strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/manifests/"); ok {
			s.manifest(w, r, name, rest)
			return
		}
		w.WriteHeader(http.StatusOK)
		return
	}
	switch {
	case r.Method == http.MethodPost:
		s.post(w, r, name)
	case r.Method == http.MethodPut:
		digest := r.URL.Query().Get("digest")
		if err := s.store(r.Body, s.blobPath(digest), digest); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		created(w, "/v2/"+name+"/blobs/"+digest, digest)
	default:
		w.Header().Set("Docker-Content-Digest", rest)
		serveFile(w, r, s.blobPath(rest))
	}
}

func (s *bareSync) post(w http.ResponseWriter, r *http.Request, name string) {
	if digest := r.URL.Query().Get("mount"); digest != "" {
		if _, err := os.Stat(s.blobPath(digest)); err == nil {
			created(w, "/v2/"+name+"/blobs/"+digest, digest)
			return
		}
	}
	w.Header().Set("Location", "/v2/"+name+"/blobs/uploads/"+strconv.FormatUint(s.next.Add(1), 16))
	w.WriteHeader(http.StatusAccepted)
}

func (s *bareSync) manifest(w http.ResponseWriter, r *http.Request, name, reference string) {
	tag := filepath.Join(s.dir, "tags", strings.ReplaceAll(name, "/", "%"), reference)
	if r.Method != http.MethodPut {
		path := tag
		if strings.HasPrefix(reference, "sha256:") {
			path = s.blobPath(reference)
		}
		w.Header().Set("Content-Type", typeManifest)
		serveFile(w, r, path)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err == nil {
		m := newContent(body)
		reference = m.digest
		err = s.store(bytes.NewReader(body), s.blobPath(m.digest), m.digest)
	}
	if err == nil {
		if err = os.MkdirAll(filepath.Dir(tag), 0o755); err == nil {
			err = s.store(bytes.NewReader(body), tag, reference)
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	created(w, r.URL.Path, reference)
}

// store is the durable write: nothing is answered before file and folder are synced.
func (s *bareSync) store(from io.Reader, path, digest string) error {
	tmp := path + "." + strconv.FormatUint(s.next.Add(1), 16)
	f, err := os.Create(tmp)
	if err != nil {
		return err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(f, h), from)
	if err == nil && "sha256:"+hex.EncodeToString(h.Sum(nil)) != digest {
		err = errors.New("digest does not match")
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(tmp)
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (s *bareSync) blobPath(digest string) string {
	name := strings.TrimPrefix(digest, "sha256:")
	if len(name) != 64 || strings.ContainsAny(name, "/.") {
		name = strings.Repeat("0", 64)
	}
	return filepath.Join(s.dir, "blobs", name[:2], name)
}

func created(w http.ResponseWriter, location, digest string) {
	w.Header().Set("Location", location)
	w.Header().Set("Docker-Content-Digest", digest)
	w.WriteHeader(http.StatusCreated)
}
