package auth_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// forge builds a token from any header and claims with any signature.
func forge(t testing.TB, header, claims any, sign func(text string) []byte) string {
	t.Helper()
	enc := func(v any) string {
		raw, ok := v.(string)
		if !ok {
			b, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			raw = string(b)
		}
		return base64.RawURLEncoding.EncodeToString([]byte(raw))
	}
	text := enc(header) + "." + enc(claims)
	return text + "." + base64.RawURLEncoding.EncodeToString(sign(text))
}

type object = map[string]any

// TestForgedTokens goes through what has worked against token verifiers (promises A1), each time with claims that
// would be accepted under a right signature.
func TestForgedTokens(t *testing.T) {
	b := open(t)
	good := b.token(t, asAlice, "repository:team/app:pull,push").Access
	parts := strings.Split(good, ".")
	var claims object
	raw, _ := base64.RawURLEncoding.DecodeString(parts[1])
	if err := json.Unmarshal(raw, &claims); err != nil {
		t.Fatal(err)
	}
	keys, err := b.db.SigningKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kid, real := keys[0].ID, ed25519.NewKeyFromSeed(keys[0].Private)
	public := real.Public().(ed25519.PublicKey)
	der, _ := x509.MarshalPKIXPublicKey(public)

	ownPublic, own, _ := ed25519.GenerateKey(rand.Reader)
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	with := func(key ed25519.PrivateKey) func(string) []byte {
		return func(s string) []byte { return ed25519.Sign(key, []byte(s)) }
	}
	none := func(string) []byte { return nil }
	mac := func(secret []byte) func(string) []byte {
		return func(s string) []byte { m := hmac.New(sha256.New, secret); m.Write([]byte(s)); return m.Sum(nil) }
	}
	es256 := func(s string) []byte {
		sum := sha256.Sum256([]byte(s))
		r, v, err := ecdsa.Sign(rand.Reader, ec, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return append(r.FillBytes(make([]byte, 32)), v.FillBytes(make([]byte, 32))...)
	}
	jwk := object{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": kid, "x": base64.RawURLEncoding.EncodeToString(ownPublic)}
	header := func(change object) object {
		h := object{"alg": "EdDSA", "typ": "JWT", "kid": kid}
		maps.Copy(h, change)
		return h
	}
	but := func(change object) object {
		c := maps.Clone(claims)
		for k, v := range change {
			if v == nil {
				delete(c, k)
			} else {
				c[k] = v
			}
		}
		return c
	}
	now := b.clock.Now().Unix()

	// The control: the forger with the right key, header and claims is let in. So every refusal below is for its reason.
	control := forge(t, header(nil), claims, with(real))
	if p, err := b.Authenticate(t.Context(), "Bearer "+control, here); err != nil || p.Name != alice {
		t.Fatalf("control: %+v, %v", p, err)
	}

	cases := map[string]string{
		"own key under the trusted kid":    forge(t, header(nil), claims, with(own)),
		"own key as jwk":                   forge(t, header(object{"jwk": jwk}), claims, with(own)),
		"real key and a jwk":               forge(t, header(object{"jwk": jwk}), claims, with(real)),
		"own key as x5c":                   forge(t, header(object{"x5c": []string{base64.StdEncoding.EncodeToString(der)}}), claims, with(own)),
		"own key as x5u":                   forge(t, header(object{"x5u": "https://evil.example/k.pem"}), claims, with(own)),
		"own key as jku":                   forge(t, header(object{"jku": "https://evil.example/keys"}), claims, with(own)),
		"real key and a jku":               forge(t, header(object{"jku": "https://evil.example/keys"}), claims, with(real)),
		"critical extension":               forge(t, header(object{"crit": []string{"b64"}, "b64": false}), claims, with(real)),
		"kid as a path":                    forge(t, header(object{"kid": "../../../../dev/null"}), claims, mac(nil)),
		"kid as SQL":                       forge(t, header(object{"kid": kid + "' OR '1'='1"}), claims, with(own)),
		"kid as a number":                  forge(t, header(object{"kid": 1}), claims, with(own)),
		"kid as a list":                    forge(t, header(object{"kid": []string{kid}}), claims, with(real)),
		"kid empty":                        forge(t, header(object{"kid": ""}), claims, with(real)),
		"kid missing":                      forge(t, object{"alg": "EdDSA", "typ": "JWT"}, claims, with(real)),
		"kid unknown":                      forge(t, header(object{"kid": "AAAAAAAAAAAAAAAA"}), claims, with(own)),
		"typ missing":                      forge(t, object{"alg": "EdDSA", "kid": kid}, claims, with(real)),
		"typ of a refresh token":           forge(t, header(object{"typ": "refresh+jwt"}), claims, with(real)),
		"typ in lower case":                forge(t, header(object{"typ": "jwt"}), claims, with(real)),
		"alg missing":                      forge(t, object{"typ": "JWT", "kid": kid}, claims, with(real)),
		"alg as a list":                    forge(t, header(object{"alg": []string{"EdDSA"}}), claims, with(real)),
		"ES256 with own key":               forge(t, header(object{"alg": "ES256"}), claims, es256),
		"HS256 with the public key":        forge(t, header(object{"alg": "HS256"}), claims, mac(public)),
		"HS256 with the public key as DER": forge(t, header(object{"alg": "HS256"}), claims, mac(der)),
		"HS256 with the public key as PEM": forge(t, header(object{"alg": "HS256"}), claims, mac(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))),
		"HS256 with the kid":               forge(t, header(object{"alg": "HS256"}), claims, mac([]byte(kid))),
		"HS256 with an empty secret":       forge(t, header(object{"alg": "HS256"}), claims, mac(nil)),
		"HS256 with the word secret":       forge(t, header(object{"alg": "HS256"}), claims, mac([]byte("secret"))),
		"empty signature":                  parts[0] + "." + parts[1] + ".",
		"signature of another token":       parts[0] + "." + parts[1] + "." + strings.Split(b.token(t, asAlice).Access, ".")[2],
		"signature cut":                    good[:len(good)-2],
		"signature with padding":           good + "==",
		"changed claims":                   parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(raw), "team/app", "evil/app", 1))) + "." + parts[2],
		"two parts":                        parts[0] + "." + parts[1],
		"four parts":                       good + ".x",
		"five parts, as JWE":               good + "." + good,
		"spaces inside":                    parts[0] + ". " + parts[1] + "." + parts[2],
		"header is no object":              forge(t, `"EdDSA"`, claims, with(real)),
		"header is null":                   forge(t, "null", claims, with(real)),
		"header nests deeply":              forge(t, strings.Repeat("[", 2500)+strings.Repeat("]", 2500), claims, with(real)),
		"claims are no object":             forge(t, header(nil), "[]", with(real)),
		"claims are null":                  forge(t, header(nil), "null", with(real)),

		// Signed by the real key: what a later mistake of ours, or another service with our key, could produce.
		"expired":                forge(t, header(nil), but(object{"exp": now - 61}), with(real)),
		"without exp":            forge(t, header(nil), but(object{"exp": nil}), with(real)),
		"exp as a text":          forge(t, header(nil), but(object{"exp": "soon"}), with(real)),
		"exp out of range":       forge(t, header(nil), but(object{"exp": -1e300}), with(real)),
		"not yet":                forge(t, header(nil), but(object{"nbf": now + 62}), with(real)),
		"without nbf":            forge(t, header(nil), but(object{"nbf": nil}), with(real)),
		"issued tomorrow":        forge(t, header(nil), but(object{"iat": now + 86400}), with(real)),
		"another audience":       forge(t, header(nil), but(object{"aud": "other.example.com"}), with(real)),
		"ours among audiences":   forge(t, header(nil), but(object{"aud": []string{"other.example.com", "registry.example.com"}}), with(real)),
		"without audience":       forge(t, header(nil), but(object{"aud": nil}), with(real)),
		"audience longer":        forge(t, header(nil), but(object{"aud": "registry.example.com.evil.example"}), with(real)),
		"another issuer":         forge(t, header(nil), but(object{"iss": "https://issuer.example"}), with(real)),
		"without issuer":         forge(t, header(nil), but(object{"iss": nil}), with(real)),
		"another subject":        forge(t, header(nil), but(object{"sub": "bob"}), with(real)),
		"wrong stamp":            forge(t, header(nil), but(object{"stamp": "AAAAAAAAAAAAAAAAAAAAAA"}), with(real)),
		"without stamp":          forge(t, header(nil), but(object{"stamp": nil}), with(real)),
		"access is a wildcard":   forge(t, header(nil), but(object{"access": []object{{"type": "repository", "name": "*", "actions": []string{"pull"}}}}), with(real)),
		"access with any action": forge(t, header(nil), but(object{"access": []object{{"type": "repository", "name": "a", "actions": []string{"*"}}}}), with(real)),
		"access of another type": forge(t, header(nil), but(object{"access": []object{{"type": "admin", "name": "a", "actions": []string{"pull"}}}}), with(real)),
		"access is an object":    forge(t, header(nil), but(object{"access": object{"type": "repository"}}), with(real)),
		"access without actions": forge(t, header(nil), but(object{"access": []object{{"type": "repository", "name": "a"}}}), with(real)),
		"access climbs":          forge(t, header(nil), but(object{"access": []object{{"type": "repository", "name": "../a", "actions": []string{"pull"}}}}), with(real)),
	}
	for _, alg := range []string{"none", "None", "NONE", "nOnE", "none ", ""} {
		cases[fmt.Sprintf("alg %q", alg)] = forge(t, header(object{"alg": alg}), claims, none)
		cases[fmt.Sprintf("alg %q with a signature", alg)] = forge(t, header(object{"alg": alg}), claims, with(real))
	}
	for name, token := range cases {
		t.Run(name, func(t *testing.T) {
			p, err := b.Authenticate(t.Context(), "Bearer "+token, here)
			text := refused(t, p, err)
			if fault.Of(err).Reason != auth.InvalidToken {
				t.Errorf("reason %s, want %s", fault.Of(err).Reason, auth.InvalidToken)
			}
			if strings.Contains(text, "signature") || strings.Contains(text, "kid") || strings.Contains(text, "jwt") {
				t.Errorf("message %q tells the forger what to mend", text)
			}
			p, err = b.Refresh(t.Context(), token, here)
			if name == "typ of a refresh token" { // that one is, by its signature, a refresh token
				if err != nil || p.Grants != nil {
					t.Errorf("refresh: %+v, %v", p, err)
				}
				return
			}
			refused(t, p, err)
		})
	}
	if p, err := b.Authenticate(t.Context(), "Bearer "+good, here); err != nil || p.Name != alice {
		t.Errorf("after all that, the good token: %+v, %v", p, err)
	}
}

