package auth_test

import (
	"strings"
	"testing"

	"github.com/berth-registry/berth/server/auth"
)

func TestAccountName(t *testing.T) {
	for text, want := range map[string]string{"alice": "alice", " alice ": "alice", "Alice@Example.com": "Alice@Example.com", "李雷": "李雷", "a b": "a b"} {
		if got, err := auth.AccountName(text); err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", " \t", "a:b", "a\nb", "a\x00", "a\u200bb", "a\u202eb", "\xff", strings.Repeat("x", auth.MaxName+1)} {
		if got, err := auth.AccountName(text); err == nil {
			t.Errorf("%q is taken as %q", text, got)
		}
	}
}
