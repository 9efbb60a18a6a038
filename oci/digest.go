// Package oci holds the nouns of the OCI image and distribution specifications: digests, descriptors, manifests,
// indexes and media types. It parses and validates; it does no I/O and knows nothing of registries.
//
// Start reading at [Digest] and [ParseManifest].
package oci

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding"
	"encoding/hex"
	"hash"
	"strings"

	"github.com/berth-registry/berth/fault"
)

// Digest is a validated content digest, "algorithm:hex". The zero value is no digest. A Digest is only made by
// ParseDigest, FromBytes or a Hasher, so holding one means that its text is well formed.
//
// Spec: OCI image v1.1.1, descriptor.md, "Digests".
type Digest struct{ s string }

// Algorithm is a registered digest algorithm.
type Algorithm string

// The algorithms that the image specification registers and this registry accepts.
const (
	SHA256 Algorithm = "sha256"
	SHA512 Algorithm = "sha512"
)

// ParseAlgorithm accepts "sha256" and "sha512"; anything else is DIGEST_INVALID.
func ParseAlgorithm(s string) (Algorithm, error) {
	switch a := Algorithm(s); a {
	case SHA256, SHA512:
		return a, nil
	}
	return "", fault.New(fault.Invalid, fault.DigestInvalid, "digest algorithm %.40q is not supported; use sha256 or sha512", s)
}

// hexLen is the number of hexadecimal digits of the algorithm's digests.
func (a Algorithm) hexLen() int {
	if a == SHA512 {
		return 2 * sha512.Size
	}
	return 2 * sha256.Size
}

// ParseDigest accepts exactly "sha256:" and 64 or "sha512:" and 128 lowercase hexadecimal digits.
func ParseDigest(s string) (Digest, error) {
	name, digits, ok := strings.Cut(s, ":")
	if !ok {
		return Digest{}, fault.New(fault.Invalid, fault.DigestInvalid, "digest %.160q has no algorithm; expected sha256:<64 hex digits>", s)
	}
	a, err := ParseAlgorithm(name)
	if err != nil {
		return Digest{}, err
	}
	if len(digits) != a.hexLen() {
		return Digest{}, fault.New(fault.Invalid, fault.DigestInvalid, "digest %.160q has %d digits; %s has %d", s, len(digits), a, a.hexLen())
	}
	for i := range len(digits) {
		if c := digits[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return Digest{}, fault.New(fault.Invalid, fault.DigestInvalid, "digest %.160q has a character that is not lowercase hexadecimal", s)
		}
	}
	return Digest{s}, nil
}

// FromBytes is the digest of b.
func FromBytes(a Algorithm, b []byte) Digest {
	if a == SHA512 {
		sum := sha512.Sum512(b)
		return Digest{string(SHA512) + ":" + hex.EncodeToString(sum[:])}
	}
	sum := sha256.Sum256(b)
	return Digest{string(SHA256) + ":" + hex.EncodeToString(sum[:])}
}

// String is the canonical text, "" for the zero value.
func (d Digest) String() string { return d.s }

// IsZero reports whether d is no digest.
func (d Digest) IsZero() bool { return d.s == "" }

// Algorithm is the part before the colon.
func (d Digest) Algorithm() Algorithm {
	a, _, _ := strings.Cut(d.s, ":")
	return Algorithm(a)
}

// Hex is the part after the colon.
func (d Digest) Hex() string {
	_, h, _ := strings.Cut(d.s, ":")
	return h
}

// Short is the first twelve hexadecimal digits with the algorithm, for messages.
func (d Digest) Short() string {
	if len(d.s) < 19 {
		return d.s
	}
	return d.s[:19]
}

// MarshalText and UnmarshalText let JSON carry digests; a malformed one fails to unmarshal.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.s), nil }

// UnmarshalText accepts the empty text as the zero value.
func (d *Digest) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*d = Digest{}
		return nil
	}
	p, err := ParseDigest(string(b))
	if err != nil {
		return err
	}
	*d = p
	return nil
}

// Hasher computes a digest while bytes pass, and can be saved and resumed: an upload survives a restart without its
// bytes being read again.
type Hasher struct {
	a Algorithm
	h hash.Hash
}

// NewHasher starts an empty digest.
func NewHasher(a Algorithm) *Hasher {
	if a == SHA512 {
		return &Hasher{a, sha512.New()}
	}
	return &Hasher{SHA256, sha256.New()}
}

// Write never fails.
func (h *Hasher) Write(p []byte) (int, error) { return h.h.Write(p) }

// Algorithm is the one that the hasher was made with.
func (h *Hasher) Algorithm() Algorithm { return h.a }

// Digest is the digest of what was written so far.
func (h *Hasher) Digest() Digest {
	return Digest{string(h.a) + ":" + hex.EncodeToString(h.h.Sum(nil))}
}

// State saves the hasher; it is some hundred bytes and stable across Go releases by the hash packages' promise.
func (h *Hasher) State() ([]byte, error) {
	return h.h.(encoding.BinaryMarshaler).MarshalBinary()
}

// ResumeHasher continues from a State. An empty state starts anew.
func ResumeHasher(a Algorithm, state []byte) (*Hasher, error) {
	h := NewHasher(a)
	if len(state) == 0 {
		return h, nil
	}
	return h, h.h.(encoding.BinaryUnmarshaler).UnmarshalBinary(state)
}
