package distapi

import (
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci/ref"
)

func TestParseRoute(t *testing.T) {
	for path, want := range map[string]route{
		"/v2":                             {kind: kindBase},
		"/v2/":                            {kind: kindBase},
		"/v2/_catalog":                    {kind: kindCatalog},
		"/v2/_oci/ext/discover":           {kind: kindExtensions},
		"/v2/a/_oci/ext/discover":         {kind: kindExtensions, name: name(t, "a")},
		"/v2/a/tags/list":                 {kind: kindTags, name: name(t, "a")},
		"/v2/a/b/c/tags/list":             {kind: kindTags, name: name(t, "a/b/c")},
		"/v2/a/manifests/v1":              {kind: kindManifest, name: name(t, "a"), last: "v1"},
		"/v2/a/manifests/":                {kind: kindManifest, name: name(t, "a")},
		"/v2/a/blobs/sha256:x":            {kind: kindBlob, name: name(t, "a"), last: "sha256:x"},
		"/v2/a/referrers/sha256:x":        {kind: kindReferrers, name: name(t, "a"), last: "sha256:x"},
		"/v2/a/blobs/uploads":             {kind: kindUploads, name: name(t, "a")},
		"/v2/a/blobs/uploads/":            {kind: kindUploads, name: name(t, "a")},
		"/v2/a/blobs/uploads/id":          {kind: kindUpload, name: name(t, "a"), last: "id"},
		"/v2/tags/tags/list":              {kind: kindTags, name: name(t, "tags")},
		"/v2/a/manifests/b/manifests/v1":  {kind: kindManifest, name: name(t, "a/manifests/b"), last: "v1"},
		"/v2/a/tags/list/manifests/v1":    {kind: kindManifest, name: name(t, "a/tags/list"), last: "v1"},
		"/v2/a/blobs/uploads/b/tags/list": {kind: kindTags, name: name(t, "a/blobs/uploads/b")},
		"/v2/manifests/blobs/uploads/":    {kind: kindUploads, name: name(t, "manifests")},
		"/v2/_catalog/manifests/v1":       {}, // a name may not begin with _
		"/v2/a":                           {},
		"/v2/a/manifests":                 {},
		"/v2/a/blobs":                     {},
		"/v2/manifests/v1":                {},
		"/v2//tags/list":                  {},
		"/v2/A/tags/list":                 {},
		"/v2/a/../b/tags/list":            {},
		"/v3/a/tags/list":                 {},
		"":                                {},
	} {
		got, err := parseRoute(path, "")
		if (err != nil) != (want == route{}) || err == nil && got != want {
			t.Errorf("%s: %+v, %v; want %+v", path, got, err, want)
		}
	}
	if _, err := parseRoute("/v2/a/b/tags/list", "/v2/a%2Fb/tags/list"); !fault.Has(err, fault.NameInvalid) {
		t.Errorf("an encoded slash: %v", err)
	}
}

// TestRoutes: every resource has a path, which is one of its kind, a name for metrics, and the methods that it answers.
func TestRoutes(t *testing.T) {
	for k := kindBase; k < kinds; k++ {
		r := resources[k]
		path := strings.NewReplacer("{name}", "team/app", "{reference}", "v1", "{digest}", "sha256:00", "{id}", "x").Replace(r.path)
		if rt, err := parseRoute(path, ""); err != nil || rt.kind != k || r.label == "" || r.methods == "" || strings.Contains(path, "{") {
			t.Errorf("kind %d, %+v: %+v, %v", k, r, rt, err)
		}
	}
	seen := map[Route]bool{}
	for _, r := range Routes() {
		if seen[r] || r.Method == "" {
			t.Errorf("%+v is there twice, or empty", r)
		}
		seen[r] = true
	}
	if len(seen) < 36 || resources[kindBase].path != "/v2/" {
		t.Errorf("%d routes, and the first resource is %+v", len(seen), resources[kindBase])
	}
}

func name(t *testing.T, s string) ref.Name {
	t.Helper()
	n, err := ref.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// FuzzRoute: whatever the path, it is refused as the caller's mistake, or it names a repository in the grammar, and
// another path is written from its parts that means the same.
func FuzzRoute(f *testing.F) {
	for _, p := range []string{
		"/v2/", "/v2/_catalog", "/v2/a/tags/list", "/v2/a/manifests/b/manifests/v1", "/v2/a/blobs/uploads/", "/v2/a/blobs/uploads/x", "/v2/../etc/passwd", "/v2/a%2fb/tags/list",
		"/v2/a\x00/blobs/sha256:x", "/v2/a/_oci/ext/discover", "/v2/blobs/uploads/blobs/uploads/",
	} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, path string) {
		rt, err := parseRoute(path, path)
		if err != nil {
			if k := fault.Of(err).Kind; k != fault.Invalid && k != fault.NotFound {
				t.Fatalf("%q: %v is no mistake of the caller", path, err)
			}
			return
		}
		again := "/v2/"
		if !rt.name.IsZero() {
			if _, err := ref.ParseName(rt.name.String()); err != nil {
				t.Fatalf("%q: name %q: %v", path, rt.name, err)
			}
			again += rt.name.String() + "/"
		}
		again += map[kind]string{
			kindCatalog: "_catalog", kindExtensions: "_oci/ext/discover", kindTags: "tags/list", kindManifest: "manifests/", kindReferrers: "referrers/", kindBlob: "blobs/",
			kindUploads: "blobs/uploads/", kindUpload: "blobs/uploads/",
		}[rt.kind] + rt.last
		if back, err := parseRoute(again, again); err != nil || back != rt {
			t.Fatalf("%q is %+v, and %q is %+v, %v", path, rt, again, back, err)
		}
		if strings.Contains(rt.last, "/") || resources[rt.kind].label == "" || resources[rt.kind].methods == "" {
			t.Fatalf("%q: %+v", path, rt)
		}
	})
}

