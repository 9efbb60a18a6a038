package adminapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Document is the contract, an OpenAPI 3.1 document, as YAML and as JSON. It is the same for every registry.
func Document() (yaml, json []byte, err error) {
	h, err := New(Options{Now: time.Now})
	if err != nil {
		return nil, nil, err
	}
	d := h.face.files()
	return d.yaml, d.json, d.err
}

// files are the document in both forms.
type files struct {
	yaml, json []byte
	err        error
}

func (f *face) write() files {
	doc := f.api.OpenAPI()
	yaml, err1 := doc.YAML()
	json, err2 := json.Marshal(doc)
	return files{yaml, json, errors.Join(err1, err2)}
}

// documented is an answer that is a file.
type documented struct {
	ContentType string `header:"Content-Type" hidden:"true"`
	Body        []byte
}

func (h *Handler) declareDocument(f *face) {
	serve := func(media string, pick func(files) []byte) func(context.Context, *struct{}) (*documented, error) {
		return func(context.Context, *struct{}) (*documented, error) {
			d := h.face.files()
			return &documented{media, pick(d)}, d.err
		}
	}
	declare(f, operation{
		id: "getDocument", method: http.MethodGet, path: "openapi.yaml", tag: "document", needs: permission{Scope: everybody},
		summary: "This document", answer: "The document as YAML.", media: "application/yaml",
	}, serve("application/yaml", func(d files) []byte { return d.yaml }))
	declare(f, operation{
		id: "getDocumentJSON", method: http.MethodGet, path: "/api/openapi.json", tag: "document", needs: permission{Scope: everybody},
		summary: "This document as JSON", answer: "The document as JSON.", media: "application/openapi+json",
	}, serve("application/openapi+json", func(d files) []byte { return d.json }))
}

// description is the document without its operations.
func description() *huma.OpenAPI {
	schemas := huma.NewMapRegistry("#/components/schemas/", schemaName)
	return &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "berth management API", Version: "1", Description: introduction,
			License: &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
		},
		Servers: []*huma.Server{{URL: "/"}},
		Components: &huma.Components{
			Schemas: schemas,
			Responses: map[string]*huma.Response{"Problem": {
				Description: failures,
				Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: schemas.Schema(reflect.TypeFor[problemView](), true, "")}},
			}},
			SecuritySchemes: map[string]*huma.SecurityScheme{
				"basic":   {Type: "http", Scheme: "basic", Description: "Name and password of an account, or name and secret of a robot, or a personal access token in place of the password."},
				"bearer":  {Type: "http", Scheme: "bearer", Description: "A personal access token, the secret of a robot, or an access token of this registry, which is for what belongs to a repository."},
				"session": {Type: "apiKey", In: "cookie", Name: SessionCookie, Description: "A session of a browser. Changes send its CSRF token in " + csrfHeader + "."},
			},
		},
		Security: []map[string][]string{{"basic": {}}, {"bearer": {}}, {"session": {}}},
		Tags: []*huma.Tag{
			{Name: "projects", Description: "Namespaces that own repositories."},
			{Name: "members", Description: "Who has a role in a project."},
			{Name: "roles", Description: "Named sets of verbs."},
			{Name: "grants", Description: "What somebody may, or may not, do to repositories of a pattern."},
			{Name: "users", Description: "Accounts of people."},
			{Name: "groups", Description: "Named sets of accounts."},
			{Name: "robots", Description: "Accounts of machines."},
			{Name: "tokens", Description: "Personal access tokens."},
			{Name: "providers", Description: "Sources of identities, as the configuration has them."},
			{Name: "issuers", Description: "Whose tokens are exchanged for ours."},
			{Name: "sessions", Description: "Logins of browsers."},
			{Name: "me", Description: "The caller."},
			{Name: "repositories", Description: "Repositories, and finding them."},
			{Name: "manifests", Description: "Manifests, and what refers to them."},
			{Name: "tags", Description: "Tags, what they were, and putting them back."},
			{Name: "trash", Description: "Manifests that were deleted and can be brought back."},
			{Name: "configuration", Description: "The configuration of the registry as one document."},
			{Name: "system", Description: "How this berthd is set up, and how it fares."},
			{Name: "jobs", Description: "Background work of the registry."},
			{Name: "events", Description: "What happens in the registry, in its order."},
			{Name: "collection", Description: "Space of what nobody needs any more."},
			{Name: "integrity", Description: "Whether stored content is still what its digests say."},
			{Name: "backups", Description: "Snapshots of the registry."},
			{Name: "document", Description: "This document."},
		},
	}
}

const introduction = `Administration of a berth registry. Images are pushed and pulled through the distribution API below ` + "`/v2/`" + `.

**Where.** On the listeners of the registry, with the name and password of an account (HTTP Basic); and on the Unix socket
` + "`berthd.sock`" + ` in the data directory, where the user that berthd runs as and root are the local administrator without a
password: ` + "`curl --unix-socket berth-data/berthd.sock http://localhost/api/v1/jobs`" + `.

**Rights.** ` + "`x-permission`" + ` says what an operation needs: a verb, and what it is asked for: the ` + "`registry`" + `, the
` + "`project`" + ` or ` + "`repository`" + ` of the path, or what is ` + "`visible`" + ` to the caller, the rest left out; ` + "`signed-in`" + ` is whoever has logged in,
and ` + "`everybody`" + ` needs nothing. A bearer token of the registry serves where it has the verb; it
never makes an administrator. What a caller may not see is answered as what is not there.

**Names of repositories** have slashes in them, and a path has them as they are, or as ` + "`%2F`" + ` (which is what generated
clients send): ` + "`/api/v1/repositories/team/app/-/trash`" + `. The segment ` + "`-`" + ` ends the name; no name has it.

**Lists** answer ` + "`{\"items\": [...], \"next\": \"...\"}`" + `. The next page is asked for with ` + "`after`" + ` set to ` + "`next`" + `, which is a
cursor of that list and says nothing to others; its whole address is in ` + "`Link`" + ` with ` + "`rel=\"next\"`" + `. A list without ` + "`next`" + `
is at its end. A page is found by key, so what is added or removed meanwhile neither hides nor repeats anything else. ` + "`fields`" + `
names the members that items, or an answer, shall have.

**Changes.** An object that can be changed has an ` + "`ETag`" + `. A change sends it in ` + "`If-Match`" + `: 428 without it, 412 when the object is
another one by now. A creation may have an ` + "`Idempotency-Key`" + `: sent again with the same request, it is answered as the first time,
with ` + "`Idempotency-Replayed: true`" + `, and nothing is done twice; a secret is said only the first time.

**Requests** may have no parameters and no members but those written here: an unknown one is refused by its name. Times are
RFC 3339 in UTC; sizes are bytes.

**Failures** are problem details (RFC 9457) with the members ` + "`reason`" + `, which programs match; ` + "`field`" + `, when a parameter or
member is the cause, and ` + "`errors`" + `, which names every one that is wrong; and ` + "`requestId`" + `, under which the server's log has more.
`

const failures = `Why not. 400 the request is wrong; 401 a login is needed; 403 the caller may not; 404 it is not there, or the caller may
not know of it; 405 and 415 method and media type; 409 the state forbids it; 412 and
428 it was changed meanwhile, or If-Match is missing; 413 too large; 429 and 503 try again after
` + "`Retry-After`" + ` seconds; 500 a fault of the registry; 507 no space is left.`
