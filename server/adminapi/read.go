package adminapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// maxBody is more than any request of this API needs, in bytes.
const maxBody = 64 << 10

// body reads the request's JSON object into v, whose members are all that there may be: a misspelt one is refused, not
// overlooked. No body is the empty object.
func (c *call) body(v any) error {
	text, err := io.ReadAll(io.LimitReader(c.r.Body, maxBody+1))
	if err != nil {
		return err
	}
	if len(text) > maxBody {
		return fault.New(fault.TooLarge, fault.SizeInvalid, "the request body is larger than the %d bytes that this route takes", maxBody)
	}
	if len(strings.TrimSpace(string(text))) == 0 {
		return nil
	}
	if mt, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type")); err != nil || mt != "application/json" {
		return fault.New(fault.Invalid, MediaTypeUnknown, "the request body has Content-Type %.100q; send application/json", c.r.Header.Get("Content-Type"))
	}
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return badJSON(err, v)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fault.New(fault.Invalid, FieldInvalid, "the request body has more after its JSON object")
	}
	return nil
}

func badJSON(err error, v any) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) && wrong.Field == "" {
		return fault.New(fault.Invalid, FieldInvalid, "the request body is a JSON %s; this route takes an object", wrong.Value)
	}
	if wrong != nil {
		return badField(wrong.Field, "member %q expects %s, got a JSON %s", wrong.Field, jsonType(wrong.Type), wrong.Value)
	}
	if quoted, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		if name, e := strconv.Unquote(quoted); e == nil {
			return badField(name, "member %.100q is not known here%s", name, knownMembers(v))
		}
	}
	return fault.New(fault.Invalid, FieldInvalid, "the request body is not the JSON object that this route takes: %s", strings.TrimPrefix(err.Error(), "json: ")).Because(err)
}

// jsonType is what people call the JSON form of a Go type.
func jsonType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Slice:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	}
	return "a number"
}

// knownMembers names the members of a body's struct.
func knownMembers(v any) string {
	t := reflect.TypeOf(v).Elem()
	if t.Kind() != reflect.Struct || t.NumField() == 0 {
		return ""
	}
	var names []string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		names = append(names, name)
	}
	return "; known are " + strings.Join(names, ", ")
}

// The sizes of a page of a list.
const (
	usualPage   = 100
	largestPage = 1000
)

// limit is how many items a page shall have.
func (c *call) limit() (int, error) {
	text := c.r.URL.Query().Get("limit")
	if text == "" {
		return usualPage, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > largestPage {
		return 0, badField("limit", "limit expects a number from 1 to %d, got %.100q", largestPage, text)
	}
	return n, nil
}

// after is the cursor as a number; 0 is the beginning.
func (c *call) after() (int64, error) {
	text := c.r.URL.Query().Get("after")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, badCursor(text)
	}
	return n, nil
}

func badCursor(text string) error {
	return badField("after", "after expects the member next of a page of this list, got %.100q", text)
}

// page answers with a part of a list. next is the cursor of the part behind it, "" at the end. In the header it is a whole
// address (RFC 8288), with the other parameters as they came.
func page[T any](c *call, items []T, next string) error {
	if items == nil {
		items = []T{}
	}
	if next != "" {
		q := c.r.URL.Query()
		q.Set("after", next)
		u := url.URL{Path: c.r.URL.Path, RawPath: c.r.URL.RawPath, RawQuery: q.Encode()}
		c.w.Header().Set("Link", "<"+c.location(u.RequestURI())+`>; rel="next"`)
	}
	return c.ok(struct {
		Items []T    `json:"items"`
		Next  string `json:"next,omitempty"`
	}{items, next})
}

// repository is the name in the path.
func (c *call) repository() (ref.Name, error) { return ref.ParseName(c.params[0]) }

// number is a parameter of the path that is one.
func (c *call) number(i int, reason fault.Reason, what string) (int64, error) {
	n, err := strconv.ParseInt(c.params[i], 10, 64)
	if err != nil || n <= 0 {
		return 0, fault.New(fault.NotFound, reason, "%s %.100q is not there", what, c.params[i])
	}
	return n, nil
}

// digest is a parameter of the path that is one.
func (c *call) digest(i int) (oci.Digest, error) {
	d, err := oci.ParseDigest(c.params[i])
	if err != nil {
		return d, fault.New(fault.Invalid, fault.DigestInvalid, "%v", err)
	}
	return d, nil
}

// moment reads a time of the query, zero when there is none.
func (c *call) moment(name string) (time.Time, error) {
	return parseMoment(name, c.r.URL.Query().Get(name))
}

func parseMoment(name, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return t, badField(name, "%s expects a time such as 2026-01-31T09:00:00Z, got %.100q", name, text)
	}
	return t, nil
}

// stamp is a time as the API writes it, absent when there is none.
func stamp(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// accepted answers 202 with a job that does the work.
func (c *call) accepted(j jobView) error {
	c.w.Header().Set("Location", c.location(fmt.Sprintf("/api/v1/jobs/%d", j.ID)))
	return c.write(http.StatusAccepted, j)
}