// TestOtherSourceOfTheSameName: a token of one source's account does not become a token of another source's.
func TestOtherSourceOfTheSameName(t *testing.T) {
	b := open(t)
	tok := b.token(t, asAlice, "repository:a:pull")
	if _, err := b.Authenticate(t.Context(), "Bearer "+tok.Access, here); err != nil {
		t.Fatal(err)
	}
	b.o.Providers = []auth.Provider{&counting{Provider: b.Local()}} // says that it knows alice, with the same stamp
	s := b.again(t)
	p, err := s.Authenticate(t.Context(), "Bearer "+tok.Access, here)
	refused(t, p, err)
}

func FuzzAuthenticate(f *testing.F) {
	b := open(f)
	f.Add(basic(alice, alicePassword))
	f.Add("Bearer " + b.token(f, asAlice, "repository:a:pull").Access)
	f.Add("Basic Og==")
	f.Add("Bearer eyJhbGciOiJub25lIn0.e30.")
	known := map[string]bool{}
	for _, k := range []string{alice, ""} {
		known[k] = true
	}
	f.Fuzz(func(t *testing.T, header string) {
		p, err := b.Authenticate(t.Context(), header, header)
		if err == nil && (!known[p.Name] || p.Admin || p.Kind == identity.Nobody) {
			t.Errorf("%q is %+v", header, p)
		}
		if err != nil && !fault.Is(err, fault.Unauthenticated) && !fault.Is(err, fault.RateLimited) {
			t.Errorf("%q: %v", header, err)
		}
	})
}

