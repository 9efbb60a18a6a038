package distapi

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/registry"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// getManifest answers GET and HEAD of a manifest, byte for byte as it was pushed and under the type it was pushed with:
// the Accept header cannot make it another content, and clients list what they understand for this case only.
func (h *Handler) getManifest(w http.ResponseWriter, r *http.Request, rt route) error {
	reference, err := ref.ParseReference(rt.last)
	if fault.Has(err, fault.TagInvalid) { // no tag can have this name
		return fault.New(fault.NotFound, fault.ManifestUnknown, "%s", fault.Of(err).Message)
	}
	if err != nil {
		return err
	}
	tag := reference.Tag
	if r.URL.RawQuery != "" {
		if reference, err = h.then(r, rt.name, reference); err != nil {
			return err
		}
	}
	find := h.Registry.Manifest
	if r.Method == http.MethodHead {
		find = h.Registry.StatManifest
	}
	m, err := find(r.Context(), rt.name, reference)
	if err != nil {
		return err
	}
	d := m.Digest.String()
	etag := `"` + d + `"`
	hdr := w.Header()
	hdr["Docker-Content-Digest"] = []string{d}
	hdr["Etag"] = []string{etag}
	if notModified(w, r, etag) {
		return nil
	}
	if r.Method == http.MethodHead && len(r.Header["Berth-Attached"]) > 0 {
		if err := h.tellAttached(w, r, rt.name, m.Digest); err != nil {
			return err
		}
	}
	hdr["Content-Type"] = []string{m.MediaType}
	hdr["Content-Length"] = []string{itoa(int64(len(m.Body)))}
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusOK)
		return nil
	}
	_, _ = w.Write(m.Body)
	h.pulled(w, r, Pull{Repository: rt.name.String(), Tag: tag, Digest: m.Digest, MediaType: m.MediaType, Size: int64(len(m.Body)), Body: m.Body})
	return nil
}

// tellAttached answers who asks, with the header of the same name, whether referrers or signatures belong to a manifest: "some" or
// "none". So a client that has the manifest already need ask for neither of them. It is ours.
func (h *Handler) tellAttached(w http.ResponseWriter, r *http.Request, name ref.Name, d oci.Digest) error {
	attached, err := h.Registry.Attached(r.Context(), name, d)
	if err != nil {
		return err
	}
	says := "none"
	if attached {
		says = "some"
	}
	w.Header()["Berth-Attached"] = []string{says}
	return nil
}

// then is the digest that a tag had at the time of the query parameter at, a time of RFC 3339. It is ours: the
// specification gives GET of a manifest no parameters. Without it, it is the reference itself; others are not looked at,
// such as the ns of containerd.
func (h *Handler) then(r *http.Request, name ref.Name, reference ref.Reference) (ref.Reference, error) {
	q := r.URL.Query()
	if !q.Has("at") {
		return reference, nil
	}
	at, err := time.Parse(time.RFC3339Nano, q.Get("at"))
	if err != nil || reference.Tag == "" {
		return reference, fault.New(fault.Invalid, fault.TagInvalid, "at expects a tag and a time such as 2026-01-31T09:00:00Z; got %q and %.60q", reference, q.Get("at"))
	}
	e, err := h.Registry.TagAt(r.Context(), name, reference.Tag, at)
	return ref.Reference{Digest: e.Digest}, err
}

