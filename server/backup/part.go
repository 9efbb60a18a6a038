package backup

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

// pack compresses a file into another one and says what became of it.
func pack(from, to string) (p Part, err error) {
	in, err := os.Open(from)
	if err != nil {
		return p, err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	raw, packed := oci.NewHasher(oci.SHA256), oci.NewHasher(oci.SHA256)
	count := &counter{}
	buffered := bufio.NewWriterSize(io.MultiWriter(out, packed, count), 256<<10)
	zip, err := gzip.NewWriterLevel(buffered, gzip.BestSpeed)
	if err != nil {
		return p, err
	}
	if p.RawLen, err = io.Copy(io.MultiWriter(zip, raw), in); err != nil {
		return p, err
	}
	if err := errors.Join(zip.Close(), buffered.Flush()); err != nil {
		return p, err
	}
	p.Raw, p.Digest, p.Size = raw.Digest(), packed.Digest(), count.n
	return p, nil
}

type counter struct{ n int64 }

func (c *counter) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return len(b), nil
}

// send packs a file and makes it a blob of the store.
func send(ctx context.Context, store blob.Store, file string) (p Part, err error) {
	packed := file + ".gz"
	if p, err = pack(file, packed); err != nil {
		return p, fmt.Errorf("backup: compress: %w", err)
	}
	f, err := os.Open(packed)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(packed)) }()
	return p, put(ctx, store, p.Digest, p.Size, f)
}

// open reads a part, decompressed. Its reader ends with an error when anything of it is not what it was.
func (p Part) open(ctx context.Context, store blob.Store, what string) (io.ReadCloser, error) {
	c, n, err := store.Open(ctx, p.Digest)
	if fault.Has(err, fault.BlobUnknown) {
		return nil, fault.New(fault.Conflict, fault.Unknown, "backup is damaged: the %s %s is missing", what, p.Digest)
	} else if err != nil {
		return nil, err
	}
	if n != p.Size {
		return nil, errors.Join(fault.New(fault.Conflict, fault.Unknown, "backup is damaged: the %s %s has %d bytes, not %d", what, p.Digest, n, p.Size), c.Close())
	}
	zip, err := gzip.NewReader(c)
	if err != nil {
		return nil, errors.Join(p.damaged(what, err), c.Close())
	}
	return &unpacking{p: p, what: what, blob: c, zip: zip, hash: oci.NewHasher(oci.SHA256)}, nil
}

func (p Part) damaged(what string, cause error) error {
	return fault.New(fault.Conflict, fault.Unknown, "backup is damaged: the %s %s is not what it was when it was written", what, p.Digest).Because(cause)
}

type unpacking struct {
	p    Part
	what string
	blob blob.Content
	zip  *gzip.Reader
	hash *oci.Hasher
	n    int64
}

func (u *unpacking) Read(b []byte) (int, error) {
	n, err := u.zip.Read(b)
	_, _ = u.hash.Write(b[:n]) // never fails
	u.n += int64(n)
	switch {
	case errors.Is(err, io.EOF) && (u.n != u.p.RawLen || u.hash.Digest() != u.p.Raw):
		return n, u.p.damaged(u.what, errors.New("another digest"))
	case err != nil && !errors.Is(err, io.EOF):
		return n, u.p.damaged(u.what, err)
	}
	return n, err
}

func (u *unpacking) Close() error { return errors.Join(u.zip.Close(), u.blob.Close()) }

// need is a blob of an inventory.
type need struct {
	digest oci.Digest
	size   int64
}

// needs reads an inventory: a line "DIGEST SIZE" for each blob, in the order of their digests.
func (r *Record) needs(ctx context.Context, store blob.Store, each func(need) error) (err error) {
	in, err := r.Needs.open(ctx, store, "inventory of snapshot "+r.ID)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		text, number, _ := strings.Cut(lines.Text(), " ")
		d, err1 := oci.ParseDigest(text)
		n, err2 := strconv.ParseInt(number, 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return r.Needs.damaged("inventory of snapshot "+r.ID, err)
		}
		if err := each(need{d, n}); err != nil {
			return err
		}
	}
	return lines.Err()
}
