package key_test

import (
	"testing"

	"github.com/berth-registry/berth/image/sign/key"
)

// Every kind of key verifies what it signed, and nothing else.
func TestVerify(t *testing.T) {
	for _, a := range []key.Algorithm{key.P256, key.P384, key.P521, key.RSA2048, key.Ed25519} {
		p, err := key.New(a)
		if err != nil {
			t.Fatal(err)
		}
		other, err := key.New(a)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := p.Sign([]byte("message"))
		if err != nil {
			t.Fatal(err)
		}
		if !p.Public().Verify([]byte("message"), sig) {
			t.Errorf("%s does not verify what it signed", a)
		}
		if p.Public().Verify([]byte("another message"), sig) || other.Public().Verify([]byte("message"), sig) || p.Public().Verify([]byte("message"), sig[:len(sig)-1]) || p.Public().Verify([]byte("message"), nil) {
			t.Errorf("%s verifies what it did not sign", a)
		}
	}
}
