// Package s3 keeps blobs in a bucket of Amazon S3, or of a service that speaks its protocol.
//
//	<rootdirectory>/docker/registry/v2/blobs/sha256/ab/<hex>/data   content; the keys of CNCF distribution
//	<rootdirectory>/berth/uploads/<id>/…                            what an upload in progress has sent
//
// An upload whose digest is not known yet is cut into segments, objects of one part's size that are written while the
// bytes come; Commit joins them under the digest by copies inside the service, without a byte passing through here. An
// upload whose digest is known before its first byte ([Store.Place]) is a multipart upload to that digest's key, which
// the service shows only when it is completed: nothing is copied at all. Either way an object appears whole or not at
// all, and only after its digest was verified.
//
// What continues an upload is in its state: the list of segments, and the bytes behind the last one while they are few.
// Everything else that an upload may have left is below the one prefix that its id names, so that ending it lists that
// prefix and never the bucket. Segments are named with a random word of their writer, so that a writer that lost its
// upload to another replica cannot put bytes into it.
//
// It may assume a service whose reads see completed writes, as Amazon's and all current ones do; no order is asked of
// listings. Start reading at writer.go, then commit.go; options.go has the settings.
package s3

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/berth-registry/berth/oci"
)

// Store is a blob.Store in a bucket. Make one with New.
type Store struct {
	o       Options
	client  *s3.Client
	presign *s3.PresignClient
	idle    func()
	root    string // "" or "prefix/"
	locked  bool   // the bucket has object lock, and wants checksums
	ended   endings
	copies  chan struct{} // bounds the copies of all commits
	log     *slog.Logger
	now     func() time.Time
	limits  limits
}

// limits are the service's own; tests have smaller ones.
type limits struct {
	minPart  int64 // no part but the last may be smaller
	parts    int   // in one multipart upload
	direct   int   // parts that a placement sends itself, before the rest is composed
	composed int64 // most bytes of one composed part
	batch    int   // keys of one DeleteObjects
}

// New connects to the bucket and looks whether it answers. A refusal (credentials, bucket, region, clock) is an error that
// names the setting; a service that cannot be reached is not, because it may come back: Check tells, and so does the log.
// Close the store.
func New(ctx context.Context, o Options) (*Store, error) {
	o, err := o.filled()
	if err != nil {
		return nil, err
	}
	s := &Store{
		o: o, root: rootPrefix(o.RootDirectory), log: o.Log, now: o.Now,
		copies: make(chan struct{}, o.CopyConcurrency),
		limits: limits{minPart: minPart, parts: 10_000, direct: 8_000, composed: 5 << 30, batch: 1000},
	}
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	if err := s.firstLook(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close releases the connections. Nothing may be in use.
func (s *Store) Close() error {
	s.idle()
	return nil
}

// rootPrefix is rootdirectory as distribution reads it: no slash leads, and one ends it.
func rootPrefix(dir string) string {
	if dir = strings.Trim(dir, "/"); dir == "" {
		return ""
	}
	return dir + "/"
}

// blobKey is where d's content is. The zero digest is nowhere.
func (s *Store) blobKey(d oci.Digest) string {
	return fmt.Sprintf("%sdocker/registry/v2/blobs/%s/%s/%s/data", s.root, d.Algorithm(), d.Hex()[:2], d.Hex())
}

// uploadsPrefix is where all uploads in progress are.
func (s *Store) uploadsPrefix() string { return s.root + "berth/uploads/" }

// uploadPrefix is where everything that an upload leaves is.
func (s *Store) uploadPrefix(id string) string { return s.uploadsPrefix() + id + "/" }

// nonce is a word that no other writer has.
func nonce() string { return strings.ToLower(rand.Text()[:10]) }

// maxEndings bounds the memory of ended uploads.
const maxEndings = 4096

// endings remembers uploads that ended here and that the bucket knows nothing of, because their few bytes were in their
// state. For others, the row that held the state is gone with it.
type endings struct {
	mu    sync.Mutex
	ids   map[string]struct{}
	order []string
}

func (e *endings) add(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, known := e.ids[id]; known {
		return
	}
	if e.ids == nil {
		e.ids = map[string]struct{}{}
	}
	if len(e.order) == maxEndings {
		delete(e.ids, e.order[0])
		e.order = append(e.order[:0], e.order[1:]...)
	}
	e.ids[id] = struct{}{}
	e.order = append(e.order, id)
}

// remove forgets an end: the upload begins anew.
func (e *endings) remove(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.ids, id)
}

func (e *endings) has(id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, ok := e.ids[id]
	return ok
}
