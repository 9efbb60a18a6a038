package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// Outcome is how a blob came to be in a repository.
type Outcome uint8

// The outcomes of PutBlob.
const (
	Sent    Outcome = iota // its bytes were sent, or what was missing of them
	Mounted                // the registry had it in another repository
)

// Uploads remembers where interrupted uploads can go on, between processes. A location may hold a session's secret: keep it as
// private as a login. Implementations are safe for concurrent use; what they lose only costs bytes.
type Uploads interface {
	Load(key string) (location string, ok bool)
	Save(key, location string)
	Drop(key string)
}

// Open opens the content of a blob for reading from an offset. It may be called again, with another offset.
type Open func(ctx context.Context, from int64) (io.ReadCloser, error)

// upload is one blob on its way into a repository.
type upload struct {
	r    *Repository
	d    oci.Descriptor
	open Open
	at   *url.URL // the session; nil is none
	off  int64    // bytes that the registry has

	mu     sync.Mutex
	source error // why the content could not be read
	sent   int64 // bytes that were handed to the connection
}

// maxMounts is how many repositories are tried as the origin of a mount.
const maxMounts = 3

// worthRemembering is the size from which an upload is remembered between processes.
const worthRemembering = 1 << 20

// PutBlob brings a blob into the repository: by mounting it from one of the repositories of the same registry in from, else by
// sending what open reads. An upload that breaks goes on where the registry says it is, in this process and, with
// Options.Uploads, in the next. The registry verifies the digest. It does not ask whether the blob is there: HasBlob does.
//
// Spec: OCI distribution v1.1.1, "Pushing blobs", "Mounting a blob from another repository", "Resuming an Upload".
func (r *Repository) PutBlob(ctx context.Context, d oci.Descriptor, from []ref.Name, open Open) (Outcome, error) {
	u := &upload{r: r, d: d, open: open}
	key := r.String() + "@" + d.Digest.String()
	if r.c.o.Uploads != nil {
		u.recall(ctx, key)
	}
	if u.at == nil {
		mounted, err := u.begin(ctx, from)
		if err != nil || mounted {
			return Mounted, err
		}
	}
	err := u.run(ctx)
	if r.c.o.Uploads != nil {
		if err != nil && u.at != nil && u.sent > 0 && d.Size >= worthRemembering && sameOrigin(u.at, r.h.origin()) && !fault.Has(err, fault.DigestInvalid) && !lasting(err) {
			r.c.o.Uploads.Save(key, u.at.String())
		} else {
			r.c.o.Uploads.Drop(key)
		}
	}
	return Sent, err
}

// recall takes up the session of an earlier process when the registry still knows it.
func (u *upload) recall(ctx context.Context, key string) {
	text, ok := u.r.c.o.Uploads.Load(key)
	if !ok {
		return
	}
	if err := u.r.c.settle(ctx, u.r.h, &call{what: "resume an upload"}); err != nil {
		return
	}
	at, err := url.Parse(text)
	if err != nil || !sameOrigin(at, u.r.h.origin()) {
		return
	}
	u.at = at
	if err := u.status(ctx); err != nil {
		u.at, u.off = nil, 0
		return
	}
	u.r.c.o.Notice(Notice{Host: u.r.h.name, Kind: "resume", Text: fmt.Sprintf("blob %s goes on at byte %d of %d", u.d.Digest.Short(), u.off, u.d.Size)})
}

func (u *upload) call(method, what string, ok ...int) *call {
	return &call{method: method, scope: u.r.push(), repo: u.r.name.String(), ok: ok, missing: fault.BlobUploadUnknown,
		what: what + " blob " + u.d.Digest.Short() + " of " + u.r.name.String()}
}

