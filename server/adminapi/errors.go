package adminapi

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

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
	// PreconditionRequired marks a change without If-Match; Changed one of an object that is not what was read any more.
	PreconditionRequired fault.Reason = "PRECONDITION_REQUIRED"
	Changed              fault.Reason = "CHANGED_MEANWHILE"
	// KeyReused marks an Idempotency-Key that another request had, KeyInUse one whose request is being done.
	KeyReused fault.Reason = "IDEMPOTENCY_KEY_REUSED"
	KeyInUse  fault.Reason = "IDEMPOTENCY_KEY_IN_USE"
	// EventsRemoved marks a cursor behind which events were removed before they could be read.
	EventsRemoved fault.Reason = "EVENTS_REMOVED"
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
	case f.Reason == PreconditionRequired:
		p.Status = http.StatusPreconditionRequired
	case f.Reason == EventsRemoved:
		p.Status = http.StatusGone
	case f.Reason == Changed, errors.Is(f, metadb.ErrChanged):
		p.Status = http.StatusPreconditionFailed
	case f.Kind == fault.Unsupported:
		p.Status = http.StatusConflict
	}
	p.Code = string(f.Reason)
	if f.Kind == fault.Invalid && f.Field != "" && (f.Reason == fault.Unknown || f.Reason == fault.UnsupportedReason) { // an engine has named the member alone
		p.Code = string(FieldInvalid)
	}
	return p
}

// problemView is the body of a failure.
type problemView struct {
	Type      string           `json:"type" doc:"Always about:blank."`
	Title     string           `json:"title" doc:"The name of the status."`
	Status    int              `json:"status"`
	Detail    string           `json:"detail" doc:"For people: what was asked, what was found, what to do."`
	Reason    string           `json:"reason" doc:"For programs: FIELD_INVALID, DENIED, MANIFEST_UNKNOWN …"`
	Field     string           `json:"field,omitempty" doc:"The parameter or member that is wrong; the first, when several are."`
	Errors    []fieldErrorView `json:"errors,omitempty" doc:"Every parameter and member that is wrong."`
	RequestID string           `json:"requestId,omitempty" doc:"Under which the log of the server has more."`
}

// fieldErrorView is one of several that are wrong.
type fieldErrorView struct {
	Field  string `json:"field"`
	Detail string `json:"detail"`
}

func document(f *fault.Error, p httpd.Problem, id string) (mediaType string, body []byte) {
	d := problemView{Type: "about:blank", Title: http.StatusText(p.Status), Status: p.Status, Detail: f.Message, Reason: p.Code, RequestID: id}
	var bad wrong
	if f.Field != "" {
		bad.add(f.Field, "%s", f.Message)
	} else {
		_ = errors.As(f.Unwrap(), &bad)
	}
	if len(bad) > 0 {
		d.Field = bad[0].Field
		d.Errors = bad
	}
	var b bytes.Buffer
	if err := encode(&b, d); err != nil { // strings and a number
		return "application/problem+json", []byte("{}\n")
	}
	return "application/problem+json", b.Bytes()
}

// wrong gathers the parameters and members that are.
type wrong []fieldErrorView

func (w wrong) Error() string {
	names := make([]string, len(w))
	for i, f := range w {
		names[i] = f.Field
	}
	return "wrong: " + strings.Join(names, ", ")
}

func (w *wrong) add(field, format string, args ...any) {
	*w = append(*w, fieldErrorView{field, fmt.Sprintf(format, args...)})
}

// sort puts them into one order, whatever map they come from.
func (w wrong) sort() {
	slices.SortStableFunc(w, func(a, b fieldErrorView) int { return strings.Compare(a.Field, b.Field) })
}

// err is the answer: nil when nothing is wrong.
func (w wrong) err() error {
	if len(w) == 0 {
		return nil
	}
	return fault.New(fault.Invalid, FieldInvalid, "%s", w[0].Detail).Because(w)
}

func badField(name, format string, args ...any) error {
	var w wrong
	w.add(name, format, args...)
	return w.err()
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
