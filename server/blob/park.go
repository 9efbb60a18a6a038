package blob

import (
	"context"

	"github.com/berth-registry/berth/oci"
)

// Parker is an optional power of a Store whose bytes cannot be renamed: an upload whose digest comes last becomes a blob
// where its bytes are, at a place of its own, and is copied under its digest later. Ask through ParkerOf and Park.
//
// A place is a short word of the store's own, made by Park, that is the upload's id or begins with it and a slash; it is to
// be remembered with the blob. No place is ever used a
// second time, for other bytes or for the same. Nothing of this follows from an upload's id alone: two processes that park
// one upload, from the same state, are given the same place, or one of them fails.
type Parker interface {
	// Park is Commit, except that the bytes may be left at a place; "" says that they are under d, as after Commit. What a
	// crash leaves at a place is found by the id (Parked), and Abort leaves it alone.
	Park(ctx context.Context, id string, state State, d oci.Digest) (place string, err error)

	// Parked are the places of an upload that have bytes now. It is for whoever ends the upload after a crash.
	Parked(ctx context.Context, id string) ([]string, error)

	// OpenAt is Open of a place; one whose bytes are gone is BLOB_UNKNOWN.
	OpenAt(ctx context.Context, place string) (Content, int64, error)

	// URLAt is Redirector's URL of a place; "" when the store cannot redirect.
	URLAt(ctx context.Context, place string) (string, error)

	// Settle makes the bytes of a place readable under d as well, durably, and replaces what is there. It can be repeated. The
	// place stays; when its bytes are gone it is BLOB_UNKNOWN. The caller answers for the digest.
	Settle(ctx context.Context, place string, d oci.Digest) error

	// DeleteAt removes places, and what else their uploads have left; one that is not there is no error. When it fails, any
	// part may have been removed.
	DeleteAt(ctx context.Context, places ...string) error
}

// ParkerOf is the store's power to park, if it has it.
func ParkerOf(store Store) (Parker, bool) {
	if o, ok := store.(interface{ parker() (Parker, bool) }); ok { // observed
		return o.parker()
	}
	p, ok := store.(Parker)
	return p, ok
}

// Park ends an upload whose bytes become d: as cheaply as the store can.
func Park(ctx context.Context, store Store, id string, state State, d oci.Digest) (place string, err error) {
	if p, ok := ParkerOf(store); ok {
		return p.Park(ctx, id, state, d)
	}
	return "", store.Commit(ctx, id, state, d)
}

// OpenAt opens d where its bytes are.
func OpenAt(ctx context.Context, store Store, place string, d oci.Digest) (Content, int64, error) {
	if place == "" {
		return store.Open(ctx, d)
	}
	if p, ok := ParkerOf(store); ok {
		return p.OpenAt(ctx, place)
	}
	return nil, 0, Unknown(d)
}

// Remove deletes what the store has of blobs: under their digests, and at those of the places that are not "". Of a blob
// that has a place a crash may have left both.
func Remove(ctx context.Context, store Store, ds []oci.Digest, places []string) error {
	if err := store.Delete(ctx, ds...); err != nil {
		return err
	}
	return DeleteAt(ctx, store, places...)
}

// DeleteAt deletes those of the places that are not "".
func DeleteAt(ctx context.Context, store Store, places ...string) error {
	p, ok := ParkerOf(store)
	var named []string
	for _, place := range places {
		if place != "" {
			named = append(named, place)
		}
	}
	if !ok || len(named) == 0 {
		return nil
	}
	return p.DeleteAt(ctx, named...)
}
