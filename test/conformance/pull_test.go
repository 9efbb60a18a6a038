package conformance_test

import (
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

func pullManifestChecks() []check {
	return []check{
		{"pull manifest by tag and digest", []string{"cat-1", "pull-1", "pull-8", "pull-9", "pull-10"}, pullManifest},
		{"pull manifest: content type", []string{"pull-6", "pull-7"}, pullContentType},
		{"pull manifest: not there", []string{"pull-11", "put-8"}, pullManifestMissing},
		{"head: manifest and blob", []string{"head-1", "head-2", "head-3", "http-3"}, headThere},
		{"head: not there", []string{"head-4"}, headMissing},
		{"pull manifest: accept", []string{"http-5"}, pullAccept},
	}
}

func pullBlobChecks() []check {
	return []check{
		{"pull blob", []string{"cat-1", "blob-1", "blob-2", "blob-3", "blob-4", "redirect-1"}, pullBlob},
		{"pull blob: not there", []string{"blob-5"}, pullBlobMissing},
		{"pull blob: ranges", []string{"blob-6"}, pullRanges},
		{"pull blob: ranges that make no sense", []string{"blob-6"}, pullBadRanges},
		{"pull blob: if-range", []string{"blob-6"}, pullIfRange},
	}
}

func pullManifest(t *testing.T, r *registry) {
	repo := r.repo()
	m := r.pushed(t, repo, "v1")
	for _, ref := range []string{"v1", m.Digest} {
		a := r.getManifest(t, repo, ref).want(t, http.StatusOK).same(t, m.body)
		if a.digest() != m.Digest {
			t.Errorf("%s: Docker-Content-Digest %q, want %s", a.what, a.digest(), m.Digest)
		}
	}
	// An index, and what it lists, are pulled alike.
	list := made(t, indexType, index{SchemaVersion: 2, MediaType: indexType, Manifests: []descriptor{m.descriptor}})
	r.put(t, repo, "multi", list).want(t, http.StatusCreated)
	r.getManifest(t, repo, "multi").want(t, http.StatusOK).same(t, list.body)
	// A tag that moved gives the new manifest, at once.
	other := r.pushed(t, repo, "v1")
	r.getManifest(t, repo, "v1").want(t, http.StatusOK).same(t, other.body)
	r.getManifest(t, repo, m.Digest).want(t, http.StatusOK).same(t, m.body)
}

func pullContentType(t *testing.T, r *registry) {
	repo := r.repo()
	m := r.pushed(t, repo)
	withoutField := r.image(t, repo, func(i *image) { i.MediaType = "" })
	r.put(t, repo, withoutField.Digest, withoutField).want(t, http.StatusCreated)
	list := made(t, indexType, index{SchemaVersion: 2, MediaType: indexType, Manifests: []descriptor{m.descriptor}})
	r.put(t, repo, list.Digest, list).want(t, http.StatusCreated)
	for _, m := range []manifest{m, withoutField, list} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			a := r.do(t, method, r.path("%s/manifests/%s", repo, m.Digest), with("Accept", m.MediaType)).want(t, http.StatusOK)
			got := a.header.Get("Content-Type")
			if got != m.MediaType {
				t.Errorf("%s: Content-Type %q, pushed was %q", a.what, got, m.MediaType)
			}
			if _, params, err := mime.ParseMediaType(got); err != nil || len(params) != 0 {
				t.Errorf("%s: Content-Type %q has parameters, or is none: %v", a.what, got, err)
			}
		}
	}
}

