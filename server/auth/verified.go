package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"
)

// rememberLogin is how long a verified password needs no hash.
const rememberLogin = 60 * time.Second

// maxVerified bounds the verified credentials that are remembered, some 250 bytes each.
const maxVerified = 10_000

// credential names a name and password without revealing them: an HMAC under a key that lives and dies with the
// process. Nothing else of a password is kept in memory.
type credential [sha256.Size]byte

// verified remembers successful logins. It never remembers a failure: a new password works at once.
type verified struct {
	macs    sync.Pool // of hash.Hash
	entries *otter.Cache[credential, proof]
}

// proof is a login that succeeded at a time, while the account had this stamp.
type proof struct {
	account       string // whose it is; a directory may know an account by another name
	source, stamp string
	at            time.Time
}

func newVerified(random io.Reader) (*verified, error) {
	key := make([]byte, sha256.Size)
	if _, err := io.ReadFull(random, key); err != nil {
		return nil, fmt.Errorf("auth: key for remembered logins: %w", err)
	}
	c, err := otter.New(&otter.Options[credential, proof]{MaximumSize: maxVerified})
	if err != nil {
		return nil, fmt.Errorf("auth: remembered logins: %w", err)
	}
	return &verified{macs: sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}, entries: c}, nil
}

// key is unambiguous: the name's length comes first.
func (v *verified) key(name, password string) (c credential) {
	h := v.macs.Get().(hash.Hash)
	h.Reset()
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(name)))
	_, _ = h.Write(n[:]) // a hash never fails
	_, _ = io.WriteString(h, name)
	_, _ = io.WriteString(h, password)
	h.Sum(c[:0])
	v.macs.Put(h)
	return c
}

// get returns the last login with the credential, zero for none, and whether it is recent enough to need no other.
func (v *verified) get(c credential, now time.Time) (p proof, recent bool) {
	p, ok := v.entries.GetIfPresent(c)
	age := now.Sub(p.at)
	return p, ok && age <= rememberLogin && age >= 0
}

func (v *verified) put(c credential, p proof) { v.entries.Set(c, p) }
