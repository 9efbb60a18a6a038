package fault_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/berth-registry/berth/fault"
)

var errSecret = errors.New("disk 7 at /srv said EIO")

func TestOf(t *testing.T) {
	if fault.Of(nil) != nil {
		t.Error("no error is a fault")
	}
	f := fault.New(fault.NotFound, fault.NameUnknown, "repository %s is not there", "a/b")
	if got := fault.Of(fmt.Errorf("registry: %w", errors.Join(errSecret, f))); got != f {
		t.Errorf("%+v", got)
	}
	internal := fault.Of(fmt.Errorf("blob: %w", errSecret))
	if internal.Kind != fault.Internal || internal.Reason != fault.Unknown || strings.Contains(internal.Message, "disk") {
		t.Errorf("the cause of an internal error is told: %+v", internal)
	}
	if !errors.Is(internal, errSecret) || !strings.Contains(internal.Error(), "disk 7") {
		t.Errorf("the log does not see the cause: %v", internal)
	}
	for _, err := range []error{context.Canceled, context.DeadlineExceeded, fmt.Errorf("x: %w", context.Canceled)} {
		if got := fault.Of(err); got.Kind != fault.Unavailable {
			t.Errorf("%v is %+v", err, got)
		}
	}
	// A fault that somebody made on purpose is stronger than the context in its cause.
	full := fault.New(fault.Full, fault.StorageFull, "no space").Because(context.Canceled)
	if got := fault.Of(fmt.Errorf("x: %w", full)); got != full {
		t.Errorf("%+v", got)
	}
}

func TestBecauseCopies(t *testing.T) {
	f := fault.New(fault.Denied, fault.DeniedReason, "no")
	g := f.Because(errSecret)
	if f.Unwrap() != nil || !errors.Is(g, errSecret) || g.Message != "no" || g.Error() != "no: "+errSecret.Error() || f.Error() != "no" {
		t.Errorf("%v, %v", f, g)
	}
}

func TestAtCopies(t *testing.T) {
	f := fault.New(fault.Invalid, fault.UnsupportedReason, "no").Because(errSecret)
	if g := f.At("rules[0]"); f.Field != "" || g.Field != "rules[0]" || g.Message != "no" || !errors.Is(g, errSecret) {
		t.Errorf("%+v, %+v", f, g)
	}
}

func TestIsAndHas(t *testing.T) {
	f := fmt.Errorf("x: %w", fault.New(fault.Denied, fault.DeniedReason, "no"))
	if !fault.Is(f, fault.Denied) || fault.Is(f, fault.Internal) || !fault.Has(f, fault.DeniedReason) || fault.Has(f, fault.Unknown) {
		t.Error(f)
	}
	// An error without a fault has no kind, not even the zero one.
	if fault.Is(errSecret, fault.Internal) || fault.Is(nil, fault.Internal) || fault.Has(nil, "") {
		t.Error("an error without a fault has a kind")
	}
}