func pullManifestMissing(t *testing.T, r *registry) {
	repo := r.repo()
	elsewhere := r.pushed(t, r.repo(), "only-there")
	r.getManifest(t, repo, "v1").want(t, http.StatusNotFound)
	r.getManifest(t, repo, elsewhere.Digest).want(t, http.StatusNotFound)
	r.pushed(t, repo, "v1")
	r.getManifest(t, repo, "v2").want(t, http.StatusNotFound).says(t, "MANIFEST_UNKNOWN")
	r.getManifest(t, repo, sha256Of(noise(8))).want(t, http.StatusNotFound).says(t, "MANIFEST_UNKNOWN")
	// What another repository has is not in this one.
	r.getManifest(t, repo, elsewhere.Digest).want(t, http.StatusNotFound)
	r.getManifest(t, repo, "only-there").want(t, http.StatusNotFound)
	// What can be no tag is not there either: to a pull it is 404, where a push of it is refused with 400.
	for _, ref := range []string{".not-a-tag", "-not-a-tag", strings.Repeat("t", 129)} {
		r.getManifest(t, repo, ref).want(t, http.StatusNotFound)
		r.do(t, http.MethodHead, r.path("%s/manifests/%s", repo, ref)).want(t, http.StatusNotFound)
	}
	// A blob is not a manifest, also when its bytes would make one.
	m := r.image(t, repo, nil)
	r.push(t, repo, m.body)
	r.getManifest(t, repo, m.Digest).want(t, http.StatusNotFound)
}

func headThere(t *testing.T, r *registry) {
	repo := r.repo()
	m := r.pushed(t, repo, "v1")
	blob := noise(1234)
	digest := r.push(t, repo, blob)
	for _, c := range []struct {
		path, digest string
		size         int
	}{
		{"manifests/v1", m.Digest, m.Size},
		{"manifests/" + m.Digest, m.Digest, m.Size},
		{"blobs/" + digest, digest, len(blob)},
	} {
		head := r.do(t, http.MethodHead, r.path("%s/%s", repo, c.path), with("Accept", imageType)).want(t, http.StatusOK)
		if head.digest() != c.digest {
			t.Errorf("%s: Docker-Content-Digest %q, want %s", head.what, head.digest(), c.digest)
		}
		if got := head.header.Get("Content-Length"); got != strconv.Itoa(c.size) {
			t.Errorf("%s: Content-Length %q, want %d", head.what, got, c.size)
		}
		if len(head.body) != 0 {
			t.Errorf("%s: a HEAD has %d bytes of body", head.what, len(head.body))
		}
		get := r.do(t, http.MethodGet, r.path("%s/%s", repo, c.path), with("Accept", imageType)).want(t, http.StatusOK)
		for _, name := range []string{"Content-Type", "Content-Length", "Docker-Content-Digest", "Etag", "Accept-Ranges", "Last-Modified"} {
			if h, g := head.header.Get(name), get.header.Get(name); h != g {
				t.Errorf("%s: HEAD says %s: %q, GET says %q", head.what, name, h, g)
			}
		}
	}
}

func headMissing(t *testing.T, r *registry) {
	repo, nothing := r.repo(), sha256Of(noise(8))
	for _, there := range []bool{false, true} {
		if there {
			r.pushed(t, repo, "v1")
		}
		for _, path := range []string{"manifests/none", "manifests/" + nothing, "blobs/" + nothing} {
			a := r.do(t, http.MethodHead, r.path("%s/%s", repo, path)).want(t, http.StatusNotFound)
			if len(a.body) != 0 {
				t.Errorf("%s: a HEAD has %d bytes of body", a.what, len(a.body))
			}
		}
	}
}

