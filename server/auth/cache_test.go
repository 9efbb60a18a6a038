package auth_test

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// counting is a provider that counts the hashes it was asked for.
type counting struct {
	auth.Provider
	logins, decoys atomic.Int64
	gate           chan struct{} // when set, Login waits for it
	most, now      atomic.Int64
}

func (c *counting) Source() string { return "counting" }

func (c *counting) Login(ctx context.Context, name, password string) (auth.Account, error) {
	c.logins.Add(1)
	n := c.now.Add(1)
	defer c.now.Add(-1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
	if c.gate != nil {
		<-c.gate
	}
	return c.Provider.Login(ctx, name, password)
}

func (c *counting) Decoy(ctx context.Context, password string) {
	c.decoys.Add(1)
	c.Provider.Decoy(ctx, password)
}

// counted is a bench whose accounts are all behind a counting provider.
func counted(t *testing.T, change ...func(*auth.Options)) (*bench, *counting) {
	b := open(t)
	c := &counting{Provider: b.Local()}
	b.o.Providers = []auth.Provider{c}
	for _, f := range change {
		f(&b.o)
	}
	b.Service = b.again(t)
	return b, c
}

func TestVerifiedPasswordIsRemembered(t *testing.T) {
	b, c := counted(t)
	for range 5 {
		if _, err := b.Authenticate(t.Context(), basic(alice, alicePassword), here); err != nil {
			t.Fatal(err)
		}
	}
	if n := c.logins.Load(); n != 1 {
		t.Errorf("five requests cost %d hashes, want 1", n)
	}
	p, err := b.Login(t.Context(), alice, "wrong", here)
	refused(t, p, err)
	b.clock.Advance(61 * time.Second)
	if _, err := b.Login(t.Context(), alice, alicePassword, here); err != nil {
		t.Fatal(err)
	}
	if n := c.logins.Load(); n != 3 {
		t.Errorf("%d hashes, want 3: the wrong password and the one after a minute", n)
	}
}

func TestRememberedLoginEndsWithItsAccount(t *testing.T) {
	for name, change := range map[string]func(*testing.T, *bench){
		"new password": func(t *testing.T, b *bench) { b.put(t, metadb.Account{Name: alice}, "a new password") },
		"disabled":     func(t *testing.T, b *bench) { b.put(t, metadb.Account{Name: alice, Disabled: true}, "") },
		"deleted": func(t *testing.T, b *bench) {
			if err := b.db.Update(t.Context(), func(tx *metadb.Tx) error { _, err := tx.DeleteAccount(alice); return err }); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			other := b.again(t)
			tokens := make(map[*auth.Service]string)
			for _, s := range []*auth.Service{b.Service, other} {
				p, err := s.Login(t.Context(), alice, alicePassword, here)
				if err != nil {
					t.Fatal(err)
				}
				tok, err := s.Token(t.Context(), auth.Request{Principal: p})
				if err != nil {
					t.Fatal(err)
				}
				tokens[s] = tok.Access
				if _, err := s.Authenticate(t.Context(), "Bearer "+tok.Access, here); err != nil {
					t.Fatal(err)
				}
			}
			change(t, b)
			b.Forget(alice)
			check := func(s *auth.Service) {
				t.Helper()
				p, err := s.Login(t.Context(), alice, alicePassword, here)
				refused(t, p, err)
				p, err = s.Authenticate(t.Context(), "Bearer "+tokens[s], here)
				refused(t, p, err)
			}
			check(b.Service) // at once where the change was made
			b.clock.Advance(auth.MaxStale / 2 * 101 / 100)
			check(other) // and soon on another replica, which nobody told
		})
	}
}

