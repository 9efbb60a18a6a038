package distapi

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/httpd"
)

// Search answers GET /v1/search, which is what docker search HOST/term and podman search HOST/term call. The API is the
// one of the first registry; nothing newer took its place.
type Search struct{ *Handler }

// ServeHTTP implements http.Handler.
func (s Search) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := httpd.RecordOf(w)
	rec.SetHandler("search")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", reads)
		httpd.WriteError(w, r, fault.New(fault.Unsupported, fault.UnsupportedReason, "method %.20s is not offered by search; use GET", r.Method))
		return
	}
	// docker search without a login sends an empty name and password. Elsewhere that is a wrong login; here it is none.
	if r.Header.Get("Authorization") == "Basic Og==" {
		r.Header.Del("Authorization")
	}
	ctx, err := s.authenticate(r, rec)
	if err == nil {
		err = s.search(w, r.WithContext(ctx))
	}
	if err != nil {
		httpd.WriteError(w, r, err)
	}
}

type searchResult struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	StarCount   int    `json:"star_count"`
	IsOfficial  bool   `json:"is_official"`
	IsAutomated bool   `json:"is_automated"`
	IsTrusted   bool   `json:"is_trusted"`
}

func (s Search) search(w http.ResponseWriter, r *http.Request) error {
	q, err := query(r)
	if err != nil {
		return err
	}
	n, _, err := pagination(q)
	if err != nil {
		return err
	}
	if n <= 0 {
		n = 25
	}
	term := q.Get("q")
	if len(term) > 255 {
		return fault.New(fault.Invalid, fault.NameInvalid, "search text has %d bytes; at most 255 are looked for", len(term))
	}
	found, err := s.Registry.Search(r.Context(), strings.ToLower(term), n)
	if err != nil {
		return err
	}
	results := make([]searchResult, len(found))
	for i, repo := range found {
		results[i] = searchResult{Name: repo.Name}
	}
	body, err := json.Marshal(map[string]any{
		"num_pages": 1, "num_results": len(results), "page": 1, "page_size": n, "query": term, "results": results,
	})
	if err != nil {
		return err
	}
	return writeJSON(w, append(body, '\n'))
}
