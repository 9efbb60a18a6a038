package distapi

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/registry"
)

// query reads the parameters of a request. net/http passes over those that it cannot decode, and the request would mean
// something else than its sender thinks.
func query(r *http.Request) (url.Values, error) {
	if r.URL.RawQuery == "" {
		return nil, nil
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fault.New(fault.Invalid, fault.UnsupportedReason, "query %.100q cannot be decoded; write it as name=value&name=value, with percent-encoding", r.URL.RawQuery)
	}
	for name, values := range q {
		for _, v := range values {
			if !printable(v) {
				return nil, fault.New(fault.Invalid, fault.UnsupportedReason, "parameter %.40q has the value %.60q; control characters and broken UTF-8 are not accepted", name, v)
			}
		}
	}
	return q, nil
}

// printable reports whether a text is UTF-8 without control characters. What is not, no name of anything contains, and
// not every database can even be asked for it.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// pagination reads n and last. n is -1 when the request does not say.
func pagination(q url.Values) (n int, last string, err error) {
	n = -1
	if v := q.Get("n"); v != "" {
		parsed, ok := parseBytes(v)
		if !ok {
			return 0, "", fault.New(fault.Invalid, fault.PaginationInvalid, "number of results n=%.40q is not a number from 0 up", v)
		}
		n = int(min(parsed, 1<<30))
	}
	return n, q.Get("last"), nil
}

// next writes the Link header that leads to the next page (RFC 8288).
func (h *Handler) next(w http.ResponseWriter, path string, q url.Values) {
	w.Header().Set("Link", "<"+h.location(path)+"?"+q.Encode()+`>; rel="next"`)
}

func (h *Handler) tags(w http.ResponseWriter, r *http.Request, rt route) error {
	q, err := query(r)
	if err != nil {
		return err
	}
	n, last, err := pagination(q)
	if err != nil {
		return err
	}
	page, err := h.Registry.Tags(r.Context(), rt.name, last, n)
	if err != nil {
		return err
	}
	h.more(w, "/v2/"+rt.name.String()+"/tags/list", page, n)
	return writeJSON(w, names(`{"name":"`+rt.name.String()+`","tags":[`, page))
}

func (h *Handler) catalog(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r)
	if err != nil {
		return err
	}
	n, last, err := pagination(q)
	if err != nil {
		return err
	}
	page, err := h.Registry.Catalog(r.Context(), last, n)
	if err != nil {
		return err
	}
	h.more(w, "/v2/_catalog", page, n)
	return writeJSON(w, names(`{"repositories":[`, page))
}

func (h *Handler) more(w http.ResponseWriter, path string, page *registry.Names, n int) {
	if !page.More {
		return
	}
	q := url.Values{"last": {page.Names[len(page.Names)-1]}, "n": {strconv.Itoa(len(page.Names))}}
	if n > 0 {
		q.Set("n", strconv.Itoa(n))
	}
	h.next(w, path, q)
}

// names renders a list whose members need no escaping: the grammar of tags and names has no such characters.
func names(head string, page *registry.Names) []byte {
	size := len(head) + 4
	for _, s := range page.Names {
		size += len(s) + 3
	}
	b := append(make([]byte, 0, size), head...)
	for i, s := range page.Names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, s...)
		b = append(b, '"')
	}
	return append(b, "]}\n"...)
}

func (h *Handler) referrers(w http.ResponseWriter, r *http.Request, rt route) error {
	d, err := oci.ParseDigest(rt.last)
	if err != nil {
		return err
	}
	params, err := query(r)
	if err != nil {
		return err
	}
	n, last, err := pagination(params)
	if err != nil {
		return err
	}
	q := registry.ReferrersQuery{Subject: d, ArtifactType: params.Get("artifactType"), Limit: max(n, 0)}
	if last != "" {
		if q.After, err = oci.ParseDigest(last); err != nil {
			return err
		}
	}
	page, err := h.Registry.Referrers(r.Context(), rt.name, q)
	if err != nil {
		return err
	}
	if q.ArtifactType != "" {
		w.Header()["Oci-Filters-Applied"] = []string{"artifactType"}
	}
	if !page.Next.IsZero() {
		link := url.Values{"last": {page.Next.String()}}
		if q.ArtifactType != "" {
			link.Set("artifactType", q.ArtifactType)
		}
		if n > 0 {
			link.Set("n", strconv.Itoa(n))
		}
		h.next(w, "/v2/"+rt.name.String()+"/referrers/"+rt.last, link)
	}
	const head = `{"schemaVersion":2,"mediaType":"` + oci.MediaTypeIndex + `","manifests":[`
	body := make([]byte, 0, len(head)+len(page.Descriptors)+3)
	body = append(append(append(body, head...), page.Descriptors...), "]}\n"...)
	hdr := w.Header()
	hdr["Content-Type"] = []string{oci.MediaTypeIndex}
	hdr["Content-Length"] = []string{itoa(int64(len(body)))}
	_, _ = w.Write(body)
	return nil
}

// extensions lists what this registry has beyond the specification's endpoints.
//
// Spec: OCI distribution, extensions/_oci.md.
func (h *Handler) extensions(w http.ResponseWriter, r *http.Request, rt route) error {
	type extension struct {
		Name        string   `json:"name"`
		Description string   `json:"description"`
		URL         string   `json:"url"`
		Endpoints   []string `json:"endpoints"`
	}
	prefix := "/v2/"
	if !rt.name.IsZero() {
		prefix += rt.name.String() + "/"
	}
	list := []extension{{
		Name: "_oci", Description: "discovery of extensions",
		URL:       "https://github.com/opencontainers/distribution-spec/blob/main/extensions/_oci.md",
		Endpoints: []string{prefix + "_oci/ext/discover"},
	}}
	if err := h.Registry.Base(r.Context(), false); err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{"extensions": list})
	if err != nil {
		return err
	}
	return writeJSON(w, append(body, '\n'))
}
