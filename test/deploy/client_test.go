package deploy_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

const (
	manifestType  = "application/vnd.oci.image.manifest.v1+json"
	adminPassword = "deploy-9RtB-Kd2x"
)

// docker is a client that goes about as docker does: ping, token of the realm that the ping named, uploads as one PATCH
// without a length to the Location that the registry gave, redirects and locations followed.
type docker struct {
	http *http.Client
	base string // https://host:port
}

// login asks for a token for pushing to repository, as it is told to in the challenge, and returns the realm too.
func (d docker) login(t testing.TB, repository string) (token, realm string) {
	t.Helper()
	resp, err := d.http.Get(d.base + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	challenge := resp.Header.Get("WWW-Authenticate")
	_, realm, _ = strings.Cut(challenge, `realm="`)
	realm, _, _ = strings.Cut(realm, `"`)
	if resp.StatusCode != http.StatusUnauthorized || realm == "" {
		t.Fatalf("GET /v2/: %s, challenge %q", resp.Status, challenge)
	}
	req, err := http.NewRequest(http.MethodGet, realm+"?service=berth&scope="+url.QueryEscape("repository:"+repository+":pull,push"), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("admin", adminPassword)
	answer := struct{ Token string }{}
	status, _, body := d.send(t, req)
	if err := json.Unmarshal(body, &answer); err != nil || status != http.StatusOK || answer.Token == "" {
		t.Fatalf("token of %s: %d\n%s", realm, status, body)
	}
	return answer.Token, realm
}

func (d docker) send(t testing.TB, req *http.Request) (int, http.Header, []byte) {
	t.Helper()
	resp, err := d.http.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	return resp.StatusCode, resp.Header, body
}

func (d docker) call(t testing.TB, token, method, path string, body io.Reader, contentType string, want int) (http.Header, []byte) {
	t.Helper()
	address := path
	if strings.HasPrefix(path, "/") {
		address = d.base + path
	}
	req, err := http.NewRequest(method, address, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	status, header, content := d.send(t, req)
	if status != want {
		t.Fatalf("%s %s: %d, want %d\n%s", method, path, status, want, content)
	}
	return header, content
}

// stream hides the length of a body, so that it goes as docker sends layers: in chunks.
type stream struct{ io.Reader }

// pushBlob uploads in two PATCHes and a PUT, each of which may meet another replica.
func (d docker) pushBlob(t testing.TB, token, repository string, content []byte) string {
	t.Helper()
	digest := digestOf(content)
	header, _ := d.call(t, token, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", nil, "", http.StatusAccepted)
	half := len(content) / 2
	for _, part := range [][]byte{content[:half], content[half:]} {
		header, _ = d.call(t, token, http.MethodPatch, d.location(t, header), stream{bytes.NewReader(part)}, "application/octet-stream", http.StatusAccepted)
	}
	location := d.location(t, header)
	separator := "?"
	if strings.Contains(location, "?") {
		separator = "&"
	}
	d.call(t, token, http.MethodPut, location+separator+"digest="+url.QueryEscape(digest), nil, "", http.StatusCreated)
	return digest
}

// location is where the registry sends the client: never past the load balancer.
func (d docker) location(t testing.TB, header http.Header) string {
	t.Helper()
	location := header.Get("Location")
	if !strings.HasPrefix(location, "/") && !strings.HasPrefix(location, d.base+"/") {
		t.Fatalf("Location %q does not lead back to %s", location, d.base)
	}
	return location
}

// pushPull pushes an image with a layer of size bytes, and pulls it again.
func (d docker) pushPull(t testing.TB, repository, tag string, size int) {
	t.Helper()
	token, realm := d.login(t, repository)
	if !strings.HasPrefix(realm, d.base+"/") {
		t.Errorf("realm %q is not at %s", realm, d.base)
	}
	layer := make([]byte, size)
	_, _ = rand.Read(layer) // never fails
	config := []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["` + digestOf(layer) + `"]}}`)
	manifest := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},`+
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]}`,
		manifestType, d.pushBlob(t, token, repository, config), len(config), d.pushBlob(t, token, repository, layer), size)
	d.call(t, token, http.MethodPut, "/v2/"+repository+"/manifests/"+tag, bytes.NewReader(manifest), manifestType, http.StatusCreated)

	if _, got := d.call(t, token, http.MethodGet, "/v2/"+repository+"/manifests/"+tag, nil, "", http.StatusOK); !bytes.Equal(got, manifest) {
		t.Errorf("pulled manifest differs:\n%s", got)
	}
	if _, got := d.call(t, token, http.MethodGet, "/v2/"+repository+"/blobs/"+digestOf(layer), nil, "", http.StatusOK); digestOf(got) != digestOf(layer) {
		t.Errorf("pulled layer of %d bytes has digest %s", len(got), digestOf(got))
	}
}

// layerOf is the digest of the only layer of a manifest.
func layerOf(t testing.TB, manifest []byte) string {
	t.Helper()
	var m struct{ Layers []struct{ Digest string } }
	if err := json.Unmarshal(manifest, &m); err != nil || len(m.Layers) != 1 {
		t.Fatalf("%v\n%s", err, manifest)
	}
	return m.Layers[0].Digest
}

func digestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}
