package adminapi

import (
	"errors"
	"net/http"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/httpd"
	"github.com/berth-registry/berth/server/metadb"
)

// Reasons of this face.
const (
	// FieldInvalid marks a request with a parameter, or a member of its body, that is unknown or has no such value.
	FieldInvalid fault.Reason = "FIELD_INVALID"
	// RouteUnknown marks a path that is not part of the API, MethodUnknown a method that it does not have there.
	RouteUnknown  fault.Reason = "ROUTE_UNKNOWN"
	MethodUnknown fault.Reason = "METHOD_NOT_ALLOWED"
	// MediaTypeUnknown marks a body that does not say that it is JSON.
	MediaTypeUnknown fault.Reason = "MEDIA_TYPE_UNKNOWN"
	// TargetUnusable marks a place of backups that cannot be opened.
	TargetUnusable fault.Reason = "TARGET_UNUSABLE"
	// JobUnknown marks the number of no job.
	JobUnknown fault.Reason = "JOB_UNKNOWN"
)

// Failures is how failures look below /api/: problem details.
//
// Spec: RFC 9457. The type is about:blank, whose title is that of the status; reason is what programs match.
func Failures() httpd.Face {
	return httpd.Face{Prefix: "/api/", Table: problem, Document: document}
}

// problem is the table of statuses. Unsupported is what the configuration of this registry switches off: that is its
// state, not a method that the path does not have.
func problem(f *fault.Error) httpd.Problem {
	p := httpd.DefaultProblem(f)
	switch {
	case f.Reason == MethodUnknown:
		p.Status = http.StatusMethodNotAllowed
	case f.Reason == MediaTypeUnknown:
		p.Status = http.StatusUnsupportedMediaType
	case f.Kind == fault.Unsupported:
		p.Status = http.StatusConflict
	}
	p.Code = string(f.Reason)
	return p
}

type problemView struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	Reason    string `json:"reason"`
	Field     string `json:"field,omitempty"`
	RequestID string `json:"requestId,omitempty"`
}

func document(f *fault.Error, p httpd.Problem, id string) (mediaType string, body []byte) {
	d := problemView{Type: "about:blank", Title: http.StatusText(p.Status), Status: p.Status, Detail: f.Message, Reason: p.Code, RequestID: id}
	var field fieldError
	if errors.As(f.Unwrap(), &field) {
		d.Field = string(field)
	}
	body, err := encode(d)
	if err != nil { // strings and a number
		body = []byte("{}\n")
	}
	return "application/problem+json", body
}

// fieldError is the name of the parameter, or the path of the member, that is wrong.
type fieldError string

func (f fieldError) Error() string { return "field " + string(f) }

func badField(name, format string, args ...any) error {
	return fault.New(fault.Invalid, FieldInvalid, format, args...).Because(fieldError(name))
}

// orUnknown turns the database's "there is none" into an answer.
func orUnknown(err error, reason fault.Reason, format string, args ...any) error {
	if errors.Is(err, metadb.ErrNotFound) && !isFault(err) {
		return fault.New(fault.NotFound, reason, format, args...).Because(err)
	}
	return err
}

func isFault(err error) bool {
	var f *fault.Error
	return errors.As(err, &f)
}
