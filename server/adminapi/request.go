package adminapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/internal/legible"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/identity"
)

// maxBody is more than most requests of this API need, in bytes.
const maxBody = 64 << 10

// storable refuses parameters of a path with what no database keeps: nothing has such a name.
func storable(r *http.Request, rt *route) error {
	var bad wrong
	for part := range strings.SplitSeq(rt.huma.Path, "/") {
		if name := strings.Trim(part, "{}"); name != part && !legible.Storable(r.PathValue(name)) {
			bad.add(name, "%s %.100q is not UTF-8, or has the character NUL", name, r.PathValue(name))
		}
	}
	return bad.err()
}

// knownQuery refuses what a route does not read: a filter with a typing error would otherwise answer with everything. So
// would one that cannot be read.
func knownQuery(r *http.Request, rt *route) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return badField("query", "the query %.100q cannot be read: %v; write %%25 for a percent sign and %%3B for a semicolon", r.URL.RawQuery, err)
	}
	var names []string
	for _, p := range rt.huma.Parameters {
		if p.In == "query" {
			names = append(names, p.Name)
		}
	}
	var bad wrong
	for name, values := range query {
		switch {
		case slices.Contains(names, name):
			if slices.ContainsFunc(values, func(v string) bool { return !legible.Storable(v) }) {
				bad.add(name, "%s is not UTF-8, or has the character NUL", name)
			}
		case names == nil:
			bad.add(name, "parameter %.100q is not known here; the route has none", name)
		default:
			bad.add(name, "parameter %.100q is not known here; known are %s", name, strings.Join(names, ", "))
		}
	}
	bad.sort()
	return bad.err()
}

// readBody reads the body of a request, which huma takes from memory, and wants it to be JSON. A route without one does not
// look at it.
func readBody(r *http.Request, rt *route) ([]byte, error) {
	if !rt.body {
		r.Body = http.NoBody
		return nil, nil
	}
	text, err := io.ReadAll(io.LimitReader(r.Body, rt.limit+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(text)) > rt.limit:
		return nil, fault.New(fault.TooLarge, fault.SizeInvalid, "the request body is larger than the %d bytes that this route takes", rt.limit)
	case len(bytes.TrimSpace(text)) == 0:
		r.Body = http.NoBody
		if rt.huma.RequestBody.Required {
			return nil, fault.New(fault.Invalid, FieldInvalid, "the request has no body; this route takes a JSON object")
		}
		return nil, nil
	}
	switch mt, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); {
	case err == nil && mt == "application/json":
	case err == nil && mt == mediaYAML && rt.yaml:
		if text, err = jsonOf(text); err != nil {
			return nil, fault.New(fault.Invalid, FieldInvalid, "the request body is not the YAML that this route takes: %s", strings.TrimPrefix(err.Error(), "yaml: "))
		}
		r.Header.Set("Content-Type", "application/json")
	default:
		return nil, fault.New(fault.Invalid, MediaTypeUnknown, "the request body has Content-Type %.100q; send application/json", r.Header.Get("Content-Type"))
	}
	r.Body = io.NopCloser(bytes.NewReader(text))
	return text, nil
}

// decode reads one JSON value, for huma. Its errors are for the caller.
func decode(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(v); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return errors.New("it ends too early")
		}
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errTrailing
	}
	return nil
}

var errTrailing = errors.New("the request body has more after its JSON object")

// InRepository is the parameter of routes about a repository.
type InRepository struct {
	Repository string `path:"repository" doc:"Name of the repository, such as team/app, with its slashes as they are or as %2F."`
}

// InTag are the parameters of routes about a tag.
type InTag struct {
	InRepository
	Tag string `path:"tag" doc:"Name of the tag."`
}

// digestOfPath is a parameter of the path that is one.
func digestOfPath(text string) (oci.Digest, error) {
	d, err := oci.ParseDigest(text)
	if err != nil {
		return d, fault.New(fault.Invalid, fault.DigestInvalid, "%v", err)
	}
	return d, nil
}

// digest reads a member of a body that is a digest, zero when it is not there.
func (w *wrong) digest(name, text string) oci.Digest {
	if text == "" {
		return oci.Digest{}
	}
	d, err := oci.ParseDigest(text)
	if err != nil {
		w.add(name, "member %q expects a digest such as sha256:9f86…, got %.100q", name, text)
	}
	return d
}

// moment reads a time, zero when there is none.
func (w *wrong) moment(name, text string) time.Time {
	if text == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		w.add(name, "%s expects a time such as 2026-01-31T09:00:00Z, got %.100q", name, text)
	}
	return t
}

// stamp is a time as the API writes it, absent when there is none.
func stamp(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// text is a digest, "" for none.
func text(d oci.Digest) string {
	if d.IsZero() {
		return ""
	}
	return d.String()
}

// list is a list that is never null.
func list[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}

func viewAll[T, V any](items []T, view func(T) V) []V {
	out := make([]V, len(items))
	for i, item := range items {
		out[i] = view(item)
	}
	return out
}

// optional reads a filter that is true, false or not said.
func optional(text string) *bool {
	if text == "" {
		return nil
	}
	yes := text == "true"
	return &yes
}

// words are verbs as texts, and verbsOf texts as verbs.
func words(verbs []identity.Verb) []string {
	return viewAll(verbs, func(v identity.Verb) string { return string(v) })
}

func verbsOf(words []string) []identity.Verb {
	if words == nil {
		return nil
	}
	return viewAll(words, func(w string) identity.Verb { return identity.Verb(w) })
}
