package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// StartUpload begins an upload, which belongs to the caller and to the repository. It writes nothing (see sessions).
//
// Spec: OCI distribution v1.1.1, "POST then PUT".
func (s *Service) StartUpload(ctx context.Context, name ref.Name, a oci.Algorithm) (*Upload, error) {
	if err := s.mayPush(ctx, name); err != nil {
		return nil, err
	}
	if err := s.room(ctx, 0); err != nil {
		return nil, err
	}
	if a == "" {
		a = oci.SHA256
	}
	return &Upload{ID: s.sessions.start(name.String(), identity.From(ctx).String(), a)}, nil
}

// inProgress is an upload and what the service knows of it. An upload without bytes has no row.
type inProgress struct {
	metadb.Upload
	recorded bool
	once     bool // it is one request, which nobody can continue
}

func newUpload(ctx context.Context, name ref.Name, core string, a oci.Algorithm) *inProgress {
	return &inProgress{Upload: metadb.Upload{
		ID: core, Repository: name.String(), Principal: identity.From(ctx).String(), Algorithm: a,
		HashState: []byte{}, DriverState: []byte{},
	}}
}

// UploadStatus tells how far an upload is.
//
// Spec: OCI distribution v1.1.1, "Pushing a blob in chunks".
func (s *Service) UploadStatus(ctx context.Context, name ref.Name, id string) (*Upload, error) {
	if err := s.mayPush(ctx, name); err != nil {
		return nil, err
	}
	u, err := s.upload(ctx, name, id)
	if err != nil {
		return nil, err
	}
	return &Upload{ID: id, Received: u.Received}, nil
}

// CancelUpload ends an upload and gives back its space.
//
// Spec: OCI distribution, main, "Canceling a blob upload".
func (s *Service) CancelUpload(ctx context.Context, name ref.Name, id string) error {
	if err := s.mayPush(ctx, name); err != nil {
		return err
	}
	u, release, err := s.claim(ctx, name, id)
	if err != nil {
		return err
	}
	defer release()
	ctx = context.WithoutCancel(ctx)
	if err := s.end(ctx, u, true); err != nil && !errors.Is(err, metadb.ErrClaimed) { // then a sweep ends it
		return fmt.Errorf("registry: cancel upload %s: %w", u.ID, err)
	}
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) error { return tx.EndedUpload(u.Upload) })
	if err != nil {
		return fmt.Errorf("registry: cancel upload %s: %w", u.ID, err)
	}
	return nil
}

func (s *Service) mayPush(ctx context.Context, name ref.Name) error {
	if err := s.o.Access.Check(ctx, identity.Push, name); err != nil {
		return err
	}
	return s.writable()
}

// upload finds an upload of this caller to this repository. Another's is not told apart from none.
func (s *Service) upload(ctx context.Context, name ref.Name, id string) (*inProgress, error) {
	said, ok := s.sessions.open(id, name.String(), identity.From(ctx).String())
	if !ok {
		return nil, unknownUpload(name, id)
	}
	if said.fresh {
		return newUpload(ctx, name, said.core, said.alg), nil
	}
	row, err := s.o.DB.Upload(ctx, said.core)
	if errors.Is(err, metadb.ErrNotFound) {
		// Asked once more: the sweep of another replica may have removed it since, and it removes only what is too old.
		if _, ok := s.sessions.open(id, name.String(), identity.From(ctx).String()); !ok {
			return nil, unknownUpload(name, id)
		}
		return newUpload(ctx, name, said.core, said.alg), nil
	}
	if err != nil {
		return nil, fmt.Errorf("registry: upload %s: %w", said.core, err)
	}
	if row.Algorithm == "" { // cancelled
		return nil, unknownUpload(name, id)
	}
	return &inProgress{Upload: row, recorded: true}, nil
}

// claim is upload for a request that changes it: none of this process works on the same one until release is called.
func (s *Service) claim(ctx context.Context, name ref.Name, id string) (u *inProgress, release func(), err error) {
	said, ok := s.sessions.open(id, name.String(), identity.From(ctx).String())
	if !ok {
		return nil, nil, unknownUpload(name, id)
	}
	if release, err = s.busy.take(ctx, said.core); err != nil {
		return nil, nil, err
	}
	if u, err = s.upload(ctx, name, id); err != nil { // it may have ended while we waited
		release()
		return nil, nil, err
	}
	return u, release, nil
}

func unknownUpload(name ref.Name, id string) *fault.Error {
	return fault.New(fault.NotFound, fault.BlobUploadUnknown, "upload %.64q to %s is not known; it was finished or cancelled, or never started: start again", id, name)
}

func (u *inProgress) state() blob.State { return blob.State{Offset: u.Received, Driver: u.DriverState} }

// Append adds a chunk to an upload and returns how far it is. When the body ends early, what came is kept if the chunk
// did not say where it ends; a chunk with a stated range is taken whole or not at all.
//
// Spec: OCI distribution v1.1.1, "Pushing a blob in chunks".
func (s *Service) Append(ctx context.Context, name ref.Name, id string, c Chunk) (*Upload, error) {
	if err := s.mayPush(ctx, name); err != nil {
		return nil, err
	}
	u, release, err := s.claim(ctx, name, id)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := c.fits(u.Received); err != nil {
		return &Upload{ID: id, Received: u.Received}, err
	}
	if err := s.room(ctx, max(c.Length, 0)); err != nil {
		s.failed(ctx, u, err)
		return nil, err
	}
	h, err := oci.ResumeHasher(u.Algorithm, u.HashState)
	if err != nil {
		return nil, fmt.Errorf("registry: upload %s: %w", u.ID, err)
	}
	got := s.receive(ctx, u, h, c)
	if got.err != nil && !got.keep {
		s.failed(ctx, u, got.err)
		return nil, s.wrapUpload(u, got.err)
	}
	if err := s.remember(ctx, u, got.state, h); err != nil {
		if errors.Is(err, metadb.ErrNotFound) || fault.Is(err, fault.Conflict) {
			return s.overtaken(ctx, name, id)
		}
		s.failed(ctx, u, err)
		return nil, s.wrapUpload(u, err)
	}
	return &Upload{ID: id, Received: got.state.Offset}, got.err
}

