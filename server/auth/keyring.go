package auth

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/metadb"
)

// algEdDSA is the only algorithm of keys (RFC 8037). A second one would be a second case of signer, chosen by the
// stored key and never by a token.
const algEdDSA = "EdDSA"

// How often the keys are read from the database: for a key id that is not known (another replica's new key, or a forged
// id) at most every rereadKeys, and every refreshKeys to notice a retired or deleted key.
const (
	rereadKeys  = 100 * time.Millisecond
	refreshKeys = 30 * time.Second
)

// signer is one key. The algorithm belongs to the key: what a token's header says is compared with it.
type signer struct {
	id      string
	alg     string
	private ed25519.PrivateKey
	public  ed25519.PublicKey
	stamps  []byte // key for stamp
	retired bool   // signs no more; verifies until it is deleted
}

func newSigner(k metadb.SigningKey) (*signer, error) {
	if k.Algorithm != algEdDSA || len(k.Private) != ed25519.SeedSize || k.ID == "" {
		return nil, fmt.Errorf("auth: signing key %q with algorithm %q cannot be used", k.ID, k.Algorithm)
	}
	private := ed25519.NewKeyFromSeed(k.Private)
	m := hmac.New(sha256.New, k.Private)
	_, _ = m.Write([]byte("berth account stamps"))
	return &signer{
		id: k.ID, alg: k.Algorithm, private: private, public: private.Public().(ed25519.PublicKey),
		stamps: m.Sum(nil), retired: !k.RetiredAt.IsZero(),
	}, nil
}

// stamp is what a token carries of the account's state. It is keyed, because a provider's stamp may be derived from a
// password hash and tokens can be read by whoever gets hold of one.
func (k *signer) stamp(source, name, state string) string {
	m := hmac.New(sha256.New, k.stamps)
	_, _ = fmt.Fprintf(m, "%d:%s%d:%s%s", len(source), source, len(name), name, state)
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil)[:16])
}

// keyring holds the signing keys that all replicas share.
type keyring struct {
	store store
	now   func() time.Time
	log   *slog.Logger

	mu      sync.Mutex
	keys    map[string]*signer // replaced as a whole, never changed
	current *signer
	read    time.Time // when the keys were read
	missed  time.Time // when they were last read for an unknown id
	failed  time.Time // when they could last not be read
	changed atomic.Bool
}

func newKeyring(s store, now func() time.Time, log *slog.Logger) *keyring {
	return &keyring{store: s, now: now, log: log}
}

// signing returns the key to sign with: the newest that is not retired. The first caller ever makes one.
func (r *keyring) signing(ctx context.Context) (*signer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.refresh(ctx, refreshKeys); err != nil && r.current == nil {
		return nil, err
	}
	if r.current != nil {
		return r.current, nil
	}
	if err := r.create(ctx); err != nil {
		return nil, err
	}
	if r.current == nil {
		return nil, errors.New("auth: signing key is not there although it was made")
	}
	return r.current, nil
}

var errKeysAway = fault.New(fault.Unavailable, fault.UnavailableReason, "signing keys cannot be read now; try again later")

var errUnknownKey = errors.New("auth: no such signing key")

// verifying returns the key with this id. Several keys verify at a time: that is how keys are rotated and how replicas
// that started together agree.
func (r *keyring) verifying(ctx context.Context, id string) (*signer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	age := refreshKeys
	if _, ok := r.keys[id]; !ok {
		if now := r.now(); now.Sub(r.missed).Abs() >= rereadKeys {
			r.missed, age = now, -1
		}
	}
	err := r.refresh(ctx, age)
	k, ok := r.keys[id]
	switch {
	case ok:
		return k, nil // also when the database does not answer: keys are only ever added or retired
	case err != nil:
		return nil, err
	}
	return nil, errUnknownKey
}

// refresh reads the keys when what is known is older than age. The lock is held: one caller reads, the others wait
// for one indexed statement.
func (r *keyring) refresh(ctx context.Context, age time.Duration) error {
	now := r.now()
	if r.keys != nil && !r.changed.Load() && now.Sub(r.read) <= age && !now.Before(r.read) {
		return nil
	}
	if r.keys != nil && now.Sub(r.failed).Abs() < rereadKeys {
		return errKeysAway // one caller waits for a database that does not answer, not all of them in a row
	}
	r.changed.Store(false)
	rows, err := r.store.SigningKeys(ctx)
	if err != nil {
		r.changed.Store(true)
		r.failed = r.now()
		return fmt.Errorf("auth: signing keys: %w", err)
	}
	r.read = now
	r.keys = make(map[string]*signer, len(rows))
	r.current = nil
	slices.SortFunc(rows, func(a, b metadb.SigningKey) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	for _, row := range rows {
		k, err := newSigner(row)
		if err != nil { // made by a later version, perhaps: what it signed is unknown here, nothing else breaks
			r.log.WarnContext(ctx, "signing key skipped", "key", row.ID, "error", err)
			continue
		}
		r.keys[k.id] = k
		if !k.retired {
			r.current = k
		}
	}
	return nil
}

// create makes the first key. Two replicas that do so at once may both succeed; either key verifies everywhere.
func (r *keyring) create(ctx context.Context) error {
	k, err := newSigningKey()
	if err != nil {
		return err
	}
	if err := addFirstKey(ctx, r.store, k); err != nil {
		return fmt.Errorf("auth: signing key: %w", err)
	}
	r.log.InfoContext(ctx, "signing key made", "key", k.ID)
	r.keys = nil // read it back: another replica's may have been first
	return r.refresh(ctx, 0)
}

// all are the keys that verify, by id.
func (r *keyring) all() []*signer {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.SortedFunc(maps.Values(r.keys), func(a, b *signer) int { return cmp.Compare(a.id, b.id) })
}
