package s3

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"golang.org/x/sync/errgroup"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

// deletesAtOnce bounds the requests of one Delete.
const deletesAtOnce = 8

// Delete implements blob.Store.
func (s *Store) Delete(ctx context.Context, ds ...oci.Digest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var keys []string
	for _, d := range ds {
		if !d.IsZero() {
			keys = append(keys, s.blobKey(d))
		}
	}
	return s.failed("delete", s.remove(ctx, keys))
}

// remove deletes objects, a batch in one request; one that is not there is no error.
func (s *Store) remove(ctx context.Context, keys []string) error {
	switch len(keys) {
	case 0:
		return nil
	case 1:
		return s.removeOne(ctx, keys[0])
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(deletesAtOnce)
	for batch := range slices.Chunk(keys, s.limits.batch) {
		g.Go(func() error { return s.removeBatch(ctx, batch) })
	}
	return g.Wait()
}

func (s *Store) removeBatch(ctx context.Context, keys []string) error {
	objects := make([]types.ObjectIdentifier, len(keys))
	for i, key := range keys {
		objects[i] = types.ObjectIdentifier{Key: aws.String(key)}
	}
	out, err := s.client.DeleteObjects(ctx, &s3.DeleteObjectsInput{
		Bucket: &s.o.Bucket, Delete: &types.Delete{Objects: objects, Quiet: aws.Bool(true)},
	}, func(o *s3.Options) {
		// Older services ask for this header, and know no other checksum.
		o.APIOptions = append(o.APIOptions, smithyhttp.AddContentChecksumMiddleware)
	})
	if code := errorCode(err); code == "NotImplemented" || code == "MethodNotAllowed" {
		return s.removeEach(ctx, keys)
	} else if err != nil {
		return err
	}
	// What one key failed with may have been of the moment: each is asked for again by itself, with all patience.
	var again []string
	for _, e := range out.Errors {
		if code := aws.ToString(e.Code); code != "NoSuchKey" {
			again = append(again, aws.ToString(e.Key))
		}
	}
	return s.removeEach(ctx, again)
}

func (s *Store) removeEach(ctx context.Context, keys []string) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(deletesAtOnce)
	for _, key := range keys {
		g.Go(func() error { return s.removeOne(ctx, key) })
	}
	return g.Wait()
}

func (s *Store) removeOne(ctx context.Context, key string) error {
	_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.o.Bucket, Key: &key})
	if isMissing(err) {
		return nil
	}
	return err
}

// Abort implements blob.Store. It lists what begins with the upload's name, since a writer or a commit that died has left
// what no state tells of. An upload that is in its state, as most small ones are that end in the database, is spared the
// request; what a writer of it that died has left is swept as that of an upload without a row. What is parked stays, and so
// do the markers that tell of it.
func (s *Store) Abort(ctx context.Context, id string, state blob.State) error {
	if err := blob.CheckID(id); err != nil {
		return err
	}
	if p, fresh, err := progressOf(id, state); err == nil && !fresh && len(p.parts) == 0 && len(p.segments) == 0 && !p.litter {
		s.ended.add(id)
		return nil
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cleanWithin)
	defer stop()
	s.ended.add(id)
	return s.failed("abort", s.clear(ctx, id))
}

// clear removes everything that begins with an upload's name. Multipart uploads go before the markers that name them, and a
// marker of what is parked stays.
func (s *Store) clear(ctx context.Context, id string) error {
	var keys []string
	marked := map[string]string{} // key of an object by marker
	var errs []error
	prefix := s.uploadPrefix(id)
	err := s.list(ctx, prefix, func(o types.Object) {
		keys = append(keys, aws.ToString(o.Key))
	})
	if err != nil {
		return err
	}
	keys = slices.DeleteFunc(keys, func(key string) bool {
		if !strings.HasPrefix(key, prefix+markerPrefix) {
			return false
		}
		of, err := s.abortMarked(ctx, key)
		errs = append(errs, err)
		if err == nil && strings.HasPrefix(of, s.parkedPrefix()) {
			marked[key] = of
		}
		return err != nil
	})
	// Whether an object is parked is asked of itself: a listing may be behind, and without its marker nothing would tell of it.
	keys = slices.DeleteFunc(keys, func(key string) bool {
		of, ok := marked[key]
		if !ok {
			return false
		}
		_, err := s.stat(ctx, of)
		if isMissing(err) {
			return false
		}
		errs = append(errs, err)
		return true
	})
	return errors.Join(append(errs, s.remove(ctx, keys))...)
}

