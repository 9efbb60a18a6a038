// Package key is the key pairs that sign images: the encrypted private key files of cosign, public keys, and unencrypted keys
// of openssl. A private key file of cosign is PKCS #8 in a secretbox under a key from scrypt, in PEM.
//
// Start reading at [New] and [ParsePrivate].
package key

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/berth-registry/berth/fault"
)

// MaxFile is the largest key file, in bytes.
const MaxFile = 64 << 10

// Reason is that of every fault of a key file: it cannot be read, is of a kind that is not used, or its password is wrong.
const Reason fault.Reason = "KEY_INVALID"

// PEM types: the first two are of cosign, old and new.
const (
	cosignType   = "ENCRYPTED COSIGN PRIVATE KEY"
	sigstoreType = "ENCRYPTED SIGSTORE PRIVATE KEY"
	pkcs8Type    = "PRIVATE KEY"
	pkcs1Type    = "RSA PRIVATE KEY"
	ecType       = "EC PRIVATE KEY"
	publicType   = "PUBLIC KEY"
)

// Algorithm is a kind of key that New makes.
type Algorithm string

// The algorithms, the first of which is cosign's own choice.
const (
	P256    Algorithm = "ecdsa-p256"
	P384    Algorithm = "ecdsa-p384"
	P521    Algorithm = "ecdsa-p521"
	RSA2048 Algorithm = "rsa-2048"
	RSA3072 Algorithm = "rsa-3072"
	RSA4096 Algorithm = "rsa-4096"
	Ed25519 Algorithm = "ed25519"
)

// Algorithms lists what New accepts.
func Algorithms() []Algorithm {
	return []Algorithm{P256, P384, P521, RSA2048, RSA3072, RSA4096, Ed25519}
}

// Private is a key that signs.
type Private struct{ signer crypto.Signer }

// Public is a key that verifies.
type Public struct{ key crypto.PublicKey }

// New makes a key. The random numbers are those of the system.
func New(a Algorithm) (*Private, error) {
	var s crypto.Signer
	var err error
	switch a {
	case P256:
		s, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P384:
		s, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case P521:
		s, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case RSA2048:
		s, err = rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		s, err = rsa.GenerateKey(rand.Reader, 3072)
	case RSA4096:
		s, err = rsa.GenerateKey(rand.Reader, 4096)
	case Ed25519:
		_, s, err = ed25519.GenerateKey(rand.Reader)
	default:
		return nil, fault.New(fault.Invalid, Reason, "algorithm %q is not one of %v", a, Algorithms())
	}
	if err != nil {
		return nil, fmt.Errorf("key: make a key of kind %s: %w", a, err)
	}
	return &Private{s}, nil
}

// IsEncrypted reports whether a key file needs a password. Keys that cosign makes always do; it may be empty.
func IsEncrypted(file []byte) bool {
	b, _ := pem.Decode(file)
	return b != nil && (b.Type == cosignType || b.Type == sigstoreType)
}

// ParsePrivate reads a private key file: of cosign, or unencrypted PKCS #8, PKCS #1 or SEC 1. The password is for
// cosign's. Keys that are too weak are refused.
func ParsePrivate(file, password []byte) (*Private, error) {
	b, _ := pem.Decode(file)
	if b == nil {
		return nil, invalid("private key is not PEM; expected a block such as %q", sigstoreType)
	}
	var parsed any
	var err error
	switch b.Type {
	case cosignType, sigstoreType:
		der, derr := encrypted.Decrypt(b.Bytes, password)
		if derr != nil {
			return nil, invalid("private key cannot be decrypted; check the password").Because(derr)
		}
		parsed, err = x509.ParsePKCS8PrivateKey(der)
	case pkcs8Type:
		parsed, err = x509.ParsePKCS8PrivateKey(b.Bytes)
	case pkcs1Type:
		parsed, err = x509.ParsePKCS1PrivateKey(b.Bytes)
	case ecType:
		parsed, err = x509.ParseECPrivateKey(b.Bytes)
	default:
		return nil, invalid("private key is in a PEM block of type %q, which is none that can be read: %q, %q, %q, %q", b.Type, sigstoreType, pkcs8Type, pkcs1Type, ecType)
	}
	if err != nil {
		return nil, invalid("private key cannot be read").Because(err)
	}
	s, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, invalid("private key is of type %T, which cannot sign", parsed)
	}
	if err := strong(s.Public()); err != nil {
		return nil, err
	}
	return &Private{s}, nil
}

