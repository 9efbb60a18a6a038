package httpd

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/berth-registry/berth/fault"
)

// Problem is how a fault is told to a client: the HTTP status and the code in errors[0].code.
type Problem struct {
	Status int
	Code   string
}

// Reasons of this room, for the kinds that the distribution specification has no code for.
const (
	// InvalidToken marks an Unauthenticated fault whose bearer token is expired, forged or unreadable; the challenge then
	// says error="invalid_token".
	InvalidToken fault.Reason = "INVALID_TOKEN"
	// PlainHTTP marks a request that came without TLS from where it has to be used.
	PlainHTTP fault.Reason = "PLAIN_HTTP"
	// HeaderTooLarge marks a request whose header exceeds the limit.
	HeaderTooLarge fault.Reason = "HEADER_TOO_LARGE"
	// BodyStalled marks a request body that made no progress; BodyCut one that ended before its announced end.
	BodyStalled fault.Reason = "BODY_STALLED"
	BodyCut     fault.Reason = "BODY_CUT"
)

// ErrorWriter renders faults as the distribution API's error document. There is one per server; the zero value works
// and challenges nobody.
type ErrorWriter struct {
	Log *slog.Logger
	// Realm is the absolute URL of the token endpoint as this caller reaches it; "" sends a Basic challenge.
	Realm func(*http.Request) string
	// Service is the token service's name.
	Service func(*http.Request) string
	// Table maps a fault to its status and code; nil is DefaultProblem. The distribution face owns the table.
	Table func(*fault.Error) Problem
	// Faces are the ones whose failures look otherwise.
	Faces []Face
}

// Face is how failures look below a path, for a face that does not answer with the distribution API's document.
type Face struct {
	Prefix string // of paths: "/api/"
	Table  func(*fault.Error) Problem
	// Document is the body of an answer and its media type; id is the request's.
	Document func(f *fault.Error, p Problem, id string) (mediaType string, body []byte)
}

// face is the one that a path belongs to, nil for the distribution API.
func (e *ErrorWriter) face(path string) *Face {
	for i := range e.Faces {
		if prefix := e.Faces[i].Prefix; strings.HasPrefix(path, prefix) || path+"/" == prefix {
			return &e.Faces[i]
		}
	}
	return nil
}

// DefaultProblem is the table of last resort: the kind alone decides the status, and codes that clients act upon
// (DENIED, UNAUTHORIZED, UNSUPPORTED, TOOMANYREQUESTS) are never replaced by finer reasons, because podman retries what
// it does not know.
func DefaultProblem(f *fault.Error) Problem {
	switch f.Kind {
	case fault.Invalid:
		if f.Reason == BodyStalled {
			return Problem{http.StatusRequestTimeout, string(fault.BlobUploadInvalid)}
		}
		return Problem{http.StatusBadRequest, string(f.Reason)}
	case fault.NotFound:
		return Problem{http.StatusNotFound, string(f.Reason)}
	case fault.Conflict:
		return Problem{http.StatusConflict, string(f.Reason)}
	case fault.Unauthenticated:
		return Problem{http.StatusUnauthorized, string(fault.UnauthorizedReason)}
	case fault.Denied:
		return Problem{http.StatusForbidden, string(fault.DeniedReason)}
	case fault.TooLarge:
		if f.Reason == HeaderTooLarge {
			return Problem{http.StatusRequestHeaderFieldsTooLarge, string(fault.SizeInvalid)}
		}
		return Problem{http.StatusRequestEntityTooLarge, string(f.Reason)}
	case fault.RateLimited:
		return Problem{http.StatusTooManyRequests, string(fault.TooManyRequests)}
	case fault.Unsupported:
		return Problem{http.StatusMethodNotAllowed, string(fault.UnsupportedReason)}
	case fault.Range:
		return Problem{http.StatusRequestedRangeNotSatisfiable, string(f.Reason)}
	case fault.Unavailable:
		return Problem{http.StatusServiceUnavailable, string(f.Reason)}
	case fault.Full:
		return Problem{http.StatusInsufficientStorage, string(f.Reason)}
	}
	return Problem{http.StatusInternalServerError, string(fault.Unknown)}
}

// statusClientGone is recorded when the caller hung up before the answer; it is never sent. nginx's number.
const statusClientGone = 499

// WriteError answers the request with err through the error writer of the server that w belongs to. It is the only
// place where a failure becomes bytes. When part of an answer is already out, the failure is logged and the connection
// is cut as soon as the handler returns, so that a broken body never looks complete.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	var errs *ErrorWriter
	if own := writerOf(w); own != nil && own.rec.chain != nil {
		errs = own.rec.chain.errors
	} else {
		errs = &ErrorWriter{}
	}
	errs.Write(w, r, err)
}

// Write answers the request with err; see WriteError. A nil err is a mistake of the caller and is answered as one.
func (e *ErrorWriter) Write(w http.ResponseWriter, r *http.Request, err error) {
	if err == nil {
		err = errors.New("httpd: an error answer without an error")
	}
	own := writerOf(w)
	f := e.find(err)
	face := e.face(r.URL.Path)
	p := e.problem(face, f)
	if own != nil {
		own.rec.Reason = string(f.Reason)
		if r.Context().Err() != nil && errors.Is(err, context.Canceled) {
			p.Status = statusClientGone
		}
		if p.Status >= 500 && !own.rec.logged {
			own.rec.logged = true
			e.log().LogAttrs(r.Context(), slog.LevelError, "request failed", slog.String("req", own.rec.ID),
				slog.String("method", r.Method), slog.String("path", clip(r.URL.Path)), slog.Int("status", p.Status), slog.String("error", err.Error()))
		}
		if own.status != 0 {
			own.rec.abort = true
			return
		}
		if p.Status == statusClientGone {
			own.status = p.Status
			own.rec.abort = true
			return
		}
	}
	e.render(w, r, face, f, p)
}

