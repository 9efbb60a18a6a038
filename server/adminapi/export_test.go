package adminapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// Operation is a route for tests.
type Operation struct {
	ID, Method, Path, Verb, Scope string
	Query                         []string
	Body                          *huma.Schema // of the request, nil for none
}

// Operations are all routes.
func (h *Handler) Operations() []Operation {
	var all []Operation
	for _, rt := range h.face.routes {
		o := Operation{ID: rt.id, Method: rt.method, Path: rt.huma.Path, Verb: string(rt.needs.Verb), Scope: string(rt.needs.Scope)}
		for _, p := range rt.huma.Parameters {
			if p.In == "query" {
				o.Query = append(o.Query, p.Name)
			}
		}
		if rt.body {
			o.Body = rt.member("")
		}
		all = append(all, o)
	}
	return all
}

// Match is the route of a method and a path, and the repository in the path; "" for none.
func (h *Handler) Match(method, path string) (id, repository string) {
	rt, r, err := h.face.find(httptest.NewRecorder(), httptest.NewRequest(method, path, http.NoBody))
	if err != nil {
		return "", ""
	}
	return rt.id, r.PathValue("repository")
}

// Undeclared is the error of a face with an operation that is wrong.
func Undeclared(scopeName, path string) error {
	f, err := newFace(&Handler{})
	if err != nil {
		return err
	}
	f.errs = nil
	declare(f, operation{
		id: "x", method: http.MethodGet, path: strings.TrimPrefix(path, root), tag: "x", summary: "x", answer: "x",
		needs: permission{Scope: scope(scopeName)},
	}, func(context.Context, *struct{}) (*shown[nothing], error) { return show(nothing{}) })
	if len(f.errs) == 0 {
		return nil
	}
	return f.errs[0]
}
