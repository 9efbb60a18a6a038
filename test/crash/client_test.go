package crash

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// client speaks the distribution API to one run of the daemon. Its methods give the status as the answer, and an error
// only when there was none.
type client struct {
	base string
	http *http.Client
}

// newClient has connections of its own: none may survive the daemon that it was made for.
func newClient(base string) *client {
	return &client{base: base, http: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 16},
		Timeout:   60 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// answer is a response whose body has been read.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) String() string {
	return fmt.Sprintf("%d %.200s", a.status, bytes.TrimSpace(a.body))
}

func (c *client) do(method, target string, header http.Header, body []byte) (answer, error) {
	target, err := c.resolve(target)
	if err != nil {
		return answer{}, err
	}
	req, err := http.NewRequestWithContext(context.Background(), method, target, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if len(body) == 0 {
		req.Body = http.NoBody
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	a := answer{resp.StatusCode, resp.Header, b}
	if err != nil && method != http.MethodGet {
		return a, nil // the status is the acknowledgement, and it has arrived
	}
	return a, err
}

// resolve makes a path or a Location an address of this daemon.
func (c *client) resolve(target string) (string, error) {
	base, err := url.Parse(c.base)
	if err != nil {
		return "", err
	}
	u, err := base.Parse(target)
	if err != nil {
		return "", err
	}
	return u.String(), nil
}

func (c *client) get(repo, kind, ref string) (answer, error) {
	return c.do(http.MethodGet, "/v2/"+repo+"/"+kind+"/"+ref, accept, nil)
}

func (c *client) head(repo, kind, ref string) (answer, error) {
	return c.do(http.MethodHead, "/v2/"+repo+"/"+kind+"/"+ref, accept, nil)
}

func (c *client) delete(repo, kind, ref string) (answer, error) {
	return c.do(http.MethodDelete, "/v2/"+repo+"/"+kind+"/"+ref, nil, nil)
}

func (c *client) putManifest(repo, ref string, m manifest) (answer, error) {
	return c.do(http.MethodPut, "/v2/"+repo+"/manifests/"+ref, http.Header{"Content-Type": {m.mediaType}}, m.body)
}

// pushAtOnce is POST with the digest.
func (c *client) pushAtOnce(repo, digest string, data []byte) (answer, error) {
	return c.do(http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+url.QueryEscape(digest), octets, data)
}

// pushInTwo is POST and then PUT with everything.
func (c *client) pushInTwo(repo, digest string, data []byte) (answer, error) {
	location, a, err := c.begin(repo, "")
	if location == "" || err != nil {
		return a, err
	}
	return c.finish(location, digest, data)
}

// begin opens an upload; query asks for a mount. location is "" when the answer was another one than 202.
func (c *client) begin(repo, query string) (location string, a answer, err error) {
	a, err = c.do(http.MethodPost, "/v2/"+repo+"/blobs/uploads/"+query, nil, nil)
	if err != nil || a.status != http.StatusAccepted {
		return "", a, err
	}
	return a.header.Get("Location"), a, nil
}

// patch appends data at offset and gives where to go on.
func (c *client) patch(location string, offset int64, data []byte) (next string, a answer, err error) {
	a, err = c.do(http.MethodPatch, location, http.Header{
		"Content-Type":  {"application/octet-stream"},
		"Content-Range": {fmt.Sprintf("%d-%d", offset, offset+int64(len(data))-1)},
	}, data)
	return a.header.Get("Location"), a, err
}

func (c *client) finish(location, digest string, data []byte) (answer, error) {
	target, err := url.Parse(location)
	if err != nil {
		return answer{}, err
	}
	q := target.Query()
	q.Set("digest", digest)
	target.RawQuery = q.Encode()
	return c.do(http.MethodPut, target.String(), octets, data)
}

// status asks how far an upload has come.
func (c *client) status(location string) (offset int64, next string, a answer, err error) {
	a, err = c.do(http.MethodGet, location, nil, nil)
	if err != nil || a.status != http.StatusNoContent {
		return 0, "", a, err
	}
	next = a.header.Get("Location")
	first, last, ok := strings.Cut(a.header.Get("Range"), "-")
	end, convErr := strconv.ParseInt(last, 10, 64)
	if !ok || first != "0" || convErr != nil || next == "" {
		return 0, "", a, fmt.Errorf("upload status with Range %q and Location %q", a.header.Get("Range"), next)
	}
	// "0-0" is the answer for one byte and, by custom, for none: the offset that it means is told by what fits.
	return end + 1, next, a, nil
}

func (c *client) tags(repo string) ([]string, answer, error) {
	var all []string
	next := "/v2/" + repo + "/tags/list?n=7"
	for {
		a, err := c.do(http.MethodGet, next, nil, nil)
		if err != nil || a.status != http.StatusOK {
			return nil, a, err
		}
		var page struct{ Tags []string }
		if err := json.Unmarshal(a.body, &page); err != nil {
			return nil, a, err
		}
		all = append(all, page.Tags...)
		link := a.header.Get("Link")
		if link == "" {
			return all, a, nil
		}
		target, _, ok := strings.Cut(strings.TrimPrefix(link, "<"), ">")
		if !ok {
			return nil, a, errors.New("Link without a target: " + link)
		}
		// Relative to the page, as a browser would.
		base, err := url.Parse(next)
		if err != nil {
			return nil, a, err
		}
		u, err := base.Parse(target)
		if err != nil {
			return nil, a, err
		}
		next = u.String()
	}
}

const (
	imageManifest = "application/vnd.oci.image.manifest.v1+json"
	imageIndex    = "application/vnd.oci.image.index.v1+json"
)

var (
	octets = http.Header{"Content-Type": {"application/octet-stream"}}
	accept = http.Header{"Accept": {imageManifest, imageIndex, "*/*"}}
)

// manifest is what a writer pushes by tag, and what it needs to be whole.
type manifest struct {
	digest    string
	mediaType string
	body      []byte
	blobs     []string
	children  []string
}

type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int    `json:"size"`
}

func imageOf(name string, config descriptor, layers []descriptor) manifest {
	m := manifest{mediaType: imageManifest, blobs: []string{config.Digest}}
	for _, l := range layers {
		m.blobs = append(m.blobs, l.Digest)
	}
	return m.with(map[string]any{
		"schemaVersion": 2, "mediaType": imageManifest, "config": config, "layers": layers,
		"annotations": map[string]string{"org.opencontainers.image.title": name},
	})
}

func indexOf(name string, children []descriptor) manifest {
	m := manifest{mediaType: imageIndex}
	for _, c := range children {
		m.children = append(m.children, c.Digest)
	}
	return m.with(map[string]any{
		"schemaVersion": 2, "mediaType": imageIndex, "manifests": children,
		"annotations": map[string]string{"org.opencontainers.image.title": name},
	})
}

func (m manifest) with(content any) manifest {
	body, err := json.Marshal(content)
	if err != nil {
		panic(err) // of maps and strings that we made
	}
	m.body, m.digest = body, digestOf(body)
	return m
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}
