package distapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/berth-registry/berth/server/access"
	"github.com/berth-registry/berth/server/registry"
)

// signed is a signature as podman puts it.
func signed(digest, name string, content []byte) []byte {
	b, _ := json.Marshal(map[string]any{"schemaVersion": 2, "name": digest + "@" + name, "type": "atomic", "content": content})
	return b
}

func name(n int) string { return fmt.Sprintf("%032x", n) }

// TestSignatures: what is put comes back by both ways, in order, to who may pull, and only to them.
func TestSignatures(t *testing.T) {
	r := newRoom(t, roomOptions{anonymous: access.Pull, users: access.Push})
	d := r.image(t, "library/app", "1", "")
	r.image(t, "team/app", "1", "")
	path := "/extensions/v2/library/app/signatures/" + d
	web := "/lookaside/library/app@" + strings.Replace(d, ":", "=", 1) + "/signature-"

	if a := r.as(t, "", http.MethodGet, "/v2/", nil); a.header.Get("X-Registry-Supports-Signatures") != "1" {
		t.Errorf("the version check does not announce signatures: %v", a.header)
	}
	if a := r.do(t, http.MethodGet, path, nil).want(t, http.StatusOK); strings.TrimSpace(string(a.body)) != `{"signatures":[]}` {
		t.Errorf("none: %s", a.body)
	}
	r.do(t, http.MethodGet, web+"1", nil).refused(t, http.StatusNotFound, "MANIFEST_UNKNOWN")
	r.do(t, http.MethodPut, path, signed(d, name(2), []byte("first"))).want(t, http.StatusCreated)
	r.as(t, "alice", http.MethodPut, path, signed(d, name(1), []byte{0, 255})).want(t, http.StatusCreated)
	r.do(t, http.MethodPut, path, signed(d, name(2), []byte("first"))).want(t, http.StatusCreated)
	r.do(t, http.MethodPut, path, signed(d, name(2), []byte("other"))).refused(t, http.StatusBadRequest, "UNSUPPORTED")

	var got struct {
		Signatures []struct {
			SchemaVersion int
			Name, Type    string
			Content       []byte
		}
	}
	if err := json.Unmarshal(r.as(t, "", http.MethodGet, path, nil).want(t, http.StatusOK).body, &got); err != nil || len(got.Signatures) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	if s := got.Signatures[0]; s.SchemaVersion != 2 || s.Name != d+"@"+name(2) || s.Type != "atomic" || string(s.Content) != "first" {
		t.Errorf("first: %+v", s)
	}
	if a := r.as(t, "", http.MethodGet, web+"1", nil).want(t, http.StatusOK); string(a.body) != "first" {
		t.Errorf("signature-1: %q", a.body)
	}
	if a := r.as(t, "", http.MethodGet, web+"2", nil).want(t, http.StatusOK); string(a.body) != "\x00\xff" {
		t.Errorf("signature-2: %q", a.body)
	}
	r.as(t, "", http.MethodHead, web+"2", nil).want(t, http.StatusOK)
	r.as(t, "", http.MethodGet, web+"3", nil).refused(t, http.StatusNotFound, "MANIFEST_UNKNOWN")

	// Another repository has its own, also of the same digest.
	if a := r.do(t, http.MethodGet, "/extensions/v2/team/app/signatures/"+d, nil).want(t, http.StatusOK); strings.Contains(string(a.body), "content") {
		t.Errorf("signatures of another repository: %s", a.body)
	}
	r.as(t, "", http.MethodPut, path, signed(d, name(3), []byte("x"))).want(t, http.StatusUnauthorized)
	r.as(t, "", http.MethodGet, "/extensions/v2/team/app/signatures/"+d, nil).want(t, http.StatusUnauthorized)
	r.as(t, "", http.MethodGet, "/lookaside/team/app@"+strings.Replace(d, ":", "=", 1)+"/signature-1", nil).want(t, http.StatusUnauthorized)

	r.do(t, http.MethodDelete, "/v2/library/app/manifests/"+d, nil).want(t, http.StatusAccepted)
	r.do(t, http.MethodGet, path, nil).refused(t, http.StatusNotFound, "MANIFEST_UNKNOWN")
	r.image(t, "library/app", "1", "")
	if a := r.do(t, http.MethodGet, path, nil).want(t, http.StatusOK); strings.Contains(string(a.body), "content") {
		t.Errorf("signatures outlive their manifest: %s", a.body)
	}
}

