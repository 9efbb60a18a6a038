package auth_test

import (
	"sync"
	"testing"

	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/metadb/metadbtest"
)

// TestReplicasOnPostgres starts four replicas at once on an empty PostgreSQL: one of them makes the administrator, and
// whatever keys they make, every replica accepts every replica's tokens.
func TestReplicasOnPostgres(t *testing.T) {
	url := metadbtest.Postgres(t)
	services := make([]*auth.Service, 4)
	for i := range services {
		db, err := metadb.Open(t.Context(), metadb.Options{URL: url, MaxOpen: 2})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		if services[i], err = auth.New(auth.Options{Store: db, Access: narrow{}, Anonymous: true}); err != nil {
			t.Fatal(err)
		}
	}
	passwords, tokens := make([]string, len(services)), make([]string, len(services))
	var wg sync.WaitGroup
	for i, s := range services {
		wg.Go(func() {
			var err error
			if passwords[i], err = s.EnsureAdmin(t.Context(), ""); err != nil {
				t.Errorf("replica %d: %v", i, err)
			}
			tok, err := s.Token(t.Context(), auth.Request{Principal: identity.Principal{Kind: identity.Anonymous}})
			if err != nil {
				t.Errorf("replica %d: %v", i, err)
			}
			tokens[i] = tok.Access
		})
	}
	wg.Wait()
	made := 0
	for _, password := range passwords {
		if password == "" {
			continue
		}
		made++
		for i, s := range services {
			if p, err := s.Login(t.Context(), auth.FirstAdmin, password, here); err != nil || !p.Admin {
				t.Errorf("login on replica %d: %+v, %v", i, p, err)
			}
		}
	}
	if made != 1 {
		t.Errorf("%d replicas made an administrator, want 1", made)
	}
	for i, s := range services {
		for j, token := range tokens {
			if _, err := s.Authenticate(t.Context(), "Bearer "+token, here); err != nil {
				t.Errorf("replica %d does not accept the token of replica %d: %v", i, j, err)
			}
		}
	}
}
