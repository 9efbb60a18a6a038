package adminapi_test

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/berth-registry/berth/api"
	"github.com/berth-registry/berth/server/adminapi"
)

// The parts of the contract that the code is compared with.
type contract struct {
	OpenAPI    string                          `yaml:"openapi"`
	Tags       []struct{ Name string }         `yaml:"tags"`
	Paths      map[string]map[string]yaml.Node `yaml:"paths"`
	Components struct {
		Parameters map[string]parameter `yaml:"parameters"`
		Responses  map[string]yaml.Node `yaml:"responses"`
		Schemas    map[string]schema    `yaml:"schemas"`
	} `yaml:"components"`
}

type parameter struct {
	Ref      string `yaml:"$ref"`
	Name     string `yaml:"name"`
	In       string `yaml:"in"`
	Required bool   `yaml:"required"`
}

type schema struct {
	Type                 string               `yaml:"type"`
	Required             []string             `yaml:"required"`
	Properties           map[string]yaml.Node `yaml:"properties"`
	AdditionalProperties any                  `yaml:"additionalProperties"`
}

type operation struct {
	ID         string      `yaml:"operationId"`
	Tags       []string    `yaml:"tags"`
	Summary    string      `yaml:"summary"`
	Permission string      `yaml:"x-permission"`
	Parameters []parameter `yaml:"parameters"`
	Body       struct {
		Content map[string]struct {
			Schema struct {
				Ref string `yaml:"$ref"`
			} `yaml:"schema"`
		} `yaml:"content"`
	} `yaml:"requestBody"`
	Responses map[string]yaml.Node `yaml:"responses"`
}

func read(t *testing.T) (contract, string) {
	t.Helper()
	text := api.OpenAPI()
	var c contract
	if err := yaml.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(c.OpenAPI, "3.1.") || len(c.Paths) == 0 {
		t.Fatalf("this is no OpenAPI 3.1 document: %q, %d paths", c.OpenAPI, len(c.Paths))
	}
	return c, text
}

func (c contract) resolve(t *testing.T, ps []parameter) (query, path []string) {
	t.Helper()
	for _, p := range ps {
		if name, ok := strings.CutPrefix(p.Ref, "#/components/parameters/"); ok {
			p, ok = c.Components.Parameters[name]
			if !ok {
				t.Errorf("parameter %s is not there", name)
			}
		}
		switch p.In {
		case "query":
			query = append(query, p.Name)
		case "path":
			path = append(path, p.Name)
			if !p.Required {
				t.Errorf("path parameter %s is not required", p.Name)
			}
		default:
			t.Errorf("parameter %q is in %q", p.Name, p.In)
		}
	}
	return query, path
}

// described is an operation of the document in the form of the table of routes.
func (c contract) described(t *testing.T) map[string]adminapi.Operation {
	t.Helper()
	all := map[string]adminapi.Operation{}
	for path, item := range c.Paths {
		var shared []parameter
		if node, ok := item["parameters"]; ok {
			if err := node.Decode(&shared); err != nil {
				t.Fatal(err)
			}
		}
		for method, node := range item {
			if method == "parameters" {
				continue
			}
			var o operation
			if err := node.Decode(&o); err != nil {
				t.Fatalf("%s %s: %v", method, path, err)
			}
			query, inPath := c.resolve(t, slices.Concat(shared, o.Parameters))
			for _, part := range strings.Split(path, "/") {
				if name := strings.Trim(part, "{}"); name != part && !slices.Contains(inPath, name) {
					t.Errorf("%s %s does not describe %s", method, path, name)
				}
			}
			if o.Summary == "" || len(o.Tags) != 1 || o.ID == "" {
				t.Errorf("%s %s has no operationId, no summary, or not one tag", method, path)
			}
			if _, ok := o.Responses["default"]; !ok {
				t.Errorf("%s does not say how it fails", o.ID)
			}
			if _, twice := all[o.ID]; twice {
				t.Errorf("two operations are called %s", o.ID)
			}
			slices.Sort(query)
			all[o.ID] = adminapi.Operation{ID: o.ID, Method: strings.ToUpper(method), Path: path, Permission: o.Permission, Query: query}
		}
	}
	return all
}