// TestSignaturesRefused: what is no signature, no path or too much is refused, and nothing of it is kept.
func TestSignaturesRefused(t *testing.T) {
	r := newRoom(t, roomOptions{})
	d := r.image(t, "library/app", "1", "")
	path := "/extensions/v2/library/app/signatures/" + d
	absent := "sha256:" + strings.Repeat("0", 64)
	big := make([]byte, registry.MaxSignatureBytes+1)

	for what, c := range map[string]struct {
		path   string
		body   []byte
		status int
		code   string
	}{
		"absent manifest":    {"/extensions/v2/library/app/signatures/" + absent, signed(absent, name(1), []byte("x")), 404, "MANIFEST_UNKNOWN"},
		"absent repository":  {"/extensions/v2/library/none/signatures/" + d, signed(d, name(1), []byte("x")), 404, "NAME_UNKNOWN"},
		"not JSON":           {path, []byte("{"), 400, "UNSUPPORTED"},
		"empty body":         {path, nil, 400, "UNSUPPORTED"},
		"a list":             {path, []byte("[]"), 400, "UNSUPPORTED"},
		"other version":      {path, []byte(`{"schemaVersion":1,"type":"atomic","name":"` + d + "@" + name(1) + `","content":"eA=="}`), 400, "UNSUPPORTED"},
		"other type":         {path, []byte(`{"schemaVersion":2,"type":"x","name":"` + d + "@" + name(1) + `","content":"eA=="}`), 400, "UNSUPPORTED"},
		"content no base64":  {path, []byte(`{"schemaVersion":2,"type":"atomic","name":"` + d + "@" + name(1) + `","content":"%"}`), 400, "UNSUPPORTED"},
		"content a list":     {path, []byte(`{"schemaVersion":2,"type":"atomic","name":"` + d + "@" + name(1) + `","content":[1]}`), 400, "UNSUPPORTED"},
		"no content":         {path, signed(d, name(1), nil), 400, "SIZE_INVALID"},
		"too large":          {path, signed(d, name(1), big), 413, "SIZE_INVALID"},
		"name of another":    {path, signed(absent, name(1), []byte("x")), 400, "DIGEST_INVALID"},
		"name too short":     {path, signed(d, "abc", []byte("x")), 400, "NAME_INVALID"},
		"name in upper case": {path, signed(d, strings.Repeat("A", 32), []byte("x")), 400, "NAME_INVALID"},
		"name of a path":     {path, signed(d, "../../../../../../../../etc/pass", []byte("x")), 400, "NAME_INVALID"},
	} {
		t.Run(what, func(t *testing.T) {
			a := r.do(t, http.MethodPut, c.path, c.body)
			a.refused(t, c.status, c.code)
		})
	}
	if a := r.do(t, http.MethodGet, path, nil).want(t, http.StatusOK); strings.Contains(string(a.body), "content") {
		t.Errorf("something was kept: %s", a.body)
	}

	equals := strings.Replace(d, ":", "=", 1)
	for _, p := range []string{
		"/extensions/v2/", "/extensions/v2/library/app", "/extensions/v2/library/app/signatures", "/extensions/v2/library/app/manifests/1",
		"/lookaside/", "/lookaside/library/app", "/lookaside/library/app@" + equals, "/lookaside/library/app/signature-1",
		"/lookaside/library/app@" + equals + "/signature-0", "/lookaside/library/app@" + equals + "/signature-01", "/lookaside/library/app@" + equals + "/signature--1",
		"/lookaside/library/app@" + equals + "/signature-99999999999999999999", "/lookaside/library/app@" + equals + "/signature-1/x",
	} {
		r.do(t, http.MethodGet, p, nil).want(t, http.StatusNotFound)
	}
	for p, code := range map[string]string{
		"/extensions/v2/library/app/signatures/sha256:abc":        "DIGEST_INVALID",
		"/extensions/v2/library/app/signatures/" + equals:         "DIGEST_INVALID",
		"/extensions/v2/Library/app/signatures/" + d:              "NAME_INVALID",
		"/extensions/v2/library/../app/signatures/" + d:           "NAME_INVALID",
		"/extensions/v2/library%2Fapp/signatures/" + d:            "NAME_INVALID",
		"/lookaside/library/app@" + d + "/signature-1":            "DIGEST_INVALID",
		"/lookaside/library/..%2f..@" + equals + "/signature-1":   "NAME_INVALID",
		"/lookaside/a@b@" + equals + "/signature-1":               "NAME_INVALID",
		"/lookaside/library/app@sha256=" + "ABC" + "/signature-1": "DIGEST_INVALID",
	} {
		r.do(t, http.MethodGet, p, nil).refused(t, http.StatusBadRequest, code)
	}
	a := r.do(t, http.MethodDelete, path, nil).want(t, http.StatusMethodNotAllowed)
	if a.header.Get("Allow") != "GET, HEAD, PUT" {
		t.Errorf("Allow: %q", a.header.Get("Allow"))
	}
	r.do(t, http.MethodPut, "/lookaside/library/app@"+equals+"/signature-1", []byte("x")).want(t, http.StatusMethodNotAllowed)
}

