package auth_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/auth"
)

func TestDelays(t *testing.T) {
	var got []time.Duration
	for n := range 22 {
		got = append(got, auth.Throttle{}.Delay(n))
	}
	ms := time.Millisecond
	want := []time.Duration{0, 0, 0, 0, 250 * ms, 500 * ms, 1000 * ms, 2000 * ms, 4000 * ms, 5000 * ms, 5000 * ms, 5000 * ms, 5000 * ms, 5000 * ms,
		5000 * ms, 5000 * ms, 5000 * ms, 5000 * ms, 5000 * ms, 5000 * ms, 30000 * ms, 30000 * ms}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("delays (-want +got):\n%s", diff)
	}
	// Fewer than those that cost nothing otherwise.
	for hard := 1; hard <= 4; hard++ {
		for n := range 6 {
			if got := (auth.Throttle{Hard: hard, HardDelay: time.Minute}).Delay(n); (got == time.Minute) != (n >= hard) {
				t.Errorf("%d failures, and %d are allowed: a pause of %s", n, hard, got)
			}
		}
	}
}

// fail logs in wrongly n times, each time with another password.
func fail(t *testing.T, b *bench, n int, name, addr string) (last error) {
	t.Helper()
	for i := range n {
		_, last = b.Login(t.Context(), name, fmt.Sprintf("guess %d", i), addr)
		if last == nil {
			t.Fatal("a wrong password was accepted")
		}
	}
	return last
}

func TestFailuresSlowDown(t *testing.T) {
	b, _ := counted(t)
	fail(t, b, 10, alice, here)
	ms := time.Millisecond
	want := []time.Duration{250 * ms, 500 * ms, time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Second}
	if diff := cmp.Diff(want[:5], b.slept[:5]); diff != "" || len(b.slept) != 6 {
		t.Errorf("waited %v, want %v", b.slept, want)
	}
	b.slept = nil
	fail(t, b, 2, alice, "192.0.2.99")
	fail(t, b, 2, "bob", here)
	if len(b.slept) != 0 {
		t.Errorf("another address or name waited %v", b.slept)
	}
	// The one who failed waits, too, when the password is right at last; then all is forgiven.
	if _, err := b.Login(t.Context(), alice, alicePassword, here); err != nil || len(b.slept) != 1 {
		t.Errorf("right password after failures: %v, waited %v", err, b.slept)
	}
	b.slept = nil
	fail(t, b, 3, alice, here)
	if len(b.slept) != 0 {
		t.Errorf("after a success, failures waited %v", b.slept)
	}
}

func TestManyFailuresAreRefusedUnheard(t *testing.T) {
	b, c := counted(t)
	fail(t, b, 20, alice, here)
	heard := c.logins.Load()
	err := fail(t, b, 1, alice, here)
	if f := fault.Of(err); f.Kind != fault.RateLimited || f.After < 1 || f.After > 30 {
		t.Errorf("attempt 21: %v, after %d; want RateLimited with at most 30 s", err, f.After)
	}
	if _, err := b.Login(t.Context(), alice, alicePassword, here); !fault.Is(err, fault.RateLimited) {
		t.Errorf("the right password in the pause: %v; want RateLimited, or guessing goes on", err)
	}
	if c.logins.Load() != heard {
		t.Error("a refused attempt cost a hash")
	}
	if _, err := b.Login(t.Context(), alice, alicePassword, "192.0.2.99"); err != nil {
		t.Errorf("from another address: %v", err)
	}
	b.clock.Advance(31 * time.Second)
	if _, err := b.Login(t.Context(), alice, alicePassword, here); err != nil {
		t.Errorf("after the pause: %v", err)
	}
}

func TestRememberedLoginIsNotThrottled(t *testing.T) {
	b, _ := counted(t)
	if _, err := b.Login(t.Context(), alice, alicePassword, here); err != nil {
		t.Fatal(err)
	}
	fail(t, b, 6, alice, here) // a broken client behind the same address
	b.slept = nil
	if _, err := b.Login(t.Context(), alice, alicePassword, here); err != nil || len(b.slept) != 0 {
		t.Errorf("a remembered login: %v, waited %v", err, b.slept)
	}
}

func TestGuessingInParallelGainsNothing(t *testing.T) {
	b, c := counted(t)
	b.SetSleep(func(ctx context.Context, _ time.Duration) error { return context.Canceled })
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() { _, _ = b.Login(t.Context(), alice, fmt.Sprintf("guess %d", i), here) })
	}
	wg.Wait()
	if n := c.logins.Load(); n > 5 {
		t.Errorf("%d of 200 guesses at one moment were checked; want at most 5", n)
	}
}

func TestFailuresAreForgotten(t *testing.T) {
	b, _ := counted(t)
	fail(t, b, 6, alice, here)
	b.clock.Advance(16 * time.Minute)
	b.slept = nil
	fail(t, b, 3, alice, here)
	if len(b.slept) != 0 {
		t.Errorf("16 minutes later, waited %v", b.slept)
	}
}

func TestAddressesOfOneCustomerCountTogether(t *testing.T) {
	b, _ := counted(t)
	for i := range 6 {
		fail(t, b, 1, alice, fmt.Sprintf("2001:db8:1:2::%x", i+1))
	}
	if len(b.slept) != 2 {
		t.Errorf("six addresses of one /64 waited %v, want twice", b.slept)
	}
	b.slept = nil
	fail(t, b, 1, alice, "2001:db8:1:3::1")
	fail(t, b, 1, alice, "::ffff:192.0.2.7")
	if len(b.slept) != 0 {
		t.Errorf("another network waited %v", b.slept)
	}
}

func TestThrottleMemoryIsBounded(t *testing.T) {
	b := open(t, func(o *auth.Options) { o.Throttle.Names = 100 })
	for i := range 2000 { // without a password nothing is hashed, but the failure counts
		if _, err := b.Login(t.Context(), fmt.Sprintf("user%d", i), "", here); err == nil {
			t.Fatal("an empty password was accepted")
		}
	}
	if n := b.Throttled(); n > 110 {
		t.Errorf("%d names are remembered, want about 100", n)
	}
}

// TestThrottleReadsNamesAsDirectoriesDo: a directory finds one account by many spellings, and they share its delay. Other names do
// not.
func TestThrottleReadsNamesAsDirectoriesDo(t *testing.T) {
	b := open(t)
	for _, name := range []string{"zoe", "ZOE", "Zoe", " zoe", "zoe  ", "\u00a0zoe", "zo\u00eb", "zoe\u0308", "\uff5aoe", "z\u200boe"} {
		if _, err := b.Login(t.Context(), name, "wrong password", here); err == nil {
			t.Errorf("%q logs in", name)
		}
	}
	if n := b.Throttled(); n != 1 {
		t.Errorf("%d accounts are delayed apart, want 1", n)
	}
	if _, err := b.Login(t.Context(), "zoo", "wrong password", here); err == nil || b.Throttled() != 2 {
		t.Errorf("another name: %v, %d", err, b.Throttled())
	}
}