// begin mounts the blob, or starts a session: a registry that does not mount begins one in the same answer, and the last of those is
// used. Only its 201 is a mount.
func (u *upload) begin(ctx context.Context, from []ref.Name) (mounted bool, err error) {
	for _, name := range from[:min(len(from), maxMounts)] {
		cl := u.call(http.MethodPost, "mount", http.StatusCreated, http.StatusAccepted)
		cl.path = u.r.path("blobs", "uploads/") + "?mount=" + escaped(u.d.Digest.String()) + "&from=" + url.QueryEscape(name.String())
		cl.scope = append(cl.scope, "repository:"+name.String()+":pull")
		resp, err := u.r.c.do(ctx, u.r.h, cl)
		if err != nil {
			if ctx.Err() != nil {
				return false, err
			}
			if fault.Is(err, fault.Denied) || fault.Is(err, fault.Unauthenticated) || fault.Is(err, fault.NotFound) {
				continue // not from there, or not for us
			}
			break // it does not mount: there is another way
		}
		if err := cl.settled(u.r.h, resp); err != nil {
			return false, err
		}
		mounted, former := resp.StatusCode == http.StatusCreated, u.at
		if !mounted {
			if err := u.follow(resp); err != nil {
				return false, err
			}
		}
		if former != nil && (mounted || former != u.at) {
			u.cancel(ctx, former)
		}
		if mounted {
			return true, nil
		}
	}
	if u.at != nil {
		return false, nil
	}
	cl := u.call(http.MethodPost, "start an upload of", http.StatusAccepted)
	cl.path, cl.missing = u.r.path("blobs", "uploads/"), fault.NameUnknown
	if u.d.Digest.Algorithm() != oci.SHA256 {
		cl.path += "?digest-algorithm=" + string(u.d.Digest.Algorithm())
	}
	resp, err := u.r.c.do(ctx, u.r.h, cl)
	if err != nil {
		return false, err
	}
	if err := cl.settled(u.r.h, resp); err != nil {
		return false, err
	}
	return false, u.follow(resp)
}

// cancel ends a session that nothing was sent to. One that stays costs the registry a little, until it forgets it.
func (u *upload) cancel(ctx context.Context, at *url.URL) {
	cl := u.call(http.MethodDelete, "cancel an upload of", http.StatusNoContent, http.StatusAccepted, http.StatusOK)
	cl.url, cl.tries = at, 1
	if resp, err := u.r.c.do(ctx, u.r.h, cl); err == nil {
		discard(resp)
	}
}

// follow takes the session's address from an answer. Without one the address stays.
func (u *upload) follow(resp *http.Response) error {
	location := resp.Header.Get("Location")
	if location == "" {
		if u.at == nil {
			return fault.New(fault.Unavailable, ReasonNoRegistry, "%s: start an upload of blob %s: the registry does not say where to send it", u.r.h.name, u.d.Digest.Short())
		}
		return nil
	}
	base := resp.Request.URL
	at, err := base.Parse(location)
	if err != nil || at.Host == "" || at.Scheme != "https" && at.Scheme != "http" || at.User != nil || base.Scheme == "https" && at.Scheme == "http" {
		return fault.New(fault.Unavailable, ReasonRedirect, "%s: upload blob %s: the registry wants it sent to %s, where it is not sent", u.r.h.name, u.d.Digest.Short(), plain(location, 100))
	}
	u.at = at
	return nil
}

// run sends until the registry has the blob.
func (u *upload) run(ctx context.Context) error {
	c := u.r.c
	resumed := u.off > 0
	for n := 1; ; n++ {
		before := u.off
		err := u.attempt(ctx)
		if err == nil {
			return nil
		}
		if src := u.sourceError(); src != nil {
			return src
		}
		if fault.Has(err, fault.DigestInvalid) && resumed { // it took the rest for something else: once more, from the beginning
			resumed, u.at, u.off = false, nil, 0
			if _, err := u.begin(ctx, nil); err != nil {
				return err
			}
			continue
		}
		if ctx.Err() != nil || !u.worthwhile(err) {
			return err
		}
		if n >= c.o.Tries {
			return err
		}
		// The pause comes before the question: a registry needs a moment to notice that the connection is gone.
		if err := c.again(ctx, u.r.h, n, err); err != nil {
			return err
		}
		again := fault.Has(err, fault.BlobUploadUnknown) || fault.Is(err, fault.NotFound) || u.status(ctx) != nil
		if ctx.Err() != nil {
			return err
		}
		if u.off > before {
			n = 0
		}
		resumed = u.off > 0
		if again {
			u.at, u.off = nil, 0
			if _, err := u.begin(ctx, nil); err != nil {
				return err
			}
			continue
		}
		c.o.Notice(Notice{Host: u.r.h.name, Kind: "resume", Text: fmt.Sprintf("blob %s goes on at byte %d of %d", u.d.Digest.Short(), u.off, u.d.Size)})
	}
}

// worthwhile reports whether an upload that failed so may succeed when it goes on.
func (u *upload) worthwhile(err error) bool {
	switch {
	case lasting(err), fault.Has(err, fault.DigestInvalid), fault.Has(err, fault.SizeInvalid):
		return false
	case fault.Is(err, fault.Unavailable), fault.Is(err, fault.RateLimited), fault.Is(err, fault.NotFound), fault.Is(err, fault.Range), fault.Is(err, fault.Conflict):
		return true
	}
	return fault.Has(err, fault.BlobUploadInvalid) || fault.Has(err, fault.BlobUploadUnknown)
}

