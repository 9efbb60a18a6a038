package interop_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
)

// BenchmarkPullVerified is what verifying costs: one client pulls a blob of 128 MiB from a directory over plain HTTP, and
// berthd verifies it always, sometimes or never. cpu-s/GB is the processor time of berthd alone.
func BenchmarkPullVerified(b *testing.B) {
	const size = 128 << 20
	testkit.RequireDisk(b, b.TempDir(), 2<<30)
	for _, reads := range []string{"never", "sampled", "always"} {
		b.Run(reads, func(b *testing.B) {
			d := testkit.Start(b, testkit.Options{Env: []string{"BERTH_ANONYMOUS=delete", "BERTH_INTEGRITY_READS=" + reads}})
			content := func() io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{1}), size) }
			h := sha256.New()
			if _, err := io.Copy(h, content()); err != nil {
				b.Fatal(err)
			}
			digest := "sha256:" + hex.EncodeToString(h.Sum(nil))
			req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, d.URL+"/v2/team/app/blobs/uploads/?digest="+digest, content())
			if err != nil {
				b.Fatal(err)
			}
			req.ContentLength = size
			resp, err := http.DefaultClient.Do(req)
			if err != nil || resp.StatusCode != http.StatusCreated {
				b.Fatal(resp, err)
			}
			_ = resp.Body.Close()
			b.SetBytes(size)
			before := processorSeconds(b, d.PID())
			n := 0
			for b.Loop() {
				resp, err := http.Get(d.URL + "/v2/team/app/blobs/" + digest)
				if err != nil {
					b.Fatal(err)
				}
				got, err := io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if err != nil || got != size {
					b.Fatal(got, err)
				}
				n++
			}
			b.ReportMetric((processorSeconds(b, d.PID())-before)/(float64(n)*size/1e9), "cpu-s/GB")
		})
	}
}

// processorSeconds is what a process has used so far, by /proc.
func processorSeconds(b *testing.B, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Skip("no /proc: ", err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var ticks float64
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.ParseFloat(f, 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return ticks / 100
}
