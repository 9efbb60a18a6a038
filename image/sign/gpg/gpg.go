// Package gpg is simple signing: an OpenPGP signature over a statement about an image, as podman, skopeo and CRI-O make and
// check it. Keys come from files, as "gpg --export" and "gpg --export-secret-keys" write them; neither gpg nor its agent is
// asked, and no trust in a key is derived from anything but its being in the file.
//
// Start reading at [ParseKeyring], then [Keyring.Sign] and [Keyring.Verify].
//
// Spec: containers-signature(5); RFC 9580 (OpenPGP).
package gpg

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"go.podman.io/image/v5/signature"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/sign"
	"github.com/berth-registry/berth/image/sign/key"
)

// MaxFile is the largest key file, in bytes; MaxSignature the largest signature.
const (
	MaxFile      = 1 << 20
	MaxSignature = 64 << 10
)

// Keyring is keys from a file.
type Keyring struct {
	keys openpgp.EntityList
	now  func() time.Time
}

// ParseKeyring reads an export of keys, public or secret, armored or not. now decides what has expired.
func ParseKeyring(file []byte, now func() time.Time) (*Keyring, error) {
	if len(file) > MaxFile {
		return nil, fault.New(fault.TooLarge, key.Reason, "file of keys has %d bytes; at most %d are read", len(file), MaxFile)
	}
	read := openpgp.ReadKeyRing
	if bytes.Contains(file, []byte("-----BEGIN PGP ")) {
		read = openpgp.ReadArmoredKeyRing
	}
	keys, err := read(bytes.NewReader(file))
	if err != nil || len(keys) == 0 {
		return nil, fault.New(fault.Invalid, key.Reason, "file has no OpenPGP keys; export them with gpg --export or gpg --export-secret-keys").Because(err)
	}
	return &Keyring{keys, now}, nil
}

// Fingerprint is how a key is named: that of its primary key, in upper case.
func fingerprint(e *openpgp.Entity) string { return fmt.Sprintf("%X", e.PrimaryKey.Fingerprint) }

// Fingerprints are those of all keys, in the order of the file.
func (k *Keyring) Fingerprints() []string {
	out := make([]string, len(k.keys))
	for i, e := range k.keys {
		out[i] = fingerprint(e)
	}
	return out
}

// Names are the addresses of the keys, or fingerprints of those without.
func (k *Keyring) Names() []string {
	out := make([]string, len(k.keys))
	for i, e := range k.keys {
		out[i] = fingerprint(e)
		if id := e.PrimaryIdentity(); id != nil && id.UserId != nil && id.UserId.Email != "" {
			out[i] = id.UserId.Email
		}
	}
	return out
}

// Secret reports whether the file has a key that can sign.
func (k *Keyring) Secret() bool {
	return slices.ContainsFunc(k.keys, func(e *openpgp.Entity) bool { return e.PrivateKey != nil })
}

// Locked reports whether a key that can sign needs a passphrase.
func (k *Keyring) Locked() bool {
	return slices.ContainsFunc(k.keys, func(e *openpgp.Entity) bool { return e.PrivateKey != nil && locked(e) })
}

