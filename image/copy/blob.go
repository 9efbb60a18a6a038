package copy

import (
	"context"
	"io"
	"slices"
	"sync"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// flight is one blob on its way to one target. Who needs it too waits for it.
type flight struct {
	done chan struct{}
	err  error
}

// blob brings a blob to the target, once for all images that need it there.
func (c *run) blob(ctx context.Context, d oci.Descriptor) error {
	if d.Digest.IsZero() || d.Size < 0 {
		return fault.New(fault.Invalid, fault.ManifestInvalid, "a descriptor of %s has no digest or no size", c.res.From)
	}
	c.res.add(func(r *Result) { r.Total += d.Size })
	key := c.j.To.String() + "@" + d.Digest.String()
	for {
		c.e.mu.Lock()
		f := c.e.flights[key]
		if f == nil {
			f = &flight{done: make(chan struct{})}
			c.e.flights[key] = f
			c.e.mu.Unlock()
			f.err = c.carry(ctx, d)
			if f.err != nil { // another image may be luckier: it is not cancelled with this one
				c.e.mu.Lock()
				delete(c.e.flights, key)
				c.e.mu.Unlock()
			}
			close(f.done)
			return f.err
		}
		c.e.mu.Unlock()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-f.done:
		}
		if f.err == nil {
			c.res.add(func(r *Result) { r.Present++ })
			return nil
		}
	}
}

func (r *Result) add(f func(*Result)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(r)
}

// carry finds the cheapest way for a blob.
func (c *run) carry(ctx context.Context, d oci.Descriptor) error {
	ev := Event{Image: c.res.From, Target: c.res.To, Digest: d.Digest, Media: d.MediaType, Size: d.Size, Done: d.Size}
	tell := func(k Kind, how How) {
		ev.Kind, ev.How = k, how
		c.e.o.Progress(ev)
	}
	var has bool
	err := c.e.request(ctx, func() (err error) {
		has, err = c.j.To.HasBlob(ctx, d)
		return err
	})
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	if has {
		c.res.add(func(r *Result) { r.Present++ })
		c.e.learn(c.j.To, d.Digest)
		c.e.remember(c.j.To, d.Digest, false)
		tell(BlobDone, Present)
		return nil
	}
	if c.e.o.DryRun {
		return c.plan(ctx, d, tell)
	}
	select {
	case c.e.pool <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-c.e.pool }()
	first, err := c.opened(ctx, d)
	if d.External() && fault.Is(err, fault.NotFound) {
		tell(BlobDone, Elsewhere)
		return nil
	}
	if err != nil {
		return err
	}
	m := &meter{c: c, ev: ev}
	ev.Done = 0
	tell(BlobStarted, Sent)
	open := func(ctx context.Context, from int64) (io.ReadCloser, error) {
		if first != nil && from == 0 {
			rc := first
			first = nil
			return m.wrap(rc, from), nil
		}
		rc, err := c.read(ctx, d, from)
		if err != nil {
			return nil, err
		}
		return m.wrap(rc, from), nil
	}
	sure, perhaps := c.e.mounts(c.j, d.Digest)
	out, err := c.j.To.PutBlob(ctx, d, append(sure, perhaps...), open)
	if first != nil {
		_ = first.Close() // nobody read it
	}
	if err != nil {
		return c.blame(ctx, d, err)
	}
	c.e.learn(c.j.To, d.Digest)
	c.e.remember(c.j.To, d.Digest, out == remote.Sent)
	ev.Done = d.Size
	if out == remote.Mounted {
		c.res.add(func(r *Result) { r.Mounted, r.Changed = r.Mounted+1, true })
		tell(BlobDone, Mounted)
		return nil
	}
	if m.total() > 0 {
		c.e.remember(c.j.From, d.Digest, false) // it gave the bytes, and they were right
	}
	c.res.add(func(r *Result) { r.Sent, r.Bytes, r.Changed = r.Sent+1, r.Bytes+m.total(), true })
	if m.total() == 0 && d.Size > 0 { // an earlier run brought all of it
		tell(BlobDone, Present)
		return nil
	}
	tell(BlobDone, Sent)
	return nil
}

// opened opens a blob ahead of the upload where it might not be there at all; else it is nil, and opened when it is needed.
func (c *run) opened(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	if !d.External() {
		return nil, nil
	}
	return c.read(ctx, d, 0)
}

// read opens a blob of the source. Its digest is compared once: by the target when it does that, else by the source.
func (c *run) read(ctx context.Context, d oci.Descriptor, from int64) (io.ReadCloser, error) {
	u, ok := c.j.From.(unverified)
	if v, does := c.j.To.(verifying); ok && does && v.Verifies() {
		return u.BlobUnverified(ctx, d, from)
	}
	return c.j.From.Blob(ctx, d, from)
}