// TestSignaturesBounded: a manifest takes so many signatures and no more.
func TestSignaturesBounded(t *testing.T) {
	r := newRoom(t, roomOptions{})
	d := r.image(t, "library/app", "1", "")
	path := "/extensions/v2/library/app/signatures/" + d
	for i := range registry.MaxSignatures {
		r.do(t, http.MethodPut, path, signed(d, name(i), []byte("x"))).want(t, http.StatusCreated)
	}
	r.do(t, http.MethodPut, path, signed(d, name(registry.MaxSignatures), []byte("x"))).want(t, http.StatusRequestEntityTooLarge)
	r.do(t, http.MethodPut, path, signed(d, name(7), []byte("x"))).want(t, http.StatusCreated)

	only := newRoom(t, roomOptions{readOnly: true})
	only.do(t, http.MethodPut, path, signed(d, name(1), []byte("x"))).want(t, http.StatusMethodNotAllowed)
}

// TestAttached: who asks with HEAD is told whether anything belongs to a manifest, by whichever way it got there; others are not.
func TestAttached(t *testing.T) {
	r := newRoom(t, roomOptions{anonymous: access.Pull})
	says := func(repo, at string) string {
		t.Helper()
		a := r.as(t, "", http.MethodHead, "/v2/"+repo+"/manifests/"+at, nil, "Berth-Attached", "?").want(t, http.StatusOK)
		return a.header.Get("Berth-Attached")
	}
	plain := r.image(t, "library/app", "plain", "")
	if got := says("library/app", "plain") + " " + says("library/app", plain); got != "none none" {
		t.Errorf("an image with nothing: %s", got)
	}
	for _, a := range []*reply{r.as(t, "", http.MethodHead, "/v2/library/app/manifests/plain", nil), r.as(t, "", http.MethodGet, "/v2/library/app/manifests/plain", nil, "Berth-Attached", "?")} {
		if got := a.want(t, http.StatusOK).header.Get("Berth-Attached"); got != "" {
			t.Errorf("nobody asked, and the answer is %q", got)
		}
	}
	signedOne := r.image(t, "library/signed", "1", "")
	r.do(t, http.MethodPut, "/extensions/v2/library/signed/signatures/"+signedOne, signed(signedOne, name(1), []byte("x"))).want(t, http.StatusCreated)
	if got := says("library/signed", "1"); got != "some" {
		t.Errorf("a signed image: %s", got)
	}
	subject := r.image(t, "library/subject", "1", "")
	r.image(t, "library/subject", "other", `,"subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"`+subject+`","size":100},"annotations":{"a":"b"}`)
	if got := says("library/subject", "1"); got != "some" {
		t.Errorf("an image with a referrer: %s", got)
	}
	old := r.image(t, "library/old", "1", "")
	r.image(t, "library/old", strings.Replace(old, ":", "-", 1), "")
	if got := says("library/old", "1"); got != "some" {
		t.Errorf("an image with a fallback tag: %s", got)
	}
	r.as(t, "", http.MethodHead, "/v2/team/none/manifests/1", nil, "Berth-Attached", "?").want(t, http.StatusUnauthorized)
}