// reads counts how often the keys were read.
type reads struct {
	*metadb.DB
	n atomic.Int64
}

func (r *reads) SigningKeys(ctx context.Context) ([]metadb.SigningKey, error) {
	r.n.Add(1)
	return r.DB.SigningKeys(ctx)
}

// TestUnknownKeys: another replica's new key is found at once, and forged ids do not become a load on the database.
func TestUnknownKeys(t *testing.T) {
	b := open(t)
	r := &reads{DB: b.db}
	b.o.Store = r
	s := b.again(t)
	if _, err := s.Token(t.Context(), auth.Request{Principal: asAlice}); err != nil {
		t.Fatal(err)
	}
	other := metadb.SigningKey{ID: "other-replica", Algorithm: "EdDSA", Private: []byte(strings.Repeat("s", 32))}
	if err := b.db.Update(t.Context(), func(tx *metadb.Tx) error { return tx.AddSigningKey(other) }); err != nil {
		t.Fatal(err)
	}
	now := b.clock.Now().Unix()
	claims := object{"iss": "berth", "aud": "registry.example.com", "exp": now + 60, "nbf": now, "iat": now}
	token := forge(t, object{"alg": "EdDSA", "typ": "JWT", "kid": other.ID}, claims, func(text string) []byte {
		return ed25519.Sign(ed25519.NewKeyFromSeed(other.Private), []byte(text))
	})
	if p, err := s.Authenticate(t.Context(), "Bearer "+token, here); err != nil || p.Kind != identity.Anonymous {
		t.Errorf("token of another replica's new key: %+v, %v", p, err)
	}
	before := r.n.Load()
	b.clock.Advance(time.Second)
	for i := range 500 {
		b.clock.Advance(time.Millisecond)
		forged := forge(t, object{"alg": "EdDSA", "typ": "JWT", "kid": fmt.Sprint("forged", i)}, claims, func(string) []byte { return make([]byte, 64) })
		p, err := s.Authenticate(t.Context(), "Bearer "+forged, here)
		refused(t, p, err)
	}
	if n := r.n.Load() - before; n < 1 || n > 6 {
		t.Errorf("500 forged key ids in half a second cost %d reads, want at most 6", n)
	}
}
