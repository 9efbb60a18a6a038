package conformance_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
)

// TestRedirectToBucket pulls a blob as a client does that follows redirects: berthd says where, the bucket sends the bytes,
// and neither asks for what the other has asked. Metrics have distribution's name for the driver.
func TestRedirectToBucket(t *testing.T) {
	for _, kind := range []testkit.S3Kind{testkit.VersityGW, testkit.MinIO} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			server, bucket := testkit.S3Bucket(t, kind)
			d := testkit.Start(t, testkit.Options{Env: append(server.Env(bucket), "REGISTRY_STORAGE_REDIRECT_DISABLE=false", "BERTH_ANONYMOUS=push")})
			client := newClient()
			defer client.CloseIdleConnections()
			content := bytes.Repeat([]byte("0123456789"), 700_000) // more than a part
			digest := fmt.Sprintf("sha256:%x", sha256.Sum256(content))
			do := func(method, url string, body []byte, header ...string) *http.Response {
				t.Helper()
				req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				for i := 0; i < len(header); i += 2 {
					req.Header.Set(header[i], header[i+1])
				}
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { resp.Body.Close() })
				return resp
			}
			if resp := do(http.MethodPost, d.URL+"/v2/library/app/blobs/uploads/?digest="+digest, content); resp.StatusCode != http.StatusCreated {
				t.Fatalf("push: %s", resp.Status)
			}
			path := d.URL + "/v2/library/app/blobs/" + digest
			for part, want := range map[string][]byte{"": content, "bytes=5-24": content[5:25]} {
				var header []string
				if part != "" {
					header = []string{"Range", part}
				}
				told := do(http.MethodGet, path, nil, header...)
				to := told.Header.Get("Location")
				if told.StatusCode != http.StatusTemporaryRedirect || !strings.HasPrefix(to, server.Endpoint+"/"+bucket+"/docker/registry/v2/blobs/sha256/") {
					t.Fatalf("GET %s: %s to %q", part, told.Status, to)
				}
				resp := do(http.MethodGet, to, nil, header...)
				if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, want) {
					t.Errorf("the bucket sends %d bytes, %s, %v; want %d", len(got), resp.Status, err, len(want))
				}
			}
			if resp := do(http.MethodHead, path, nil); resp.StatusCode != http.StatusOK || resp.ContentLength != int64(len(content)) {
				t.Errorf("HEAD: %s, %d bytes", resp.Status, resp.ContentLength)
			}
			text, err := io.ReadAll(do(http.MethodGet, d.URL+"/metrics", nil).Body)
			if err != nil {
				t.Fatal(err)
			}
			for _, action := range []string{"place", "commit", "url"} {
				if line := fmt.Sprintf(`registry_storage_action_seconds_count{action=%q,driver="s3aws"} `, action); !strings.Contains(string(text), line) || strings.Contains(string(text), line+"0\n") {
					t.Errorf("metrics do not count %s", action)
				}
			}
			if log := d.Log(); strings.Contains(log, server.SecretKey) {
				t.Error("the log shows the secret key")
			}
		})
	}
}
