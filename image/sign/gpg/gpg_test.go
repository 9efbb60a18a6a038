package gpg_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/sign"
	"github.com/berth-registry/berth/image/sign/gpg"
)

const reference = "registry.example.com/team/app:1"

var manifest = []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}`)

// entity makes a key pair; the files are as gpg exports them.
func entity(t *testing.T, lifetime uint32, at time.Time, passphrase string) (secret, public []byte, e *openpgp.Entity) {
	t.Helper()
	e, err := openpgp.NewEntity("Signer", "", "signer@example.com", &packet.Config{KeyLifetimeSecs: lifetime, Time: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	var pub, sec bytes.Buffer
	w, _ := armor.Encode(&pub, openpgp.PublicKeyType, nil)
	if err := errors.Join(e.Serialize(w), w.Close()); err != nil {
		t.Fatal(err)
	}
	if passphrase != "" {
		if err := e.EncryptPrivateKeys([]byte(passphrase), nil); err != nil {
			t.Fatal(err)
		}
		err = e.SerializePrivateWithoutSigning(&sec, nil)
	} else {
		err = e.SerializePrivateWithoutSigning(&sec, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return sec.Bytes(), pub.Bytes(), e
}

func keyring(t *testing.T, file []byte) *gpg.Keyring {
	t.Helper()
	k, err := gpg.ParseKeyring(file, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSignVerify(t *testing.T) {
	secret, public, _ := entity(t, 0, time.Now(), "")
	sig, err := keyring(t, secret).Sign(manifest, reference, "signer@example.com", nil)
	if err != nil {
		t.Fatal(err)
	}
	v, err := keyring(t, public).Verify(sig, manifest, reference)
	if err != nil || v.Reference != reference || v.Key != keyring(t, public).Fingerprints()[0] {
		t.Fatalf("%+v, %v", v, err)
	}

	locked, public, _ := entity(t, 0, time.Now(), "open sesame")
	if _, err := keyring(t, locked).Sign(manifest, reference, "", []byte("wrong")); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "passphrase") {
		t.Fatalf("a wrong passphrase: %v", err)
	}
	sig, err = keyring(t, locked).Sign(manifest, reference, "", []byte("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keyring(t, public).VerifyAny([][]byte{[]byte("garbage"), sig}, manifest, reference); err != nil {
		t.Fatal(err)
	}
	if _, err := keyring(t, public).Sign(manifest, reference, "", nil); !fault.Is(err, fault.Invalid) {
		t.Fatalf("signing by a public key: %v", err)
	}
	if _, err := keyring(t, secret).Sign(manifest, reference, "nobody@example.com", nil); !fault.Is(err, fault.NotFound) {
		t.Fatalf("signing by an absent key: %v", err)
	}
}

// Each case spoils one thing of a good signature, or asks for another thing.
func TestNegative(t *testing.T) {
	secret, public, e := entity(t, 0, time.Now(), "")
	k := keyring(t, public)
	sig, err := keyring(t, secret).Sign(manifest, reference, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	message := func(content string) []byte {
		var out bytes.Buffer
		w, err := openpgp.Sign(&out, e, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write([]byte(content))
		_ = w.Close()
		return out.Bytes()
	}
	// Made before the key is revoked.
	notJSON, otherJSON := message("hello"), message("{}")
	otherType := message(`{"critical":{"type":"x","image":{"docker-manifest-digest":"sha256:` + strings.Repeat("0", 64) +
		`"},"identity":{"docker-reference":"` + reference + `"}},"optional":{}}`)
	flipped := bytes.Clone(sig)
	flipped[len(flipped)/2] ^= 1
	literal := func(content string) []byte {
		var out bytes.Buffer
		w, _ := packet.SerializeLiteral(nopCloser{&out}, true, "", 0)
		_, _ = w.Write([]byte(content))
		_ = w.Close()
		return out.Bytes()
	}
	_, strangers, _ := entity(t, 0, time.Now(), "")
	oldSecret, oldPublic, _ := entity(t, 3600, time.Now().Add(-24*time.Hour), "")
	// Signed while the key was good; the key is believed no more.
	past, err := gpg.ParseKeyring(oldSecret, func() time.Time { return time.Now().Add(-23*time.Hour - 30*time.Minute) })
	if err != nil {
		t.Fatal(err)
	}
	expired, err := past.Sign(manifest, reference, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	var revoked bytes.Buffer
	if err := e.RevokeKey(packet.KeyCompromised, "stolen", nil); err != nil {
		t.Fatal(err)
	}
	if err := e.Serialize(&revoked); err != nil {
		t.Fatal(err)
	}

	for name, c := range map[string]struct {
		keys     *gpg.Keyring
		sig      []byte
		manifest string
		named    string
	}{
		"another key":        {keyring(t, strangers), sig, string(manifest), reference},
		"another manifest":   {k, sig, string(manifest) + " ", reference},
		"another tag":        {k, sig, string(manifest), "registry.example.com/team/app:2"},
		"another repository": {k, sig, string(manifest), "registry.example.com/team/other:1"},
		"another host":       {k, sig, string(manifest), "other.example.com/team/app:1"},
		"empty":              {k, nil, string(manifest), reference},
		"garbage":            {k, []byte("garbage"), string(manifest), reference},
		"cut short":          {k, sig[:len(sig)-20], string(manifest), reference},
		"a flipped bit":      {k, flipped, string(manifest), reference},
		"too large":          {k, make([]byte, gpg.MaxSignature+1), string(manifest), reference},
		"not signed":         {k, literal("{}"), string(manifest), reference},
		"not JSON":           {k, notJSON, string(manifest), reference},
		"other JSON":         {k, otherJSON, string(manifest), reference},
		"other type":         {k, otherType, string(manifest), reference},
		"an expired key":     {keyring(t, oldPublic), expired, string(manifest), reference},
		"a revoked key":      {keyring(t, revoked.Bytes()), sig, string(manifest), reference},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.keys.Verify(c.sig, []byte(c.manifest), c.named)
			var r *sign.Refusal
			if !errors.As(err, &r) || r.Why != sign.NoMatch {
				t.Fatalf("got %v, want a refusal", err)
			}
		})
	}
	_, err = k.VerifyAny(nil, manifest, reference)
	var r *sign.Refusal
	if !errors.As(err, &r) || r.Why != sign.NoSignature {
		t.Fatalf("without a signature: %v", err)
	}
	for name, file := range map[string][]byte{"empty": nil, "garbage": []byte("x"), "armor of nothing": []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n"), "huge": make([]byte, gpg.MaxFile+1)} {
		if _, err := gpg.ParseKeyring(file, time.Now); err == nil {
			t.Errorf("keys from %s", name)
		}
	}
}

