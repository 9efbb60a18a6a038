package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/recall"
)

// maxRows bounds what each memory of rows holds, some 400 bytes each.
const maxRows = 20_000

// rows remembers what the database said of robots, tokens and sessions. What another process changes is noticed within
// metadb.TrustFor; that rows are read again after refreshAccount does not depend on being told.
type rows[K comparable, V any] struct {
	kept *recall.Cache[K, aged[V]]
	now  func() time.Time
}

type aged[V any] struct {
	v  V
	at time.Time
}

func newRows[K comparable, V any](s store, now func() time.Time) *rows[K, V] {
	return &rows[K, V]{recall.New(recall.Options[K, aged[V]]{Max: maxRows, Weigh: func(K, aged[V]) uint32 { return 1 }, Trust: s.Trust()}), now}
}

// get returns what is remembered, or what load reads. What is not there is not remembered, so strangers cannot fill the memory.
func (r *rows[K, V]) get(ctx context.Context, key K, load func(context.Context) (V, error)) (V, error) {
	read := func(ctx context.Context) (aged[V], error) {
		at := r.now()
		v, err := load(ctx)
		return aged[V]{v, at}, err
	}
	a, err := r.kept.Get(ctx, key, read)
	if err == nil && r.now().Sub(a.at).Abs() > refreshAccount {
		r.kept.Drop(key)
		fresh, again := r.kept.Get(ctx, key, read)
		switch {
		case again == nil:
			return fresh.v, nil
		case errors.Is(again, metadb.ErrNotFound) || r.now().Sub(a.at).Abs() >= MaxStale:
			return fresh.v, again
		}
	}
	return a.v, err
}

// robotState is a robot with its secrets. It is never changed.
type robotState struct {
	metadb.Robot
	secrets []metadb.RobotSecret
}

// secret finds one that holds now.
func (r *robotState) secret(id int64, now time.Time) (metadb.RobotSecret, bool) {
	for _, s := range r.secrets {
		if s.ID == id {
			return s, !past(s.ExpiresAt, now)
		}
	}
	return metadb.RobotSecret{}, false
}

// has reports whether the robot has a secret, whether or not it holds.
func (r *robotState) has(id int64) bool {
	return slices.ContainsFunc(r.secrets, func(s metadb.RobotSecret) bool { return s.ID == id })
}

// past reports whether a time that may be zero, for never, is over.
func past(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }

// robot reads a robot by number; metadb.ErrNotFound when it is gone.
func (s *Service) robot(ctx context.Context, id int64) (*robotState, error) {
	return s.robots.get(ctx, id, func(ctx context.Context) (*robotState, error) {
		r, err := s.o.Store.Robot(ctx, id)
		if err != nil {
			return nil, err
		}
		secrets, err := s.o.Store.RobotSecrets(ctx, id)
		return &robotState{r, secrets}, err
	})
}

// robotBySecret finds whose secret it is.
func (s *Service) robotBySecret(ctx context.Context, secret string) (robot, id int64, err error) {
	row, err := s.secrets.get(ctx, hashSecret(secret), func(ctx context.Context) (metadb.RobotSecret, error) {
		return s.o.Store.RobotSecretByHash(ctx, hashSecret(secret))
	})
	return row.RobotID, row.ID, err
}

// accessToken is a personal access token with the name of its account.
type accessToken struct {
	metadb.AccessToken
	account string
	grants  tokenGrants
}

func (s *Service) loadToken(ctx context.Context, t metadb.AccessToken) (*accessToken, error) {
	a, err := s.o.Store.AccountByID(ctx, t.AccountID)
	if err != nil {
		return nil, err
	}
	grants, err := parseTokenGrants(t.Grants)
	if err != nil {
		return nil, fmt.Errorf("auth: token %d: %w", t.ID, err)
	}
	return &accessToken{t, a.Name, grants}, nil
}

// accessTokenByID reads a personal access token; metadb.ErrNotFound when it, or its account, is gone.
func (s *Service) accessTokenByID(ctx context.Context, id int64) (*accessToken, error) {
	return s.accessTokens.get(ctx, id, func(ctx context.Context) (*accessToken, error) {
		t, err := s.o.Store.AccessToken(ctx, id)
		if err != nil {
			return nil, err
		}
		return s.loadToken(ctx, t)
	})
}

func (s *Service) accessTokenBySecret(ctx context.Context, secret string) (*accessToken, error) {
	id, err := s.tokenIDs.get(ctx, hashSecret(secret), func(ctx context.Context) (int64, error) {
		t, err := s.o.Store.AccessTokenByHash(ctx, hashSecret(secret))
		return t.ID, err
	})
	if err != nil {
		return nil, err
	}
	return s.accessTokenByID(ctx, id)
}
