//go:build linux

package cli_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

// most is what a stranger's documents may cost, in bytes of the whole process.
const most = 150 << 20

// peakOf runs the tool as people have it, without the race detector, and says how much memory that took, as far as it is seen by looking
// every few milliseconds: what the system says of a child that has ended counts its parent, too.
func peakOf(t *testing.T, binary string, args ...string) (peak int64, errs string) {
	t.Helper()
	var e bytes.Buffer
	cmd := exec.Command(binary, args...)
	cmd.Stderr = &e
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // the callers look at what it says
	}()
	for {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
		var now int64
		if _, rest, found := strings.Cut(string(status), "VmHWM:"); found {
			if _, err := fmt.Sscanf(rest, "%d kB", &now); err != nil {
				t.Fatal(err)
			}
		}
		peak = max(peak, now<<10)
		select {
		case <-ended:
			if peak == 0 {
				t.Fatal("it was never seen running: nothing was tested")
			}
			return peak, e.String()
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// An index and a manifest that cost as much memory as any that are accepted, and those that would cost more, stay within the bound.
func TestHostileDocumentsTakeLittleMemory(t *testing.T) {
	berth := testkit.BuildBerth(t)
	dir, _ := sandbox(t)
	annotations := func(n, length int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"%0*x":""`, length, i)
		}
		return b.String()
	}
	digest := func(b []byte) string {
		sum := sha256.Sum256(b)
		return hex.EncodeToString(sum[:])
	}
	write := func(name, inIndex, inManifest string) string {
		at := filepath.Join(dir, name)
		blobs := filepath.Join(at, "blobs", "sha256")
		m := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:` +
			digest([]byte("{}")) + `","size":2},"layers":[],"annotations":{"a":""` + inManifest + `}}`)
		index := `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:` + digest(m) +
			fmt.Sprintf(`","size":%d,"annotations":{"org.opencontainers.image.ref.name":"v1"`, len(m)) + inIndex + `}}]}`
		if err := os.MkdirAll(blobs, 0o755); err != nil {
			t.Fatal(err)
		}
		for file, body := range map[string]string{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`, "index.json": index, "blobs/sha256/" + digest(m): string(m), "blobs/sha256/" + digest([]byte("{}")): "{}"} {
			if err := os.WriteFile(filepath.Join(at, file), []byte(body), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return at
	}
	for name, tc := range map[string]struct {
		inIndex, inManifest string
		says                string // "" is accepted
	}{
		"costly":        {annotations(131_000, 25), annotations(131_000, 55), ""},
		"many keys":     {annotations(350_000, 6), "", "keys"},
		"a large index": {annotations(100_000, 100), "", "index.json"},
		"many in it":    {"", annotations(600_000, 6), "keys"},
	} {
		t.Run(name, func(t *testing.T) {
			at := write(strings.ReplaceAll(name, " ", ""), tc.inIndex, tc.inManifest)
			for _, args := range [][]string{
				{"inspect", "oci:" + at + ":v1"}, {"copy", "oci:" + at + ":v1", "oci:" + at + ".out:v1"},
			} {
				peak, errs := peakOf(t, berth, append([]string{"--insecure-policy"}, args...)...)
				if peak > most {
					t.Errorf("%s took %d MiB", args[0], peak>>20)
				}
				if tc.says == "" && strings.Contains(errs, "error:") || args[0] == "copy" && !strings.Contains(errs, tc.says) { // inspect may ask the library
					t.Errorf("%s says:\n%s", args, errs)
				}
			}
		})
	}
}