type nopCloser struct{ *bytes.Buffer }

func (nopCloser) Close() error { return nil }

// What GnuPG exports is read, and what is signed with it is verified by GnuPG.
func TestGnuPG(t *testing.T) {
	program, err := exec.LookPath("gpg")
	if err != nil {
		t.Skip("gpg is not installed")
	}
	home, err := os.MkdirTemp("", "gpg") // the path of gpg's socket may not be long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command(program, "--homedir", home, "--version").Run()
		if conf, err := exec.LookPath("gpgconf"); err == nil {
			_ = exec.Command(conf, "--homedir", home, "--kill", "all").Run()
		}
		_ = os.RemoveAll(home)
	})
	run := func(args ...string) []byte {
		t.Helper()
		cmd := exec.Command(program, append([]string{"--homedir", home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			t.Fatalf("gpg %v: %v\n%s", args, err, errs.String())
		}
		return out.Bytes()
	}
	for _, kind := range []string{"rsa2048", "ed25519"} {
		address := kind + "@example.com"
		run("--quick-generate-key", address, kind, "sign", "never")
		sig, err := keyring(t, run("--export-secret-keys", "--armor", address)).Sign(manifest, reference, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "signature")
		if err := os.WriteFile(file, sig, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := run("--decrypt", file); !bytes.Contains(got, []byte(reference)) {
			t.Errorf("%s: gpg reads %s", kind, got)
		}
		made := filepath.Join(t.TempDir(), "payload")
		payload := run("--decrypt", file)
		if err := os.WriteFile(made, payload, 0o600); err != nil {
			t.Fatal(err)
		}
		theirs := run("--local-user", address, "--sign", "--output", "-", made)
		if _, err := keyring(t, run("--export", address)).Verify(theirs, manifest, reference); err != nil {
			t.Errorf("%s: what gpg signed: %v", kind, err)
		}
	}
}
