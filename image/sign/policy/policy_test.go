package policy_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.podman.io/image/v5/directory"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/sign"
	"github.com/berth-registry/berth/image/sign/policy"
	"github.com/berth-registry/berth/oci"
)

const (
	accept = `{"default":[{"type":"insecureAcceptAnything"}]}`
	reject = `{"default":[{"type":"reject"}]}`
)

// image is one in a directory, in the form of the transport dir.
func image(t *testing.T) (types.ImageReference, oci.Digest) {
	t.Helper()
	dir := t.TempDir()
	body := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:` +
		strings.Repeat("0", 64) + `","size":2},"layers":[]}`)
	for name, content := range map[string][]byte{"manifest.json": body, "version": []byte("Directory Transport Version: 1.1\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := directory.NewReference(dir)
	if err != nil {
		t.Fatal(err)
	}
	return r, oci.FromBytes(oci.SHA256, body)
}

// What a policy does not allow in so many words is refused. (Signatures that are asked for are in test/interop, with those who
// make them.)
func TestCheck(t *testing.T) {
	r, digest := image(t)
	check := func(doc string, o policy.Options) (policy.Checked, error) {
		p, err := policy.Parse([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		return policy.Check(context.Background(), p, r, &types.SystemContext{}, o)
	}
	c, err := check(accept, policy.Options{})
	if err != nil || c.Digest != digest || c.Signed {
		t.Fatalf("%+v, %v", c, err)
	}
	for name, doc := range map[string]string{
		"reject":      reject,
		"both":        `{"default":[{"type":"insecureAcceptAnything"},{"type":"reject"}]}`,
		"its scope":   `{"default":[{"type":"insecureAcceptAnything"}],"transports":{"dir":{"":[{"type":"reject"}]}}}`,
		"signedBy":    `{"default":[{"type":"signedBy","keyType":"GPGKeys","keyData":"AAAA"}]}`,
		"absent key":  `{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/nowhere/key"}]}`,
		"sigstore":    `{"default":[{"type":"sigstoreSigned","keyData":"AAAA"}]}`,
		"not so said": `{"default":[{"type":"reject"}],"transports":{"docker":{"":[{"type":"insecureAcceptAnything"}]}}}`,
	} {
		if c, err := check(doc, policy.Options{}); err == nil {
			t.Errorf("%s: allowed, %+v", name, c)
		}
	}
	var refusal *sign.Refusal
	if _, err := check(reject, policy.Options{}); !errors.As(err, &refusal) || refusal.Why != sign.ByPolicy {
		t.Errorf("reject: %v", err)
	}
	if _, err := check(accept, policy.Options{RequireSigned: true}); !errors.As(err, &refusal) || refusal.Why != sign.ByPolicy {
		t.Errorf("a signature is required: %v", err)
	}
}

// A file that is not exactly a policy is none.
func TestParse(t *testing.T) {
	for name, doc := range map[string]string{
		"empty": "", "not JSON": "{", "no default": "{}", "empty default": `{"default":[]}`, "unknown type": `{"default":[{"type":"maybe"}]}`,
		"unknown field": `{"default":[{"type":"reject","why":"x"}]}`, "unknown key": `{"default":[{"type":"reject"}],"x":1}`,
		"no key": `{"default":[{"type":"signedBy","keyType":"GPGKeys"}]}`, "key type": `{"default":[{"type":"signedBy","keyType":"x","keyPath":"/x"}]}`,
		"twice": `{"default":[{"type":"reject"}],"default":[{"type":"insecureAcceptAnything"}]}`,
	} {
		if _, err := policy.Parse([]byte(doc)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := policy.ReadFile([]byte(doc)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s, to change it: %v", name, err)
		}
	}
}

// What is set is there, the rest stays, and what would be no policy is not written.
func TestSet(t *testing.T) {
	f, err := policy.ReadFile([]byte(`{"default":[{"type":"reject"}],"transports":{"docker":{"quay.io":[{"type":"sigstoreSigned","keyPath":"/q.pub","signedIdentity":{"type":"matchRepository"}}]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		scope, kind string
		keys        []string
	}{
		{"registry.example.com", "signedBy", []string{"/a.asc", "/b.asc"}},
		{"registry.example.com/team", "sigstoreSigned", []string{"/c.pub"}},
		{"docker.io/library", "accept", nil},
		{"default", "reject", nil},
	} {
		if err := f.Set(step.scope, step.kind, step.keys); err != nil {
			t.Fatal(err)
		}
	}
	b, err := f.JSON()
	if err != nil {
		t.Fatal(err)
	}
	again, err := policy.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range again.Entries() {
		got = append(got, strings.Join(append([]string{e.Transport, e.Scope, e.Type()}, e.KeyPaths()...), " "))
	}
	want := []string{
		"  reject", "docker docker.io/library insecureAcceptAnything", "docker quay.io sigstoreSigned /q.pub",
		"docker registry.example.com signedBy /a.asc", "docker registry.example.com signedBy /b.asc", "docker registry.example.com/team sigstoreSigned /c.pub",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if !strings.Contains(string(b), "matchRepository") {
		t.Error("fields that were not changed are lost")
	}
	for name, c := range map[string]struct {
		scope, kind string
		keys        []string
	}{
		"no keys": {"x.example.com", "signedBy", nil}, "keys of accept": {"x.example.com", "accept", []string{"/a"}}, "kind": {"x.example.com", "x", nil},
		"relative": {"x.example.com", "signedBy", []string{"a"}}, "no scope": {"", "reject", nil}, "URL": {"https://x.example.com", "reject", nil},
	} {
		if err := f.Set(c.scope, c.kind, c.keys); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
