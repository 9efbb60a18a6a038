package distapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/access"
	"github.com/berth-registry/berth/server/distapi"
	"github.com/berth-registry/berth/server/httpd"
	"github.com/berth-registry/berth/server/registry"
)

// TestProblem is the whole table: kinds by reasons that occur with them.
func TestProblem(t *testing.T) {
	for _, c := range []struct {
		kind   fault.Kind
		reason fault.Reason
		want   httpd.Problem
	}{
		{fault.Invalid, fault.NameInvalid, httpd.Problem{Status: 400, Code: "NAME_INVALID"}},
		{fault.Invalid, fault.DigestInvalid, httpd.Problem{Status: 400, Code: "DIGEST_INVALID"}},
		{fault.Invalid, fault.ManifestInvalid, httpd.Problem{Status: 400, Code: "MANIFEST_INVALID"}},
		{fault.Invalid, fault.TagInvalid, httpd.Problem{Status: 400, Code: "MANIFEST_INVALID"}},
		{fault.Invalid, fault.SizeInvalid, httpd.Problem{Status: 400, Code: "SIZE_INVALID"}},
		{fault.Invalid, fault.BlobUploadInvalid, httpd.Problem{Status: 400, Code: "BLOB_UPLOAD_INVALID"}},
		{fault.Invalid, fault.PaginationInvalid, httpd.Problem{Status: 400, Code: "UNSUPPORTED"}},
		{fault.Invalid, "SOMETHING_NEW", httpd.Problem{Status: 400, Code: "UNSUPPORTED"}},
		{fault.Invalid, httpd.BodyStalled, httpd.Problem{Status: 408, Code: "BLOB_UPLOAD_INVALID"}},
		{fault.NotFound, fault.BlobUnknown, httpd.Problem{Status: 404, Code: "BLOB_UNKNOWN"}},
		{fault.NotFound, fault.BlobUploadUnknown, httpd.Problem{Status: 404, Code: "BLOB_UPLOAD_UNKNOWN"}},
		{fault.NotFound, fault.ManifestUnknown, httpd.Problem{Status: 404, Code: "MANIFEST_UNKNOWN"}},
		{fault.NotFound, fault.ManifestBlobUnknown, httpd.Problem{Status: 404, Code: "MANIFEST_BLOB_UNKNOWN"}},
		{fault.NotFound, fault.NameUnknown, httpd.Problem{Status: 404, Code: "NAME_UNKNOWN"}},
		{fault.Conflict, fault.BlobUploadInvalid, httpd.Problem{Status: 416, Code: "BLOB_UPLOAD_INVALID"}},
		{fault.Conflict, fault.Unknown, httpd.Problem{Status: 429, Code: "TOOMANYREQUESTS"}},
		{fault.Unauthenticated, fault.InsufficientScope, httpd.Problem{Status: 401, Code: "UNAUTHORIZED"}},
		{fault.Denied, "TAG_IMMUTABLE", httpd.Problem{Status: 403, Code: "DENIED"}},
		{fault.Denied, fault.NameInvalid, httpd.Problem{Status: 403, Code: "DENIED"}},
		{fault.TooLarge, fault.ManifestInvalid, httpd.Problem{Status: 413, Code: "MANIFEST_INVALID"}},
		{fault.TooLarge, httpd.HeaderTooLarge, httpd.Problem{Status: 431, Code: "SIZE_INVALID"}},
		{fault.RateLimited, "LOGIN_THROTTLED", httpd.Problem{Status: 429, Code: "TOOMANYREQUESTS"}},
		{fault.Unsupported, "READ_ONLY", httpd.Problem{Status: 405, Code: "UNSUPPORTED"}},
		{fault.Range, fault.RangeInvalid, httpd.Problem{Status: 416, Code: "BLOB_UPLOAD_INVALID"}},
		{fault.Range, fault.BlobUploadInvalid, httpd.Problem{Status: 416, Code: "BLOB_UPLOAD_INVALID"}},
		{fault.Unavailable, fault.UnavailableReason, httpd.Problem{Status: 503, Code: "UNAVAILABLE"}},
		{fault.Full, fault.StorageFull, httpd.Problem{Status: 507, Code: "STORAGE_FULL"}},
		{fault.Internal, fault.Unknown, httpd.Problem{Status: 500, Code: "UNKNOWN"}},
	} {
		if got := distapi.Problem(fault.New(c.kind, c.reason, "x")); got != c.want {
			t.Errorf("kind %d, %s: %+v, want %+v", c.kind, c.reason, got, c.want)
		}
	}
}

