package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
)

// The parts that raw sends, made side by side, are the blob that berthd is sent as one stream; else the two would be compared
// over different bytes. Emptied, the bucket has nothing.
func TestRawPutsTheSameBytes(t *testing.T) {
	t.Chdir("../..") // where the program is run
	for _, make := range makesOfObjects() {
		t.Run(make, func(t *testing.T) {
			if _, err := findPeer(make); err != nil {
				testkit.Missing(t, "%v", err)
			}
			o, err := startObjects(t.Context(), make, t.TempDir(), true)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := o.stop(); err != nil {
					t.Error(err)
				}
			}()
			l := newLarge(3*rawPart+(1<<20), 7) // the last part is short
			if err := errors.Join(o.makeBucket(t.Context(), "raw"), o.put(t.Context(), "raw", "blob", l)); err != nil {
				t.Fatal(err)
			}
			address, err := o.address(t.Context(), "raw", "blob")
			if err != nil {
				t.Fatal(err)
			}
			if err := fetch(address, l.size); err != nil {
				t.Error(err)
			}
			resp, err := http.Get(address)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			h := sha256.New()
			if _, err := io.Copy(h, resp.Body); err != nil {
				t.Fatal(err)
			}
			if got := "sha256:" + hex.EncodeToString(h.Sum(nil)); got != l.digest {
				t.Errorf("the object is %s, want %s", got, l.digest)
			}
			if err := o.empty(t.Context(), "raw"); err != nil {
				t.Error(err)
			}
			if err := fetch(address, l.size); err == nil || !strings.Contains(err.Error(), "status 404") {
				t.Errorf("after empty: %v, want status 404", err)
			}
		})
	}
}

func TestWriteRangeIsAPartOfTheWhole(t *testing.T) {
	l := large{size: 4 << 20, seed: 9}
	var whole, part bytes.Buffer
	_ = l.writeTo(&whole)
	_ = l.writeRange(&part, 1<<20, 3<<20)
	if !bytes.Equal(part.Bytes(), whole.Bytes()[1<<20:3<<20]) {
		t.Error("the bytes of a range are others than in the whole")
	}
}

// The bodies that the generator sends in chunks are what net/http reads, and one that lacks its end is not taken as whole.
func TestChunkWriter(t *testing.T) {
	body := make([]byte, 3*wireChunk+5)
	fillRandom(body, 1)
	var raw bytes.Buffer
	w := &chunkWriter{w: &raw}
	for _, p := range [][]byte{body[:10], body[10:]} {
		if n, err := w.Write(p); n != len(p) || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}
	cut := raw.String()
	_ = w.end()
	for text, whole := range map[string]bool{cut: false, raw.String(): true} {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("PATCH / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + text)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r.Body)
		if whole != (err == nil) || whole && !bytes.Equal(got, body) {
			t.Errorf("whole = %v: read %d bytes, %v", whole, len(got), err)
		}
	}
}
