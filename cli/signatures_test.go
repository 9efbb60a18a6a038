package cli_test

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/berth-registry/berth/cli"
	"github.com/berth-registry/berth/oci"
)

// Where a registry keeps no signatures, they are read from the lookaside that registries.d names for the source and written to
// that of the target, beside those that are there.
func TestSignaturesOfLookaside(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_STATE_HOME", home)
	t.Setenv("BERTH_BLOB_CACHE_DIR", home)
	t.Setenv("XDG_CONFIG_HOME", home)
	t.Setenv("REGISTRY_AUTH_FILE", "")
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	if err := writeImage(filepath.Join(home, "img"), "a"); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(home, "d")
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(conf, "a.yaml"), fmt.Sprintf("docker:\n  %[1]s/from:\n    lookaside: file://%[2]s/A\n  %[1]s/to:\n    lookaside: http://%[1]s/none\n    lookaside-staging: file://%[2]s/B\n  %[1]s/web:\n    lookaside: http://%[1]s/none\n", host, home))
	run := func(want int, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		args = append([]string{"berth", "--registries.d", conf, "--insecure-policy"}, args...)
		if code := cli.Main(args, cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errs}); code != want {
			t.Fatalf("%v: exit code %d, want %d: %s", args, code, want, errs.String())
		}
		return errs.String()
	}
	from := "docker://" + host + "/from/app:v1"
	run(0, "copy", "--dest-tls-verify=false", "oci:"+filepath.Join(home, "img")+":v1", from)
	body := registryManifest(t, server.URL+"/v2/from/app/manifests/v1")
	digest := strings.Replace(oci.FromBytes(oci.SHA256, body).String(), ":", "=", 1)
	write(filepath.Join(home, "A/from/app@"+digest+"/signature-1"), "\x90 one")
	write(filepath.Join(home, "A/from/app@"+digest+"/signature-2"), "\x90 two")
	write(filepath.Join(home, "A/from/app@"+digest+"/signature-3"), "\x00sigstore-json{}")
	write(filepath.Join(home, "B/to/app@"+digest+"/signature-1"), "\x90 two")

	if text := run(0, "copy", "--tls-verify=false", from, "docker://"+host+"/to/app:v1"); !strings.Contains(text, "1 GPG signature came along") {
		t.Errorf("%s", text)
	}
	for n, want := range []string{"\x90 two", "\x90 one"} {
		got, err := os.ReadFile(filepath.Join(home, fmt.Sprintf("B/to/app@%s/signature-%d", digest, n+1)))
		if err != nil || string(got) != want {
			t.Errorf("signature-%d: %q, %v", n+1, got, err)
		}
	}
	if _, err := os.Stat(filepath.Join(home, "B/to/app@"+digest+"/signature-3")); err == nil {
		t.Error("there is a third signature")
	}
	// A place that cannot be written to is a failure, and none with --remove-signatures; a layout has no place, and that is said.
	if text := run(1, "copy", "--tls-verify=false", from, "docker://"+host+"/web/app:v1"); !strings.Contains(text, "--remove-signatures") {
		t.Errorf("%s", text)
	}
	run(0, "copy", "--tls-verify=false", "--remove-signatures", from, "docker://"+host+"/web/app:v1")
	if text := run(0, "copy", "--src-tls-verify=false", from, "oci:"+filepath.Join(home, "lay")+":v1"); !strings.Contains(text, "stay behind") {
		t.Errorf("%s", text)
	}
}

func registryManifest(t *testing.T, address string) []byte {
	t.Helper()
	resp, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, err)
	}
	return body
}
