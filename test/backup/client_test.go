package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// client pushes and pulls.
type client struct {
	base string
	http *http.Client
}

func newClient(base string) *client {
	return &client{base, &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: 30 * time.Second}}
}

func (c *client) do(method, target, mediaType string, body []byte) (*http.Response, []byte, error) {
	base, err := url.Parse(c.base)
	if err != nil {
		return nil, nil, err
	}
	u, err := base.Parse(target)
	if err != nil {
		return nil, nil, err
	}
	req, err := http.NewRequestWithContext(context.Background(), method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	req.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, text, err
}

func (c *client) want(status int, method, target, mediaType string, body []byte) (*http.Response, []byte, error) {
	resp, text, err := c.do(method, target, mediaType, body)
	if err == nil && resp.StatusCode != status {
		err = fmt.Errorf("%s %s answers %s: %.200s", method, target, resp.Status, text)
	}
	return resp, text, err
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// descriptor names content.
type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int    `json:"size"`
}

const imageType = "application/vnd.oci.image.manifest.v1+json"

// manifest is an image, as far as this test is concerned.
type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
	Subject       *descriptor  `json:"subject,omitempty"`
}

func (c *client) pushBlob(repo string, content []byte) (descriptor, error) {
	d := descriptor{"application/octet-stream", digestOf(content), len(content)}
	_, _, err := c.want(http.StatusCreated, http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+url.QueryEscape(d.Digest), "application/octet-stream", content)
	return d, err
}

// push pushes an image with a layer of n random bytes and returns its digest when it was acknowledged. reference "" is its
// digest.
func (c *client) push(repo, reference string, n int, random *rand.ChaCha8, subject *descriptor) (descriptor, error) {
	layer := make([]byte, n)
	_, _ = random.Read(layer)
	config := fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","n":%d}`, random.Uint64())
	m := manifest{SchemaVersion: 2, MediaType: imageType, Subject: subject}
	for _, content := range [][]byte{config, layer} {
		d, err := c.pushBlob(repo, content)
		if err != nil {
			return d, err
		}
		if m.Config.Digest == "" {
			d.MediaType = "application/vnd.oci.image.config.v1+json"
			m.Config = d
		} else {
			d.MediaType = "application/vnd.oci.image.layer.v1.tar"
			m.Layers = append(m.Layers, d)
		}
	}
	body, err := json.Marshal(m)
	if err != nil {
		return descriptor{}, err
	}
	d := descriptor{imageType, digestOf(body), len(body)}
	if reference == "" {
		reference = d.Digest
	}
	_, _, err = c.want(http.StatusCreated, http.MethodPut, "/v2/"+repo+"/manifests/"+reference, imageType, body)
	return d, err
}

// pull pulls an image whole, verifies every byte of it and returns its digest.
func (c *client) pull(repo, reference string) (string, error) {
	_, body, err := c.want(http.StatusOK, http.MethodGet, "/v2/"+repo+"/manifests/"+reference, "", nil)
	if err != nil {
		return "", err
	}
	var m manifest
	if err := json.Unmarshal(body, &m); err != nil {
		return "", err
	}
	for _, d := range append(m.Layers, m.Config) {
		_, content, err := c.want(http.StatusOK, http.MethodGet, "/v2/"+repo+"/blobs/"+d.Digest, "", nil)
		if err != nil {
			return "", err
		}
		if digestOf(content) != d.Digest {
			return "", fmt.Errorf("blob %s of %s:%s has other bytes", d.Digest, repo, reference)
		}
	}
	return digestOf(body), nil
}

// list is all that can be listed: repository, tag, digest and how many referrers it has.
func (c *client) list() (map[string]string, error) {
	_, text, err := c.want(http.StatusOK, http.MethodGet, "/v2/_catalog?n=1000", "", nil)
	if err != nil {
		return nil, err
	}
	var catalog struct{ Repositories []string }
	if err := json.Unmarshal(text, &catalog); err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, repo := range catalog.Repositories {
		_, text, err := c.want(http.StatusOK, http.MethodGet, "/v2/"+repo+"/tags/list?n=10000", "", nil)
		if err != nil {
			return nil, err
		}
		var tags struct{ Tags []string }
		if err := json.Unmarshal(text, &tags); err != nil {
			return nil, err
		}
		for _, tag := range tags.Tags {
			d, err := c.pull(repo, tag)
			if err != nil {
				return nil, err
			}
			_, referrers, err := c.want(http.StatusOK, http.MethodGet, "/v2/"+repo+"/referrers/"+d, "", nil)
			if err != nil {
				return nil, err
			}
			all[repo+":"+tag] = d + " referred to " + digestOf(referrers)
		}
	}
	return all, nil
}

// ledger is what was acknowledged: unique tags, and of each tag that moves how far it came.
type ledger struct {
	mu     sync.Mutex
	tags   map[string]string   // repo:tag → digest
	moving map[string][]string // repo:tag → digests, in their order
}

func (l *ledger) copy() *ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := &ledger{tags: map[string]string{}, moving: map[string][]string{}}
	for k, v := range l.tags {
		out.tags[k] = v
	}
	for k, v := range l.moving {
		out.moving[k] = append([]string{}, v...)
	}
	return out
}

// load pushes until stop is called, and goes on when the daemon was away. It pushes at most that many images for each of
// its writers; wait waits for those.
func load(base func() string, l *ledger, seed uint64, most int) (stop, wait func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var writers sync.WaitGroup
	for w := range 3 {
		writers.Go(func() {
			random := rand.NewChaCha8([32]byte{byte(seed), byte(w)})
			repo := fmt.Sprintf("team/app%d", w)
			for i := 0; ctx.Err() == nil && i < most; i++ {
				c := newClient(base())
				tag, n := fmt.Sprintf("t%d-%d", seed, i), 40<<10+int(random.Uint64()%(60<<10))
				moving := i%4 == 3
				if moving {
					tag = "latest"
				}
				d, err := c.push(repo, tag, n, random, nil)
				c.http.CloseIdleConnections()
				l.mu.Lock()
				switch key := repo + ":" + tag; {
				case moving: // also one whose answer was lost may be there
					l.moving[key] = append(l.moving[key], strings.TrimSpace(d.Digest+" "+map[bool]string{true: "", false: "lost"}[err == nil]))
				case err == nil:
					l.tags[key] = d.Digest
				}
				l.mu.Unlock()
				if err != nil {
					time.Sleep(20 * time.Millisecond)
				}
			}
		})
	}
	return func() { cancel(); writers.Wait() }, func() { writers.Wait(); cancel() }
}
