package crash

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strconv"
)

// verify compares what the daemon serves with what the writer was told, settles what was open, and gives every
// difference.
func (w *writer) verify(c *client, finishUploads bool) (faults []string) {
	fault := func(format string, args ...any) {
		faults = append(faults, w.repo+": "+fmt.Sprintf(format, args...))
	}
	for digest, may := range w.blobs {
		there := w.verifyBlob(c, digest, may, fault)
		is(w.blobs, digest, there)
	}
	for digest, may := range w.manifests {
		there := w.verifyManifest(c, digest, may, fault)
		is(w.manifests, digest, there)
	}
	var tagged []string
	for tag, may := range w.tags {
		digest := w.verifyTag(c, tag, may, fault)
		if digest != "" {
			tagged = append(tagged, tag)
		}
		is(w.tags, tag, digest)
	}
	w.verifyTagList(c, tagged, fault)
	w.verifyUploads(c, finishUploads, fault)
	for _, m := range w.shared {
		w.verifyAnswer(c, sharedRepo, "manifests", m.digest, m.body, []bool{true}, fault)
	}
	return faults
}

type faultf func(format string, args ...any)

func (w *writer) verifyBlob(c *client, digest string, may []bool, fault faultf) bool {
	return w.verifyAnswer(c, w.repo, "blobs", digest, nil, may, fault)
}

func (w *writer) verifyManifest(c *client, digest string, may []bool, fault faultf) bool {
	m := w.known[digest]
	there := w.verifyAnswer(c, w.repo, "manifests", digest, m.body, may, fault)
	if !there {
		return false
	}
	for _, b := range m.blobs {
		if ok, _ := sure(w.blobs, b); !ok {
			fault("manifest %s is there and its blob %s is not", digest, b)
		}
	}
	for _, child := range m.children {
		if a, err := c.get(w.repo, "manifests", child); err != nil || a.status != http.StatusOK {
			fault("index %s is there and its manifest %s is not: %s, %v", digest, child, a, err)
		}
	}
	return there
}

// verifyAnswer asks for content by digest and says whether it is there. may are the acceptable answers; content that
// is there must be whole, whatever was acceptable, and HEAD must say the same as GET.
func (w *writer) verifyAnswer(c *client, repo, kind, digest string, want []byte, may []bool, fault faultf) bool {
	a, err := c.get(repo, kind, digest)
	if err != nil {
		fault("GET %s %s: %v", kind, digest, err)
		return false
	}
	h, err := c.head(repo, kind, digest)
	if err != nil {
		fault("HEAD %s %s: %v", kind, digest, err)
		return false
	}
	if a.status != h.status {
		fault("%s %s: GET says %d and HEAD says %d", kind, digest, a.status, h.status)
	}
	there := a.status == http.StatusOK
	switch {
	case there:
		if digestOf(a.body) != digest || want != nil && !bytes.Equal(a.body, want) {
			fault("%s %s: %d bytes that are not its own", kind, digest, len(a.body))
		}
		if n := h.header.Get("Content-Length"); n != strconv.Itoa(len(a.body)) {
			fault("%s %s: HEAD says %s bytes and GET gives %d", kind, digest, n, len(a.body))
		}
	case a.status != http.StatusNotFound:
		fault("GET %s %s: %s", kind, digest, a)
	}
	if !slices.Contains(may, there) {
		if there {
			fault("%s %s was deleted, that was acknowledged, and it is there again", kind, digest)
		} else {
			fault("%s %s was acknowledged and is lost: %s", kind, digest, a)
		}
	}
	return there
}

// verifyTag says where the tag points.
func (w *writer) verifyTag(c *client, tag string, may []string, fault faultf) string {
	digest := resolveTag(c, w.repo, tag, fault)
	if !slices.Contains(may, digest) {
		fault("tag %s is %q, want one of %q", tag, digest, may)
	}
	if digest != "" {
		if there, _ := sure(w.manifests, digest); !there {
			fault("tag %s is %s, which is not there by digest", tag, digest)
		}
	}
	return digest
}

// resolveTag gives the digest of what the tag serves, "" when there is no such tag.
func resolveTag(c *client, repo, tag string, fault faultf) string {
	a, err := c.get(repo, "manifests", tag)
	if err != nil {
		fault("GET tag %s: %v", tag, err)
		return ""
	}
	h, err := c.head(repo, "manifests", tag)
	if err != nil || h.status != a.status || h.header.Get("Docker-Content-Digest") != a.header.Get("Docker-Content-Digest") {
		fault("tag %s: GET says %d, %s; HEAD says %d, %s; %v", tag, a.status, a.header.Get("Docker-Content-Digest"),
			h.status, h.header.Get("Docker-Content-Digest"), err)
	}
	switch a.status {
	case http.StatusOK:
		digest := digestOf(a.body)
		if named := a.header.Get("Docker-Content-Digest"); named != digest {
			fault("tag %s: the body is %s and the header says %s", tag, digest, named)
		}
		return digest
	case http.StatusNotFound:
		return ""
	}
	fault("GET tag %s: %s", tag, a)
	return ""
}

func (w *writer) verifyTagList(c *client, want []string, fault faultf) {
	slices.Sort(want)
	got, a, err := c.tags(w.repo)
	if a.status == http.StatusNotFound && len(want) == 0 {
		return // nothing was pushed yet
	}
	if err != nil || a.status != http.StatusOK || !slices.Equal(got, want) {
		fault("the tag list is %v, and the tags that are there %v: %d, %v", got, want, a.status, err)
	}
}

// verifyUploads asks each open upload how far it came: at least to where that was acknowledged. Then it goes on from
// there, and some are brought to their end, so that a wrong byte before or at the seam shows in the digest.
func (w *writer) verifyUploads(c *client, finish bool, fault faultf) {
	l := &load{client: c, hot: &register{}, reached: make(chan struct{})}
	var open []*openUpload
	for _, u := range w.uploads {
		offset, next, a, err := c.status(u.location)
		if err != nil || a.status != http.StatusNoContent {
			fault("upload %s with %d acknowledged bytes: status %s, %v", u.location, u.acked, a, err)
			continue
		}
		if offset < u.acked || offset > u.sent {
			fault("upload %s is at %d; %d bytes were acknowledged and %d sent", u.location, offset, u.acked, u.sent)
			continue
		}
		u.location, u.acked, u.sent = next, offset, offset
		data := u.content.bytes()
		if !finish {
			if int64(len(data))-u.acked > 1 {
				if err := w.sendChunk(l, u, data); err != nil {
					fault("resume: %v", err)
					continue
				}
			}
			open = append(open, u)
			continue
		}
		if err := w.finishUpload(l, u, data); err != nil {
			fault("resume: %v", err)
			continue
		}
		w.verifyBlob(c, digestOf(data), []bool{true}, fault)
	}
	w.uploads = open
}
