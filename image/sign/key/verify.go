package key

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
)

// Verify reports whether sig is what Private.Sign made of message. A key of a kind that does not sign verifies nothing.
func (p *Public) Verify(message, sig []byte) bool {
	h := hashOf(p.Key())
	in := message
	if h != crypto.Hash(0) {
		w := h.New()
		w.Write(message)
		in = w.Sum(nil)
	}
	switch k := p.Key().(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, in, sig)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, h, in, sig) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(k, in, sig)
	}
	return false
}