// list calls each for every object whose key begins with prefix.
func (s *Store) list(ctx context.Context, prefix string, each func(types.Object)) error {
	pages := s3.NewListObjectsV2Paginator(s.client, &s3.ListObjectsV2Input{Bucket: &s.o.Bucket, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, o := range page.Contents {
			each(o)
		}
	}
	return nil
}

// StaleUploads implements blob.UploadLister. It lists uploads in progress, never content; the clock is the service's. What
// no id can name it ends itself: see abortUnmarked.
func (s *Store) StaleUploads(ctx context.Context, before time.Time) ([]string, error) {
	newest := map[string]time.Time{}
	prefix := s.uploadsPrefix()
	err := s.list(ctx, prefix, func(o types.Object) {
		id, _, ok := strings.Cut(strings.TrimPrefix(aws.ToString(o.Key), prefix), "/")
		if at := aws.ToTime(o.LastModified); ok && blob.CheckID(id) == nil && !at.Before(newest[id]) {
			newest[id] = at
		}
	})
	if err != nil {
		return nil, s.failed("list uploads", fmt.Errorf("below %s: %w", prefix, err))
	}
	var ids []string
	for id, at := range newest {
		if at.Before(before) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, s.failed("list uploads", s.abortUnmarked(ctx, before.Add(-markWithin)))
}

// markWithin is how long it may take from the beginning of a multipart upload to its marker.
const markWithin = 30 * time.Second

// abortUnmarked aborts multipart uploads of ours that were begun before a time and that no marker names: whoever began them
// never heard that they exist, or died before it could write one. It lists multipart uploads in progress.
func (s *Store) abortUnmarked(ctx context.Context, before time.Time) error {
	type upload struct{ key, id string }
	var old []upload
	for _, prefix := range []string{s.contentPrefix(), s.parkedPrefix(), s.uploadsPrefix()} {
		pages := s3.NewListMultipartUploadsPaginator(s.client, &s3.ListMultipartUploadsInput{Bucket: &s.o.Bucket, Prefix: &prefix})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if errorCode(err) == "NotImplemented" {
				return nil
			} else if err != nil {
				return fmt.Errorf("multipart uploads below %s: %w", prefix, err)
			}
			for _, u := range page.Uploads {
				key := aws.ToString(u.Key)
				if strings.HasPrefix(key, prefix) && u.Initiated != nil && u.Initiated.Before(before) {
					old = append(old, upload{key, aws.ToString(u.UploadId)})
				}
			}
		}
	}
	if len(old) == 0 {
		return nil
	}
	var markers []string
	err := s.list(ctx, s.uploadsPrefix(), func(o types.Object) {
		key := aws.ToString(o.Key)
		if _, name, ok := strings.Cut(strings.TrimPrefix(key, s.uploadsPrefix()), "/"); ok && strings.HasPrefix(name, markerPrefix) {
			markers = append(markers, key)
		}
	})
	if err != nil {
		return err
	}
	marked := map[upload]bool{}
	for _, marker := range markers {
		m, err := s.readMark(ctx, marker)
		if err != nil && !isMissing(err) {
			return err
		}
		marked[upload{m.Key, m.ID}] = true
	}
	for _, u := range old {
		if marked[u] {
			continue
		}
		if err := s.abortMultipart(ctx, u.key, u.id); err != nil {
			return err
		}
		s.log.Info("multipart upload without a marker aborted", "key", u.key)
	}
	return nil
}
