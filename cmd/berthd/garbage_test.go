package main_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/oci"
)

// TestGarbageCollect is distribution's command on a registry that is stopped: what the dry run announces goes, to the byte, and nothing
// else.
func TestGarbageCollect(t *testing.T) {
	for name, hold := range map[string]string{"trash held": "24h", "trash at once": "1ms"} {
		t.Run(name, func(t *testing.T) {
			data := t.TempDir()
			env := append([]string{"BERTH_TRASH_HOLD=" + hold, "BERTH_ANONYMOUS=delete"}, "BERTH_DATA="+data)
			d := testkit.Start(t, testkit.Options{Data: data, Env: env})
			pushIndex(t, d, "kept")
			loose := strings.Repeat("nothing needs this ", 10_000)
			if got := status(t, http.MethodPost, d.URL+"/v2/team/app/blobs/uploads/?digest="+digestOf(loose), "", loose, "application/octet-stream"); got != http.StatusCreated {
				t.Fatalf("push of a blob: %d", got)
			}
			other := strings.Replace(emptyIndex, "{", `{"annotations":{"a":"b"},`, 1)
			for _, method := range []string{http.MethodPut, http.MethodDelete} {
				at := "gone"
				if method == http.MethodDelete {
					at = digestOf(other)
				}
				if got := status(t, method, d.URL+"/v2/team/app/manifests/"+at, "", other, "application/vnd.oci.image.index.v1+json"); got/100 != 2 {
					t.Fatalf("%s: %d", method, got)
				}
			}
			if err := d.Stop(); err != nil {
				t.Fatal(err)
			}
			blobs, bytes := 1, len(loose)
			if hold == "1ms" {
				blobs, bytes = 2, bytes+len(other)
			}
			c := command{dir: t.TempDir(), env: env}
			dry := c.run(t, "garbage-collect", "--dry-run")
			if dry.code != 0 || !strings.Contains(dry.stdout, fmt.Sprintf("%d blobs and 0 manifests eligible for deletion\n", blobs)) || !strings.Contains(dry.stdout, "blob eligible for deletion: "+digestOf(loose)) {
				t.Fatalf("%+v", dry)
			}
			if again := c.run(t, "garbage-collect", "-d"); again.stdout != dry.stdout {
				t.Fatalf("the dry run has changed something: %+v", again)
			}
			if r := c.run(t, "garbage-collect", "--quiet"); r.code != 0 || !strings.HasSuffix(r.stdout, fmt.Sprintf("%d blobs with %d bytes deleted\n", blobs, bytes)) || strings.Contains(r.stdout, "sha256") {
				t.Fatalf("%+v", r)
			}
			if r := c.run(t, "garbage-collect", "--dry-run"); !strings.HasPrefix(r.stdout, "0 blobs and 0 manifests eligible") {
				t.Errorf("afterwards: %+v", r)
			}
			d = testkit.Start(t, testkit.Options{Data: data, Env: env})
			if got := pull(t, d, "kept"); got != emptyIndex {
				t.Errorf("pulled %s", got)
			}
			if r := c.run(t, "gc", "preview"); r.code != 0 || !strings.Contains(r.stdout, "0 blobs") {
				t.Errorf("gc preview: %+v", r)
			}
			if r := c.run(t, "gc", "run"); r.code != 0 || !strings.Contains(r.stdout+r.stderr, "deleted 0") {
				t.Errorf("gc run: %+v", r)
			}
			if r := c.run(t, "gc", "status"); r.code != 0 || r.stdout == "" {
				t.Errorf("gc status: %+v", r)
			}
			if r := c.run(t, "gc", "why", digestOf(emptyIndex)); r.code != 0 || !strings.Contains(r.stdout, "kept") {
				t.Errorf("gc why: %+v", r)
			}
		})
	}
}

func digestOf(text string) string { return oci.FromBytes(oci.SHA256, []byte(text)).String() }
