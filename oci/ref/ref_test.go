package ref_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci/ref"
)

// The grammar of OCI distribution v1.1.1, "Pulling manifests".
var (
	nameGrammar = regexp.MustCompile(`\A[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*\z`)
	tagGrammar  = regexp.MustCompile(`\A[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}\z`)
)

func nameFits(s string) bool { return len(s) <= ref.MaxName && nameGrammar.MatchString(s) }

func TestParseName(t *testing.T) {
	for s, project := range map[string]string{
		"a": "library", "alpine": "library", "0": "library", "team/app": "team", "a/b/c/d/e": "a", "a.b/c_d": "a.b", "a__b": "library",
		"a-b": "library", "a---b/c": "a---b", "tags/list": "tags", "blobs/uploads": "blobs", "v2/manifests/x": "v2",
		strings.Repeat("a", 255): "library", strings.Repeat("a/", 127) + "a": "a",
	} {
		n, err := ref.ParseName(s)
		if err != nil || n.String() != s || n.Project() != project || n.IsZero() {
			t.Errorf("%q: %v, project %q, %v", s, n, n.Project(), err)
		}
	}
	for _, s := range []string{
		"", "/", "a/", "/a", "a//b", "A", "a/B", "_a", "a_", "-a", "a-", ".a", "a.", "a..b", "a___b", "a._b", "a.-b", "a_-b", "a-_b", "../a", "a/../b",
		"a/./b", "a/..", "..", ".", "a b", "a\tb", "a\n", "a\x00b", "a%2fb", "a:b", "a@b", "a\\b", "a?b", "a#b", "é", "ａ", "a\u200bb", "a/_catalog",
		"_oci/ext", "localhost:5000/a", strings.Repeat("a", 256), strings.Repeat("a/", 128), "a/" + strings.Repeat("b", 254), "~a", "a+b", "a,b", "$(a)", "a;b", "'a'", `"a"`,
	} {
		if n, err := ref.ParseName(s); !fault.Has(err, fault.NameInvalid) || !fault.Is(err, fault.Invalid) || !n.IsZero() {
			t.Errorf("%q: %v, %v; want NAME_INVALID", s, n, err)
		}
	}
	if _, err := ref.ParseName(strings.Repeat("A", 1<<20)); err == nil || len(err.Error()) > 400 {
		t.Error("the message is not bounded")
	}
}

func TestNameJSON(t *testing.T) {
	var doc struct {
		Name ref.Name `json:"name"`
	}
	for _, good := range []string{`{"name":"team/app"}`, `{"name":""}`} {
		if err := json.Unmarshal([]byte(good), &doc); err != nil {
			t.Fatal(err)
		}
		if b, err := json.Marshal(doc); err != nil || string(b) != good {
			t.Errorf("%s became %s, %v", good, b, err)
		}
	}
	for _, bad := range []string{`{"name":"Team"}`, `{"name":1}`, `{"name":{}}`} {
		if err := json.Unmarshal([]byte(bad), &doc); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

func TestParseTag(t *testing.T) {
	for _, s := range []string{"a", "latest", "_", "v1.0-rc.1_x", "A", "0", strings.Repeat("x", 128), "a..b", "a--", "sha256-abc"} {
		if got, err := ref.ParseTag(s); err != nil || got != s {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
	for _, s := range []string{"", ".a", "-a", "a b", "a:b", "a/b", "a@b", "é", "a\n", "a\x00", strings.Repeat("x", 129), "..", "a%20", "a+b"} {
		if got, err := ref.ParseTag(s); !fault.Has(err, fault.TagInvalid) || got != "" {
			t.Errorf("%q: %q, %v; want TAG_INVALID", s, got, err)
		}
	}
}

func TestParseReference(t *testing.T) {
	const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	r, err := ref.ParseReference(digest)
	if err != nil || r.Tag != "" || r.Digest.String() != digest || r.String() != digest {
		t.Errorf("%+v, %v", r, err)
	}
	r, err = ref.ParseReference("v1")
	if err != nil || r.Tag != "v1" || !r.Digest.IsZero() || r.String() != "v1" {
		t.Errorf("%+v, %v", r, err)
	}
	for s, reason := range map[string]fault.Reason{
		"": fault.TagInvalid, "sha256:abc": fault.DigestInvalid, "v1:" + digest: fault.DigestInvalid, "v1@" + digest: fault.DigestInvalid,
		":": fault.DigestInvalid, "-v1": fault.TagInvalid, strings.ToUpper(digest): fault.DigestInvalid,
	} {
		if r, err := ref.ParseReference(s); !fault.Has(err, reason) || r.Tag != "" || !r.Digest.IsZero() {
			t.Errorf("%q: %+v, %v; want %s", s, r, err, reason)
		}
	}
}

// What the specification's expression takes is taken, and nothing else.
func TestGrammar(t *testing.T) {
	near := rapid.StringMatching(`[a-z0-9A_./-]{0,12}([/._-]{1,3}[a-z0-9]{1,3}){0,4}`)
	good := rapid.StringMatching(`[a-z0-9]{1,5}((\.|_|__|-{1,4})[a-z0-9]{1,4}){0,3}(/[a-z0-9]{1,5}((\.|_|__|-{1,4})[a-z0-9]{1,4}){0,3}){0,3}`)
	long := rapid.StringMatching(`[a-z]{250,258}`)
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(near, good, long, rapid.String()).Draw(t, "name")
		if _, err := ref.ParseName(s); (err == nil) != nameFits(s) {
			t.Fatalf("name %q: %v; the grammar says %v", s, err, nameFits(s))
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(near, rapid.StringMatching(`[a-zA-Z0-9_][a-zA-Z0-9._-]{120,130}`), rapid.String()).Draw(t, "tag")
		if _, err := ref.ParseTag(s); (err == nil) != tagGrammar.MatchString(s) {
			t.Fatalf("tag %q: %v", s, err)
		}
	})
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"a", "library/alpine", "a..b", "a___b", "a/-b", "", "A/b", strings.Repeat("a/", 128), "a\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ref.ParseName(s)
		if (err == nil) != nameFits(s) {
			t.Fatalf("%q: %v", s, err)
		}
		if err != nil {
			return
		}
		if p := n.Project(); n.String() != s || p == "" || strings.Contains(p, "/") {
			t.Fatalf("%q became %q of project %q", s, n, p)
		}
		if _, err := ref.ParseName(n.Project()); err != nil {
			t.Fatalf("project of %q: %v", s, err)
		}
	})
}

func FuzzReference(f *testing.F) {
	for _, s := range []string{"latest", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "", ":", ".x", "a:b", "sha512:00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ref.ParseReference(s)
		switch {
		case err != nil && (r.Tag != "" || !r.Digest.IsZero()):
			t.Fatalf("%q: %+v with %v", s, r, err)
		case err == nil && (r.String() != s || (r.Tag == "") == r.Digest.IsZero()):
			t.Fatalf("%q became %+v", s, r)
		case err == nil && r.Tag != "" && !tagGrammar.MatchString(s):
			t.Fatalf("%q is no tag", s)
		}
	})
}
