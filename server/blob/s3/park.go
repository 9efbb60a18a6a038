package s3

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

// copiedAtOnce is the size of the largest object that is copied in one request, and of the parts of a larger one.
const copiedAtOnce = 1 << 30

// Park implements blob.Parker. The multipart upload is completed, and its object is the place; nothing is copied, except the
// tail that was shorter than a part. An upload without a part is put, or copied, under its digest at once.
func (s *Store) Park(ctx context.Context, id string, state blob.State, d oci.Digest) (place string, err error) {
	p, fresh, err := s.committed(ctx, id, state, d)
	if err != nil {
		return "", err
	}
	if fresh || len(p.parts) == 0 && s.ended.has(id) {
		return "", s.commitAgain(ctx, id, state, d, fresh)
	}
	if len(p.parts) == 0 {
		return "", s.commitHere(ctx, id, state, d, s.sources(id, nil), p)
	}
	m := s.continued(id, p)
	from, rest, err := s.behind(ctx, id, p)
	if err == nil {
		defer rest.free()
		var made []string
		made, err = m.finish(ctx, id, p.parts, from, rest.orNil())
		s.forget(ctx, id, made)
	}
	if isMissing(err) || isMissingUpload(err) { // it was completed before
		at, statErr := s.stat(ctx, m.key)
		switch {
		case statErr != nil && !isMissing(statErr):
			return "", s.failed("commit", statErr)
		case statErr == nil && at.size == state.Offset:
			err = nil
		case statErr == nil && at.size == p.parts.size(): // to be read
			return "", s.commitHere(ctx, id, state, d, ranges(m.key, at.size), p)
		}
	}
	if err != nil {
		return "", s.lost(id, "commit", err)
	}
	s.ended.add(id)
	s.tidy(ctx, id, p)
	return placeOf(id, p.nonce), nil
}

// committed checks what a commit is asked with.
func (s *Store) committed(ctx context.Context, id string, state blob.State, d oci.Digest) (p progress, fresh bool, err error) {
	if err := errors.Join(ctx.Err(), blob.CheckID(id)); err != nil {
		return p, false, err
	}
	if d.IsZero() {
		return p, false, errors.New("s3: commit without a digest")
	}
	return progressOf(id, state)
}

// lost is the failure of an upload's last step. What the service knows no more, or knows otherwise than its state, is an
// upload whose bytes are gone.
func (s *Store) lost(id, what string, err error) error {
	switch errorCode(err) {
	case "InvalidPart", "InvalidPartOrder", "EntityTooSmall":
		return blob.UploadUnknown(id).Because(err)
	}
	if isMissing(err) || isMissingUpload(err) {
		return blob.UploadUnknown(id).Because(err)
	}
	return s.failed(what, err)
}

// ranges are the parts in which an object is copied.
func ranges(key string, size int64) (from []source) {
	if size <= copiedAtOnce {
		return []source{{key: key, size: size}}
	}
	for at := int64(0); at < size; at += copiedAtOnce {
		from = append(from, source{key: key, size: min(copiedAtOnce, size-at), at: at, part: true})
	}
	return from
}

// splitPlace takes a place apart.
func splitPlace(place string) (id, word string, err error) {
	id, word, _ = strings.Cut(place, "/")
	if blob.CheckID(id) != nil || !isNonce(word) {
		return "", "", fmt.Errorf("s3: %.80q is not a place of this store", place)
	}
	return id, word, nil
}

func unknownPlace(place string) error {
	return blob.Unknown(oci.Digest{}).Because(fmt.Errorf("s3: nothing is parked at %s", place))
}

// Parked implements blob.Parker.
func (s *Store) Parked(ctx context.Context, id string) ([]string, error) {
	if err := errors.Join(ctx.Err(), blob.CheckID(id)); err != nil {
		return nil, err
	}
	var places []string
	err := s.list(ctx, s.parkedKey(id, ""), func(o types.Object) {
		places = append(places, strings.TrimPrefix(aws.ToString(o.Key), s.parkedPrefix()))
	})
	return places, s.failed("list parked", err)
}

// OpenAt implements blob.Parker.
func (s *Store) OpenAt(ctx context.Context, place string) (blob.Content, int64, error) {
	id, word, err := splitPlace(place)
	if err := errors.Join(ctx.Err(), err); err != nil {
		return nil, 0, err
	}
	c, err := s.open(ctx, s.parkedKey(id, word))
	if isMissing(err) {
		return nil, 0, unknownPlace(place)
	} else if err != nil {
		return nil, 0, s.failed("open", err)
	}
	return c, c.size, nil
}

// URLAt implements blob.Parker.
func (s *Store) URLAt(ctx context.Context, place string) (string, error) {
	id, word, err := splitPlace(place)
	if err != nil {
		return "", err
	}
	return s.address(ctx, s.parkedKey(id, word))
}

// Settle implements blob.Parker, by a copy inside the service.
func (s *Store) Settle(ctx context.Context, place string, d oci.Digest) error {
	id, word, err := splitPlace(place)
	if err := errors.Join(ctx.Err(), err); err != nil {
		return err
	}
	if d.IsZero() {
		return errors.New("s3: settle without a digest")
	}
	key := s.parkedKey(id, word)
	at, err := s.stat(ctx, key)
	if err == nil {
		err = s.compose(ctx, id, s.blobKey(d), true, ranges(key, at.size), nil)
	}
	if isMissing(err) {
		return unknownPlace(place)
	}
	return s.failed("settle", err)
}

// DeleteAt implements blob.Parker. Markers go last, because they name what is left when it fails.
func (s *Store) DeleteAt(ctx context.Context, places ...string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var keys, markers []string
	for _, place := range places {
		id, word, err := splitPlace(place)
		if err != nil {
			return err
		}
		keys, markers = append(keys, s.parkedKey(id, word)), append(markers, s.markerKey(id, word))
	}
	err := s.remove(ctx, keys)
	if err == nil {
		err = s.remove(ctx, markers)
	}
	return s.failed("delete", err)
}

// address is one that is signed here, without asking the service.
func (s *Store) address(ctx context.Context, key string) (string, error) {
	out, err := s.presign.PresignGetObject(ctx, &s3.GetObjectInput{
		Bucket: &s.o.Bucket, Key: &key, ResponseContentType: aws.String(octets),
	}, s3.WithPresignExpires(s.o.URLExpiry))
	if err != nil {
		return "", s.failed("presign", err)
	}
	return out.URL, nil
}