func TestMethods(t *testing.T) {
	r := newRoom(t, roomOptions{})
	d := r.push(t, "a/b", []byte("content"))
	for path, allow := range map[string]string{
		"/v2/": "GET, HEAD", "/v2/_catalog": "GET, HEAD", "/v2/_oci/ext/discover": "GET, HEAD", "/v2/a/b/tags/list": "GET, HEAD", "/v2/a/b/referrers/" + d: "GET, HEAD",
		"/v2/a/b/manifests/v1": "GET, HEAD, PUT, DELETE", "/v2/a/b/blobs/" + d: "GET, HEAD, DELETE", "/v2/a/b/blobs/uploads/": "POST", "/v2/a/b/blobs/uploads/x": "GET, HEAD, PATCH, PUT, DELETE",
	} {
		for _, method := range []string{"GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "PURGE"} {
			if slices.Contains(strings.Split(allow, ", "), method) {
				continue
			}
			a := r.do(t, method, path, nil)
			a.refused(t, http.StatusMethodNotAllowed, "UNSUPPORTED")
			if got := a.header.Get("Allow"); got != allow {
				t.Errorf("%s: Allow %q, want %q", a.what, got, allow)
			}
		}
	}
	for _, path := range []string{"/v2/x", "/v2//", "/v2/a/b", "/v2/_trust/x", "/v2/manifests/v1"} {
		r.do(t, http.MethodGet, path, nil).refused(t, http.StatusNotFound, "NAME_UNKNOWN")
	}
}

// TestRanges asks for parts of a blob from memory and of one from the store.
func TestRanges(t *testing.T) {
	r := newRoom(t, roomOptions{})
	for _, size := range []int{1000, 100_000} {
		content := bytes.Repeat([]byte("0123456789"), size/10)
		path := "/v2/a/b/blobs/" + r.push(t, "a/b", content)
		etag := r.do(t, http.MethodGet, path, nil).want(t, http.StatusOK).header.Get("Etag")
		for _, c := range []struct {
			header, ifRange string
			status          int
			from, to        int
		}{
			{"bytes=0-0", "", 206, 0, 1}, {"bytes=10-19", "", 206, 10, 20}, {fmt.Sprintf("bytes=%d-", size-5), "", 206, size - 5, size}, {"bytes=-7", "", 206, size - 7, size},
			{"bytes=10-9999999", "", 206, 10, size}, {"bytes=10-19", etag, 206, 10, 20}, {"bytes=10-19", `"other"`, 200, 0, size}, {"bytes=5-1", "", 200, 0, size}, {"bytes=0-1,4-5", "", 200, 0, size},
			{fmt.Sprintf("bytes=%d-", size), "", 416, 0, 0}, {"bytes=-0", "", 416, 0, 0},
		} {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				header := []string{"Range", c.header}
				if c.ifRange != "" {
					header = append(header, "If-Range", c.ifRange)
				}
				a := r.do(t, method, path, nil, header...).want(t, c.status)
				wantRange := map[int]string{206: fmt.Sprintf("bytes %d-%d/%d", c.from, c.to-1, size), 416: fmt.Sprintf("bytes */%d", size)}[c.status]
				if got := a.header.Get("Content-Range"); got != wantRange {
					t.Errorf("%s %s: Content-Range %q, want %q", a.what, c.header, got, wantRange)
				}
				if c.status == 416 {
					if method == http.MethodGet {
						a.refused(t, 416, "BLOB_UPLOAD_INVALID")
					}
					continue
				}
				if got := a.header.Get("Content-Length"); got != fmt.Sprint(c.to-c.from) {
					t.Errorf("%s %s: Content-Length %s", a.what, c.header, got)
				}
				if method == http.MethodGet && !bytes.Equal(a.body, content[c.from:c.to]) {
					t.Errorf("%s %s: other bytes", a.what, c.header)
				}
			}
		}
		a := r.do(t, http.MethodGet, path, nil, "If-None-Match", etag).want(t, http.StatusNotModified)
		if len(a.body) != 0 || a.header.Get("Etag") != etag {
			t.Errorf("%s: 304 with %d bytes and ETag %q", a.what, len(a.body), a.header.Get("Etag"))
		}
	}
}