func pullAccept(t *testing.T, r *registry) {
	repo := r.repo()
	m := r.pushed(t, repo, "v1")
	list := made(t, indexType, index{SchemaVersion: 2, MediaType: indexType, Manifests: []descriptor{m.descriptor}})
	r.put(t, repo, "multi", list).want(t, http.StatusCreated)
	for _, c := range []struct {
		name   string
		accept []option
	}{
		{"the type alone", []option{with("Accept", imageType), with("Accept", indexType)}},
		{"all in one line", []option{with("Accept", dockerListType+", "+dockerImageType+", "+indexType+", "+imageType)}},
		{"in lines of their own", []option{with("Accept", dockerImageType), with("Accept", imageType), with("Accept", indexType)}},
		{"with weights", []option{with("Accept", dockerImageType+";q=0.1, "+imageType+";q=0.9,"+indexType+"; q=0.8, */*;q=0.01")}},
		{"anything", []option{with("Accept", "*/*")}},
		{"none", []option{func(req *http.Request) { req.Header.Del("Accept") }}},
	} {
		for ref, m := range map[string]manifest{"v1": m, "multi": list} {
			a := r.getManifest(t, repo, ref, c.accept...)
			if a.status != http.StatusOK {
				if r.ours || a.status != http.StatusNotFound && a.status != http.StatusNotAcceptable {
					t.Errorf("%s, accept %s: got %d, want 200", a.what, c.name, a.status)
				}
				continue
			}
			a.same(t, m.body)
		}
	}
	// For a client that says it cannot read the type: the manifest as it is, or none; never another form of it.
	a := r.getManifest(t, repo, "v1", with("Accept", dockerImageType)).want(t, http.StatusOK, http.StatusNotFound, http.StatusNotAcceptable)
	if a.status == http.StatusOK {
		a.same(t, m.body)
		if got := a.header.Get("Content-Type"); got != imageType {
			t.Errorf("%s: Content-Type %q, the body is of %q", a.what, got, imageType)
		}
	}
}

func pullBlob(t *testing.T, r *registry) {
	repo := r.repo()
	// Around the sizes at which a registry may choose another way to keep or send a blob, and none at all.
	for _, size := range []int{0, 1, 1 << 10, 32<<10 - 1, 32 << 10, 32<<10 + 1, 1<<20 + 7} {
		blob := noise(size)
		digest := r.push(t, repo, blob)
		a := r.getBlob(t, repo, digest)
		if a.status == http.StatusTemporaryRedirect || a.status == http.StatusFound || a.status == http.StatusSeeOther {
			a = r.do(t, http.MethodGet, a.location(t))
		} else if a.digest() != digest {
			t.Errorf("%s: Docker-Content-Digest %q, want %s", a.what, a.digest(), digest)
		}
		a.want(t, http.StatusOK).same(t, blob)
		if a.length != int64(size) {
			t.Errorf("%s: Content-Length %d, want %d", a.what, a.length, size)
		}
	}
}

func pullBlobMissing(t *testing.T, r *registry) {
	repo, elsewhere := r.repo(), r.repo()
	blob := noise(40)
	digest := r.push(t, elsewhere, blob)
	r.getBlob(t, repo, digest).want(t, http.StatusNotFound)
	r.pushed(t, repo, "v1")
	r.getBlob(t, repo, sha256Of(noise(8))).want(t, http.StatusNotFound).says(t, "BLOB_UNKNOWN")
	r.getBlob(t, repo, digest).want(t, http.StatusNotFound).says(t, "BLOB_UNKNOWN")
	for _, bad := range []string{"sha256:short", "sha256:" + strings.Repeat("g", 64), "sha256:" + strings.Repeat("A", 64), "v1", "md5:d41d8cd98f00b204e9800998ecf8427e"} {
		r.getBlob(t, repo, bad).want(t, http.StatusBadRequest, http.StatusNotFound)
	}
}

