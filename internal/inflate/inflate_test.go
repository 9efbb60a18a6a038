package inflate_test

import (
	"io"
	"strings"
	"testing"

	"github.com/berth-registry/berth/internal/inflate"
)

func TestLimits(t *testing.T) {
	l := inflate.Limits{Ratio: 10, Free: 1000}.OrDefaults()
	if l.Bytes != inflate.Defaults().Bytes || l.Ratio != 10 || l.Free != 1000 {
		t.Errorf("%+v", l)
	}
	for _, tc := range []struct {
		unpacked, packed int64
		bomb             bool
	}{{1000, 0, false}, {1001, 1, true}, {1009, 100, false}, {1010, 100, true}, {1019, 101, false}, {1020, 101, true}, {10_000, 1000, false}} {
		if got := l.Bomb(tc.unpacked, tc.packed); got != tc.bomb {
			t.Errorf("%d from %d: %t", tc.unpacked, tc.packed, got)
		}
	}
	c := &inflate.Counter{R: strings.NewReader("seven b")}
	if _, err := io.ReadAll(c); err != nil || c.N != 7 {
		t.Errorf("%d, %v", c.N, err)
	}
}
