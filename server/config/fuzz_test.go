package config_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/berth-registry/berth/server/config"
)

// FuzzLoad: no file and no variable makes Load panic, and what Load accepts can be printed and, secrets
// and all, be loaded again.
func FuzzLoad(f *testing.F) {
	sample, err := os.ReadFile(filepath.Join("testdata", "registry2.yml"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(sample), "REGISTRY_HTTP_ADDR", ":1")
	f.Add("a: &a {<<: *a}\n", "BERTH_LIMITS_MANIFEST_BYTES", "1KiB")
	f.Add("http: {headers: {a: [${X:-y}]}}\n", "REGISTRY_NOTIFICATIONS_ENDPOINTS_0_HEADERS_A_0", "x")
	f.Add("log: {fields: {a: &x [1, {b: 2001-01-01}], c: *x}}\n", "REGISTRY_MIDDLEWARE_STORAGE_0_OPTIONS_A_B", "[")
	f.Add("berth:\n  limits: 7\n? [a]\n: b\n", "REGISTRY_STORAGE", "{s3: {}}")
	f.Fuzz(func(t *testing.T, file, name, value string) {
		l, err := load(file, name+"="+value)
		if err != nil {
			_ = err.Error()
			return
		}
		var b bytes.Buffer
		if err := l.Dump(&b, config.DumpOptions{Origin: true}); err != nil {
			t.Fatal(err)
		}
		b.Reset()
		if err := l.Dump(&b, config.DumpOptions{Reveal: true}); err != nil {
			t.Fatal(err)
		}
		if _, err := load(b.String()); err != nil {
			t.Fatalf("the dump does not load: %v\n%s", err, b.String())
		}
	})
}
