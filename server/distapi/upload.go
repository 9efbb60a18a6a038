package distapi

import (
	"math"
	"net/http"
	"net/url"
	"strings"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/registry"
)

// startUpload answers POST …/blobs/uploads/: a mount, a whole blob, or the beginning of an upload.
func (h *Handler) startUpload(w http.ResponseWriter, r *http.Request, rt route) error {
	q, err := query(r)
	if err != nil {
		return err
	}
	if q.Has("mount") {
		done, err := h.mount(w, r, rt, q)
		if done || err != nil {
			return err
		}
	}
	if q.Has("digest") {
		d, err := oci.ParseDigest(q.Get("digest"))
		if err != nil {
			return err
		}
		if err := h.Registry.PutBlob(r.Context(), rt.name, d, body(r)); err != nil {
			return err
		}
		return h.created(w, rt.name, d)
	}
	var alg oci.Algorithm
	if q.Has("digest-algorithm") {
		if alg, err = oci.ParseAlgorithm(q.Get("digest-algorithm")); err != nil {
			return err
		}
	}
	u, err := h.Registry.StartUpload(r.Context(), rt.name, alg)
	if err != nil {
		return err
	}
	w.Header().Set("OCI-Chunk-Min-Length", itoa(registry.MinChunk))
	return h.progress(w, rt.name, u, http.StatusAccepted)
}

func (h *Handler) mount(w http.ResponseWriter, r *http.Request, rt route, q url.Values) (done bool, err error) {
	d, err := oci.ParseDigest(q.Get("mount"))
	if err != nil {
		return false, err
	}
	var from ref.Name
	if f := q.Get("from"); f != "" {
		if from, err = ref.ParseName(f); err != nil {
			return false, nil // no repository can have this name, so it has no blob to mount: the client uploads
		}
	}
	ok, err := h.Registry.Mount(r.Context(), rt.name, d, from)
	if err != nil || !ok {
		return false, err
	}
	return true, h.created(w, rt.name, d)
}

// body is the request's body as a chunk without a place of its own.
func body(r *http.Request) registry.Chunk {
	return registry.Chunk{Start: -1, Length: r.ContentLength, Body: r.Body}
}

func (h *Handler) created(w http.ResponseWriter, name ref.Name, d oci.Digest) error {
	hdr := w.Header()
	hdr["Docker-Content-Digest"] = []string{d.String()}
	hdr["Location"] = []string{h.location("/v2/" + name.String() + "/blobs/" + d.String())}
	hdr["Content-Length"] = []string{"0"}
	w.WriteHeader(http.StatusCreated)
	return nil
}

// progress answers how far an upload is. An upload without bytes says 0-0, like one with a single byte: the form has no
// other way, and clients know.
func (h *Handler) progress(w http.ResponseWriter, name ref.Name, u *registry.Upload, status int) error {
	hdr := w.Header()
	hdr["Location"] = []string{h.location("/v2/" + name.String() + "/blobs/uploads/" + u.ID)}
	hdr["Range"] = []string{"0-" + itoa(max(u.Received-1, 0))}
	hdr["Docker-Upload-Uuid"] = []string{u.ID}
	hdr["Content-Length"] = []string{"0"}
	w.WriteHeader(status)
	return nil
}

// upload answers the methods of an upload in progress.
func (h *Handler) upload(w http.ResponseWriter, r *http.Request, rt route) error {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		u, err := h.Registry.UploadStatus(r.Context(), rt.name, rt.last)
		if err != nil {
			return err
		}
		return h.progress(w, rt.name, u, http.StatusNoContent)
	case http.MethodPatch:
		c, err := chunk(r)
		if err != nil {
			return err
		}
		u, err := h.Registry.Append(r.Context(), rt.name, rt.last, c)
		if err != nil {
			if u != nil { // where the client should go on
				w.Header()["Range"] = []string{"0-" + itoa(max(u.Received-1, 0))}
			}
			return err
		}
		return h.progress(w, rt.name, u, http.StatusAccepted)
	case http.MethodPut:
		return h.commit(w, r, rt)
	case http.MethodDelete:
		if err := h.Registry.CancelUpload(r.Context(), rt.name, rt.last); err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return notAllowed(w, r, rt)
}

func (h *Handler) commit(w http.ResponseWriter, r *http.Request, rt route) error {
	q, err := query(r)
	if err != nil {
		return err
	}
	if !q.Has("digest") {
		return fault.New(fault.Invalid, fault.DigestInvalid, "the request that ends an upload needs ?digest= with the digest of the whole content")
	}
	d, err := oci.ParseDigest(q.Get("digest"))
	if err != nil {
		return err
	}
	c, err := chunk(r)
	if err != nil {
		return err
	}
	if err := h.Registry.Commit(r.Context(), rt.name, rt.last, d, c); err != nil {
		return err
	}
	return h.created(w, rt.name, d)
}

// chunk reads the Content-Range of an upload: "<first byte>-<last byte>" and nothing else, as the specification has it.
//
// Spec: OCI distribution v1.1.1, "Pushing a blob in chunks".
func chunk(r *http.Request) (registry.Chunk, error) {
	c := body(r)
	v := r.Header.Get("Content-Range")
	if v == "" {
		return c, nil
	}
	start, length, ok := contentRange(v)
	if !ok {
		return c, fault.New(fault.Invalid, fault.BlobUploadInvalid, "content range %.60q is malformed; write it as <first byte>-<last byte>, like 0-1023", v)
	}
	if c.Length >= 0 && c.Length != length {
		return c, fault.New(fault.Invalid, fault.SizeInvalid, "content range %.60q has %d bytes and the body has %d", v, length, c.Length)
	}
	c.Start, c.Length = start, length
	return c, nil
}

// contentRange takes a Content-Range apart; both ends are included, so that there is none of no bytes.
func contentRange(v string) (start, length int64, ok bool) {
	first, last, _ := strings.Cut(v, "-")
	start, ok1 := parseBytes(first)
	end, ok2 := parseBytes(last)
	if !ok1 || !ok2 || end < start || end == math.MaxInt64 {
		return 0, 0, false
	}
	return start, end - start + 1, true
}
