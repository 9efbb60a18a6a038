package conformance_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// The media types that the checks use, of the OCI image specification and of Docker.
const (
	imageType       = "application/vnd.oci.image.manifest.v1+json"
	indexType       = "application/vnd.oci.image.index.v1+json"
	configType      = "application/vnd.oci.image.config.v1+json"
	layerType       = "application/vnd.oci.image.layer.v1.tar+gzip"
	emptyType       = "application/vnd.oci.empty.v1+json"
	dockerImageType = "application/vnd.docker.distribution.manifest.v2+json"
	dockerListType  = "application/vnd.docker.distribution.manifest.list.v2+json"
)

type descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int               `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	URLs         []string          `json:"urls,omitempty"`
}

// image is an image manifest; layers is always written, as the image specification asks.
type image struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType,omitempty"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        descriptor        `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Subject       *descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

type index struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType,omitempty"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Manifests     []descriptor      `json:"manifests"`
	Subject       *descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// manifest is a document that was made, and how it is described.
type manifest struct {
	descriptor
	body []byte
}

func sha256Of(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func sha512Of(b []byte) string {
	sum := sha512.Sum512(b)
	return "sha512:" + hex.EncodeToString(sum[:])
}

// digestLike computes the digest of b with the algorithm of like.
func digestLike(like string, b []byte) (string, bool) {
	switch {
	case strings.HasPrefix(like, "sha256:"):
		return sha256Of(b), true
	case strings.HasPrefix(like, "sha512:"):
		return sha512Of(b), true
	}
	return "of an algorithm that is not known", false
}

// noise returns n bytes that no other call returns.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails (crypto/rand since Go 1.24)
	return b
}

func describe(mediaType string, b []byte) descriptor {
	return descriptor{MediaType: mediaType, Digest: sha256Of(b), Size: len(b)}
}

// made writes a document and describes it.
func made(t *testing.T, mediaType string, doc any) manifest {
	t.Helper()
	body, err := json.MarshalIndent(doc, "", "   ") // three spaces: bytes that no registry would write by itself
	if err != nil {
		t.Fatal(err)
	}
	return manifest{describe(mediaType, body), body}
}

// push uploads a blob and returns its sha256 digest.
func (r *registry) push(t *testing.T, repo string, blob []byte) string {
	t.Helper()
	digest := sha256Of(blob)
	at := r.do(t, http.MethodPost, r.path("%s/blobs/uploads/", repo)).want(t, http.StatusAccepted).location(t)
	r.do(t, http.MethodPut, at, query("digest", digest), octets(blob)).want(t, http.StatusCreated)
	return digest
}

// parts uploads a config and a layer of their own, for an image to refer to.
func (r *registry) parts(t *testing.T, repo string) (config, layer descriptor) {
	t.Helper()
	c, l := []byte(`{"architecture":"amd64","os":"linux","author":"`+rand.Text()+`"}`), noise(64)
	r.push(t, repo, c)
	r.push(t, repo, l)
	return describe(configType, c), describe(layerType, l)
}

// image uploads the blobs of an image and returns its manifest, which is not pushed. edit, if not nil, changes the
// manifest before it is written.
func (r *registry) image(t *testing.T, repo string, edit func(*image)) manifest {
	t.Helper()
	config, layer := r.parts(t, repo)
	doc := image{SchemaVersion: 2, MediaType: imageType, Config: config, Layers: []descriptor{layer}}
	if edit != nil {
		edit(&doc)
	}
	return made(t, imageType, doc)
}

// put pushes a manifest to a tag or digest.
func (r *registry) put(t *testing.T, repo, ref string, m manifest, opts ...option) *answer {
	t.Helper()
	opts = append([]option{content(m.MediaType, m.body)}, opts...)
	return r.do(t, http.MethodPut, r.path("%s/manifests/%s", repo, ref), opts...)
}

// pushed makes an image and pushes it to each of refs, or by its digest when there are none.
func (r *registry) pushed(t *testing.T, repo string, refs ...string) manifest {
	t.Helper()
	m := r.image(t, repo, nil)
	if len(refs) == 0 {
		refs = []string{m.Digest}
	}
	for _, ref := range refs {
		r.put(t, repo, ref, m).want(t, http.StatusCreated)
	}
	return m
}

func (r *registry) getManifest(t *testing.T, repo, ref string, opts ...option) *answer {
	t.Helper()
	if len(opts) == 0 {
		opts = []option{with("Accept", strings.Join([]string{imageType, indexType, dockerImageType, dockerListType}, ", "))}
	}
	return r.do(t, http.MethodGet, r.path("%s/manifests/%s", repo, ref), opts...)
}

func (r *registry) getBlob(t *testing.T, repo, digest string, opts ...option) *answer {
	t.Helper()
	return r.do(t, http.MethodGet, r.path("%s/blobs/%s", repo, digest), opts...)
}

// same fails the check unless the answer's body is exactly b.
func (a *answer) same(t *testing.T, b []byte) *answer {
	t.Helper()
	if !bytes.Equal(a.body, b) {
		t.Errorf("%s: body has %d bytes with %s, want %d bytes with %s", a.what, len(a.body), sha256Of(a.body), len(b), sha256Of(b))
	}
	return a
}

// decode reads the answer's body as JSON into v.
func (a *answer) decode(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%s: body is not the JSON that was expected: %v: %s", a.what, err, short(a.body))
	}
}
