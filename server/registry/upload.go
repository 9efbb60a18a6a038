package registry

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// MinChunk is the size in bytes below which chunks of an upload are not worth their round trip. Smaller ones are
// accepted.
const MinChunk = 64 << 10

// Upload is an upload in progress as its owner sees it.
type Upload struct {
	ID       string
	Received int64 // bytes
}

// Chunk is a part of an upload's bytes.
type Chunk struct {
	// Start is the offset at which the bytes belong, -1 when the request does not say: they are appended.
	Start int64
	// Length is how many bytes come, -1 when the request does not say.
	Length int64
	Body   source
}

// source is the body of a request.
type source interface{ Read(p []byte) (int, error) }

// StartUpload begins an upload, which belongs to the caller and to the repository.
//
// Spec: OCI distribution v1.1.1, "POST then PUT".
func (s *Service) StartUpload(ctx context.Context, name ref.Name, a oci.Algorithm) (*Upload, error) {
	if err := s.o.Access.Check(ctx, identity.Push, name); err != nil {
		return nil, err
	}
	if err := s.writable(); err != nil {
		return nil, err
	}
	u := s.newUpload(ctx, name, a)
	// Soft: it survives the process. After a power loss the client's connection is gone as well, and it begins anew.
	err := s.o.DB.UpdateSoft(ctx, func(tx *metadb.Tx) error { return tx.CreateUpload(u) })
	if err != nil {
		return nil, fmt.Errorf("registry: start upload to %s: %w", name, err)
	}
	return &Upload{ID: u.ID}, nil
}

func (s *Service) newUpload(ctx context.Context, name ref.Name, a oci.Algorithm) metadb.Upload {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	if a == "" {
		a = oci.SHA256
	}
	return metadb.Upload{
		ID: hex.EncodeToString(id[:]), Repository: name.String(), Principal: identity.From(ctx).String(), Algorithm: a,
		HashState: []byte{}, DriverState: []byte{},
	}
}

// UploadStatus tells how far an upload is.
//
// Spec: OCI distribution v1.1.1, "Pushing a blob in chunks".
func (s *Service) UploadStatus(ctx context.Context, name ref.Name, id string) (*Upload, error) {
	u, err := s.upload(ctx, name, id)
	if err != nil {
		return nil, err
	}
	return &Upload{ID: u.ID, Received: u.Received}, nil
}

// CancelUpload ends an upload and gives back its space.
//
// Spec: OCI distribution, main, "Canceling a blob upload".
func (s *Service) CancelUpload(ctx context.Context, name ref.Name, id string) error {
	u, err := s.upload(ctx, name, id)
	if err != nil {
		return err
	}
	release, err := s.busy.take(id)
	if err != nil {
		return err
	}
	defer release()
	if err := s.o.Blobs.Abort(ctx, id, state(u)); err != nil {
		return fmt.Errorf("registry: cancel upload %s: %w", id, err)
	}
	return s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		_, err := tx.DeleteUpload(id)
		return err
	})
}

// upload finds an upload of this caller to this repository. Another's is not told apart from none.
func (s *Service) upload(ctx context.Context, name ref.Name, id string) (*metadb.Upload, error) {
	if err := s.o.Access.Check(ctx, identity.Push, name); err != nil {
		return nil, err
	}
	if err := s.writable(); err != nil {
		return nil, err
	}
	if blob.CheckID(id) == nil {
		u, err := s.o.DB.Upload(ctx, id)
		if err == nil && u.Repository == name.String() && u.Principal == identity.From(ctx).String() {
			return &u, nil
		}
		if err != nil && !errors.Is(err, metadb.ErrNotFound) {
			return nil, fmt.Errorf("registry: upload %s: %w", id, err)
		}
	}
	return nil, fault.New(fault.NotFound, fault.BlobUploadUnknown, "upload %.64q to %s is not known; it was finished or cancelled, or never started: start again", id, name)
}

func state(u *metadb.Upload) blob.State { return blob.State{Offset: u.Received, Driver: u.DriverState} }

