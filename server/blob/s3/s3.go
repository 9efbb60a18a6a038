// Package s3 keeps blobs in a bucket of Amazon S3, or of a service that speaks its protocol.
//
//	<rootdirectory>/docker/registry/v2/blobs/sha256/ab/<hex>/data   content; the keys of CNCF distribution
//	<rootdirectory>/berth/parked/<id>/<word>                        content that is to be copied there
//	<rootdirectory>/berth/uploads/<id>/…                            what an upload in progress has sent
//
// Both kinds of upload are multipart uploads, whose object the service shows only when it is completed. One whose digest is
// known before its first byte ([Store.Place]) goes to that digest's key. Any other goes to a key of its own, and when it is
// completed its bytes stay there ([Store.Park]): S3 cannot rename. The key is the place that the blob's row names until the
// object is copied under the digest ([Store.Settle]). Either way an object appears whole or not at all, and only after its
// digest was verified. An upload that never fills a part begins no multipart upload: it is one object, or in its state, and
// ends under its digest.
//
// # Whose bytes become a blob
//
// What continues an upload is in its state: the multipart upload, the ETag of each of its parts, and the bytes behind the
// last part while they are few, else the objects that have them. Completing names exactly the parts of that state with
// their ETags, so bytes that are not those of the state cannot get in: parts that other writers have sent are not named,
// and one that was sent over a part of ours has another ETag, with which the service refuses to complete. (Such a writer has
// lost the upload to another replica and does not know it yet. A writer that continues skips some numbers at random, so that
// even that hardly meets.) Everything else that has a name is named with a random word of its writer.
//
// # What a crash leaves
//
// Everything that an upload may have left is below the one prefix that its id names, so that ending it lists that prefix
// and never the bucket. A multipart upload is not seen in listings of objects, so an object there, its marker, names it.
// The marker of a parked object stays until the object is deleted, and so tells [Store.StaleUploads] of one that no row
// names. Abort ends multipart uploads and removes everything but what is parked, and the markers of that: an object that
// was completed may be a blob by now, and whether it is, only rows tell. Who ends an upload therefore
//
//  1. calls Abort, after which nothing of it can be completed that was begun before,
//  2. makes sure in the database that no commit of it can succeed any more,
//  3. asks for what is parked ([Store.Parked]) and deletes what no row names ([Store.DeleteAt]),
//
// and a crash in between leaves the upload's row or its marker, for whom the same is done again.
//
// It may assume a service whose reads see completed writes, as Amazon's and all current ones do; no order is asked of
// listings. Start reading at writer.go, then park.go and assembly.go; options.go has the settings.
package s3

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
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

	castagnoli *crc32.Table
	signs      atomic.Bool // bodies are signed; see sum.go
}

// limits are the service's own; tests have smaller ones.
type limits struct {
	minPart  int64 // no part but the last may be smaller
	parts    int   // in one multipart upload
	direct   int   // highest number of a part that is sent; the rest is composed
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
		castagnoli: crc32.MakeTable(crc32.Castagnoli),
		copies:     make(chan struct{}, o.CopyConcurrency),
		limits:     limits{minPart: minPart, parts: maxParts, direct: 8_000, composed: 5 << 30, batch: 1000},
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
	return fmt.Sprintf("%s%s/%s/%s/data", s.contentPrefix(), d.Algorithm(), d.Hex()[:2], d.Hex())
}

// contentPrefix is where all content is that lies under its digest.
func (s *Store) contentPrefix() string { return s.root + "docker/registry/v2/blobs/" }

// uploadsPrefix is where all uploads in progress are.
func (s *Store) uploadsPrefix() string { return s.root + "berth/uploads/" }

// uploadPrefix is where everything that an upload leaves is, except what is parked.
func (s *Store) uploadPrefix(id string) string { return s.uploadsPrefix() + id + "/" }

// parkedPrefix is where the content of uploads is that has not been moved under its digest.
func (s *Store) parkedPrefix() string { return s.root + "berth/parked/" }

// placeOf names the object that an upload's multipart upload becomes; parkedKey is its key.
func placeOf(id, nonce string) string              { return id + "/" + nonce }
func (s *Store) parkedKey(id, nonce string) string { return s.parkedPrefix() + placeOf(id, nonce) }

// nonce is a word that no other writer has.
func nonce() string { return strings.ToLower(rand.Text()[:10]) }

func isNonce(s string) bool {
	return len(s) == 10 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz234567") == ""
}

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
