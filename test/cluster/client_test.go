package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

// client speaks the distribution API to the balancer, or to one replica.
type client struct {
	base  string
	http  *http.Client
	judge *judge // is told of every answer; may be nil
}

// patience is how long a client waits for an answer. It is longer than any fault of the storm lasts, and shorter than
// what berthd allows itself to try, so that clients give up on some requests that go on without them.
const patience = 20 * time.Second

func newClient(base string, j *judge) *client {
	return &client{base: base, judge: j, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
}

// answer is what a request came to.
type answer struct {
	status int // 0 without an answer: nobody knows what came of it
	header http.Header
	body   []byte
	err    error
	began  time.Time
	ended  time.Time
}

func (a answer) String() string {
	if a.err != nil {
		return a.err.Error()
	}
	return fmt.Sprintf("%d %.300s", a.status, bytes.TrimSpace(a.body))
}

// unsure says that a write may have been done, now or in a moment.
func (a answer) unsure() bool { return a.status == 0 || a.status >= 500 }

func (a answer) digest() string { return a.header.Get("Docker-Content-Digest") }

type request struct {
	method, target string
	header         http.Header
	body           []byte
	within         time.Duration // patience when zero
}

func (c *client) do(r request) answer {
	if r.within == 0 {
		r.within = patience
	}
	ctx, stop := context.WithTimeout(context.Background(), r.within)
	defer stop()
	a := answer{began: time.Now()}
	a.status, a.header, a.body, a.err = c.send(ctx, r)
	a.ended = time.Now()
	if a.err == nil && a.header.Get(testkit.NoAnswer) != "" {
		a = answer{err: fmt.Errorf("no answer: %s", a.header.Get(testkit.NoAnswer)), began: a.began, ended: a.ended}
	}
	if c.judge != nil {
		c.judge.answered(r, a)
	}
	return a
}

func (c *client) send(ctx context.Context, r request) (int, http.Header, []byte, error) {
	base, err := url.Parse(c.base)
	if err != nil {
		return 0, nil, nil, err
	}
	target, err := base.Parse(r.target)
	if err != nil {
		return 0, nil, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target.String(), bytes.NewReader(r.body))
	if err != nil {
		return 0, nil, nil, err
	}
	if len(r.body) == 0 {
		req.Body = http.NoBody
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if r.method != http.MethodGet {
		err = nil // the status is the acknowledgement, and it has arrived
	}
	if err == nil && resp.Request.URL.Host != target.Host && resp.StatusCode >= http.StatusInternalServerError {
		err = fmt.Errorf("the bucket, to which the download was sent, answers %s", resp.Status)
	}
	if err != nil {
		return 0, nil, nil, err
	}
	return resp.StatusCode, resp.Header, body, nil
}

func (c *client) get(repo, kind, ref string) answer {
	return c.do(request{method: http.MethodGet, target: "/v2/" + repo + "/" + kind + "/" + ref, header: accept()})
}

func (c *client) head(repo, kind, ref string) answer {
	return c.do(request{method: http.MethodHead, target: "/v2/" + repo + "/" + kind + "/" + ref, header: accept()})
}

func (c *client) delete(repo, kind, ref string) answer {
	return c.do(request{method: http.MethodDelete, target: "/v2/" + repo + "/" + kind + "/" + ref})
}

func (c *client) putManifest(repo, ref string, m manifest) answer {
	return c.do(request{
		method: http.MethodPut, target: "/v2/" + repo + "/manifests/" + ref,
		header: http.Header{"Content-Type": {m.mediaType}}, body: m.body,
	})
}

// pushAtOnce is POST with the digest.
func (c *client) pushAtOnce(repo, digest string, data []byte) answer {
	return c.do(request{
		method: http.MethodPost, target: "/v2/" + repo + "/blobs/uploads/?digest=" + url.QueryEscape(digest),
		header: octets(), body: data,
	})
}

// begin opens an upload; query asks for a mount.
func (c *client) begin(repo, query string) answer {
	return c.do(request{method: http.MethodPost, target: "/v2/" + repo + "/blobs/uploads/" + query})
}

// patch appends data at offset.
func (c *client) patch(location string, offset int, data []byte, within time.Duration) answer {
	h := octets()
	h.Set("Content-Range", fmt.Sprintf("%d-%d", offset, offset+len(data)-1))
	return c.do(request{method: http.MethodPatch, target: location, header: h, body: data, within: within})
}

// finish ends an upload with its last bytes.
func (c *client) finish(location, digest string, offset int, data []byte) answer {
	u, err := url.Parse(location)
	if err != nil {
		return answer{err: err}
	}
	q := u.Query()
	q.Set("digest", digest)
	u.RawQuery = q.Encode()
	h := octets()
	if len(data) > 0 {
		h.Set("Content-Range", fmt.Sprintf("%d-%d", offset, offset+len(data)-1))
	}
	return c.do(request{method: http.MethodPut, target: u.String(), header: h, body: data})
}

// status asks how far an upload has come. For one byte and for none the answer is the same, by custom.
func (c *client) status(location string) (offset int, a answer) {
	a = c.do(request{method: http.MethodGet, target: location})
	if a.status != http.StatusNoContent {
		return 0, a
	}
	_, last, _ := strings.Cut(a.header.Get("Range"), "-")
	end, err := strconv.Atoi(last)
	if err != nil {
		return 0, answer{err: fmt.Errorf("upload status with Range %q", a.header.Get("Range")), status: a.status}
	}
	if end == 0 {
		return 0, a
	}
	return end + 1, a
}

// tags are all tags of a repository.
func (c *client) tags(repo string) ([]string, answer) {
	a := c.do(request{method: http.MethodGet, target: "/v2/" + repo + "/tags/list?n=10000"})
	var page struct{ Tags []string }
	if a.status == http.StatusOK {
		a.err = json.Unmarshal(a.body, &page)
	}
	return page.Tags, a
}

func octets() http.Header { return http.Header{"Content-Type": {"application/octet-stream"}} }

func accept() http.Header { return http.Header{"Accept": {imageManifest, imageIndex, "*/*"}} }