func TestAdminIsLookedUpNotRemembered(t *testing.T) {
	b := open(t)
	b.put(t, metadb.Account{Name: "root2", Admin: true}, "roots password")
	p, err := b.Login(t.Context(), "root2", "roots password", here)
	if err != nil || !p.Admin {
		t.Fatalf("%+v, %v", p, err)
	}
	tok, err := b.Token(t.Context(), auth.Request{Principal: p, Scopes: []string{"repository:team/app:*"}, Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	if p, err = b.Authenticate(t.Context(), "Bearer "+tok.Access, here); err != nil || !p.Admin || !p.Grants.Allow(identity.Delete, "team/app") {
		t.Fatalf("%+v, %v", p, err)
	}
	b.put(t, metadb.Account{Name: "root2"}, "")
	b.Forget("root2")
	p, err = b.Authenticate(t.Context(), "Bearer "+tok.Access, here)
	refused(t, p, err)
	p, err = b.Refresh(t.Context(), tok.Refresh, here)
	refused(t, p, err)
	if p, err = b.Login(t.Context(), "root2", "roots password", here); err != nil || p.Admin {
		t.Errorf("after the right was taken: %+v, %v", p, err)
	}
}

// flaky is a database that can be switched off.
type flaky struct {
	*metadb.DB
	down atomic.Bool
}

func (f *flaky) Account(ctx context.Context, name string) (metadb.Account, error) {
	if f.down.Load() {
		return metadb.Account{}, fault.New(fault.Unavailable, fault.UnavailableReason, "metadata database is unreachable; try again")
	}
	return f.DB.Account(ctx, name)
}

func TestShortOutageLogsNobodyOut(t *testing.T) {
	b := open(t)
	f := &flaky{DB: b.db}
	b.o.Store = f
	s := b.again(t)
	p, err := s.Login(t.Context(), alice, alicePassword, here)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := s.Token(t.Context(), auth.Request{Principal: p})
	if err != nil {
		t.Fatal(err)
	}
	f.down.Store(true)
	b.clock.Advance(45 * time.Second)
	if _, err := s.Authenticate(t.Context(), "Bearer "+tok.Access, here); err != nil {
		t.Errorf("45 s into an outage: %v", err)
	}
	b.clock.Advance(20 * time.Second)
	if _, err := s.Authenticate(t.Context(), "Bearer "+tok.Access, here); !fault.Is(err, fault.Unavailable) {
		t.Errorf("65 s after the account was last seen: %v; want Unavailable", err)
	}
	f.down.Store(false)
	if _, err := s.Authenticate(t.Context(), "Bearer "+tok.Access, here); err != nil {
		t.Errorf("after the outage: %v", err)
	}
}

func TestConcurrentLoginsShareOneHash(t *testing.T) {
	b, c := counted(t)
	c.gate = make(chan struct{})
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			if p, err := b.Login(t.Context(), alice, alicePassword, here); err != nil || p.Name != alice {
				t.Errorf("%+v, %v", p, err)
			}
		})
	}
	time.Sleep(50 * time.Millisecond) // so that most of them wait; the outcome does not depend on it
	close(c.gate)
	wg.Wait()
	if n := c.logins.Load(); n != 1 {
		t.Errorf("64 logins at once cost %d hashes, want 1", n)
	}
}

func TestHashesAreRationed(t *testing.T) {
	b, c := counted(t, func(o *auth.Options) { o.Hashes = 2 })
	c.gate = make(chan struct{})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			_, _ = b.Login(t.Context(), alice, strings.Repeat("x", i+1), "192.0.2."+string(rune('0'+i%10))+string(rune('0'+i/10)))
		})
	}
	for b.Hashing() < 2 {
		runtime.Gosched()
	}
	time.Sleep(20 * time.Millisecond) // room for a third to appear
	close(c.gate)
	wg.Wait()
	if c.most.Load() != 2 || c.logins.Load() != 16 {
		t.Errorf("%d hashes, %d at once; want 16, 2 at once", c.logins.Load(), c.most.Load())
	}
}

func TestAbandonedLoginIsTakenOver(t *testing.T) {
	b, c := counted(t, func(o *auth.Options) { o.Hashes = 1 })
	c.gate = make(chan struct{})
	go func() { _, _ = b.Login(t.Context(), alice, "holds the gate", "198.51.100.1") }()
	for b.Hashing() == 0 {
		runtime.Gosched()
	}
	ctx, cancel := context.WithCancel(t.Context())
	leader, follower := make(chan error, 1), make(chan error, 1)
	go func() { _, err := b.Login(ctx, alice, alicePassword, here); leader <- err }()
	time.Sleep(10 * time.Millisecond)
	go func() { _, err := b.Login(t.Context(), alice, alicePassword, here); follower <- err }()
	time.Sleep(10 * time.Millisecond)
	cancel()
	if err := <-leader; err == nil {
		t.Error("the caller who left got an answer")
	}
	close(c.gate)
	if err := <-follower; err != nil {
		t.Errorf("the caller who stayed: %v", err)
	}
}
