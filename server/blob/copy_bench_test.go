package blob_test

import (
	"io"
	"net"
	"testing"

	"github.com/berth-registry/berth/server/blob"
)

// BenchmarkCopy is a download that passes through: from one connection to another, as one would do it and with Copy.
func BenchmarkCopy(b *testing.B) {
	const size = 64 << 20
	for name, relay := range map[string]func(w io.Writer, r io.Reader) (int64, error){
		"io":   func(w io.Writer, r io.Reader) (int64, error) { return io.CopyN(w, r, size) },
		"blob": func(w io.Writer, r io.Reader) (int64, error) { return blob.Copy(w, r, size) },
	} {
		b.Run(name, func(b *testing.B) {
			from, in := pair(b)
			out, to := pair(b)
			go func() {
				piece := make([]byte, 1<<20)
				for {
					if _, err := in.Write(piece); err != nil {
						return
					}
				}
			}()
			go func() { _, _ = io.CopyBuffer(onlyWriter{io.Discard}, onlyReader{to}, make([]byte, 1<<20)) }()
			b.SetBytes(size)
			for b.Loop() {
				if _, err := relay(onlyWriter{out}, onlyReader{from}); err != nil { // neither knows of the other: no splice
					b.Fatal(err)
				}
			}
		})
	}
}

type onlyWriter struct{ io.Writer }
type onlyReader struct{ io.Reader }

// pair is two ends of a connection.
func pair(b *testing.B) (one, other net.Conn) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	if one, err = net.Dial("tcp", l.Addr().String()); err != nil {
		b.Fatal(err)
	}
	if other, err = l.Accept(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { one.Close(); other.Close() })
	return one, other
}