// TestRoutesAreTheContract: every route is in the document, everything in the document is a route, and both say the same.
func TestRoutesAreTheContract(t *testing.T) {
	c, _ := read(t)
	described := c.described(t)
	for _, route := range adminapi.Operations() {
		want, ok := described[route.ID]
		delete(described, route.ID)
		if !ok {
			t.Errorf("route %s %s (%s) is not in api/openapi.yaml", route.Method, route.Path, route.ID)
			continue
		}
		slices.Sort(route.Query)
		if route.Method != want.Method || route.Path != want.Path || route.Permission != want.Permission || !slices.Equal(route.Query, want.Query) {
			t.Errorf("%s\n route    %+v\n contract %+v", route.ID, route, want)
		}
		if route.Permission == "" {
			t.Errorf("route %s does not say what it needs", route.ID)
		}
		example := strings.NewReplacer("{repository}", "team/-x/tags", "{tag}", "history", "{id}", "7", "{digest}", "sha256:00").Replace(route.Path)
		if id, _ := adminapi.Match(route.Method, example); id != route.ID {
			t.Errorf("%s %s is %q, want %s", route.Method, example, id, route.ID)
		}
	}
	for id := range described {
		t.Errorf("api/openapi.yaml has %s, which is no route", id)
	}
}

// TestSchemasAreTheStructs: what is read and written has the members that the document describes, and is required exactly
// where it is always written.
func TestSchemasAreTheStructs(t *testing.T) {
	c, text := read(t)
	check := func(name string, typ reflect.Type, body bool) {
		s, ok := c.Components.Schemas[name]
		if !ok {
			t.Errorf("schema %s is not there", name)
			return
		}
		var fields, always []string
		for i := range typ.NumField() {
			field, options, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			fields = append(fields, field)
			if !strings.Contains(options, "omit") {
				always = append(always, field)
			}
		}
		described := slices.Sorted(maps.Keys(s.Properties))
		slices.Sort(fields)
		if !slices.Equal(fields, described) {
			t.Errorf("%s\n struct   %v\n contract %v", name, fields, described)
		}
		if body {
			if s.AdditionalProperties != false {
				t.Errorf("%s is a body and does not say additionalProperties: false", name)
			}
			return
		}
		slices.Sort(always)
		slices.Sort(s.Required)
		if !slices.Equal(always, s.Required) {
			t.Errorf("%s\n always written %v\n required       %v", name, always, s.Required)
		}
	}
	known := map[string]bool{"Next": true, "Digest": true, "JobState": true}
	for name, typ := range adminapi.Bodies() {
		known[name] = true
		check(name, typ, true)
	}
	for name, typ := range adminapi.Views() {
		known[name] = true
		check(name, typ, false)
	}
	for name := range c.Components.Schemas {
		if !known[name] {
			t.Errorf("schema %s is compared with no struct; add it to export_test.go", name)
		}
		if !strings.Contains(text, "#/components/schemas/"+name+`"`) {
			t.Errorf("schema %s is used nowhere", name)
		}
	}
}

// TestReferences: what the document refers to is in it.
func TestReferences(t *testing.T) {
	_, text := read(t)
	var root map[string]any
	if err := yaml.Unmarshal([]byte(text), &root); err != nil {
		t.Fatal(err)
	}
	seen := 0
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				seen++
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
	if seen < 20 {
		t.Errorf("only %d references were found", seen)
	}
}

// A name is the same however a client or a proxy writes its slashes, and whatever words it is made of.
func TestNamesInPaths(t *testing.T) {
	for _, test := range []struct{ path, id, name string }{
		{"repositories/app/-/trash", "listTrash", "app"},
		{"repositories/team/app/-/trash", "listTrash", "team/app"},
		{"repositories/team/trash/-/trash", "listTrash", "team/trash"},
		{"repositories/team/tags/v1/history/-/tags/v1/history", "listTagHistory", "team/tags/v1/history"},
		{"repositories/-/trash", "", ""},
		{"repositories//-/trash", "", ""},
		{"repositories/team/app/trash", "", ""},
		{"repositories/team/app/-/trash/", "", ""},
		{"repositories/team/app/-/tags//history", "", ""},
		{"trash", "listAllTrash", ""},
		{"jobs/", "", ""},
		{"", "", ""},
	} {
		id, params := adminapi.Match("GET", "/api/v1/"+test.path)
		if id != test.id || test.name != "" && (len(params) == 0 || params[0] != test.name) {
			t.Errorf("%s: %q %v, want %q of %q", test.path, id, params, test.id, test.name)
		}
	}
}
