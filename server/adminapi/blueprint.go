package adminapi

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"reflect"

	"go.yaml.in/yaml/v3"

	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/blueprint"
	"github.com/berth-registry/berth/server/identity"
)

// blueprints is what the face needs of the blueprint room.
type blueprints interface {
	Export(ctx context.Context) (blueprint.Document, error)
	Apply(ctx context.Context, d blueprint.Document, ask blueprint.Ask) ([]blueprint.Change, error)
}

// mediaYAML is the media type of YAML (RFC 9512).
const mediaYAML = "application/yaml"

func (h *Handler) declareBlueprints(f *face) {
	declare(f, operation{
		id: "exportConfiguration", method: http.MethodGet, path: "export", tag: "configuration", needs: on(onRegistry, identity.Export),
		summary: "Export the configuration: projects, roles, groups, accounts, robots, grants and issuers",
		text:    "Nothing that is secret is in it: accounts have no passwords there, and robots no secrets. What is written in the configuration file is not in it either.",
		answer:  "The configuration of this moment.", media: mediaYAML, also: reflect.TypeFor[blueprint.Document](),
	}, h.export)
	declare(f, operation{
		id: "applyConfiguration", method: http.MethodPut, path: "apply", tag: "configuration", needs: on(onRegistry, identity.Apply), limit: largestDocument, yaml: true,
		summary: "Make the configuration what a document says, as a whole or not at all",
		text: "What the document does not name stays, or goes with `prune`. Accounts and robots that are made have no password and no secret yet. " +
			"The document may be YAML (`Content-Type: application/yaml`).",
		answer: "What has changed, or would, in the order in which it was done.",
	}, h.apply)
	// Its members are checked like those of an issuer that is made by itself.
	schemas := f.api.OpenAPI().Components.Schemas
	schemas.Map()["ConfiguredIssuer"].Properties["config"] = schemas.Schema(reflect.TypeFor[auth.IssuerConfig](), true, "")
}

// largestDocument is the bytes of a configuration.
const largestDocument = 8<<20 - 1

type exportQuery struct {
	Format string `query:"format" enum:"json,yaml" default:"json" doc:"Form of the document."`
}

func (h *Handler) export(ctx context.Context, q *exportQuery) (*documented, error) {
	d, err := h.Blueprints.Export(ctx)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := encode(&b, d); err != nil {
		return nil, err
	}
	if q.Format != "yaml" {
		return &documented{"application/json", b.Bytes()}, nil
	}
	text, err := yamlOf(b.Bytes())
	return &documented{mediaYAML, text}, err
}

// yamlOf writes JSON as YAML, with its members in the order they have.
func yamlOf(text []byte) ([]byte, error) {
	var n yaml.Node
	if err := yaml.Unmarshal(text, &n); err != nil { // JSON is YAML
		return nil, err
	}
	var block func(n *yaml.Node)
	block = func(n *yaml.Node) {
		n.Style &^= yaml.FlowStyle | yaml.DoubleQuotedStyle
		for _, below := range n.Content {
			block(below)
		}
	}
	block(&n)
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(&n); err != nil {
		return nil, err
	}
	return b.Bytes(), e.Close()
}

// jsonOf reads YAML as JSON.
func jsonOf(text []byte) ([]byte, error) {
	var v any
	if err := yaml.Unmarshal(text, &v); err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

type applyInput struct {
	DryRun bool `query:"dry_run" doc:"Say what would change, and change nothing."`
	Prune  bool `query:"prune" doc:"Delete what the document does not have."`
	Body   blueprint.Document
}

type appliedView struct {
	DryRun  bool               `json:"dryRun"`
	Changes []blueprint.Change `json:"changes"`
}

func (h *Handler) apply(ctx context.Context, in *applyInput) (*shown[appliedView], error) {
	changes, err := h.Blueprints.Apply(ctx, in.Body, blueprint.Ask{DryRun: in.DryRun, Prune: in.Prune})
	if err != nil {
		return nil, err
	}
	return show(appliedView{in.DryRun, list(changes)})
}