// find gives the fault in err; limits of net/http that surface as plain errors become faults here.
func (e *ErrorWriter) find(err error) *fault.Error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) && !hasFault(err) {
		return fault.New(fault.TooLarge, fault.SizeInvalid, "the request body is larger than the %d bytes that this route takes", tooLarge.Limit).Because(err)
	}
	return fault.Of(err)
}

func hasFault(err error) bool {
	var f *fault.Error
	return errors.As(err, &f)
}

func (e *ErrorWriter) problem(face *Face, f *fault.Error) Problem {
	table := e.Table
	if face != nil {
		table = face.Table
	}
	if table == nil {
		table = DefaultProblem
	}
	p := table(f)
	if p.Code == "" {
		p.Code = string(fault.Unknown)
	}
	return p
}

func (e *ErrorWriter) log() *slog.Logger {
	if e.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return e.Log
}

func (e *ErrorWriter) render(w http.ResponseWriter, r *http.Request, face *Face, f *fault.Error, p Problem) {
	h := w.Header()
	// What the handler prepared for the good answer does not describe this one.
	for _, name := range [...]string{"Content-Length", "Content-Encoding", "Etag", "Cache-Control", "Docker-Content-Digest", "Location"} {
		delete(h, name)
	}
	if p.Status != http.StatusRequestedRangeNotSatisfiable { // there it says how long the content is: RFC 9110, 15.5.17
		delete(h, "Content-Range")
	}
	if f.After > 0 || p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable {
		h.Set("Retry-After", strconv.Itoa(max(f.After, 1)))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("Www-Authenticate", e.challenge(w, r, face, f))
	}
	mediaType, body := "application/json", []byte(nil)
	if face != nil {
		mediaType, body = face.Document(f, p, RequestID(w))
	} else {
		body = document(f, p, RequestID(w))
	}
	h.Set("Content-Type", mediaType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a peer that is gone needs no second failure
	}
}

// document is the distribution API's.
func document(f *fault.Error, p Problem, id string) []byte {
	body := make([]byte, 0, 256)
	body = append(body, `{"errors":[{"code":`...)
	body = appendJSON(body, p.Code)
	body = append(body, `,"message":`...)
	message := lines(f.Message, 4)
	if p.Status >= 500 && id != "" {
		message += " (request " + id + ")"
	}
	body = appendJSON(body, message)
	body = appendDetail(body, f, p, id)
	return append(body, "}]}\n"...)
}

func appendDetail(b []byte, f *fault.Error, p Problem, id string) []byte {
	reason := string(f.Reason)
	withReason := reason != "" && reason != p.Code
	withID := p.Status >= 500 && id != ""
	if !withReason && !withID {
		return b
	}
	b = append(b, `,"detail":{`...)
	if withReason {
		b = append(b, `"reason":`...)
		b = appendJSON(b, reason)
	}
	if withID {
		if withReason {
			b = append(b, ',')
		}
		b = append(b, `"requestId":`...)
		b = appendJSON(b, id)
	}
	return append(b, '}')
}

// challenge says how to prove oneself. The token endpoint itself asks for Basic: a Bearer challenge there would send
// clients in a circle. So do other faces: they are for people with a password.
func (e *ErrorWriter) challenge(w http.ResponseWriter, r *http.Request, face *Face, f *fault.Error) string {
	var realm, service string
	if e.Realm != nil {
		realm = e.Realm(r)
	}
	if e.Service != nil {
		service = e.Service(r)
	}
	if realm == "" || face != nil || RecordOf(w).name == "token" {
		if service == "" {
			service = "registry"
		}
		return `Basic realm="` + quotable(service) + `", charset="UTF-8"`
	}
	c := `Bearer realm="` + quotable(realm) + `",service="` + quotable(service) + `"`
	if f.Scope != "" {
		c += `,scope="` + quotable(f.Scope) + `"`
	}
	// RFC 6750 3.1: an error is named only when a token was presented. docker and containerd fetch a new token then.
	if a := r.Header.Get("Authorization"); len(a) > 7 && strings.EqualFold(a[:7], "bearer ") {
		if f.Reason == InvalidToken {
			c += `,error="invalid_token"`
		} else if f.Scope != "" {
			// docker shows the description, and only that; without it, a text of its own.
			c += `,error="insufficient_scope",error_description="` + quotable(f.Message) + `"`
		}
	}
	return c
}

// quotable makes a text safe inside a quoted string of a header; what cannot be there is dropped.
func quotable(s string) string {
	if !strings.ContainsFunc(s, notQuotable) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if notQuotable(r) {
			return -1
		}
		return r
	}, s)
}

func notQuotable(r rune) bool { return r < ' ' || r == '"' || r == '\\' || r == 0x7f }

// Warn adds a Warning header that crane, regctl and berth print (OCI distribution v1.1.1, "Warnings"): code 299, no
// agent, at most 256 bytes of text on one line.
func Warn(w http.ResponseWriter, text string) {
	text = strings.NewReplacer("\r", "", "\n", " ", "\\", `\\`, `"`, `\"`).Replace(text)
	if len(text) > 256 {
		text = strings.TrimRight(strings.ToValidUTF8(text[:256], ""), `\`)
	}
	w.Header().Add("Warning", `299 - "`+text+`"`)
}

// lines keeps the first n lines: docker and podman print all of them into a terminal.
func lines(s string, n int) string {
	for i := 0; i < len(s); i++ {
		if s[i] == '\n' {
			if n--; n == 0 {
				return s[:i]
			}
		}
	}
	return s
}
