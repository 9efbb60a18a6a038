package server_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/oci"
)

// rotting is an image that two registries have: config and manifest in the database, layer in a file.
type rotting struct{ config, layer, manifest []byte }

func newRotting(t *testing.T) *rotting {
	t.Helper()
	i := &rotting{config: make([]byte, 900), layer: make([]byte, 300<<10)}
	_, _ = rand.Read(i.config)
	_, _ = rand.Read(i.layer)
	descriptor := func(mediaType string, p []byte) object {
		return object{"mediaType": mediaType, "digest": oci.FromBytes(oci.SHA256, p).String(), "size": len(p)}
	}
	var err error
	i.manifest, err = json.Marshal(object{
		"schemaVersion": 2, "mediaType": oci.MediaTypeManifest, "config": descriptor("application/vnd.oci.image.config.v1+json", i.config),
		"layers": []any{descriptor("application/vnd.oci.image.layer.v1.tar", i.layer)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func (d *daemon) pushImage(t *testing.T, who caller, repo string, i *rotting) {
	t.Helper()
	for _, p := range [][]byte{i.config, i.layer} {
		path := fmt.Sprintf("/v2/%s/blobs/uploads/?digest=%s", repo, oci.FromBytes(oci.SHA256, p))
		if a := d.do(t, who, http.MethodPost, path, string(p)); a.status != http.StatusCreated {
			t.Fatalf("push of a blob: %d %s", a.status, a.body)
		}
	}
	a := d.do(t, who, http.MethodPut, "/v2/"+repo+"/manifests/v1", string(i.manifest), "Content-Type", oci.MediaTypeManifest)
	if a.status != http.StatusCreated {
		t.Fatalf("push of a manifest: %d %s", a.status, a.body)
	}
}

// pullImage reads all of it; what it says is why it could not. Wrong bytes as a clean answer end the test.
func (d *daemon) pullImage(t *testing.T, who caller, repo string, i *rotting) error {
	t.Helper()
	for path, want := range map[string][]byte{
		"/manifests/v1": i.manifest,
		"/blobs/" + oci.FromBytes(oci.SHA256, i.config).String(): i.config,
		"/blobs/" + oci.FromBytes(oci.SHA256, i.layer).String():  i.layer,
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.url+"/v2/"+repo+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", string(who))
		r.Header.Set("Accept", oci.MediaTypeManifest)
		resp, err := d.client.Do(r)
		if err != nil {
			return err
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %d with %d bytes of %d: %w", path, resp.StatusCode, len(got), len(want), err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%s: wrong bytes in a clean answer", path)
		}
	}
	return nil
}

// Two registries have the same image. One byte of the layer of one rots, and so do its config and manifest: the next scrub, or
// the first pull, takes them from the other registry, which asks for a login. No client pushes anything.
func TestRotIsRepairedFromAReplica(t *testing.T) {
	for what, found := range map[string]struct{ reads, interval string }{
		"scrub": {"never", "2s"},
		"pull":  {"always", "0"},
	} {
		t.Run(what, func(t *testing.T) {
			other := start(t)
			u, err := url.Parse(other.url)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			data, secret, file := filepath.Join(dir, "data"), filepath.Join(dir, "secret"), filepath.Join(dir, "config.yml")
			if err := os.WriteFile(secret, []byte(alicePassword+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			text := fmt.Sprintf(`berth:
  integrity:
    reads: %s
    scrub: {interval: %s}
    repair_from:
      - {url: %q, username: alice, password: %q}
`, found.reads, found.interval, other.url, "file:"+secret)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			d := startFile(t, file, "BERTH_DATA="+data)
			admin := basic("admin", adminPassword)
			i := newRotting(t)
			d.pushImage(t, admin, "team/app", i)
			other.pushImage(t, admin, "team/app", i)
			if err := d.pullImage(t, admin, "team/app", i); err != nil {
				t.Fatal(err)
			}
			layer, config := oci.FromBytes(oci.SHA256, i.layer), oci.FromBytes(oci.SHA256, i.config)
			name := filepath.Join(data, "blobs", "sha256", layer.Hex()[:2], layer.Hex())
			stored, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			stored[100<<10] ^= 1
			if err := os.WriteFile(name, stored, 0o600); err != nil {
				t.Fatal(err)
			}
			if what == "scrub" { // memory has what is in the database, so that no pull finds it
				for _, digest := range []oci.Digest{config, oci.FromBytes(oci.SHA256, i.manifest)} {
					n := testkit.Behind(t, "", filepath.Join(data, "berth.db"), `UPDATE blob_content SET bytes = $2 WHERE digest = $1`, digest.String(), []byte("rot"))
					if n != 1 {
						t.Fatalf("%d rows changed", n)
					}
				}
			} else if err := d.pullImage(t, admin, "team/app", i); err == nil {
				t.Fatal("the pull that should have found it says nothing")
			}
			eventually(t, "repaired", func() bool {
				m := d.do(t, admin, http.MethodGet, "/metrics", "").body
				want := map[string]string{"scrub": "3", "pull": "1"}[what]
				return strings.Contains(m, fmt.Sprintf("registry_scrub_repaired_total{from=%q} %s\n", u.Host, want)) &&
					strings.Contains(m, fmt.Sprintf("registry_scrub_damaged_total{by=%q,found=\"wrong\"} %s\n", what, want))
			})
			if err := d.pullImage(t, admin, "team/app", i); err != nil {
				t.Error(err)
			}
			if a := d.do(t, admin, http.MethodGet, "/api/v1/damage", ""); a.status != http.StatusOK || strings.Contains(a.body, "sha256:") {
				t.Errorf("damage that is left: %s", a.body)
			}
			if found, err := os.ReadFile(name); err != nil || string(found) != string(i.layer) {
				t.Errorf("the file is not what it was: %v", err)
			}
			if what != "scrub" {
				return
			}
			eventually(t, "report of the scrub", func() bool { // a later one has nothing to repair
				a := d.do(t, admin, http.MethodGet, "/api/v1/jobs?kind=scrub&limit=100", "")
				return strings.Contains(a.body, "3 repaired (3 from "+u.Host+")")
			})
			if a := d.do(t, admin, http.MethodGet, "/api/v1/settings", ""); strings.Contains(a.body, alicePassword) {
				t.Error("the settings show the password")
			}
		})
	}
}