// find is the key that a person means by the end of a fingerprint, an address or a name; "" is the only one there is.
func (k *Keyring) find(who string) (*openpgp.Entity, error) {
	var found []*openpgp.Entity
	hex := strings.ToUpper(strings.ReplaceAll(strings.TrimPrefix(who, "0x"), " ", ""))
	for _, e := range k.keys {
		named := slices.ContainsFunc(keysOf(e.Identities), func(id string) bool { return strings.Contains(id, who) })
		if who == "" || len(hex) >= 8 && strings.HasSuffix(fingerprint(e), hex) || named {
			found = append(found, e)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, fault.New(fault.NotFound, key.Reason, "no key %q in the file; it has %s", who, strings.Join(k.Fingerprints(), ", "))
	}
	return nil, fault.New(fault.Invalid, key.Reason, "%d keys of the file fit %q; name one by its fingerprint: %s", len(found), who, strings.Join(k.Fingerprints(), ", "))
}

func keysOf[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	return out
}

// Sign signs a manifest as an image by the name of reference, which has a tag: verifiers compare it with what they were asked
// for. who names the key, passphrase unlocks it.
func (k *Keyring) Sign(manifest []byte, reference, who string, passphrase []byte) ([]byte, error) {
	e, err := k.find(who)
	if err != nil {
		return nil, err
	}
	if e.PrivateKey == nil {
		return nil, fault.New(fault.Invalid, key.Reason, "the file has only the public half of key %s; export the other with gpg --export-secret-keys", fingerprint(e))
	}
	if err := unlock(e, passphrase); err != nil {
		return nil, err
	}
	sig, err := signature.SignDockerManifest(manifest, reference, mechanism{k}, fingerprint(e))
	if err != nil {
		return nil, fault.New(fault.Invalid, key.Reason, "key %s does not sign %s", fingerprint(e), reference).Because(err)
	}
	return sig, nil
}

func locked(e *openpgp.Entity) bool {
	return e.PrivateKey.Encrypted || slices.ContainsFunc(e.Subkeys, func(s openpgp.Subkey) bool { return s.PrivateKey != nil && s.PrivateKey.Encrypted })
}

// unlock decrypts the parts of a key that are encrypted.
func unlock(e *openpgp.Entity, passphrase []byte) error {
	if !locked(e) {
		return nil
	}
	if err := e.DecryptPrivateKeys(passphrase); err != nil {
		return fault.New(fault.Invalid, key.Reason, "key %s cannot be unlocked; check the passphrase", fingerprint(e)).Because(err)
	}
	return nil
}

// Verify checks that one of the keys signed the manifest as the image with the name of reference. Any doubt is a refusal.
func (k *Keyring) Verify(sig, manifest []byte, reference string) (sign.Verified, error) {
	if len(sig) > MaxSignature {
		return sign.Verified{}, &sign.Refusal{Why: sign.NoMatch, Message: fmt.Sprintf("signature has %d bytes; at most %d are read", len(sig), MaxSignature)}
	}
	s, who, err := signature.VerifyImageManifestSignatureUsingKeyIdentityList(sig, manifest, reference, mechanism{k}, k.Fingerprints())
	if err != nil {
		return sign.Verified{}, &sign.Refusal{Why: sign.NoMatch, Message: "signature is not believed", Tried: []sign.Attempt{{Where: reference, Err: err}}}
	}
	payload, err := json.Marshal(map[string]any{"critical": map[string]any{
		"identity": map[string]any{"docker-reference": s.DockerReference}, "image": map[string]any{"docker-manifest-digest": s.DockerManifestDigest.String()},
		"type": "atomic container signature",
	}})
	if err != nil {
		return sign.Verified{}, fmt.Errorf("gpg: payload: %w", err)
	}
	return sign.Verified{Key: who, Reference: s.DockerReference, Payload: payload}, nil
}

// VerifyAny verifies the first of several signatures that is right, or refuses.
func (k *Keyring) VerifyAny(sigs [][]byte, manifest []byte, reference string) (sign.Verified, error) {
	if len(sigs) == 0 {
		return sign.Verified{}, &sign.Refusal{Why: sign.NoSignature, Message: "image " + reference + " has no GPG signature"}
	}
	r := &sign.Refusal{Why: sign.NoMatch, Message: fmt.Sprintf("image %s has no GPG signature that is believed, of %d looked at", reference, min(len(sigs), sign.MaxSignatures))}
	for i, s := range sigs[:min(len(sigs), sign.MaxSignatures)] {
		v, err := k.Verify(s, manifest, reference)
		if err == nil {
			v.Where = fmt.Sprintf("signature-%d", i+1)
			return v, nil
		}
		var one *sign.Refusal
		if errors.As(err, &one) && len(one.Tried) > 0 {
			err = one.Tried[0].Err
		}
		r.Tried = append(r.Tried, sign.Attempt{Where: fmt.Sprintf("signature-%d", i+1), Err: err})
	}
	return sign.Verified{}, r
}

// mechanism is how containers/image signs and verifies by a Keyring.
type mechanism struct{ k *Keyring }

var _ signature.SigningMechanism = mechanism{}

func (m mechanism) config() *packet.Config { return &packet.Config{Time: m.k.now} }

// Close implements signature.SigningMechanism.
func (m mechanism) Close() error { return nil }

// SupportsSigning implements signature.SigningMechanism.
func (m mechanism) SupportsSigning() error {
	if !m.k.Secret() {
		return signature.SigningNotSupportedError("the file of keys has public ones only")
	}
	return nil
}

// Sign implements signature.SigningMechanism: a message with its signature, not compressed, as gpg --sign makes it.
func (m mechanism) Sign(input []byte, identity string) ([]byte, error) {
	e, err := m.k.find(identity)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w, err := openpgp.Sign(&out, e, &openpgp.FileHints{IsBinary: true}, m.config())
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(input); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// maxContent is how much of a signed message is read, in bytes: a statement is small, and a message may be compressed.
const maxContent = 256 << 10

// Verify implements signature.SigningMechanism.
func (m mechanism) Verify(sig []byte) (contents []byte, identity string, err error) {
	md, err := openpgp.ReadMessage(bytes.NewReader(sig), m.k.keys, nil, m.config())
	if err != nil {
		return nil, "", err
	}
	switch {
	case !md.IsSigned:
		return nil, "", errors.New("the message is not signed")
	case md.IsEncrypted, md.IsSymmetricallyEncrypted:
		return nil, "", errors.New("the message is encrypted")
	}
	body, err := io.ReadAll(io.LimitReader(md.UnverifiedBody, maxContent+1))
	switch {
	case err != nil:
		return nil, "", err
	case len(body) > maxContent:
		return nil, "", fmt.Errorf("the message has more than %d bytes", maxContent)
	case md.SignedBy == nil || errors.Is(md.SignatureError, pgperrors.ErrUnknownIssuer):
		return nil, "", fmt.Errorf("signed by key %X, which is not among those given", md.SignedByKeyId)
	case md.SignatureError != nil:
		return nil, "", md.SignatureError
	case md.Signature == nil:
		return nil, "", errors.New("the signature was not checked")
	}
	return body, fingerprint(md.SignedBy.Entity), nil
}

// UntrustedSignatureContents implements signature.SigningMechanism. It is for showing, never for deciding.
func (m mechanism) UntrustedSignatureContents(sig []byte) (contents []byte, keyID string, err error) {
	md, err := openpgp.ReadMessage(bytes.NewReader(sig), openpgp.EntityList{}, nil, m.config())
	if err != nil {
		return nil, "", err
	}
	if !md.IsSigned {
		return nil, "", errors.New("the message is not signed")
	}
	body, err := io.ReadAll(io.LimitReader(md.UnverifiedBody, maxContent))
	if err != nil {
		return nil, "", err
	}
	return body, fmt.Sprintf("%016X", md.SignedByKeyId), nil
}
