package blobtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

// Parking is a store that parks (blob.Parker), made of one that does not: what is at a place lies there under a digest of
// its own (PlaceDigest). It keeps the contract; faults of the store below are its own. Safe for concurrent use.
type Parking struct {
	blob.Store
	least int64

	mu     sync.Mutex
	parked map[string]time.Time // uploads whose place nobody has deleted
	copies int
}

// NewParking wraps a store. Uploads of fewer bytes than least are committed under their digest.
func NewParking(store blob.Store, least int64) *Parking {
	return &Parking{Store: store, least: least, parked: map[string]time.Time{}}
}

// PlaceDigest is the digest under which the store below has a place.
func PlaceDigest(place string) oci.Digest {
	return oci.FromBytes(oci.SHA512, []byte("place "+place))
}

// Park implements blob.Parker: the place is the upload's id.
func (p *Parking) Park(ctx context.Context, id string, state blob.State, d oci.Digest) (string, error) {
	if state.Offset < p.least || d.IsZero() {
		return "", p.Store.Commit(ctx, id, state, d)
	}
	if err := p.Store.Commit(ctx, id, state, PlaceDigest(id)); err != nil {
		return "", err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.parked[id]; !known {
		p.parked[id] = time.Now()
	}
	return id, nil
}

// Parked implements blob.Parker.
func (p *Parking) Parked(ctx context.Context, id string) ([]string, error) {
	if err := blob.CheckID(id); err != nil {
		return nil, err
	}
	c, _, err := p.Open(ctx, PlaceDigest(id))
	if fault.Has(err, fault.BlobUnknown) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return []string{id}, c.Close()
}

// OpenAt implements blob.Parker.
func (p *Parking) OpenAt(ctx context.Context, place string) (blob.Content, int64, error) {
	return p.Open(ctx, PlaceDigest(place))
}

// URLAt implements blob.Parker: it does not redirect.
func (*Parking) URLAt(context.Context, string) (string, error) { return "", nil }

// Settle implements blob.Parker.
func (p *Parking) Settle(ctx context.Context, place string, d oci.Digest) error {
	if d.IsZero() {
		return errors.New("blobtest: settle without a digest")
	}
	c, _, err := p.OpenAt(ctx, place)
	if err != nil {
		return err
	}
	defer c.Close()
	p.mu.Lock()
	p.copies++
	id := fmt.Sprintf("settle-%d-%d", p.copies, time.Now().UnixNano())
	p.mu.Unlock()
	w, err := p.Upload(ctx, id, blob.State{})
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := io.Copy(w, c); err != nil {
		return errors.Join(err, p.Abort(ctx, id, blob.State{}))
	}
	state, err := w.Suspend(ctx)
	if err != nil {
		return err
	}
	return p.Commit(ctx, id, state, d)
}

// DeleteAt implements blob.Parker.
func (p *Parking) DeleteAt(ctx context.Context, places ...string) error {
	for _, place := range places {
		if err := p.Delete(ctx, PlaceDigest(place)); err != nil {
			return err
		}
		p.mu.Lock()
		delete(p.parked, place)
		p.mu.Unlock()
	}
	return nil
}

// OpenUpload implements blob.UploadReader where the store does.
func (p *Parking) OpenUpload(ctx context.Context, id string, state blob.State) (io.ReadCloser, error) {
	return blob.OpenUpload(ctx, p.Store, id, state)
}

// StaleUploads implements blob.UploadLister where the store does, and names what is parked.
func (p *Parking) StaleUploads(ctx context.Context, before time.Time) ([]string, error) {
	ids, err := blob.StaleUploads(ctx, p.Store, before)
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, at := range p.parked {
		if at.Before(before) {
			ids = append(ids, id)
		}
	}
	return ids, err
}
