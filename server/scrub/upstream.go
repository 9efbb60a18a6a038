package scrub

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/metadb"
)

// Upstream is another registry that has copies of what is here under the same names: a replica of this one, or the one from
// which images come. Nothing that it says is believed: bytes are verified before they replace any.
type Upstream struct {
	Host           string // "registry.example.com", or with a port
	Plain          bool   // speak http; else https
	User, Password string // both "" for nobody
	// Hosts are further ones, with their ports, that it may send us to: of its token server, and of the storage that it
	// redirects to. Others are not asked anything, so that it cannot make us a client of what only we can reach.
	Hosts []string
	TLS   *tls.Config // nil is the default
}

const (
	maxHomes = 100 // repositories whose names are asked for at an upstream
	// upstreamTries is how often an upstream is asked the same when it does not answer. After awayAfter blobs in a row for which it
	// did not, it is not asked for awayFor: a pass must not wait for it at every blob.
	upstreamTries = 3
	awayAfter     = 3
	awayFor       = 5 * time.Minute
)

// upstream is an Upstream that can be asked. Safe for concurrent use.
type upstream struct {
	Upstream
	client *remote.Client
	now    func() time.Time

	mu     sync.Mutex
	failed int       // blobs in a row for which it did not answer
	until  time.Time // it is not asked before
	why    error     // what it failed with last
}

func newUpstream(u Upstream, now func() time.Time) *upstream {
	scheme := "https"
	if u.Plain {
		scheme = "http"
	}
	return &upstream{Upstream: u, now: now, client: remote.New(remote.Options{
		Transport: remote.Only(remote.NewTransport(u.TLS), append([]string{u.Host}, u.Hosts...)...), Agent: "berthd", Tries: upstreamTries, Now: now,
		MaxWait:  30 * time.Second,
		Endpoint: func(string) remote.Endpoint { return remote.Endpoint{Scheme: scheme} },
		Credentials: func(context.Context, string, string) (remote.Credentials, error) {
			return remote.Credentials{User: u.User, Password: u.Password, Source: "berth.integrity.repair_from"}, nil
		},
	})}
}

// open gives the bytes of a blob or a manifest as one repository of the upstream has them, from their beginning. What they
// are is for the caller to verify.
func (u *upstream) open(ctx context.Context, h metadb.Home, b metadb.Blob) (io.ReadCloser, error) {
	name, err := ref.ParseName(h.Repository)
	if err != nil {
		return nil, err
	}
	repo := u.client.Repository(u.Host, name)
	if !h.Manifest {
		return repo.BlobUnverified(ctx, oci.Descriptor{Digest: b.Digest, Size: b.Size}, 0)
	}
	_, body, err := repo.Manifest(ctx, ref.Reference{Digest: b.Digest})
	return io.NopCloser(bytes.NewReader(body)), err
}

// away says why the upstream is not to be asked; nil when it is.
func (u *upstream) away() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.now().Before(u.until) {
		return u.why
	}
	return nil
}

// heed remembers whether the upstream answered.
func (u *upstream) heed(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !fault.Is(err, fault.Unavailable) && !fault.Is(err, fault.RateLimited) || fault.Has(err, remote.ReasonWrongDigest) {
		u.failed = 0
		return
	}
	u.why = err
	if u.failed++; u.failed >= awayAfter {
		u.failed, u.until = 0, u.now().Add(awayFor)
	}
}

// errNowhere says that no upstream has some content.
var errNowhere = errors.New("none of the registries of berth.integrity.repair_from has it")

// fetch gives a damaged blob the bytes that an upstream has, and returns its host. Without one that has them, the error says why
// of the last that was asked.
func (s *Service) fetch(ctx context.Context, b metadb.Blob, pace *pace) (host string, err error) {
	homes, err := s.o.DB.Homes(ctx, b.Digest, maxHomes)
	if err != nil {
		return "", fmt.Errorf("scrub: who has %s: %w", b.Digest, err)
	}
	why := errNowhere
	for _, u := range s.upstreams {
		err := u.away()
		if err == nil {
			err = s.fetchFrom(ctx, u, homes, b, pace)
			if ctx.Err() != nil {
				return "", context.Cause(ctx)
			}
			u.heed(err)
		}
		if err == nil {
			return u.Host, nil
		}
		if !errors.Is(err, errNowhere) {
			s.metrics.unrepaired(u.Host)
			s.o.Log.WarnContext(ctx, "another registry could not repair a damaged blob", "digest", b.Digest, "registry", u.Host, "err", err)
			why = err
		}
	}
	return "", why
}

// fetchFrom asks one upstream for the content by the name of each repository that has it.
func (s *Service) fetchFrom(ctx context.Context, u *upstream, homes []metadb.Home, b metadb.Blob, pace *pace) error {
	why := errNowhere
	for _, h := range homes {
		r, err := u.open(ctx, h, b)
		if err == nil {
			err = s.take(ctx, b, pace.reader(ctx, r))
			_ = r.Close() // all that matters of it was read
		}
		switch {
		case err == nil:
			s.o.Log.InfoContext(ctx, "a damaged blob was repaired from another registry", "digest", b.Digest, "registry", u.Host, "repo", h.Repository)
			return nil
		case fault.Is(err, fault.NotFound): // it may have it under another name
		case fault.Is(err, fault.Denied) && !fault.Has(err, remote.ReasonRedirect), fault.Is(err, fault.Unauthenticated):
			why = err
		default:
			return err
		}
	}
	return why
}