// TestUpload sends chunks in and out of order, and ends what was cancelled.
func TestUpload(t *testing.T) {
	r := newRoom(t, roomOptions{})
	a := r.do(t, http.MethodPost, "/v2/a/b/blobs/uploads/", nil).want(t, http.StatusAccepted)
	at := a.header.Get("Location")
	if !strings.HasPrefix(at, "/v2/a/b/blobs/uploads/") || a.header.Get("Oci-Chunk-Min-Length") != fmt.Sprint(registry.MinChunk) || a.header.Get("Range") != "0-0" {
		t.Errorf("%s: %v", a.what, a.header)
	}
	r.do(t, http.MethodPatch, at, []byte("01234"), "Content-Range", "0-4").want(t, http.StatusAccepted)
	for _, out := range []string{"0-4", "6-10", "4-8"} {
		a := r.do(t, http.MethodPatch, at, []byte("56789"), "Content-Range", out)
		a.refused(t, http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID")
		if a.header.Get("Range") != "0-4" {
			t.Errorf("%s out of order: Range %q does not say where to go on", out, a.header.Get("Range"))
		}
	}
	r.do(t, http.MethodPatch, at, []byte("567"), "Content-Range", "5-9").refused(t, http.StatusBadRequest, "SIZE_INVALID")
	r.do(t, http.MethodPatch, at, []byte("567"), "Content-Range", "bytes 5-7/8").refused(t, http.StatusBadRequest, "BLOB_UPLOAD_INVALID")
	if a := r.do(t, http.MethodGet, at, nil).want(t, http.StatusNoContent); a.header.Get("Range") != "0-4" {
		t.Errorf("status: Range %q", a.header.Get("Range"))
	}
	r.do(t, http.MethodPut, at, []byte("56789")).refused(t, http.StatusBadRequest, "DIGEST_INVALID")
	r.do(t, http.MethodPut, at+"?digest=%zz", []byte("56789")).refused(t, http.StatusBadRequest, "UNSUPPORTED")
	const digest = "sha256:84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882" // of 0123456789
	done := r.do(t, http.MethodPut, at+"?digest="+digest, []byte("56789"), "Content-Range", "5-9").want(t, http.StatusCreated)
	if got := r.do(t, http.MethodGet, done.header.Get("Location"), nil).want(t, http.StatusOK); string(got.body) != "0123456789" {
		t.Errorf("pulled %q", got.body)
	}
	r.do(t, http.MethodGet, at, nil).refused(t, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")

	at = r.do(t, http.MethodPost, "/v2/a/b/blobs/uploads/", nil).want(t, http.StatusAccepted).header.Get("Location")
	r.as(t, "", http.MethodDelete, at, nil).refused(t, http.StatusUnauthorized, "UNAUTHORIZED")
	r.do(t, http.MethodDelete, at, nil).want(t, http.StatusNoContent)
	r.do(t, http.MethodPatch, at, []byte("x")).refused(t, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
}

// TestWhereLinksLead: relative, below a path, or absolute when the configuration insists.
func TestWhereLinksLead(t *testing.T) {
	for name, c := range map[string]struct {
		o    roomOptions
		want string
	}{
		"relative": {roomOptions{}, "/v2/"}, "prefix": {roomOptions{prefix: "/registry"}, "/registry/v2/"}, "absolute": {roomOptions{base: "https://registry.example.com"}, "https://registry.example.com/v2/"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoom(t, c.o)
			a := r.do(t, http.MethodPost, "/v2/a/b/blobs/uploads/", nil).want(t, http.StatusAccepted)
			if got := a.header.Get("Location"); !strings.HasPrefix(got, c.want+"a/b/blobs/uploads/") {
				t.Errorf("Location %q", got)
			}
			r.image(t, "a/b", "one", "")
			r.image(t, "a/b", "two", "")
			if got := r.do(t, http.MethodGet, "/v2/a/b/tags/list?n=1", nil).header.Get("Link"); got != "<"+c.want+`a/b/tags/list?last=one&n=1>; rel="next"` {
				t.Errorf("Link %q", got)
			}
		})
	}
}

// walk follows Link headers from path and returns all names, and how many pages they took.
func (r *room) walk(t *testing.T, path, key string) (names []string, pages int) {
	t.Helper()
	for path != "" {
		if pages++; pages > 100 {
			t.Fatal("pages without an end")
		}
		a := r.do(t, http.MethodGet, path, nil).want(t, http.StatusOK)
		var doc map[string]any
		if err := json.Unmarshal(a.body, &doc); err != nil {
			t.Fatal(err)
		}
		list, ok := doc[key].([]any)
		if !ok {
			t.Fatalf("%s: no list in %s", a.what, a.body)
		}
		for _, v := range list {
			if d, ok := v.(map[string]any); ok {
				v = d["digest"]
			}
			names = append(names, v.(string))
		}
		path, _, _ = strings.Cut(strings.TrimPrefix(a.header.Get("Link"), "<"), ">")
	}
	return names, pages
}

func TestPages(t *testing.T) {
	r := newRoom(t, roomOptions{limits: registry.Limits{Page: 4, Catalog: 3}})
	var tags []string
	subject := r.image(t, "a/b", "t00", "")
	for i := range 10 {
		tags = append(tags, fmt.Sprintf("t%02d", i))
		r.image(t, "a/b", tags[i], fmt.Sprintf(`,"annotations":{"n":"%d"}`, i))
	}
	var referrers []string
	for i := range 7 {
		referrers = append(referrers, r.image(t, "a/b", fmt.Sprintf("r%d", i), fmt.Sprintf(`,"artifactType":"a/kind","annotations":{"n":"%d"},"subject":{"mediaType":"x/y","digest":"%s","size":5}`, i, subject)))
	}
	slices.Sort(referrers)
	for i := range 7 {
		r.image(t, fmt.Sprintf("c%d/x", i), "v1", "")
	}
	all := append([]string{"r0", "r1", "r2", "r3", "r4", "r5", "r6"}, tags...)
	repos := []string{"a/b", "c0/x", "c1/x", "c2/x", "c3/x", "c4/x", "c5/x", "c6/x"}
	for _, c := range []struct {
		path, key string
		want      []string
		pages     int
	}{
		{"/v2/a/b/tags/list", "tags", all, 5}, {"/v2/a/b/tags/list?n=3", "tags", all, 6}, {"/v2/a/b/tags/list?n=17", "tags", all, 5}, {"/v2/a/b/tags/list?n=99999999999999999999", "tags", all, 5},
		{"/v2/a/b/tags/list?last=t07", "tags", []string{"t08", "t09"}, 1}, {"/v2/a/b/tags/list?last=zz", "tags", nil, 1}, {"/v2/a/b/tags/list?n=0", "tags", nil, 1},
		{"/v2/_catalog", "repositories", repos, 3}, {"/v2/_catalog?n=2", "repositories", repos, 4}, {"/v2/_catalog?n=2&last=c3/x", "repositories", repos[5:], 2},
		{"/v2/a/b/referrers/" + subject, "manifests", referrers, 1}, {"/v2/a/b/referrers/" + subject + "?n=2", "manifests", referrers, 4}, {"/v2/a/b/referrers/" + subject + "?n=3&artifactType=a/kind", "manifests", referrers, 3},
		{"/v2/a/b/referrers/" + subject + "?artifactType=b/kind", "manifests", nil, 1}, {"/v2/no/such/referrers/" + subject, "manifests", nil, 1},
	} {
		if got, pages := r.walk(t, c.path, c.key); !slices.Equal(got, c.want) || pages != c.pages {
			t.Errorf("%s: %v in %d pages, want %v in %d", c.path, got, pages, c.want, c.pages)
		}
	}
	for _, q := range []string{"n=-1", "n=x", "n=1.5", "n=%00", "last=%00", "last=%ff", "n=%zz", "n=1;last=x", "last=a%0ab"} {
		for _, path := range []string{"/v2/a/b/tags/list?", "/v2/_catalog?", "/v2/a/b/referrers/" + subject + "?"} {
			a := r.do(t, http.MethodGet, path+q, nil)
			if a.want(t, 400); a.header.Get("Link") != "" {
				t.Errorf("%s: a refusal with a Link", a.what)
			}
		}
	}
}

// TestWhoIsTold is rules R4 and R5: anonymous callers are asked to log in, users are told no, hidden projects are not
// there, and HEAD of a blob hides what a push would be told later.
func TestWhoIsTold(t *testing.T) {
	r := newRoom(t, roomOptions{anonymous: access.Pull, users: access.Pull})
	d := r.push(t, "private/app", []byte("content"))
	r.image(t, "private/app", "v1", "")
	manifest, blob, uploads := "/v2/private/app/manifests/v1", "/v2/private/app/blobs/"+d, "/v2/private/app/blobs/uploads/"

	for _, path := range []string{manifest, blob} {
		a := r.as(t, "", http.MethodGet, path, nil)
		a.refused(t, http.StatusUnauthorized, "UNAUTHORIZED")
		if got := a.header.Get("Www-Authenticate"); got != `Bearer realm="http://registry/token",service="",scope="repository:private/app:pull"` {
			t.Errorf("%s: challenge %s", a.what, got)
		}
		r.as(t, "bob", http.MethodGet, path, nil).want(t, http.StatusOK)
	}
	if got := r.as(t, "", http.MethodPost, uploads, nil).want(t, http.StatusUnauthorized).header.Get("Www-Authenticate"); !strings.Contains(got, `scope="repository:private/app:pull,push"`) {
		t.Errorf("challenge of a push: %s", got)
	}
	// bob may pull and no more; the message says who he is, before anything is sent.
	if message := r.as(t, "bob", http.MethodPost, uploads, nil).refused(t, http.StatusForbidden, "DENIED"); !strings.HasPrefix(message, "you are signed in as bob;") {
		t.Errorf("message %q", message)
	}
	r.as(t, "bob", http.MethodDelete, manifest, nil).refused(t, http.StatusForbidden, "DENIED")
	// His token for another repository is too narrow; he is not.
	a := r.as(t, "bob other/app", http.MethodGet, manifest, nil)
	a.refused(t, http.StatusUnauthorized, "UNAUTHORIZED")
	if !strings.Contains(a.header.Get("Www-Authenticate"), `scope="repository:private/app:pull"`) {
		t.Errorf("challenge %s", a.header.Get("Www-Authenticate"))
	}
	r.as(t, "bob other/app", http.MethodPost, uploads, nil).refused(t, http.StatusForbidden, "DENIED")

	// Users without any right do not learn that it is there.
	r = newRoom(t, roomOptions{users: access.None})
	d = r.push(t, "private/app", []byte("content"))
	r.image(t, "private/app", "v1", "")
	blob = "/v2/private/app/blobs/" + d
	hidden := r.as(t, "bob", http.MethodGet, manifest, nil).refused(t, http.StatusNotFound, "NAME_UNKNOWN")
	absent := r.as(t, "bob", http.MethodGet, "/v2/private/not/manifests/v1", nil).refused(t, http.StatusNotFound, "NAME_UNKNOWN")
	if strings.ReplaceAll(hidden, "private/app", "x") != strings.ReplaceAll(absent, "private/not", "x") {
		t.Errorf("hidden is told apart from absent:\n%s\n%s", hidden, absent)
	}
	r.as(t, "bob", http.MethodHead, blob, nil).want(t, http.StatusNotFound)
	r.as(t, "bob other/app", http.MethodHead, blob, nil).want(t, http.StatusNotFound)
	r.as(t, "", http.MethodHead, blob, nil).want(t, http.StatusUnauthorized)
	r.as(t, "admin", http.MethodHead, blob, nil).want(t, http.StatusOK)
}

// TestDecisions is rules R2, R3 and R6, as far as this registry decides yet.
func TestDecisions(t *testing.T) {
	r := newRoom(t, roomOptions{})
	r.image(t, "team/app", "7", "")
	r.image(t, "team/app", "8", "")
	if m := r.do(t, http.MethodGet, "/v2/team/app/manifests/9", nil).refused(t, http.StatusNotFound, "MANIFEST_UNKNOWN"); !strings.Contains(m, "8, 7") {
		t.Errorf("a missing tag does not name the newest: %q", m)
	}
	// docker repeats a POST that is refused with 400 for most of a minute.
	for _, name := range []string{"Team/app", "team//app", "team/app-", strings.Repeat("a", 256)} {
		r.do(t, http.MethodPost, "/v2/"+name+"/blobs/uploads/", nil).refused(t, http.StatusForbidden, "DENIED")
		r.do(t, http.MethodGet, "/v2/"+name+"/manifests/v1", nil).refused(t, http.StatusBadRequest, "NAME_INVALID")
	}
	r.do(t, http.MethodPut, "/v2/team/app/manifests/.x", []byte("{}")).refused(t, http.StatusBadRequest, "MANIFEST_INVALID")
	r.do(t, http.MethodGet, "/v2/team/app/manifests/.x", nil).refused(t, http.StatusNotFound, "MANIFEST_UNKNOWN")
	r.do(t, http.MethodDelete, "/v2/team/app/blobs/"+r.push(t, "team/app", []byte("{}")), nil).refused(t, http.StatusMethodNotAllowed, "UNSUPPORTED")

	keep := newRoom(t, roomOptions{noDelete: true})
	d := keep.image(t, "team/app", "v1", "")
	for _, path := range []string{"manifests/v1", "manifests/" + d, "blobs/" + d} {
		keep.do(t, http.MethodDelete, "/v2/team/app/"+path, nil).refused(t, http.StatusMethodNotAllowed, "UNSUPPORTED")
	}
	frozen := newRoom(t, roomOptions{readOnly: true})
	frozen.do(t, http.MethodPost, "/v2/team/app/blobs/uploads/", nil).refused(t, http.StatusMethodNotAllowed, "UNSUPPORTED")
	frozen.do(t, http.MethodPut, "/v2/team/app/manifests/v1", []byte("{}")).refused(t, http.StatusMethodNotAllowed, "UNSUPPORTED")
	frozen.do(t, http.MethodDelete, "/v2/team/app/manifests/v1", nil).refused(t, http.StatusMethodNotAllowed, "UNSUPPORTED")
}

// TestSearch is rule R12.
func TestSearch(t *testing.T) {
	r := newRoom(t, roomOptions{users: access.Pull})
	for _, repo := range []string{"team/alpine", "team/alpaca", "other/bird"} {
		r.image(t, repo, "v1", "")
	}
	a := r.as(t, "bob", http.MethodGet, "/v1/search?q="+url.QueryEscape("ALP")+"&n=10", nil).want(t, http.StatusOK)
	var doc struct {
		Num     int `json:"num_results"`
		Results []struct{ Name string }
	}
	if err := json.Unmarshal(a.body, &doc); err != nil || doc.Num != 2 || len(doc.Results) != 2 || !strings.Contains(doc.Results[0].Name, "team/alp") {
		t.Errorf("%s: %s (%v)", a.what, a.body, err)
	}
	r.as(t, "", http.MethodGet, "/v1/search?q=alp", nil).refused(t, http.StatusUnauthorized, "UNAUTHORIZED")
	r.as(t, "bob", http.MethodPost, "/v1/search?q=alp", nil).refused(t, http.StatusMethodNotAllowed, "UNSUPPORTED")
	r.as(t, "bob", http.MethodGet, "/v1/search?q=%00", nil).refused(t, http.StatusBadRequest, "UNSUPPORTED")
	r.as(t, "bob", http.MethodGet, "/v1/search?q="+strings.Repeat("a", 256), nil).refused(t, http.StatusBadRequest, "NAME_INVALID")
}

func TestDiscover(t *testing.T) {
	r := newRoom(t, roomOptions{})
	for _, prefix := range []string{"/v2/", "/v2/a/b/"} {
		a := r.do(t, http.MethodGet, prefix+"_oci/ext/discover", nil).want(t, http.StatusOK)
		if !bytes.Contains(a.body, []byte(`"endpoints":["`+prefix+`_oci/ext/discover"]`)) {
			t.Errorf("%s: %s", a.what, a.body)
		}
	}
}
