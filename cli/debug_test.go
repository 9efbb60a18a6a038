package cli_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/berth-registry/berth/cli"
)

// --debug shows what is asked and answered, and none of the secrets that pass: passwords, tokens, states of uploads, signed
// addresses.
func TestDebugNamesNoSecret(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Setenv("BERTH_BLOB_CACHE_DIR", t.TempDir())
	content := []byte("what is in the blob")
	sum := sha256.Sum256(content)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	const password, token, state, upload, signed, said = "SECRET-password", "SECRET-token", "SECRET-state", "SECRET-upload", "SECRET-signed", "SECRET-said"
	var host string
	var there atomic.Bool
	there.Store(true)
	asked := map[string]bool{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/token" {
			asked["token with "+r.Header.Get("Authorization")] = true
			_, _ = io.WriteString(w, `{"token":"`+token+`"}`)
			return
		}
		if r.URL.Path == "/store" {
			asked["store"] = r.URL.Query().Get("X-Amz-Signature") == signed
			_, _ = w.Write(content)
			return
		}
		if r.Header.Get("Authorization") != "Bearer "+token {
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+host+`/token",service="`+host+`"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Set-Cookie", "session="+said)
		switch {
		case r.Method == http.MethodPost:
			w.Header().Set("Location", "/v2/a/blobs/uploads/"+upload+"?_state="+state)
			w.WriteHeader(http.StatusAccepted)
		case r.Method == http.MethodPatch:
			w.Header().Set("Location", "/v2/a/blobs/uploads/"+upload+"?_state="+state)
			w.Header().Set("Range", "0-18")
			w.WriteHeader(http.StatusAccepted)
		case r.Method == http.MethodPut:
			asked["upload"] = r.URL.Query().Get("_state") == state
			w.WriteHeader(http.StatusCreated)
		case r.Method == http.MethodHead && there.Load():
			w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		case r.Method == http.MethodHead:
			w.WriteHeader(http.StatusNotFound)
		case strings.HasPrefix(r.URL.Path, "/v2/a/blobs/"):
			http.Redirect(w, r, "/store?X-Amz-Signature="+signed, http.StatusTemporaryRedirect)
		}
	}))
	defer srv.Close()
	host = strings.TrimPrefix(srv.URL, "http://")
	var out, errs bytes.Buffer
	for _, args := range [][]string{
		{"berth", "--debug", "blob", "get", "--tls-verify=false", "--creds", "u:" + password, host + "/a@" + digest},
		{"berth", "--debug", "blob", "put", "--tls-verify=false", "--creds", "u:" + password, host + "/a"},
	} {
		if code := cli.Main(args, cli.Streams{In: bytes.NewReader(content), Out: &out, Err: &errs}); code != 0 {
			t.Fatalf("%s: exit code %d\n%s", args[2:4], code, &errs)
		}
		there.Store(false)
	}
	basic := base64.StdEncoding.EncodeToString([]byte("u:" + password))
	if !asked["token with Basic "+basic] || !asked["store"] || !asked["upload"] {
		t.Fatalf("the secrets did not pass: %v", asked)
	}
	for _, secret := range []string{"SECRET", basic} {
		if strings.Contains(errs.String(), secret) {
			t.Errorf("%s is shown:\n%s", secret, &errs)
		}
	}
	for _, want := range []string{
		"> GET http://" + host + "/v2/a/blobs/" + digest, "< 401 Unauthorized", "/token?", "Authorization: Basic ***", "Authorization: Bearer ***",
		"< 307 ", "/store?X-Amz-Signature=***", "> POST ", "/blobs/uploads/***?", "_state=***", "< 201 Created",
	} {
		if !strings.Contains(errs.String(), want) {
			t.Errorf("%q is not shown:\n%s", want, &errs)
		}
	}
}
