// Package inflate bounds what packed bytes of a stranger may unpack to, be they an archive of images or a layer of one. It unpacks
// nothing itself: who does counts both sides, asks, and says in its own words what was refused.
//
// Start reading at Limits.
package inflate

import "io"

// Limits bound what may be unpacked. A field of zero takes its value from Defaults.
type Limits struct {
	Bytes int64 // unpacked
	Ratio int64 // unpacked bytes for one packed byte, once there are more than Free
	Free  int64 // unpacked bytes before Ratio counts: a small archive of zeros is no bomb
}

// Defaults are far above what images have: 64 GiB, and 200 to 1 beyond 256 MiB.
func Defaults() Limits { return Limits{Bytes: 64 << 30, Ratio: 200, Free: 256 << 20} }

// OrDefaults are the limits with the defaults for what is zero.
func (l Limits) OrDefaults() Limits {
	d := Defaults()
	if l.Bytes == 0 {
		l.Bytes = d.Bytes
	}
	if l.Ratio == 0 {
		l.Ratio = d.Ratio
	}
	if l.Free == 0 {
		l.Free = d.Free
	}
	return l
}

// Bomb reports whether so many packed bytes have become more than those of an honest archive do. Bytes is compared by who counts.
func (l Limits) Bomb(unpacked, packed int64) bool {
	return unpacked > l.Free && unpacked/l.Ratio > packed
}

// Counter counts what is read of R.
type Counter struct {
	R io.Reader
	N int64
}

// Read reads from R.
func (c *Counter) Read(p []byte) (int, error) {
	n, err := c.R.Read(p)
	c.N += int64(n)
	return n, err
}