// atOnce is up to which size a blob is sent in the request that closes its upload. A larger one is streamed in one of its own:
// registries keep what came of that when it breaks, and of the closing one they need not.
const atOnce = 4 << 20

// attempt sends what is missing and closes the upload. The stream says no range: a chunk with a range is taken whole or not at
// all.
func (u *upload) attempt(ctx context.Context) error {
	if u.off > 0 && u.off < u.d.Size || u.d.Size > atOnce && u.off == 0 {
		cl := u.call(http.MethodPatch, "upload", http.StatusAccepted, http.StatusCreated, http.StatusNoContent)
		resp, err := u.send(ctx, cl, u.at)
		if err != nil {
			return err
		}
		if err := u.follow(resp); err != nil {
			return err
		}
		u.off = u.d.Size
	}
	cl := u.call(http.MethodPut, "upload", http.StatusCreated, http.StatusNoContent, http.StatusOK)
	at := *u.at
	if at.RawQuery != "" {
		at.RawQuery += "&"
	}
	at.RawQuery += "digest=" + escaped(u.d.Digest.String())
	resp, err := u.send(ctx, cl, &at)
	if err != nil {
		return err
	}
	if said := resp.Header.Get("Docker-Content-Digest"); said != "" && said != u.d.Digest.String() {
		return wrongDigest("%s: %s: the registry stored %s", u.r.h.name, cl.describe(), plain(said, 150))
	}
	return nil
}

// send makes one request whose body is the content from u.off on.
func (u *upload) send(ctx context.Context, cl *call, at *url.URL) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cl.url, cl.tries, cl.length = at, 1, u.d.Size-u.off
	if cl.header == nil {
		cl.header = http.Header{}
	}
	if cl.length > 0 {
		cl.header.Set("Content-Type", "application/octet-stream")
		cl.body = func() (io.ReadCloser, error) {
			rc, err := u.open(ctx, u.off)
			if err != nil {
				u.setSource(err)
				return nil, err
			}
			b := &bodyReader{rc: rc, u: u, limit: u.r.c.o.Stall}
			b.stall = time.AfterFunc(b.limit, func() { cancel(errStalled) })
			return b, nil
		}
	} else {
		cl.body = func() (io.ReadCloser, error) { return http.NoBody, nil }
	}
	resp, err := u.r.c.do(ctx, u.r.h, cl)
	if err != nil {
		if errors.Is(context.Cause(ctx), errStalled) {
			err = fault.New(fault.Unavailable, ReasonNetwork, "%s: %s: the registry took no bytes for %s", u.r.h.name, cl.describe(), u.r.c.o.Stall)
		}
		return nil, err
	}
	return resp, cl.settled(u.r.h, resp)
}

// status asks how far the upload is.
func (u *upload) status(ctx context.Context) error {
	cl := u.call(http.MethodGet, "ask for the upload of", http.StatusNoContent, http.StatusOK, http.StatusAccepted)
	cl.url, cl.tries = u.at, min(2, u.r.c.o.Tries)
	resp, err := u.r.c.do(ctx, u.r.h, cl)
	if err != nil {
		return err
	}
	discard(resp)
	last, ok := parseUploadRange(resp.Header.Get("Range"))
	if !ok || last >= u.d.Size {
		return fault.New(fault.Range, fault.RangeInvalid, "%s: %s: the registry says it has %q", u.r.h.name, cl.describe(), plain(resp.Header.Get("Range"), 60))
	}
	u.off = last + 1
	if last == 0 { // one byte, or none: from the start it is right in either case, or refused
		u.off = 0
	}
	return u.follow(resp)
}

func (u *upload) setSource(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.source == nil {
		u.source = err
	}
}

func (u *upload) sourceError() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.source
}

// bodyReader notes why content could not be read, and notices when the registry takes none of it. net/http may close a body
// while it reads it; here one waits for the other.
type bodyReader struct {
	mu     sync.Mutex
	rc     io.ReadCloser
	closed bool
	u      *upload
	limit  time.Duration
	stall  *time.Timer
}

func (b *bodyReader) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, io.ErrClosedPipe
	}
	b.stall.Stop() // how long the source takes is the source's affair
	n, err := b.rc.Read(p)
	switch {
	case err == nil:
		b.stall.Reset(b.limit)
	case err != io.EOF && !errors.Is(err, context.Canceled):
		b.u.setSource(err)
	}
	b.u.mu.Lock()
	b.u.sent += int64(n)
	b.u.mu.Unlock()
	return n, err
}

func (b *bodyReader) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stall.Stop()
	if b.closed {
		return nil
	}
	b.closed = true
	return b.rc.Close()
}
