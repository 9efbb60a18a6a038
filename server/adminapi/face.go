package adminapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
)

// face is all operations: the mux that finds one, and the document that describes them. It is made once.
type face struct {
	api    huma.API
	mux    *http.ServeMux
	routes []*route
	errs   []error
	files  func() files // made when it is asked for first
}

// newFace declares every operation of the handler.
func newFace(h *Handler) (*face, error) {
	f := &face{mux: http.NewServeMux()}
	f.files = sync.OnceValue(f.write)
	f.api = huma.NewAPI(huma.Config{
		OpenAPI:       description(),
		Formats:       map[string]huma.Format{"application/json": {Marshal: encode, Unmarshal: decode}, "json": {Marshal: encode}}, // the second is what it takes of problem+json
		DefaultFormat: "application/json",
		Transformers:  []huma.Transformer{explain},
	}, f)
	h.declareDocument(f)
	h.declareProjects(f)
	h.declareGrants(f)
	h.declareRoles(f)
	h.declareUsers(f)
	h.declareGroups(f)
	h.declareRobots(f)
	h.declareProviders(f)
	h.declareIssuers(f)
	h.declareMe(f)
	h.declareSessions(f)
	h.declareRepositories(f)
	h.declareBlueprints(f)
	h.declareSystem(f)
	h.declareJobs(f)
	h.declareEvents(f)
	h.declareTags(f)
	h.declareTrash(f)
	h.declareCollection(f)
	h.declareChecks(f)
	h.declareBackups(f)
	f.tidy()
	return f, errors.Join(f.errs...)
}

func (f *face) wrong(o operation, err error) {
	f.errs = append(f.errs, fmt.Errorf("adminapi: operation %s (%s %s) %w", o.id, o.method, o.path, err))
}

// Handle implements huma.Adapter.
func (f *face) Handle(op *huma.Operation, handler func(huma.Context)) {
	rt, ok := op.Metadata[metaRoute].(*route)
	if !ok {
		panic("an operation that was not declared")
	}
	rt.huma, rt.handler, rt.body = op, handler, op.RequestBody != nil
	f.routes = append(f.routes, rt)
	f.mux.Handle(op.Method+" "+op.Path, rt)
}

// ServeHTTP implements huma.Adapter. The face calls the handlers of its routes itself.
func (f *face) ServeHTTP(w http.ResponseWriter, r *http.Request) { f.mux.ServeHTTP(w, r) }

// ServeHTTP makes the route something that a ServeMux can find; see find.
func (rt *route) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "this route is called by its face", http.StatusInternalServerError)
}

// tidy makes the document say what the API does: lists are never null, and failures look as errors.go has them.
func (f *face) tidy() {
	doc := f.api.OpenAPI()
	delete(doc.Components.Schemas.Map(), "ErrorModel")
	delete(doc.Components.Schemas.Map(), "ErrorDetail")
	for _, s := range doc.Components.Schemas.Map() {
		neverNull(s)
	}
	for _, rt := range f.routes {
		for _, p := range rt.huma.Parameters {
			p.Schema.Description = "" // the parameter has it
			neverNull(p.Schema)
		}
		if b := rt.huma.RequestBody; b != nil {
			for _, m := range b.Content {
				neverNull(m.Schema)
			}
		}
	}
}

// neverNull takes null from the types of lists, at any depth.
func neverNull(s *huma.Schema) {
	if s == nil {
		return
	}
	if s.Type == huma.TypeArray {
		s.Nullable = false
	}
	neverNull(s.Items)
	for _, p := range s.Properties {
		neverNull(p)
	}
	if more, ok := s.AdditionalProperties.(*huma.Schema); ok {
		neverNull(more)
	}
}

// schemaName is what the document calls a type: jobView is Job, page[jobView] is JobPage.
func schemaName(t reflect.Type, hint string) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	name := t.Name()
	if name == "" {
		name = hint
	}
	suffix := ""
	if outer, inner, ok := strings.Cut(strings.TrimSuffix(name, "]"), "["); ok {
		name = inner[strings.LastIndexByte(inner, '.')+1:]
		suffix = strings.ToUpper(outer[:1]) + outer[1:]
	}
	if name = strings.TrimSuffix(name, "View"); name == "" { // it stays where it is used
		return ""
	}
	if strings.HasSuffix(t.PkgPath(), "/blueprint") || strings.HasSuffix(t.PkgPath(), "/auth") { // names there are those of objects of ours
		name = "Configured" + name
	}
	return strings.ToUpper(name[:1]) + name[1:] + suffix
}

// membersOf are the names of the members of an answer, or of the items of a page: what fields= may name.
func membersOf[O any]() []string {
	body, ok := reflect.TypeFor[O]().FieldByName("Body")
	if !ok || body.Type.Kind() != reflect.Struct {
		return nil
	}
	t := body.Type
	if items, ok := t.FieldByName("Items"); ok && items.Type.Kind() == reflect.Slice {
		t = items.Type.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	var names []string
	for i := range t.NumField() {
		if name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}

// encode writes JSON with a line's end, and with < and > as they are: nothing here goes into a page of HTML.
func encode(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