func (h *Handler) putManifest(w http.ResponseWriter, r *http.Request, rt route) error {
	reference, err := ref.ParseReference(rt.last)
	if err != nil {
		return err
	}
	p := registry.PutManifest{Reference: reference, MediaType: r.Header.Get("Content-Type")}
	q, err := query(r)
	if err != nil {
		return err
	}
	if a := q.Get("digest-algorithm"); a != "" {
		if p.Algorithm, err = oci.ParseAlgorithm(a); err != nil {
			return err
		}
	}
	if reference.Tag == "" {
		p.Tags = q["tag"]
	}
	if p.Body, err = readBody(w, r, h.Registry.ManifestLimit()); err != nil {
		return err
	}
	out, err := h.Registry.PutManifest(r.Context(), rt.name, p)
	if err != nil {
		return err
	}
	hdr := w.Header()
	d := out.Digest.String()
	hdr.Set("Docker-Content-Digest", d)
	hdr.Set("Location", h.location("/v2/"+rt.name.String()+"/manifests/"+d))
	if !out.Subject.IsZero() {
		hdr["Oci-Subject"] = []string{out.Subject.String()}
	}
	if reference.Tag == "" && len(out.Tags) > 0 {
		hdr["Oci-Tag"] = out.Tags
	}
	hdr.Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
	return nil
}

// prepared is how much memory a manifest gets before it came, in bytes. Nearly all need less; a caller who announces more
// has to send it first.
const prepared = 64 << 10

// readBody reads a body that fits into memory, or refuses it.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	tooLarge := func() error {
		return fault.New(fault.TooLarge, fault.ManifestInvalid, "manifest has more than %d bytes, which is what this registry accepts", limit)
	}
	if r.ContentLength > limit {
		return nil, tooLarge()
	}
	size := min(max(r.ContentLength, 512), prepared)
	buf := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead))
	n, err := buf.ReadFrom(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return nil, bodyError(err)
	}
	if n > limit {
		return nil, tooLarge()
	}
	return buf.Bytes(), nil
}

// bodyError is a body that could not be read: the sender's fault, unless the reader said otherwise.
func bodyError(err error) error {
	if f := fault.Of(err); f.Kind != fault.Internal {
		return err
	}
	return fault.New(fault.Invalid, fault.SizeInvalid, "the request body ended before it was complete").Because(err)
}

func (h *Handler) deleteManifest(w http.ResponseWriter, r *http.Request, rt route) error {
	reference, err := ref.ParseReference(rt.last)
	if err != nil {
		return err
	}
	gone, err := h.Registry.DeleteManifest(r.Context(), rt.name, reference)
	if err != nil {
		return err
	}
	if reference.Tag == "" {
		nameDeleted(w.Header(), rt.name, reference.Digest, gone)
	}
	return accepted(w)
}

// maxNamed bounds the names of tags in a header, in bytes: proxies give the whole header of an answer a page of memory.
const maxNamed = 2 << 10

// nameDeleted says which tags were deleted with a manifest, and how it comes back: OCI-Tag for programs, in the form of the
// answer to a push, and a warning for people, where their client shows it. Both name as many as there is
// room for.
//
// Spec: OCI distribution v1.1.1, "Warnings".
func nameDeleted(hdr http.Header, name ref.Name, d oci.Digest, gone *registry.Deleted) {
	room := maxNamed
	for i, t := range gone.Tags {
		if room -= len(t) + len("Oci-Tag: \r\n"); room < 0 {
			break
		}
		hdr["Oci-Tag"] = gone.Tags[:i+1]
	}
	var said []string
	switch n := len(gone.Tags); {
	case n == 1:
		said = append(said, "tag "+gone.Tags[0]+" pointed at it and was deleted, too")
	case n > 1:
		names := strings.Join(gone.Tags[:min(n, 5)], ", ")
		if n > 5 {
			names += ", ..."
		}
		said = append(said, itoa(int64(n))+" tags pointed at it and were deleted, too: "+names)
	}
	if gone.Hold > 0 {
		said = append(said, "it can be brought back for "+strings.TrimSuffix(gone.Hold.String(), "0m0s")+": berthd trash restore "+name.String()+"@"+d.String())
	}
	if len(gone.Tags) > 0 {
		hdr["Warning"] = []string{`299 - "` + strings.Join(said, "; ") + `"`}
	}
}

func accepted(w http.ResponseWriter) error {
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusAccepted)
	return nil
}
