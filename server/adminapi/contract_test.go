package adminapi_test

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/berth-registry/berth/api"
	"github.com/berth-registry/berth/server/adminapi"
)

var update = flag.Bool("update", false, "write api/openapi.yaml anew")

func face(t *testing.T) *adminapi.Handler {
	t.Helper()
	h, err := adminapi.New(adminapi.Options{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestContract: api/openapi.yaml is what the operations say. With -update it is written anew.
func TestContract(t *testing.T) {
	text, _, err := adminapi.Document()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(filepath.Join("..", "..", "api", "openapi.yaml"), text, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if api.OpenAPI() != string(text) {
		t.Error("api/openapi.yaml is stale; make it anew: go run ./cmd/berthd openapi > api/openapi.yaml")
	}
}

// TestOperations: every route has all that the contract promises of one, and a permission.
func TestOperations(t *testing.T) {
	var doc struct {
		OpenAPI string `yaml:"openapi"`
		Tags    []struct{ Name string }
		Paths   map[string]map[string]struct {
			ID          string `yaml:"operationId"`
			Tags        []string
			Summary     string
			Permission  map[string]string `yaml:"x-permission"`
			Parameters  []struct{ Name, In, Description string }
			Responses   map[string]any
			RequestBody struct {
				Content map[string]struct{ Schema map[string]any }
			} `yaml:"requestBody"`
		}
	}
	if err := yaml.Unmarshal([]byte(api.OpenAPI()), &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1.") {
		t.Errorf("OpenAPI %s", doc.OpenAPI)
	}
	ids, used := map[string]bool{}, map[string]bool{}
	for path, item := range doc.Paths {
		for method, o := range item {
			if ids[o.ID] {
				t.Errorf("two operations are called %s", o.ID)
			}
			ids[o.ID] = true
			if o.ID == "" || o.Summary == "" || len(o.Tags) != 1 || o.Permission["scope"] == "" || o.Responses["default"] == nil {
				t.Errorf("%s %s: %+v", method, path, o)
			}
			for _, tag := range o.Tags {
				used[tag] = true
			}
			var inPath []string
			for _, p := range o.Parameters {
				if p.Description == "" {
					t.Errorf("%s does not say what %s is", o.ID, p.Name)
				}
				if p.In == "path" {
					inPath = append(inPath, p.Name)
				}
			}
			for _, part := range strings.Split(path, "/") {
				if name := strings.Trim(part, "{}"); name != part && !slices.Contains(inPath, name) {
					t.Errorf("%s does not describe %s", o.ID, name)
				}
			}
		}
	}
	for _, tag := range doc.Tags {
		if !used[tag.Name] {
			t.Errorf("nothing has the tag %s", tag.Name)
		}
		delete(used, tag.Name)
	}
	for tag := range used {
		t.Errorf("the tag %s is not described", tag)
	}
	h := face(t)
	operations := h.Operations()
	if len(operations) < 27 || len(operations) != len(ids) {
		t.Errorf("%d routes, %d operations in the document", len(operations), len(ids))
	}
	for _, o := range operations {
		path := strings.NewReplacer("{repository}", "team/-x/tags", "{tag}", "history", "{id}", "7", "{digest}", "sha256:00", "{user}", "al%2Fice", "{group}", "G%201", "{robot}", "ci", "{project}", "team", "{role}", "r", "{issuer}", "github").Replace(o.Path)
		if id, _ := h.Match(o.Method, path); id != o.ID {
			t.Errorf("%s %s is %q, want %s", o.Method, path, id, o.ID)
		}
	}
}

// A route that does not say what it needs, or that another one is in the way of, does not start.
func TestUndeclared(t *testing.T) {
	for _, test := range []struct{ scope, path, want string }{
		{"", "/api/v1/x", "declares no permission"},
		{"registry", "/api/v1/x", "names no verb"},
		{"world", "/api/v1/x", "declares no permission"},
		{"everybody", "/api/v1/jobs", "cannot be declared"},
		{"everybody", "/api/v1/x", ""},
	} {
		err := adminapi.Undeclared(test.scope, test.path)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q %s: %v", test.scope, test.path, err)
		}
	}
}

// TestReferences: what the document refers to is in it, and what is in it is referred to.
func TestReferences(t *testing.T) {
	var root map[string]any
	if err := yaml.Unmarshal([]byte(api.OpenAPI()), &root); err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				used[ref] = true
				var at any = root
				for _, part := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
					m, _ := at.(map[string]any)
					at = m[part]
				}
				if at == nil {
					t.Errorf("%s refers to nothing", ref)
				}
			}
			for _, below := range v {
				walk(below)
			}
		case []any:
			for _, below := range v {
				walk(below)
			}
		}
	}
	walk(root)
	schemas, _ := root["components"].(map[string]any)["schemas"].(map[string]any)
	if len(schemas) < 20 {
		t.Errorf("only %d schemas", len(schemas))
	}
	for name := range schemas {
		if !used["#/components/schemas/"+name] {
			t.Errorf("schema %s is used nowhere", name)
		}
	}
}

// A name is the same however a client or a proxy writes its slashes, and whatever words it is made of.
func TestNamesInPaths(t *testing.T) {
	h := face(t)
	for _, test := range []struct{ path, id, name string }{
		{"repositories/app/-/trash", "listTrash", "app"},
		{"repositories/team/app/-/trash", "listTrash", "team/app"},
		{"repositories/team%2Fapp/-/trash", "listTrash", "team/app"},
		{"repositories/team/trash/-/trash", "listTrash", "team/trash"},
		{"repositories/team/tags/v1/history/-/tags/v1/history", "listTagHistory", "team/tags/v1/history"},
		{"repositories/-/trash", "", ""},
		{"repositories//-/trash", "", ""},
		{"repositories/team/../app/-/trash", "", ""},
		{"repositories/team/app/trash", "getRepository", "team/app/trash"},
		{"repositories/team/app/-/trash/", "", ""},
		{"repositories/team/app/-/tags//history", "", ""},
		{"trash", "listAllTrash", ""},
		{"jobs/", "", ""},
		{"", "", ""},
	} {
		if id, name := h.Match("GET", "/api/v1/"+test.path); id != test.id || name != test.name {
			t.Errorf("%s: %q of %q, want %q of %q", test.path, id, name, test.id, test.name)
		}
	}
}