// Encrypted is the key as a file of cosign, which any version of it reads.
func (p *Private) Encrypted(password []byte) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(p.signer)
	if err != nil {
		return nil, fmt.Errorf("key: marshal the private key: %w", err)
	}
	defer clear(der)
	sealed, err := encrypted.Encrypt(der, password)
	if err != nil {
		return nil, fmt.Errorf("key: encrypt the private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: sigstoreType, Bytes: sealed}), nil
}

// Signer is the key as Go's libraries want it.
func (p *Private) Signer() crypto.Signer { return p.signer }

// Public is the other half.
func (p *Private) Public() *Public { return &Public{p.signer.Public()} }

// Sign signs a message as cosign does: ECDSA and RSA (PKCS #1 v1.5) over the digest that belongs to the key's size, Ed25519
// over the message.
func (p *Private) Sign(message []byte) ([]byte, error) {
	h := hashOf(p.signer.Public())
	in := message
	if h != crypto.Hash(0) {
		w := h.New()
		w.Write(message)
		in = w.Sum(nil)
	}
	sig, err := p.signer.Sign(rand.Reader, in, h)
	if err != nil {
		return nil, fmt.Errorf("key: sign: %w", err)
	}
	return sig, nil
}

func hashOf(pub crypto.PublicKey) crypto.Hash {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P384():
			return crypto.SHA384
		case elliptic.P521():
			return crypto.SHA512
		}
		return crypto.SHA256
	case *rsa.PublicKey:
		return crypto.SHA256
	}
	return 0
}

// ParsePublic reads a public key, or the public half of an unencrypted private key, in PEM.
func ParsePublic(file []byte) (*Public, error) {
	b, rest := pem.Decode(file)
	if b == nil {
		return nil, invalid("public key is not PEM; expected a block %q", publicType)
	}
	if next, _ := pem.Decode(rest); next != nil {
		return nil, invalid("public key file has more than one block; give each key a file of its own")
	}
	if b.Type == cosignType || b.Type == sigstoreType {
		return nil, invalid("this is an encrypted private key; name the public key beside it (cosign.pub)")
	}
	var pub crypto.PublicKey
	if slices.Contains([]string{pkcs8Type, pkcs1Type, ecType}, b.Type) {
		p, err := ParsePrivate(file, nil)
		if err != nil {
			return nil, err
		}
		return p.Public(), nil
	}
	pub, err := cryptoutils.UnmarshalPEMToPublicKey(file)
	if err != nil {
		return nil, invalid("public key cannot be read").Because(err)
	}
	if err := strong(pub); err != nil {
		return nil, err
	}
	return &Public{pub}, nil
}

// Key is the key as Go's libraries want it.
func (p *Public) Key() crypto.PublicKey { return p.key }

// PEM is the key as a file.
func (p *Public) PEM() ([]byte, error) {
	b, err := cryptoutils.MarshalPublicKeyToPEM(p.key)
	if err != nil {
		return nil, fmt.Errorf("key: marshal the public key: %w", err)
	}
	return b, nil
}

// ID is the SHA-256 of the key's DER form, in hexadecimal digits: the same for every file it is in.
func (p *Public) ID() string {
	sum := p.sum()
	return hex.EncodeToString(sum[:])
}

// Hint is how a bundle names the key: the same bytes as ID, in base64.
func (p *Public) Hint() string {
	sum := p.sum()
	return base64.StdEncoding.EncodeToString(sum[:])
}

func (p *Public) sum() [sha256.Size]byte {
	der, err := x509.MarshalPKIXPublicKey(p.key)
	if err != nil { // ParsePublic and New only make keys that have such a form
		return [sha256.Size]byte{}
	}
	return sha256.Sum256(der)
}

// Kind names algorithm and size.
func (p *Public) Kind() string {
	switch k := p.key.(type) {
	case *ecdsa.PublicKey:
		return "ecdsa-" + k.Curve.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("rsa-%d", k.N.BitLen())
	case ed25519.PublicKey:
		return string(Ed25519)
	}
	return fmt.Sprintf("%T", p.key)
}

// strong refuses keys that no verifier should believe.
func strong(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P224() {
			return invalid("key is on curve P-224; use P-256 or larger")
		}
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > 8192 {
			return invalid("rsa key has %d bits; use 2048 to 8192", n)
		}
	case ed25519.PublicKey:
	default:
		return invalid("key is of type %T; use ECDSA, RSA or Ed25519", pub)
	}
	return nil
}

func invalid(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, Reason, format, args...)
}

// Read reads a key file, no more than MaxFile of it.
func Read(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err == nil && len(b) > MaxFile {
		err = errors.New("key: the file is too large to be a key")
	}
	return b, err
}
