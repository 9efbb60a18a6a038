package blob_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/fs"
)

// What a large push costs: bytes that arrive over a loopback connection, as in a request, until they are durable.
// "serial" is what io.Copy into file and hash does. Run with
//
//	go test -run - -bench Receive -benchtime 3x ./server/blob
//
// cpu-s/GB is of this process: it includes the sending side, the same for all.
func BenchmarkReceive(b *testing.B) {
	const size = 256 << 20
	for _, streams := range []int{1, 4} {
		b.Run(fmt.Sprintf("serial/streams=%d", streams), func(b *testing.B) {
			dir := b.TempDir()
			run(b, size, streams, func(i int, r io.Reader) error { return serial(filepath.Join(dir, fmt.Sprint(i)), r) })
		})
		b.Run(fmt.Sprintf("overlapped/streams=%d", streams), func(b *testing.B) {
			s, err := fs.New(b.TempDir(), fs.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			run(b, size, streams, func(i int, r io.Reader) error { return push(b, s, fmt.Sprint("upload-", i), r) })
		})
	}
}

func push(b *testing.B, s blob.Store, id string, r io.Reader) error {
	w, err := s.Upload(b.Context(), id, blob.State{})
	if err != nil {
		return err
	}
	h := oci.NewHasher(oci.SHA256)
	if _, err := blob.Receive(b.Context(), w, r, h, blob.ReceiveOptions{}); err != nil {
		return err
	}
	state, err := w.Suspend(b.Context())
	if err != nil {
		return err
	}
	if err := s.Commit(b.Context(), id, state, h.Digest()); err != nil {
		return err
	}
	return s.Delete(b.Context(), h.Digest())
}

func serial(name string, r io.Reader) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer os.Remove(name)
	defer f.Close()
	h := oci.NewHasher(oci.SHA256)
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(f, h)}, struct{ io.Reader }{r}, make([]byte, 128<<10)); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func run(b *testing.B, size int64, streams int, receive func(int, io.Reader) error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	var serial atomic.Int64
	b.SetBytes(size * int64(streams))
	before := cpu(b)
	for b.Loop() {
		done := make(chan error, streams)
		for range streams {
			client, server := pipe(b, l)
			n := int(serial.Add(1))
			go send(client, size, n)
			go func() {
				defer server.Close()
				done <- receive(n, server)
			}()
		}
		for range streams {
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric((cpu(b)-before).Seconds()/(float64(size)*float64(streams)*float64(b.N)/1e9), "cpu-s/GB")
}

func pipe(b *testing.B, l net.Listener) (client, server net.Conn) {
	client, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	server, err = l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	return client, server
}

func send(c net.Conn, size int64, n int) {
	defer c.Close()
	buf := pattern(1 << 20)
	copy(buf, fmt.Sprint(n)) // each stream is a blob of its own
	for ; size > 0; size -= int64(len(buf)) {
		if _, err := c.Write(buf); err != nil {
			return // the receiving side reports it
		}
	}
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
