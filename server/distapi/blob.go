package distapi

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/identity"
)

var (
	octets   = []string{"application/octet-stream"}
	bytesTxt = []string{"bytes"}
)

// getBlob answers GET, ranges and HEAD of a blob. Large content leaves by sendfile: the engine gives an *os.File and
// the chain keeps the way to the connection open.
func (h *Handler) getBlob(w http.ResponseWriter, r *http.Request, rt route) error {
	d, err := oci.ParseDigest(rt.last)
	if err != nil {
		return err
	}
	hdr := w.Header()
	etag := `"` + rt.last + `"`
	if r.Method == http.MethodHead && len(r.Header["Range"]) == 0 {
		size, err := h.Registry.StatBlob(r.Context(), rt.name, d)
		if err != nil {
			return hideBlob(r, err)
		}
		blobHeader(hdr, rt.last, etag)
		if notModified(w, r, etag) {
			return nil
		}
		hdr["Content-Length"] = []string{itoa(size)}
		w.WriteHeader(http.StatusOK)
		return nil
	}
	if h.Redirect && r.Method == http.MethodGet {
		if done, err := h.redirect(w, r, rt, d, etag); done || err != nil {
			return err
		}
	}
	content, size, err := h.Registry.OpenBlob(r.Context(), rt.name, d)
	if err != nil {
		if r.Method == http.MethodHead {
			return hideBlob(r, err)
		}
		return err
	}
	defer func() { _ = content.Close() }()
	blobHeader(hdr, rt.last, etag)
	if notModified(w, r, etag) {
		return nil
	}
	part := span{0, size}
	status := http.StatusOK
	if v := r.Header["Range"]; len(v) == 1 && ifRange(r, etag) {
		var partial bool
		if part, partial, err = parseRange(v[0], size); err != nil {
			hdr["Content-Range"] = []string{"bytes */" + itoa(size)}
			return err
		}
		if partial {
			status = http.StatusPartialContent
			hdr["Content-Range"] = []string{fmt.Sprintf("bytes %d-%d/%d", part.start, part.start+part.length-1, size)}
		}
	}
	if part.start == 0 {
		h.pulled(w, r, Pull{Repository: rt.name.String(), Digest: d, Size: size})
	}
	if m, ok := content.(parted); ok {
		hdr["Content-Length"] = []string{itoa(part.length)}
		w.WriteHeader(status)
		_, _ = w.Write(m.Part(part.start, part.length)) // a peer that is gone needs no second failure; HEAD has no body
		return nil
	}
	if part.start > 0 {
		if _, err := content.Seek(part.start, io.SeekStart); err != nil {
			return fmt.Errorf("distapi: seek in blob %s: %w", d, err)
		}
	}
	hdr["Content-Length"] = []string{itoa(part.length)}
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return nil
	}
	var n int64
	if part.length == size {
		n, err = h.Registry.SendBlob(r.Context(), w, d, content, size)
	} else {
		n, err = blob.Copy(w, content, part.length)
	}
	if n < part.length && r.Context().Err() == nil && err != nil {
		return fmt.Errorf("distapi: blob %s broke off after %d of %d bytes: %w", d, n, part.length, err)
	}
	return nil
}

// redirect sends the client to the store, ranges included. done is false for content that is answered here.
func (h *Handler) redirect(w http.ResponseWriter, r *http.Request, rt route, d oci.Digest, etag string) (done bool, err error) {
	to, size, err := h.Registry.BlobURL(r.Context(), rt.name, d)
	if err != nil || to == "" {
		return false, err
	}
	hdr := w.Header()
	blobHeader(hdr, rt.last, etag)
	if notModified(w, r, etag) {
		return true, nil
	}
	// The address is good for minutes and the content for ever: nobody may remember the first for the second.
	for _, name := range []string{"Etag", "Accept-Ranges"} {
		delete(hdr, name)
	}
	hdr["Cache-Control"] = []string{"no-store"}
	hdr["Location"] = []string{to}
	hdr["Content-Length"] = []string{"0"}
	h.pulled(w, r, Pull{Repository: rt.name.String(), Digest: d, Size: size})
	w.WriteHeader(http.StatusTemporaryRedirect)
	return true, nil
}

// parted is content that is in memory and need not be copied on its way out.
type parted interface {
	Part(start, length int64) []byte
}

func blobHeader(hdr http.Header, digest, etag string) {
	hdr["Content-Type"] = octets
	hdr["Docker-Content-Digest"] = []string{digest}
	hdr["Etag"] = []string{etag}
	hdr["Accept-Ranges"] = bytesTxt
	hdr["Cache-Control"] = immutable // content never changes under its digest; who may see it can
}

var immutable = []string{"private, max-age=31536000, immutable"}

// hideBlob makes a refusal of HEAD look like absence for callers who have shown what they have: podman shows nothing of
// an answer 403 here, and goes on to the POST, whose refusal it shows. Those who might do better with a token are asked
// for one.
func hideBlob(r *http.Request, err error) error {
	who := identity.From(r.Context())
	bare := who.Kind == identity.Anonymous && who.Grants == nil
	if fault.Is(err, fault.Denied) || fault.Has(err, fault.UnauthorizedReason) && !bare {
		return fault.New(fault.NotFound, fault.BlobUnknown, "blob is not known here")
	}
	return err
}

func (h *Handler) deleteBlob(w http.ResponseWriter, r *http.Request, rt route) error {
	d, err := oci.ParseDigest(rt.last)
	if err != nil {
		return err
	}
	if err := h.Registry.DeleteBlob(r.Context(), rt.name, d); err != nil {
		return err
	}
	return accepted(w)
}

// ifRange reports whether a Range header counts: without If-Range, or when that names this very content.
func ifRange(r *http.Request, etag string) bool {
	v := r.Header.Get("If-Range")
	return v == "" || v == etag
}

// span is a part of content, in bytes.
type span struct{ start, length int64 }

// parseRange reads a Range header of one range. What it does not understand, and a list of ranges, is ignored and the
// whole is sent, as RFC 9110 section 14.2 allows; a range that the content does not have is refused.
func parseRange(header string, size int64) (s span, partial bool, err error) {
	whole := span{0, size}
	spec, ok := strings.CutPrefix(header, "bytes=")
	if !ok || strings.Contains(spec, ",") {
		return whole, false, nil
	}
	first, last, ok := strings.Cut(strings.TrimSpace(spec), "-")
	if !ok {
		return whole, false, nil
	}
	refuse := fault.New(fault.Range, fault.RangeInvalid, "range %.60q is outside of the content, which has %d bytes", header, size)
	if first == "" { // the last n bytes
		n, ok := parseBytes(last)
		if !ok {
			return whole, false, nil
		}
		if n == 0 || size == 0 {
			return whole, false, refuse
		}
		n = min(n, size)
		return span{size - n, n}, true, nil
	}
	start, ok := parseBytes(first)
	if !ok {
		return whole, false, nil
	}
	end := size - 1
	if last != "" {
		e, ok := parseBytes(last)
		if !ok || e < start {
			return whole, false, nil
		}
		end = min(end, e)
	}
	if start >= size {
		return whole, false, refuse
	}
	return span{start, end - start + 1}, true, nil
}

// parseBytes reads a number of bytes: digits only. A number beyond any size counts as the largest.
func parseBytes(s string) (int64, bool) {
	if s == "" {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 1<<63 - 1, true
	}
	return n, true
}
