package blob

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/berth-registry/berth/oci"
)

// Observe is store with a report after each action: which one ("upload", "suspend", "commit", "abort", "open",
// "delete", "check", "url", "place", "settle"), how long it took in seconds, and how it ended. It is the seam for
// registry_storage_action_seconds. observe is called from many goroutines.
//
// Content is passed on as it is, so an *os.File stays one; writes are not timed one by one. The optional powers of
// store, Redirector and Spacer, are those of the result.
func Observe(store Store, observe func(action string, seconds float64, err error)) Store {
	o := &observed{store: store, report: observe, now: time.Now}
	redirector, redirects := store.(Redirector)
	spacer, ends := store.(Spacer)
	switch {
	case redirects && ends:
		return struct {
			*observed
			observedRedirector
			Spacer
		}{o, observedRedirector{o, redirector}, spacer}
	case redirects:
		return struct {
			*observed
			observedRedirector
		}{o, observedRedirector{o, redirector}}
	case ends:
		return struct {
			*observed
			Spacer
		}{o, spacer}
	}
	return o
}

type observed struct {
	store  Store
	report func(action string, seconds float64, err error)
	now    func() time.Time
}

func (o *observed) since(start time.Time, action string, err error) {
	o.report(action, o.now().Sub(start).Seconds(), err)
}

func (o *observed) Upload(ctx context.Context, id string, state State) (Writer, error) {
	start := o.now()
	w, err := o.store.Upload(ctx, id, state)
	o.since(start, "upload", err)
	if err != nil {
		return nil, err
	}
	return &observedWriter{w, o}, nil
}

func (o *observed) Commit(ctx context.Context, id string, state State, d oci.Digest) error {
	start := o.now()
	err := o.store.Commit(ctx, id, state, d)
	o.since(start, "commit", err)
	return err
}

func (o *observed) Abort(ctx context.Context, id string, state State) error {
	start := o.now()
	err := o.store.Abort(ctx, id, state)
	o.since(start, "abort", err)
	return err
}

func (o *observed) Open(ctx context.Context, d oci.Digest) (Content, int64, error) {
	start := o.now()
	c, size, err := o.store.Open(ctx, d)
	o.since(start, "open", err)
	return c, size, err
}

func (o *observed) Delete(ctx context.Context, ds ...oci.Digest) error {
	start := o.now()
	err := o.store.Delete(ctx, ds...)
	o.since(start, "delete", err)
	return err
}

func (o *observed) Check(ctx context.Context) error {
	start := o.now()
	err := o.store.Check(ctx)
	o.since(start, "check", err)
	return err
}

// OpenUpload implements UploadReader where the store does.
func (o *observed) OpenUpload(ctx context.Context, id string, state State) (io.ReadCloser, error) {
	return OpenUpload(ctx, o.store, id, state)
}

// StaleUploads implements UploadLister where the store does.
func (o *observed) StaleUploads(ctx context.Context, before time.Time) ([]string, error) {
	return StaleUploads(ctx, o.store, before)
}

// Place implements Placer where the store does. What a placement's Commit takes is a "commit".
func (o *observed) Place(ctx context.Context, id string, d oci.Digest) (Placement, error) {
	start := o.now()
	p, err := Place(ctx, o.store, id, d)
	if errors.Is(err, ErrNoPlacer) {
		return nil, err // nothing happened
	}
	o.since(start, "place", err)
	if err != nil {
		return nil, err
	}
	return &observedPlacement{p, o}, nil
}

type observedPlacement struct {
	Placement
	o *observed
}

func (p *observedPlacement) Commit(ctx context.Context) error {
	start := p.o.now()
	err := p.Placement.Commit(ctx)
	p.o.since(start, "commit", err)
	return err
}

// parker is the store's power to park, observed: what Park takes is a "commit", and a place is opened and deleted as a
// digest is.
func (o *observed) parker() (Parker, bool) {
	p, ok := ParkerOf(o.store)
	if !ok {
		return nil, false
	}
	return &observedParker{p, o}, true
}

type observedParker struct {
	Parker
	o *observed
}

func (p *observedParker) Park(ctx context.Context, id string, state State, d oci.Digest) (string, error) {
	start := p.o.now()
	place, err := p.Parker.Park(ctx, id, state, d)
	p.o.since(start, "commit", err)
	return place, err
}

func (p *observedParker) OpenAt(ctx context.Context, place string) (Content, int64, error) {
	start := p.o.now()
	c, size, err := p.Parker.OpenAt(ctx, place)
	p.o.since(start, "open", err)
	return c, size, err
}

func (p *observedParker) URLAt(ctx context.Context, place string) (string, error) {
	start := p.o.now()
	u, err := p.Parker.URLAt(ctx, place)
	p.o.since(start, "url", err)
	return u, err
}

func (p *observedParker) Settle(ctx context.Context, place string, d oci.Digest) error {
	start := p.o.now()
	err := p.Parker.Settle(ctx, place, d)
	p.o.since(start, "settle", err)
	return err
}

func (p *observedParker) DeleteAt(ctx context.Context, places ...string) error {
	start := p.o.now()
	err := p.Parker.DeleteAt(ctx, places...)
	p.o.since(start, "delete", err)
	return err
}

type observedWriter struct {
	Writer
	o *observed
}

func (w *observedWriter) Suspend(ctx context.Context) (State, error) {
	start := w.o.now()
	state, err := w.Writer.Suspend(ctx)
	w.o.since(start, "suspend", err)
	return state, err
}

// observedRedirector names its fields apart from those of observed, beside which it is embedded.
type observedRedirector struct {
	observer   *observed
	redirector Redirector
}

func (r observedRedirector) URL(ctx context.Context, d oci.Digest) (string, error) {
	start := r.observer.now()
	u, err := r.redirector.URL(ctx, d)
	r.observer.since(start, "url", err)
	return u, err
}

// observes lets Notes find what the store can do besides.
func (o *observed) observes() Store { return o.store }
