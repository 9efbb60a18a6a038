package adminapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// fieldsParameter is the parameter fields of routes that show something.
func fieldsParameter(members []string) *huma.Param {
	names := make([]any, len(members))
	for i, m := range members {
		names[i] = m
	}
	no := false
	return &huma.Param{
		Name: "fields", In: "query", Explode: &no, Description: "Members that the answer, or each item of a page, shall have, with commas between them; all when not said.",
		Schema: &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString, Enum: names}},
	}
}

// readFields reads the parameter. Only members of what is shown anyway can be named.
func readFields(r *http.Request, rt *route) ([]string, error) {
	text := r.URL.Query().Get("fields")
	if text == "" {
		return nil, nil
	}
	var bad wrong
	fields := strings.Split(text, ",")
	for _, name := range fields {
		if !slices.Contains(rt.members, name) {
			bad.add("fields", "fields expects names of %s, got %.100q", strings.Join(rt.members, ", "), name)
			break
		}
	}
	return fields, bad.err()
}

// projected leaves of an answer, or of each item of a page, only the members that were asked for, in the order they have.
func projected(v any, members, fields []string) (any, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var p struct {
		Items *[]json.RawMessage `json:"items"`
		Next  string             `json:"next"`
	}
	if !slices.Contains(members, "items") {
		if err := json.Unmarshal(text, &p); err != nil {
			return nil, err
		}
	}
	if p.Items == nil {
		return only(text, members, fields)
	}
	out := page[json.RawMessage]{Items: []json.RawMessage{}, Next: p.Next}
	for _, item := range *p.Items {
		kept, err := only(item, members, fields)
		if err != nil {
			return nil, err
		}
		out.Items = append(out.Items, kept)
	}
	return out, nil
}

func only(text []byte, members, fields []string) (json.RawMessage, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteByte('{')
	for _, name := range members {
		value, there := all[name]
		if !there || !slices.Contains(fields, name) {
			continue
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		b.WriteString(`"` + name + `":`)
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}
