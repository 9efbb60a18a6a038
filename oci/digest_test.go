package oci_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
)

// The grammar of OCI image v1.1.1, descriptor.md, "Digests", cut down to the registered algorithms with the lengths
// that they have.
var digestGrammar = regexp.MustCompile(`\A(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})\z`)

const (
	empty256 = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	empty512 = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e"
)

func TestParseDigest(t *testing.T) {
	hex64, hex128 := strings.Repeat("a", 64), strings.Repeat("0", 128)
	for _, s := range []string{empty256, empty512, "sha256:" + hex64, "sha512:" + hex128} {
		d, err := oci.ParseDigest(s)
		if err != nil || d.String() != s || d.IsZero() || string(d.Algorithm())+":"+d.Hex() != s || !strings.HasPrefix(s, d.Short()) {
			t.Errorf("%s: %v %v", s, d, err)
		}
	}
	for _, s := range []string{
		"", ":", "sha256", "sha256:", hex64, ":" + hex64, "sha256:" + hex64[1:], "sha256:" + hex64 + "a", "SHA256:" + hex64,
		"sha256:" + strings.ToUpper(hex64), "sha256:" + strings.Repeat("g", 64), "sha256:" + hex64[:63] + "\n", "sha256:" + hex64 + "\n",
		" sha256:" + hex64, "sha256: " + hex64[1:], "sha256-" + hex64, "sha256::" + hex64[1:], "sha256+b64:" + hex64, "sha512:" + hex64,
		"sha256:" + hex128, "sha384:" + strings.Repeat("a", 96), "md5:" + strings.Repeat("a", 32), "sha256:" + hex64[:61] + "../",
		"sha256:../../../../etc/passwd", "sha256:" + hex64[:60] + "%2e%2", "sha256:" + hex64[:63] + "\x00",
		"sha256:" + hex64[:62] + "é", "sha256:" + strings.Repeat("ａ", 21) + "a", "blake3:" + hex64, "tarsum.v1+sha256:" + hex64,
	} {
		if d, err := oci.ParseDigest(s); !fault.Has(err, fault.DigestInvalid) || !fault.Is(err, fault.Invalid) || !d.IsZero() {
			t.Errorf("%q: %v, %v; want DIGEST_INVALID", s, d, err)
		}
	}
}

func TestParseDigestGrammar(t *testing.T) {
	near := rapid.StringMatching(`(sha256|sha512|sha384|SHA256|sha25)[:\-.+]?[a-f0-9A-Fg:]{60,66}([0-9a-f]{64})?`)
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(near, rapid.String(), rapid.StringMatching(`sha256:[a-f0-9]{64}`), rapid.StringMatching(`sha512:[a-f0-9]{128}`)).Draw(t, "digest")
		if _, err := oci.ParseDigest(s); (err == nil) != digestGrammar.MatchString(s) {
			t.Fatalf("%q: %v; the grammar says %v", s, err, digestGrammar.MatchString(s))
		}
	})
}

// A message about a digest must not carry back whatever was sent.
func TestParseDigestMessageIsBounded(t *testing.T) {
	for _, s := range []string{strings.Repeat("a", 1<<20), "sha256:" + strings.Repeat("a", 1<<20), strings.Repeat("x", 1<<20) + ":"} {
		if _, err := oci.ParseDigest(s); err == nil || len(err.Error()) > 400 {
			t.Errorf("message of %d bytes", len(err.Error()))
		}
	}
}

func TestDigestOfBytes(t *testing.T) {
	if got := oci.FromBytes(oci.SHA256, nil).String(); got != empty256 {
		t.Error(got)
	}
	if got := oci.FromBytes(oci.SHA512, nil).String(); got != empty512 {
		t.Error(got)
	}
	if got := oci.FromBytes("", nil).String(); got != empty256 {
		t.Errorf("no algorithm: %s", got)
	}
}

func TestDigestJSON(t *testing.T) {
	type doc struct {
		D oci.Digest `json:"d"`
	}
	for _, bad := range []string{`{"d":"sha256:x"}`, `{"d":1}`, `{"d":{}}`, `{"d":["` + empty256 + `"]}`} {
		var got doc
		if err := json.Unmarshal([]byte(bad), &got); err == nil {
			t.Errorf("%s: %v", bad, got.D)
		}
	}
	for _, good := range []string{`{"d":"` + empty512 + `"}`, `{"d":""}`} {
		var got doc
		if err := json.Unmarshal([]byte(good), &got); err != nil {
			t.Fatal(err)
		}
		if b, err := json.Marshal(got); err != nil || string(b) != good {
			t.Errorf("%s became %s, %v", good, b, err)
		}
	}
}

// However an upload is cut, and however often its hasher is saved and resumed, the digest is that of the whole.
func TestHasherResumes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SampledFrom([]oci.Algorithm{oci.SHA256, oci.SHA512}).Draw(t, "algorithm")
		parts := rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 0, 300)).Draw(t, "parts")
		var whole []byte
		h := oci.NewHasher(a)
		for _, p := range parts {
			state, err := h.State()
			if err != nil {
				t.Fatal(err)
			}
			if h, err = oci.ResumeHasher(a, state); err != nil {
				t.Fatal(err)
			}
			_, _ = h.Write(p)
			whole = append(whole, p...)
		}
		if got, want := h.Digest(), oci.FromBytes(a, whole); got != want || h.Algorithm() != a {
			t.Fatalf("%s, want %s", got, want)
		}
	})
	if _, err := oci.ResumeHasher(oci.SHA256, []byte("damaged")); err == nil {
		t.Error("a damaged state was taken")
	}
	other, err := oci.NewHasher(oci.SHA512).State()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := oci.ResumeHasher(oci.SHA256, other); err == nil {
		t.Error("the state of another algorithm was taken")
	}
}

func FuzzParseDigest(f *testing.F) {
	for _, s := range []string{empty256, empty512, "", "sha256:", "sha256:" + strings.Repeat("A", 64), "sha512:" + strings.Repeat("a", 64), "a:b:c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := oci.ParseDigest(s)
		if (err == nil) != digestGrammar.MatchString(s) {
			t.Fatalf("%q: %v", s, err)
		}
		if err == nil && d.String() != s || err != nil && !d.IsZero() {
			t.Fatalf("%q became %q", s, d)
		}
	})
}
