package distapi_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/access"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/mem"
)

// elsewhere is a store whose content can be had from another server.
type elsewhere struct {
	blob.Store
	err error
}

func (e *elsewhere) URL(_ context.Context, d oci.Digest) (string, error) {
	return "https://bucket.example.com/" + d.Hex() + "?X-Signature=abc", e.err
}

// GET of a large blob leads to the store; everything else is answered here.
func TestRedirect(t *testing.T) {
	store := &elsewhere{Store: mem.New()}
	r := newRoom(t, roomOptions{blobs: store, redirect: true, anonymous: access.None})
	r.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	large := []byte(strings.Repeat("large", 10_000))
	d := r.push(t, "library/app", large)
	small := r.push(t, "library/app", []byte("small"))
	path := "/v2/library/app/blobs/" + d
	want := "https://bucket.example.com/" + strings.TrimPrefix(d, "sha256:") + "?X-Signature=abc"

	for _, header := range [][]string{nil, {"Range", "bytes=10-20"}} {
		a := r.do(t, http.MethodGet, path, nil, header...).want(t, http.StatusTemporaryRedirect)
		if a.header.Get("Location") != want || len(a.body) != 0 || a.header.Get("Docker-Content-Digest") != d {
			t.Errorf("%v: %v", header, a.header)
		}
		if a.header.Get("Cache-Control") != "no-store" || a.header.Get("Etag") != "" {
			t.Errorf("%v: an address that is good for minutes may be remembered: %v", header, a.header)
		}
	}
	head := r.do(t, http.MethodHead, path, nil).want(t, http.StatusOK)
	if head.header.Get("Content-Length") != "50000" || head.header.Get("Location") != "" {
		t.Errorf("HEAD: %v", head.header)
	}
	r.do(t, http.MethodGet, path, nil, "If-None-Match", `"`+d+`"`).want(t, http.StatusNotModified)
	if a := r.do(t, http.MethodGet, "/v2/library/app/blobs/"+small, nil).want(t, http.StatusOK); string(a.body) != "small" {
		t.Errorf("a small blob: %q", a.body)
	}
	if a := r.as(t, "", http.MethodGet, path, nil); a.status == http.StatusTemporaryRedirect {
		t.Error("somebody who may not pull was redirected")
	}
	r.do(t, http.MethodGet, "/v2/library/app/blobs/sha256:"+strings.Repeat("0", 64), nil).want(t, http.StatusNotFound)

	store.err = errors.New("no credentials")
	if a := r.do(t, http.MethodGet, path, nil).want(t, http.StatusInternalServerError); strings.Contains(string(a.body), "credentials") {
		t.Errorf("the cause is shown: %s", a.body)
	}
	store.err = nil

	off := newRoom(t, roomOptions{blobs: &elsewhere{Store: mem.New()}})
	off.push(t, "library/app", large)
	if a := off.do(t, http.MethodGet, path, nil).want(t, http.StatusOK); string(a.body) != string(large) {
		t.Errorf("with redirects off: %d bytes", len(a.body))
	}
}