func TestParseRange(t *testing.T) {
	const size = 100
	for header, want := range map[string]struct {
		start, length int64
		partial       bool
		refused       bool
	}{
		"bytes=0-9":                     {0, 10, true, false},
		"bytes=90-":                     {90, 10, true, false},
		"bytes=-10":                     {90, 10, true, false},
		"bytes=-1000":                   {0, 100, true, false},
		"bytes=0-":                      {0, 100, true, false},
		"bytes=99-99":                   {99, 1, true, false},
		"bytes=50-1000":                 {50, 50, true, false},
		"bytes=50-99999999999999999999": {50, 50, true, false},
		"bytes=100-":                    {0, 100, false, true},
		"bytes=100-200":                 {0, 100, false, true},
		"bytes=99999999999999999999-":   {0, 100, false, true},
		"bytes=-0":                      {0, 100, false, true},
		"bytes=9-0":                     {0, 100, false, false}, // RFC 9110, 14.1.1: invalid, so ignored
		"bytes=0-1,5-6":                 {0, 100, false, false},
		"bytes=-":                       {0, 100, false, false},
		"bytes=":                        {0, 100, false, false},
		"bytes=a-b":                     {0, 100, false, false},
		"bytes=+1-2":                    {0, 100, false, false},
		"lines=0-1":                     {0, 100, false, false},
		"":                              {0, 100, false, false},
	} {
		s, partial, err := parseRange(header, size)
		if s != (span{want.start, want.length}) || partial != want.partial || fault.Is(err, fault.Range) != want.refused || (err != nil) != want.refused {
			t.Errorf("%q: %+v %v %v, want %+v", header, s, partial, err, want)
		}
	}
	if _, _, err := parseRange("bytes=-5", 0); !fault.Is(err, fault.Range) {
		t.Errorf("the last bytes of nothing: %v", err)
	}
}

// FuzzRange: what is sent always lies inside the content, and a part is never empty.
func FuzzRange(f *testing.F) {
	for _, h := range []string{"bytes=0-9", "bytes=-5", "bytes=5-", "bytes=9-0", "bytes=-", "bytes=0-0,1-1", "bytes=9223372036854775807-", "bytes=-9223372036854775808", "x"} {
		f.Add(h, int64(10))
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		s, partial, err := parseRange(header, size)
		if s.start < 0 || s.length < 0 || s.start > size || s.length > size-s.start {
			t.Fatalf("%q of %d: %+v", header, size, s)
		}
		if partial && (err != nil || s.length == 0) || !partial && s != (span{0, size}) {
			t.Fatalf("%q of %d: %+v partial %v, %v", header, size, s, partial, err)
		}
	})
}

func TestChunk(t *testing.T) {
	for v, want := range map[string][2]int64{"0-9": {0, 10}, "5-14": {5, 10}, "000-009": {0, 10}, "9223372036854775797-9223372036854775806": {math.MaxInt64 - 10, 10}} {
		c, err := chunk(&http.Request{Header: http.Header{"Content-Range": {v}}, ContentLength: 10})
		if err != nil || c.Start != want[0] || c.Length != want[1] {
			t.Errorf("%q: %+v, %v", v, c, err)
		}
	}
	for v, reason := range map[string]fault.Reason{
		"0-4": fault.SizeInvalid, "0-19": fault.SizeInvalid, "bytes 0-9/10": fault.BlobUploadInvalid, "9-0": fault.BlobUploadInvalid, "0-": fault.BlobUploadInvalid, "-9": fault.BlobUploadInvalid,
		"0-9-9": fault.BlobUploadInvalid, "0 - 9": fault.BlobUploadInvalid, "0-9223372036854775807": fault.BlobUploadInvalid, "x": fault.BlobUploadInvalid,
	} {
		if _, err := chunk(&http.Request{Header: http.Header{"Content-Range": {v}}, ContentLength: 10}); !fault.Has(err, reason) || !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v, want %s", v, err, reason)
		}
	}
	if c, err := chunk(&http.Request{Header: http.Header{"Content-Range": {"7-9"}}, ContentLength: -1}); err != nil || c.Length != 3 {
		t.Errorf("a body without a length: %+v, %v", c, err)
	}
	if c, err := chunk(&http.Request{ContentLength: 5}); err != nil || c.Start != -1 || c.Length != 5 {
		t.Errorf("no range: %+v, %v", c, err)
	}
}

// FuzzContentRange: what is accepted has the form of the specification, at least one byte, and an end that can be
// reckoned with.
func FuzzContentRange(f *testing.F) {
	for _, v := range []string{"0-9", "5-4", "-", "0-9223372036854775807", "9223372036854775807-9223372036854775807", "bytes 0-9/10", "1-2-3"} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v string) {
		start, length, ok := contentRange(v)
		if !ok {
			return
		}
		first, last, _ := strings.Cut(v, "-")
		if strings.Trim(first, "0123456789") != "" || strings.Trim(last, "0123456789") != "" || first == "" || last == "" {
			t.Fatalf("%q is accepted", v)
		}
		if start < 0 || length < 1 || start > math.MaxInt64-length {
			t.Fatalf("%q: %d bytes from %d", v, length, start)
		}
	})
}