// Append adds a chunk to an upload and returns how far it is. When the body ends early, what came is kept if the chunk
// did not say where it ends; a chunk with a stated range is taken whole or not at all.
//
// Spec: OCI distribution v1.1.1, "Pushing a blob in chunks".
func (s *Service) Append(ctx context.Context, name ref.Name, id string, c Chunk) (*Upload, error) {
	release, err := s.busy.take(id)
	if err != nil {
		return nil, err
	}
	defer release()
	u, err := s.upload(ctx, name, id) // asks for access, and reads the row after the claim on it
	if err != nil {
		return nil, err
	}
	if err := c.fits(u.Received); err != nil {
		return &Upload{ID: id, Received: u.Received}, err
	}
	h, err := oci.ResumeHasher(u.Algorithm, u.HashState)
	if err != nil {
		return nil, fmt.Errorf("registry: upload %s: %w", id, err)
	}
	received := s.receive(ctx, u, h, c)
	if received.err != nil && !received.keep {
		return nil, s.failedReceive(ctx, u, received.err)
	}
	hash, err := h.State()
	if err != nil {
		return nil, fmt.Errorf("registry: upload %s: %w", id, err)
	}
	// The client may have gone; what it sent is kept all the same, so that it can go on from there.
	err = s.o.DB.UpdateSoft(context.WithoutCancel(ctx), func(tx *metadb.Tx) error {
		return tx.UpdateUpload(id, received.state.Offset, hash, received.state.Driver)
	})
	if errors.Is(err, metadb.ErrNotFound) {
		return nil, fault.New(fault.NotFound, fault.BlobUploadUnknown, "upload %s to %s was cancelled", id, name)
	}
	if err != nil {
		return nil, fmt.Errorf("registry: upload %s: %w", id, err)
	}
	return &Upload{ID: id, Received: received.state.Offset}, received.err
}

// fits checks a chunk against what was received.
func (c *Chunk) fits(received int64) error {
	if c.Start >= 0 && c.Start != received {
		return fault.New(fault.Range, fault.BlobUploadInvalid, "chunk starts at byte %d; the upload goes on at byte %d", c.Start, received)
	}
	return nil
}

// received is the outcome of taking a body.
type received struct {
	state blob.State
	err   error
	keep  bool // with err: what came before it counts
}

// receive streams a chunk into the store and the hasher, and suspends the writer.
func (s *Service) receive(ctx context.Context, u *metadb.Upload, h *oci.Hasher, c Chunk) received {
	w, err := s.o.Blobs.Upload(ctx, u.ID, state(u))
	if err != nil {
		return received{err: err}
	}
	defer func() { _ = w.Close() }()
	n, err := blob.Receive(ctx, w, c.Body, h, blob.ReceiveOptions{})
	var cut *blob.SourceError
	if err != nil && !errors.As(err, &cut) {
		return received{err: err}
	}
	if cut != nil {
		err = bodyEnded(cut)
	} else if c.Length >= 0 && n != c.Length {
		err = fault.New(fault.Invalid, fault.SizeInvalid, "body has %d bytes and the request says %d", n, c.Length)
	}
	if err != nil && c.Start >= 0 {
		return received{err: err}
	}
	st, serr := w.Suspend(context.WithoutCancel(ctx))
	if serr != nil {
		return received{err: serr}
	}
	return received{state: st, err: err, keep: err != nil}
}

// bodyEnded is what to say of a body that broke off: mostly nobody listens any more.
func bodyEnded(cut *blob.SourceError) error {
	if f := new(fault.Error); errors.As(cut.Err, &f) {
		return f
	}
	return fault.New(fault.Invalid, fault.BlobUploadInvalid, "the body ended before it was complete; ask for the upload's status and go on from there").Because(cut.Err)
}

// failedReceive decides what a failure leaves of an upload: nothing when the store is full, so that the space is given
// back at once, else what was acknowledged before.
func (s *Service) failedReceive(ctx context.Context, u *metadb.Upload, err error) error {
	if fault.Is(err, fault.Full) || fault.Has(err, fault.BlobUploadUnknown) {
		s.discard(ctx, u)
	}
	if f := fault.Of(err); f.Kind != fault.Internal {
		return err
	}
	return fmt.Errorf("registry: upload %s: %w", u.ID, err)
}

// discard ends an upload that cannot succeed. When that fails, the sweep finds it by its row.
func (s *Service) discard(ctx context.Context, u *metadb.Upload) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer stop()
	err := s.o.Blobs.Abort(ctx, u.ID, state(u))
	if err == nil {
		err = s.o.DB.UpdateSoft(ctx, func(tx *metadb.Tx) error {
			_, err := tx.DeleteUpload(u.ID)
			return err
		})
	}
	if err != nil {
		s.o.Log.Warn("upload not discarded", "upload", u.ID, "err", err)
	}
}

// busyUploads lets one request at a time write an upload.
type busyUploads struct {
	mu  sync.Mutex
	ids map[string]struct{}
}

// take claims the upload for this request, or says that another one has it.
func (b *busyUploads) take(id string) (release func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, taken := b.ids[id]; taken {
		return nil, fault.New(fault.Conflict, fault.BlobUploadInvalid, "upload %.64q is being written by another request; wait for its answer", id)
	}
	if b.ids == nil {
		b.ids = map[string]struct{}{}
	}
	b.ids[id] = struct{}{}
	return func() {
		b.mu.Lock()
		delete(b.ids, id)
		b.mu.Unlock()
	}, nil
}

// sleep waits for some milliseconds or for the end of ctx.
func sleep(ctx context.Context, ms int) error {
	t := time.NewTimer(time.Duration(ms) * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