// overtaken answers for a chunk that another replica was sent, too, or whose upload it ended: what came here does not count.
func (s *Service) overtaken(ctx context.Context, name ref.Name, id string) (*Upload, error) {
	u, err := s.upload(ctx, name, id)
	switch {
	case err != nil:
		return nil, err
	case !u.recorded:
		return nil, unknownUpload(name, id)
	}
	return &Upload{ID: id, Received: u.Received}, fault.New(fault.Range, fault.BlobUploadInvalid,
		"the chunk was overtaken by another request; the upload goes on at byte %d", u.Received)
}

// remember records durably how far an upload has come. The client may have gone; what it sent is kept all the same, so
// that it can go on from there.
func (s *Service) remember(ctx context.Context, u *inProgress, st blob.State, h *oci.Hasher) error {
	hash, err := h.State()
	if err != nil {
		return err
	}
	s.sessions.record(u.ID)
	return s.o.DB.Update(context.WithoutCancel(ctx), func(tx *metadb.Tx) error {
		if u.recorded {
			return tx.UpdateUpload(u.ID, u.Received, st.Offset, hash, st.Driver)
		}
		row := u.Upload
		row.Received, row.HashState, row.DriverState = st.Offset, hash, st.Driver
		return tx.CreateUpload(row)
	})
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
func (s *Service) receive(ctx context.Context, u *inProgress, h *oci.Hasher, c Chunk) received {
	w, err := s.o.Blobs.Upload(ctx, u.ID, u.state())
	if err != nil {
		return received{err: err}
	}
	defer func() { _ = w.Close() }()
	_, cut, err := c.into(ctx, w, h)
	if err != nil && (c.Start >= 0 || !cut) {
		return received{err: err}
	}
	st, serr := w.Suspend(context.WithoutCancel(ctx))
	if fault.Is(serr, fault.Unavailable) {
		return received{err: serr} // the store is away: what was acknowledged before is as it was
	}
	if serr != nil {
		return received{err: lost{serr}}
	}
	return received{state: st, err: err, keep: err != nil}
}

// into streams the chunk into w and the hasher. cut says that the body broke off, and that what came before it counts.
func (c *Chunk) into(ctx context.Context, w io.Writer, h *oci.Hasher) (n int64, cut bool, err error) {
	n, err = blob.Receive(ctx, w, c.Body, h, blob.ReceiveOptions{Limit: max(c.Length, 0)})
	var source *blob.SourceError
	switch {
	case errors.As(err, &source):
		cut, err = true, bodyEnded(source)
	case fault.Is(err, fault.TooLarge):
		err = fault.New(fault.Invalid, fault.SizeInvalid, "body has more than the %d bytes that the request says", c.Length)
	case err == nil && c.Length >= 0 && n != c.Length:
		err = fault.New(fault.Invalid, fault.SizeInvalid, "body has %d bytes and the request says %d", n, c.Length)
	}
	return n, cut, err
}

// lost marks a failure after which nobody knows what the store has of an upload: it must not be continued.
type lost struct{ error }

// Unwrap gives the failure itself.
func (l lost) Unwrap() error { return l.error }

// bodyEnded is what to say of a body that broke off: mostly nobody listens any more.
func bodyEnded(cut *blob.SourceError) error {
	if f := new(fault.Error); errors.As(cut.Err, &f) {
		return f
	}
	return fault.New(fault.Invalid, fault.BlobUploadInvalid, "the body ended before it was complete; ask for the upload's status and go on from there").Because(cut.Err)
}

// busyUploads lets one request at a time write an upload.
type busyUploads struct {
	mu  sync.Mutex
	ids map[string]chan struct{} // closed when the request that has the upload ends
}

// busyPatience is how long a request waits for the one before it on the same upload. A client whose connection broke
// tries again at once, while what it sent before is still being put away.
const busyPatience = 5 * time.Second

// take claims the upload for this request, waiting for the one that has it, or says that it still has it.
func (b *busyUploads) take(ctx context.Context, id string) (release func(), err error) {
	patience := time.NewTimer(busyPatience)
	defer patience.Stop()
	for {
		release, ended := b.try(id)
		if release != nil {
			return release, nil
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-patience.C:
			return nil, beingWritten(id)
		}
	}
}

func beingWritten(id string) *fault.Error {
	return fault.New(fault.Conflict, fault.BlobUploadInvalid, "upload %.64q is being written by another request; wait for its answer", id)
}

// try claims the upload, or returns a nil release and a channel that is closed when it is worth another try.
func (b *busyUploads) try(id string) (release func(), ended <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if other, taken := b.ids[id]; taken {
		return nil, other
	}
	if b.ids == nil {
		b.ids = map[string]chan struct{}{}
	}
	own := make(chan struct{})
	b.ids[id] = own
	return func() {
		b.mu.Lock()
		delete(b.ids, id)
		b.mu.Unlock()
		close(own)
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