// blame finds out whose bytes were wrong when a target says so: the source's words are the better ones when it were its own.
func (c *run) blame(ctx context.Context, d oci.Descriptor, err error) error {
	if !fault.Has(err, fault.DigestInvalid) && !fault.Has(err, remote.ReasonWrongDigest) {
		return err
	}
	rc, openErr := c.j.From.Blob(ctx, d, 0)
	if openErr != nil {
		return err
	}
	defer rc.Close() //nolint:errcheck // it is only read
	if _, wrong := io.Copy(io.Discard, rc); wrong != nil && ctx.Err() == nil {
		return wrong
	}
	return err
}

// plan says of a blob that the target lacks whether it would be mounted or sent.
func (c *run) plan(ctx context.Context, d oci.Descriptor, tell func(Kind, How)) error {
	sure, perhaps := c.e.mounts(c.j, d.Digest)
	mountable := len(sure) > 0
	for _, name := range perhaps {
		if mountable {
			break
		}
		err := c.e.request(ctx, func() (err error) {
			mountable, err = c.j.To.(hosted).Beside(name).HasBlob(ctx, d)
			return err
		})
		if err != nil && ctx.Err() != nil {
			return err
		} // any other says that it is not to be had from there
	}
	c.e.learn(c.j.To, d.Digest) // it would be there for the images that come after
	if mountable {
		c.res.add(func(r *Result) { r.Mounted, r.Changed = r.Mounted+1, true })
		tell(BlobDone, Mountable)
		return nil
	}
	c.res.add(func(r *Result) { r.Sent, r.Bytes, r.Changed = r.Sent+1, r.Bytes+d.Size, true })
	tell(BlobDone, Planned)
	return nil
}

// remembered is how many repositories that an earlier run met are tried as the origin of a mount. One that has the blob no more costs
// a request.
const remembered = 2

// mounts are the repositories of the target's registry from which a blob may be mounted. Sure to have it are the source, where it is
// there, and those that got it in this run; perhaps those have it that the job names or, when nothing better is known, earlier runs met.
func (e *Engine) mounts(j Job, d oci.Digest) (sure, perhaps []ref.Name) {
	to, ok := j.To.(hosted)
	if !ok {
		return nil, nil
	}
	fresh := func(n ref.Name) bool {
		return n != to.Name() && !slices.Contains(sure, n) && !slices.Contains(perhaps, n)
	}
	if from, ok := j.From.(hosted); ok && from.Host() == to.Host() && fresh(from.Name()) {
		sure = append(sure, from.Name())
	}
	e.mu.Lock()
	for _, n := range e.known[to.Host()+"@"+d.String()] {
		if fresh(n) {
			sure = append(sure, n)
		}
	}
	e.mu.Unlock()
	if len(sure) == 0 && e.o.Memory != nil {
		for _, n := range e.o.Memory.Has(to.Host(), d) {
			if fresh(n) && len(perhaps) < remembered {
				perhaps = append(perhaps, n)
			}
		}
	}
	for _, n := range j.Mounts {
		if fresh(n) {
			perhaps = append(perhaps, n)
		}
	}
	return sure, perhaps
}

// learn notes for this run which repository has a blob; two of a kind are enough.
func (e *Engine) learn(t Target, d oci.Digest) {
	to, ok := t.(hosted)
	if !ok {
		return
	}
	key := to.Host() + "@" + d.String()
	e.mu.Lock()
	defer e.mu.Unlock()
	if have := e.known[key]; len(have) < 2 && !slices.Contains(have, to.Name()) {
		e.known[key] = append(have, to.Name())
	}
}

// remember tells later runs that a place has a blob.
func (e *Engine) remember(place any, d oci.Digest, sent bool) {
	if at, ok := place.(hosted); ok && e.o.Memory != nil {
		e.o.Memory.Remember(at.Host(), at.Name(), d, sent)
	}
}

// meter tells how far a blob is.
type meter struct {
	c  *run
	ev Event

	mu   sync.Mutex
	read int64 // bytes that came, those of failed attempts included
	told int64
}

func (m *meter) wrap(rc io.ReadCloser, from int64) io.ReadCloser {
	m.mu.Lock()
	m.told = from
	resumed := from > 0 && m.read == 0
	ev := m.ev
	m.mu.Unlock()
	if resumed {
		ev.Kind, ev.Done = BlobStarted, from
		m.c.e.o.Progress(ev)
	}
	return &metered{rc, m, from}
}

func (m *meter) total() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.read
}

// step is how many bytes pass between two events.
const step = 512 << 10

type metered struct {
	io.ReadCloser
	m  *meter
	at int64
}

func (r *metered) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.at += int64(n)
	r.m.mu.Lock()
	r.m.read += int64(n)
	tell := r.at-r.m.told >= step
	if tell {
		r.m.told = r.at
	}
	ev := r.m.ev
	r.m.mu.Unlock()
	if tell {
		ev.Kind, ev.Done = BlobProgress, r.at
		r.m.c.e.o.Progress(ev)
	}
	return n, err
}
