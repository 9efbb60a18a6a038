package key_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/sign/key"
)

// Every kind of key comes back from its encrypted file, and what it signs is verified by sigstore's own verifier for its
// public half.
func TestKeys(t *testing.T) {
	for _, a := range key.Algorithms() {
		t.Run(string(a), func(t *testing.T) {
			t.Parallel()
			p, err := key.New(a)
			if err != nil {
				t.Fatal(err)
			}
			file, err := p.Encrypted([]byte("secret"))
			if err != nil {
				t.Fatal(err)
			}
			if !key.IsEncrypted(file) {
				t.Fatal("the file is not an encrypted key")
			}
			if _, err := key.ParsePrivate(file, []byte("wrong")); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "password") {
				t.Fatalf("with a wrong password: %v", err)
			}
			again, err := key.ParsePrivate(file, []byte("secret"))
			if err != nil {
				t.Fatal(err)
			}
			text, err := again.Public().PEM()
			if err != nil {
				t.Fatal(err)
			}
			pub, err := key.ParsePublic(text)
			if err != nil {
				t.Fatal(err)
			}
			if pub.ID() != p.Public().ID() || len(pub.ID()) != 64 {
				t.Fatalf("ids %q and %q", pub.ID(), p.Public().ID())
			}
			sig, err := again.Sign([]byte("message"))
			if err != nil {
				t.Fatal(err)
			}
			v, err := signature.LoadDefaultVerifier(pub.Key())
			if err != nil {
				t.Fatal(err)
			}
			if err := v.VerifySignature(bytes.NewReader(sig), strings.NewReader("message")); err != nil {
				t.Fatal(err)
			}
			if v.VerifySignature(bytes.NewReader(sig), strings.NewReader("massage")) == nil {
				t.Fatal("another message is verified")
			}
		})
	}
	if _, err := key.New("dsa"); !fault.Is(err, fault.Invalid) {
		t.Fatalf("an unknown algorithm: %v", err)
	}
}

func TestParseUnencrypted(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, _ := x509.MarshalPKCS8PrivateKey(ec)
	sec1, _ := x509.MarshalECPrivateKey(ec)
	for kind, der := range map[string][]byte{"PRIVATE KEY": pkcs8, "EC PRIVATE KEY": sec1} {
		p, err := key.ParsePrivate(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), nil)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if !ec.PublicKey.Equal(p.Public().Key().(crypto.PublicKey)) {
			t.Fatalf("%s: another key", kind)
		}
	}
}

func TestRefused(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skipf("this Go makes no weak key: %v", err)
	}
	old, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	der := func(k any) []byte {
		b, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, c := range map[string]struct {
		file []byte
		says string
	}{
		"empty":      {nil, "not PEM"},
		"garbage":    {[]byte("hello"), "not PEM"},
		"other type": {block("CERTIFICATE", []byte{1}), "CERTIFICATE"},
		"broken":     {block("PRIVATE KEY", []byte{1, 2, 3}), "cannot be read"},
		"broken box": {block("ENCRYPTED SIGSTORE PRIVATE KEY", []byte("{}")), "cannot be decrypted"},
		"weak rsa":   {block("PRIVATE KEY", der(weak)), "1024 bits"},
		"p-224":      {block("PRIVATE KEY", der(old)), "P-224"},
	} {
		if _, err := key.ParsePrivate(c.file, nil); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("private, %s: %v", name, err)
		}
	}
	p, err := key.New(key.P256)
	if err != nil {
		t.Fatal(err)
	}
	secret, _ := p.Encrypted(nil)
	public, _ := p.Public().PEM()
	for name, c := range map[string]struct {
		file []byte
		says string
	}{
		"empty":    {nil, "not PEM"},
		"private":  {secret, "encrypted private key"},
		"two keys": {append(bytes.Clone(public), public...), "more than one"},
		"broken":   {block("PUBLIC KEY", []byte{1}), "cannot be read"},
	} {
		if _, err := key.ParsePublic(c.file); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("public, %s: %v", name, err)
		}
	}
}