func pullRanges(t *testing.T, r *registry) {
	repo := r.repo()
	for _, size := range []int{2000, 200_000} { // one that may be kept among the rows, one that is a file
		blob := noise(size)
		digest := r.push(t, repo, blob)
		for _, c := range []struct{ first, last int }{
			{0, 9}, {0, 0}, {10, size - 1}, {size - 1, size - 1}, {500, 1499},
		} {
			a := r.getBlob(t, repo, digest, with("Range", fmt.Sprintf("bytes=%d-%d", c.first, c.last)))
			a.want(t, http.StatusPartialContent).same(t, blob[c.first:c.last+1])
			wantContentRange(t, a, c.first, c.last, size)
		}
		a := r.getBlob(t, repo, digest, with("Range", "bytes=1000-")).want(t, http.StatusPartialContent).same(t, blob[1000:])
		wantContentRange(t, a, 1000, size-1, size)
		a = r.getBlob(t, repo, digest, with("Range", "bytes=-100")).want(t, http.StatusPartialContent).same(t, blob[size-100:])
		wantContentRange(t, a, size-100, size-1, size)
		// An end beyond the end, and a suffix longer than the blob, mean what there is.
		a = r.getBlob(t, repo, digest, with("Range", fmt.Sprintf("bytes=%d-%d", size-5, size+5))).want(t, http.StatusPartialContent).same(t, blob[size-5:])
		wantContentRange(t, a, size-5, size-1, size)
		r.getBlob(t, repo, digest, with("Range", fmt.Sprintf("bytes=-%d", size+1))).want(t, http.StatusPartialContent, http.StatusOK).same(t, blob)
		// Out of it: 416, and the size to try again with.
		for _, beyond := range []string{fmt.Sprintf("bytes=%d-", size), fmt.Sprintf("bytes=%d-%d", size+10, size+20)} {
			a := r.getBlob(t, repo, digest, with("Range", beyond)).want(t, http.StatusRequestedRangeNotSatisfiable)
			if got, want := a.header.Get("Content-Range"), fmt.Sprintf("bytes */%d", size); got != want {
				t.Errorf("%s, %s: Content-Range %q, want %q", a.what, beyond, got, want)
			}
		}
		if got := r.getBlob(t, repo, digest).header.Get("Accept-Ranges"); got != "bytes" {
			t.Errorf("blob of %d bytes: Accept-Ranges %q, want bytes", size, got)
		}
	}
}

func wantContentRange(t *testing.T, a *answer, first, last, size int) {
	t.Helper()
	if got, want := a.header.Get("Content-Range"), fmt.Sprintf("bytes %d-%d/%d", first, last, size); got != want {
		t.Errorf("%s: Content-Range %q, want %q", a.what, got, want)
	}
	if a.length != int64(last-first+1) {
		t.Errorf("%s: Content-Length %d, want %d", a.what, a.length, last-first+1)
	}
}

// RFC 9110, section 14.2: a Range of another unit is ignored; one that is malformed may be ignored or refused.
func pullBadRanges(t *testing.T, r *registry) {
	repo, blob := r.repo(), noise(300)
	digest := r.push(t, repo, blob)
	for _, c := range []string{"pages=1-2", "bytes", "bytes=", "bytes=a-b", "bytes=5-3", "bytes=--5", "bytes=1-2-3", "bytes=-", "bytes=99999999999999999999-", strings.Repeat("bytes=0-1,", 400)} {
		a := r.getBlob(t, repo, digest, with("Range", c))
		a.want(t, http.StatusOK, http.StatusBadRequest, http.StatusRequestedRangeNotSatisfiable)
		if a.status == http.StatusOK {
			a.same(t, blob)
		}
	}
	// Several ranges: both, or the whole.
	a := r.getBlob(t, repo, digest, with("Range", "bytes=0-1,10-11")).want(t, http.StatusOK, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable)
	if a.status == http.StatusOK {
		a.same(t, blob)
	}
	if mt, _, _ := mime.ParseMediaType(a.header.Get("Content-Type")); a.status == http.StatusPartialContent && mt != "multipart/byteranges" {
		t.Errorf("two ranges: 206 with Content-Type %q, want multipart/byteranges", mt)
	}
}

func pullIfRange(t *testing.T, r *registry) {
	repo, blob := r.repo(), noise(300)
	digest := r.push(t, repo, blob)
	tag := r.getBlob(t, repo, digest).want(t, http.StatusOK).header.Get("Etag")
	if tag == "" {
		r.optional(t, "a blob has no ETag")
	}
	r.getBlob(t, repo, digest, with("Range", "bytes=10-19"), with("If-Range", tag)).want(t, http.StatusPartialContent).same(t, blob[10:20])
	r.getBlob(t, repo, digest, with("Range", "bytes=10-19"), with("If-Range", `"another"`)).want(t, http.StatusOK).same(t, blob)
}
