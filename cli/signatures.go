package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/copy"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/image/sign"
	"github.com/berth-registry/berth/oci"
)

// signatureStores are where the GPG signatures of images are (copy.Signatures): in the registry where it keeps them, else in the
// lookaside that registries.d names for a repository, or the one that podman and skopeo use without it.
type signatureStores struct {
	a *app
	// system is the settings by which a repository of a host is reached.
	system func(host string, target bool) *types.SystemContext

	warned  sync.Once
	mu      sync.Mutex
	reaches map[*types.SystemContext]*reach // of web roots
}

// Missing are the signatures that the source has of a manifest and the target has not. A target that is no registry has no place
// for any; that is said once.
func (b *signatureStores) Missing(ctx context.Context, from copy.Source, to copy.Target, d oci.Digest) ([][]byte, error) {
	r, ok := from.(*remote.Repository)
	if !ok {
		return nil, nil
	}
	have, err := b.read(ctx, r, false, d)
	if err != nil || len(have) == 0 {
		return nil, err
	}
	t, ok := to.(*remote.Repository)
	if !ok {
		b.warned.Do(func() {
			b.a.warn("the GPG signatures of "+r.String()+" stay behind: a layout has no place for them", r.String()+" 的 GPG 签名未复制：OCI 布局无法存放")
		})
		return nil, nil
	}
	there, err := b.read(ctx, t, true, d)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(have, func(sig []byte) bool {
		return slices.ContainsFunc(there, func(s []byte) bool { return bytes.Equal(s, sig) })
	}), nil
}

// Put adds signatures to those of the target.
func (b *signatureStores) Put(ctx context.Context, to copy.Target, d oci.Digest, sigs [][]byte) error {
	t, ok := to.(*remote.Repository)
	if !ok {
		return fault.New(fault.Unsupported, fault.UnsupportedReason, "%s has no place for GPG signatures", to)
	}
	keeps, err := t.KeepsSignatures(ctx)
	if err != nil {
		return err
	}
	if keeps {
		for _, sig := range sigs {
			if err := t.PutSignature(ctx, d, sig); err != nil {
				return err
			}
		}
		return nil
	}
	l, err := b.lookaside(t, true, d)
	if err != nil {
		return err
	}
	there, err := l.read(ctx)
	if err != nil {
		return err
	}
	for i, sig := range sigs {
		if err := l.write(len(there)+i, sig); err != nil {
			return err
		}
	}
	return nil
}

// read are the signatures of a manifest, wherever they are kept.
func (b *signatureStores) read(ctx context.Context, r *remote.Repository, target bool, d oci.Digest) ([][]byte, error) {
	keeps, err := r.KeepsSignatures(ctx)
	if err != nil {
		return nil, err
	}
	if keeps {
		return r.Signatures(ctx, d)
	}
	l, err := b.lookaside(r, target, d)
	if err != nil {
		return nil, err
	}
	all, err := l.read(ctx)
	// A file that begins with a zero says of what other kind it is.
	return slices.DeleteFunc(all, func(sig []byte) bool { return len(sig) == 0 || sig[0] == 0 }), err
}

// lookaside is the web root or folder with the signatures of one manifest, a file each.
//
// Spec: docs/signature-protocols.md of containers/image.
type lookaside struct {
	base  *url.URL // of the repository
	d     oci.Digest
	reach *reach
}

func (b *signatureStores) lookaside(r *remote.Repository, target bool, d oci.Digest) (*lookaside, error) {
	sys := b.system(r.Host(), target)
	named, err := reference.ParseNormalizedNamed(r.String())
	if err != nil {
		return nil, err
	}
	digested, err := reference.WithDigest(named, digest.Digest(d.String()))
	if err != nil {
		return nil, err
	}
	img, err := docker.NewReference(digested)
	if err != nil {
		return nil, err
	}
	base, err := docker.SignatureStorageBaseURL(sys, img, target)
	if err != nil {
		return nil, fmt.Errorf("registries.d: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.reaches == nil {
		b.reaches = map[*types.SystemContext]*reach{}
	}
	if b.reaches[sys] == nil {
		b.reaches[sys] = &reach{sys: sys, transports: map[string]http.RoundTripper{}}
	}
	return &lookaside{base, d, b.reaches[sys]}, nil
}

// at is where the signature of a number is, from 0.
func (l *lookaside) at(n int) *url.URL {
	u := *l.base
	u.Path = fmt.Sprintf("%s@%s=%s/signature-%d", u.Path, l.d.Algorithm(), l.d.Hex(), n+1)
	return &u
}

// read are all signatures. The first number without one ends them.
func (l *lookaside) read(ctx context.Context) ([][]byte, error) {
	var all [][]byte
	for n := range sign.MaxSignatures {
		sig, err := l.one(ctx, l.at(n))
		if errors.Is(err, fs.ErrNotExist) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read signature %s: %w", l.at(n).Redacted(), err)
		}
		all = append(all, sig)
	}
	return nil, fault.New(fault.TooLarge, fault.SizeInvalid, "there are more than %d signatures at %s", sign.MaxSignatures, l.at(0).Redacted())
}

// one reads a signature; fs.ErrNotExist says that there is none.
func (l *lookaside) one(ctx context.Context, at *url.URL) ([]byte, error) {
	switch at.Scheme {
	case "file":
		f, err := os.Open(at.Path)
		if err != nil {
			return nil, err
		}
		defer f.Close() //nolint:errcheck // it was only read
		return readBounded(f, at.Path, sign.MaxBytes)
	case "http", "https":
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
		if err != nil {
			return nil, err
		}
		resp, err := (&http.Client{Transport: l.reach.endpoint(at.Host).Transport}).Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close() //nolint:errcheck // it was only read
		switch resp.StatusCode {
		case http.StatusOK:
			return readBounded(resp.Body, at.Redacted(), sign.MaxBytes)
		case http.StatusNotFound:
			return nil, fs.ErrNotExist
		}
		return nil, errors.New("the answer is " + resp.Status)
	}
	return nil, fault.New(fault.Unsupported, fault.UnsupportedReason, "a lookaside is at file, http or https; registries.d names %s", at.Redacted())
}

// remove deletes the signatures of a manifest that lie in a folder. Those of a registry go with the manifest, and a web root is
// its owner's.
func (b *signatureStores) remove(r *remote.Repository, d oci.Digest) error {
	l, err := b.lookaside(r, true, d)
	if err != nil {
		return err
	}
	for n := 0; l.base.Scheme == "file" && n < sign.MaxSignatures; n++ {
		err := os.Remove(l.at(n).Path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// write puts a signature under a number, whole or not at all.
func (l *lookaside) write(n int, sig []byte) error {
	at := l.at(n)
	if at.Scheme != "file" {
		return fault.New(fault.Unsupported, fault.UnsupportedReason, "signatures cannot be written to %s; name a lookaside-staging with file:// in registries.d, or leave them behind with --remove-signatures",
			strings.TrimSuffix(at.Redacted(), filepath.Base(at.Path)))
	}
	err := writeTrust(trustedFile{path: at.Path, body: sig})
	if errors.Is(err, fs.ErrPermission) {
		return fault.New(fault.Denied, fault.DeniedReason, "you may not write the signature %s; name a lookaside-staging in registries.d, or leave the signatures behind with --remove-signatures", at.Path).Because(err)
	}
	return err
}
