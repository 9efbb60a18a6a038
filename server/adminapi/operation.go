package adminapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/identity"
)

// scope is what a permission is about.
type scope string

const (
	everybody    scope = "everybody"  // nothing is told that is not public; no verb
	signedIn     scope = "signed-in"  // whoever has proved to be somebody; no verb
	onRegistry   scope = "registry"   // the registry as a whole: asked before anything of the request is read
	onVisible    scope = "visible"    // what the caller may see: the engine leaves the rest out, and refuses who may see nothing
	onProject    scope = "project"    // the project of the path
	onRepository scope = "repository" // the repository of the path: the engine asks on its first line
)

// permission is what a caller needs: a verb on something. It is part of the contract, x-permission of the operation.
type permission struct {
	Verb  identity.Verb `json:"verb,omitempty"`
	Scope scope         `json:"scope"`
}

// on is the permission of a verb.
func on(s scope, v identity.Verb) permission { return permission{Verb: v, Scope: s} }

// check says what is wrong with a permission.
func (p permission) check() error {
	switch p.Scope {
	case everybody, signedIn:
		if p.Verb != "" {
			return fmt.Errorf("is for %s and asks for %s", p.Scope, p.Verb)
		}
		return nil
	case onRegistry, onVisible, onProject, onRepository:
		if p.Verb == "" {
			return fmt.Errorf("names no verb on the %s", p.Scope)
		}
		return nil
	}
	return errors.New("declares no permission")
}

// operation is a route of the API besides the types of its handler, which declare the rest.
type operation struct {
	id      string // operationId
	method  string
	path    string // below /api/v1/; {repository} takes a name with its slashes
	tag     string
	summary string
	text    string // more of it
	needs   permission
	answer  string       // what the good answer is
	status  int          // of it; 0 is 200
	media   string       // of it, when it is not JSON
	also    reflect.Type // of the JSON that it may be as well
	yaml    bool         // the body may be YAML
	limit   int64        // bytes of the request's body; 0 is maxBody
	object  string       // what a number in the path counts, and the reason when there is none
	unknown fault.Reason
	later   bool   // it may also be answered by a job, 202
	once    bool   // it makes something, and takes an Idempotency-Key
	secret  string // the member of the answer that is said only once
}

// root is the path of the API.
const root = "/api/v1/"

// route is an operation with what serves it.
type route struct {
	operation
	huma    *huma.Operation
	handler func(huma.Context)
	members []string // of an answer, or of the items of a page, for fields=
	body    bool     // requests have one
	schemas huma.Registry
}

// declare adds an operation. I has its parameters and Body, O its headers and Body, in the tags of huma. What is wrong with
// it is an error of New: a route without a permission does not start.
func declare[I, O any](f *face, o operation, serve func(context.Context, *I) (*O, error)) {
	defer func() {
		if p := recover(); p != nil { // huma's way to say that a type cannot be one
			f.wrong(o, fmt.Errorf("cannot be declared: %v", p))
		}
	}()
	if err := o.needs.check(); err != nil {
		f.wrong(o, err)
		return
	}
	if o.id == "" || o.tag == "" || o.summary == "" || o.answer == "" {
		f.wrong(o, errors.New("has no id, tag, summary or answer"))
		return
	}
	rt := &route{operation: o, members: membersOf[O](), schemas: f.api.OpenAPI().Components.Schemas}
	if rt.limit == 0 {
		rt.limit = maxBody
	}
	path := root + o.path
	if strings.HasPrefix(o.path, "/") {
		path = o.path
	}
	op := huma.Operation{
		OperationID: o.id, Method: o.method, Path: path, Tags: []string{o.tag}, Summary: o.summary, Description: o.text,
		DefaultStatus: o.status, MaxBodyBytes: rt.limit + 1, BodyReadTimeout: -1, // face.body has read it, with the stall protection of the server
		SkipValidateBody: true, // route.checkBody does
		Metadata:         map[string]any{metaRoute: rt}, Extensions: map[string]any{"x-permission": o.needs},
		Responses: map[string]*huma.Response{"default": {Ref: "#/components/responses/Problem"}},
	}
	if op.DefaultStatus == 0 {
		op.DefaultStatus = http.StatusOK
	}
	good := &huma.Response{Description: o.answer}
	if o.media != "" {
		good.Content = map[string]*huma.MediaType{o.media: {Schema: &huma.Schema{Type: huma.TypeString}}}
	}
	op.Responses[fmt.Sprint(op.DefaultStatus)] = good
	if o.later {
		op.Responses["202"] = &huma.Response{
			Description: startedAnswer, Headers: map[string]*huma.Param{"Location": {Description: "Where the job is.", Schema: &huma.Schema{Type: huma.TypeString}}},
			Content: map[string]*huma.MediaType{"application/json": {Schema: rt.schemas.Schema(reflect.TypeFor[jobView](), true, "")}},
		}
	}
	if o.method == http.MethodGet && len(rt.members) > 0 {
		op.Parameters = append(op.Parameters, fieldsParameter(rt.members))
	}
	if o.once {
		op.Parameters = append(op.Parameters, keyParameter())
	}
	if o.also != nil {
		good.Content["application/json"] = &huma.MediaType{Schema: rt.schemas.Schema(o.also, true, "")}
	}
	if o.needs.Scope == everybody {
		op.Security = []map[string][]string{{}}
	}
	huma.Register(f.api, op, func(ctx context.Context, in *I) (*O, error) {
		c := callOf(ctx)
		if c.body != nil {
			c.err = c.body
			return nil, failed{}
		}
		out, err := serve(ctx, in)
		if err != nil {
			c.err = err
			return nil, failed{}
		}
		return out, nil
	})
	if o.later { // what huma says of the one output of the handler is that of the other answer
		good.Content, good.Headers = nil, nil
	}
}

// metaRoute is where an operation of huma has its route.
const metaRoute = "route"

// failed tells huma that the call has an error of its own, which the face writes.
type failed struct{}

func (failed) Error() string { return "the call has failed" }

// GetStatus implements huma.StatusError; nobody sees it.
func (failed) GetStatus() int { return http.StatusInternalServerError }
