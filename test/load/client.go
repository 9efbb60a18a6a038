package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"strings"
)

const acceptAll = typeManifest + ", " + typeIndex + ", application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json"

// client speaks the distribution API over one wire.
type client struct {
	*wire
	host string
	head []byte // scratch for the request head
}

func newClient(addr string, conf *tls.Config) *client {
	return &client{wire: newWire(addr, conf), host: addr}
}

// request is a prepared request without a body.
type request struct {
	head   []byte
	isHEAD bool
	status int   // the only good status
	length int64 // the only good body length; -1: any
}

func newRequest(host, method, path, accept string, status int, length int64, extra ...string) request {
	if method == "HEAD" {
		length = 0
	}
	return request{head: appendHead(nil, host, method, path, accept, -1, extra...), isHEAD: method == "HEAD", status: status, length: length}
}

func appendHead(p []byte, host, method, path, accept string, length int64, extra ...string) []byte {
	p = append(p, method...)
	p = append(p, ' ')
	p = append(p, path...)
	p = append(p, " HTTP/1.1\r\nHost: "...)
	p = append(p, host...)
	p = append(p, "\r\nUser-Agent: berth-bench\r\n"...)
	if accept != "" {
		p = append(p, "Accept: "...)
		p = append(p, accept...)
		p = append(p, "\r\n"...)
	}
	if length >= 0 {
		p = fmt.Appendf(p, "Content-Length: %d\r\n", length)
	}
	for i := 0; i+1 < len(extra); i += 2 {
		p = append(p, extra[i]...)
		p = append(p, ": "...)
		p = append(p, extra[i+1]...)
		p = append(p, "\r\n"...)
	}
	return append(p, "\r\n"...)
}

// send runs a prepared request and checks the answer's status and length.
func (c *client) run(r *request) error {
	a, err := c.do(r.head, nil, r.isHEAD, wantNothing)
	if err != nil {
		return err
	}
	if a.status != r.status || r.length >= 0 && a.length != r.length {
		line, _, _ := strings.Cut(string(r.head), "\r\n")
		return fmt.Errorf("%s: status %d with %d bytes, want %d with %d", line, a.status, a.length, r.status, r.length)
	}
	return nil
}

// call sends one request with a small body and returns the whole answer.
func (c *client) call(method, path string, body []byte, extra ...string) (answer, error) {
	length := int64(len(body))
	if method == "GET" || method == "HEAD" {
		length = -1
	}
	accept := ""
	if method == "GET" || method == "HEAD" {
		accept = acceptAll
	}
	c.head = appendHead(c.head[:0], c.host, method, path, accept, length, extra...)
	return c.do(c.head, body, method == "HEAD", wantHeaders|wantBody)
}

// get fetches a path and demands status 200.
func (c *client) get(path string) (answer, error) {
	a, err := c.call("GET", path, nil)
	if err == nil && a.status != 200 {
		err = fmt.Errorf("GET %s: status %d: %.300s", path, a.status, a.body)
	}
	return a, err
}

// startUpload opens an upload session and returns the path that takes the bytes of digest.
func (c *client) startUpload(repo, digest string) (string, error) {
	location, err := c.openUpload(repo)
	return closingPath(location, digest), err
}

// openUpload opens an upload session and returns its location.
func (c *client) openUpload(repo string) (string, error) {
	path := "/v2/" + repo + "/blobs/uploads/"
	a, err := c.call("POST", path, nil)
	if err != nil {
		return "", err
	}
	if a.status != 202 || a.location == "" {
		return "", fmt.Errorf("POST %s: status %d with location %q, want 202: %.300s", path, a.status, a.location, a.body)
	}
	return a.location, nil
}

// pathOf is the path and query of a location, which may be a URL.
func pathOf(location string) string {
	if _, rest, ok := strings.Cut(location, "://"); ok {
		_, rest, _ = strings.Cut(rest, "/")
		location = "/" + rest
	}
	return location
}

// closingPath is the path and query that close the upload at location.
func closingPath(location, digest string) string {
	location = pathOf(location)
	if strings.Contains(location, "?") {
		return location + "&digest=" + digest
	}
	return location + "?digest=" + digest
}

// pushBlob uploads small content by POST and PUT.
func (c *client) pushBlob(repo string, b content) error {
	path, err := c.startUpload(repo, b.digest)
	if err != nil {
		return err
	}
	a, err := c.call("PUT", path, b.data, "Content-Type", "application/octet-stream")
	if err == nil && a.status != 201 {
		err = fmt.Errorf("PUT of blob %s to %s: status %d: %.300s", b.digest, repo, a.status, a.body)
	}
	return err
}

// pushLarge uploads a large blob by POST and one streamed PUT.
func (c *client) pushLarge(repo string, l large) error {
	path, err := c.startUpload(repo, l.digest)
	if err != nil {
		return err
	}
	c.head = appendHead(c.head[:0], c.host, "PUT", path, "", l.size, "Content-Type", "application/octet-stream")
	a, err := c.stream(c.head, func(w io.Writer) error { return l.writeTo(w) }, wantHeaders|wantBody)
	if err == nil && a.status != 201 {
		err = fmt.Errorf("PUT of large blob to %s: status %d: %.300s", repo, a.status, a.body)
	}
	return err
}

// pushDocker uploads a large blob as docker does: POST, one PATCH of unknown length, and a PUT that names the digest.
func (c *client) pushDocker(repo string, l large) error {
	location, err := c.openUpload(repo)
	if err != nil {
		return err
	}
	c.head = appendHead(c.head[:0], c.host, "PATCH", pathOf(location), "", -1, "Content-Type", "application/octet-stream", "Transfer-Encoding", "chunked")
	a, err := c.stream(c.head, func(w io.Writer) error {
		cw := &chunkWriter{w: w}
		if err := l.writeTo(cw); err != nil {
			return err
		}
		return cw.end()
	}, wantHeaders|wantBody)
	if err == nil && (a.status != 202 || a.location == "") {
		err = fmt.Errorf("PATCH of large blob to %s: status %d with location %q: %.300s", repo, a.status, a.location, a.body)
	}
	if err != nil {
		return err
	}
	a, err = c.call("PUT", closingPath(a.location, l.digest), nil)
	if err == nil && a.status != 201 {
		err = fmt.Errorf("PUT of digest to %s: status %d: %.300s", repo, a.status, a.body)
	}
	return err
}

// putManifest stores a manifest under a tag or its digest.
func (c *client) putManifest(repo, reference, mediaType string, m content) error {
	path := "/v2/" + repo + "/manifests/" + reference
	a, err := c.call("PUT", path, m.data, "Content-Type", mediaType)
	if err == nil && a.status != 201 {
		err = fmt.Errorf("PUT %s: status %d: %.300s", path, a.status, a.body)
	}
	return err
}

// mount asks for a blob of another repository.
func (c *client) mount(repo, from, digest string) error {
	path := "/v2/" + repo + "/blobs/uploads/?mount=" + digest + "&from=" + strings.ReplaceAll(from, "/", "%2F")
	a, err := c.call("POST", path, nil)
	if err == nil && a.status != 201 {
		err = fmt.Errorf("POST %s: status %d, want 201: %.300s", path, a.status, a.body)
	}
	return err
}

// pushImage uploads every blob and then the manifest, as clients do.
func (c *client) pushImage(repo, tag string, img image) error {
	for _, b := range img.blobs {
		if err := c.pushBlob(repo, b); err != nil {
			return err
		}
	}
	return c.putManifest(repo, tag, typeManifest, img.manifest)
}
