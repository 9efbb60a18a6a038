package stand

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// patience is how long a request may take. Nothing that these tests do to a berthd takes nearly as long.
const patience = 30 * time.Second

// Client speaks the distribution API to one berthd. Safe for concurrent use.
type Client struct {
	Base string // http://host:port
	http *http.Client
}

// NewClient has connections of its own: none may survive the daemon that it was made for.
func NewClient(base string) *Client {
	return &Client{Base: base, http: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
		Timeout:   patience,
	}}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Answer is what a request came to. Status is 0 when there was no answer, and Err says why: then nobody knows whether a
// write was done.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
	Err    error
	Began  time.Time
	Ended  time.Time
}

func (a Answer) String() string {
	if a.Status == 0 {
		return fmt.Sprint("no answer: ", a.Err)
	}
	return fmt.Sprintf("%d %.200s", a.Status, bytes.TrimSpace(a.Body))
}

// Digest is the header that names the content.
func (a Answer) Digest() string { return a.Header.Get("Docker-Content-Digest") }

// Do sends a request; target is a path or a Location.
func (c *Client) Do(method, target string, header http.Header, body []byte) Answer {
	var r io.Reader = http.NoBody
	if len(body) > 0 {
		r = bytes.NewReader(body)
	}
	return c.Stream(context.Background(), method, target, header, r, int64(len(body)))
}

// Stream is Do with a body of size bytes that comes as it comes.
func (c *Client) Stream(ctx context.Context, method, target string, header http.Header, body io.Reader, size int64) Answer {
	a := Answer{Began: time.Now()}
	a.Err = c.send(ctx, method, target, header, body, size, &a)
	a.Ended = time.Now()
	return a
}

func (c *Client) send(ctx context.Context, method, target string, header http.Header, body io.Reader, size int64, a *Answer) error {
	base, err := url.Parse(c.Base)
	if err != nil {
		return err
	}
	u, err := base.Parse(target)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return err
	}
	req.ContentLength = size
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	if err != nil && method == http.MethodGet {
		return fmt.Errorf("the body of %d breaks off after %d bytes: %w", resp.StatusCode, len(got), err)
	}
	a.Status, a.Header, a.Body = resp.StatusCode, resp.Header, got // of a write the status is the acknowledgement, and it has arrived
	return nil
}

// Get asks for manifests, blobs or referrers.
func (c *Client) Get(repo, kind, ref string) Answer {
	return c.Do(http.MethodGet, "/v2/"+repo+"/"+kind+"/"+ref, accept(), nil)
}

// Head is Get without the body.
func (c *Client) Head(repo, kind, ref string) Answer {
	return c.Do(http.MethodHead, "/v2/"+repo+"/"+kind+"/"+ref, accept(), nil)
}

// Delete deletes a manifest, tag or blob.
func (c *Client) Delete(repo, kind, ref string) Answer {
	return c.Do(http.MethodDelete, "/v2/"+repo+"/"+kind+"/"+ref, nil, nil)
}

// PutManifest pushes a manifest by tag or digest.
func (c *Client) PutManifest(repo, ref string, m Manifest) Answer {
	return c.Do(http.MethodPut, "/v2/"+repo+"/manifests/"+ref, http.Header{"Content-Type": {m.MediaType}}, m.Body)
}

// PushAtOnce is POST with the digest.
func (c *Client) PushAtOnce(repo, digest string, data []byte) Answer {
	return c.Do(http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+url.QueryEscape(digest), Octets(), data)
}

// Begin opens an upload.
func (c *Client) Begin(repo string) Answer {
	return c.Do(http.MethodPost, "/v2/"+repo+"/blobs/uploads/", nil, nil)
}

// Mount asks for a blob of another repository; without from the registry looks for one.
func (c *Client) Mount(repo, digest, from string) Answer {
	q := url.Values{"mount": {digest}}
	if from != "" {
		q.Set("from", from)
	}
	return c.Do(http.MethodPost, "/v2/"+repo+"/blobs/uploads/?"+q.Encode(), nil, nil)
}

// Patch appends data at offset.
func (c *Client) Patch(location string, offset int, data []byte) Answer {
	h := Octets()
	h.Set("Content-Range", fmt.Sprintf("%d-%d", offset, offset+len(data)-1))
	return c.Do(http.MethodPatch, location, h, data)
}

// Finish ends an upload with its last bytes.
func (c *Client) Finish(location, digest string, data []byte) Answer {
	target, err := Finishing(location, digest)
	if err != nil {
		return Answer{Err: err}
	}
	return c.Do(http.MethodPut, target, Octets(), data)
}

// Finishing is the target of the PUT that ends an upload.
func Finishing(location, digest string) (string, error) {
	u, err := url.Parse(location)
	if err != nil {
		return "", err
	}
	q := u.Query()
	q.Set("digest", digest)
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// Tags are all tags of a repository, page by page.
func (c *Client) Tags(repo string) ([]string, Answer) {
	var all []string
	for next := "/v2/" + repo + "/tags/list?n=7"; ; {
		a := c.Do(http.MethodGet, next, nil, nil)
		var page struct{ Tags []string }
		if a.Status != http.StatusOK {
			return nil, a
		}
		if a.Err = json.Unmarshal(a.Body, &page); a.Err != nil {
			return nil, a
		}
		all = append(all, page.Tags...)
		link := a.Header.Get("Link")
		if link == "" {
			return all, a
		}
		if next, a.Err = linked(next, link); a.Err != nil {
			return nil, a
		}
	}
}

// Referrers are the digests of a subject's referrers.
func (c *Client) Referrers(repo, subject string) ([]string, Answer) {
	a := c.Get(repo, "referrers", subject)
	var index struct{ Manifests []Descriptor }
	if a.Status != http.StatusOK {
		return nil, a
	}
	a.Err = json.Unmarshal(a.Body, &index)
	var all []string
	for _, d := range index.Manifests {
		all = append(all, d.Digest)
	}
	return all, a
}

// linked is the target of a Link header, relative to the page as a browser takes it.
func linked(page, link string) (string, error) {
	target, _, ok := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	if !ok {
		return "", errors.New("Link without a target: " + link)
	}
	base, err := url.Parse(page)
	if err != nil {
		return "", err
	}
	u, err := base.Parse(target)
	if err != nil {
		return "", err
	}
	return u.String(), nil
}

// Octets is the header of a blob's bytes.
func Octets() http.Header { return http.Header{"Content-Type": {"application/octet-stream"}} }

func accept() http.Header { return http.Header{"Accept": {ImageManifest, ImageIndex, "*/*"}} }
