package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/berth-registry/berth/fault"
)

// Reasons for failures that no registry had a word in.
const (
	ReasonNetwork     fault.Reason = "NETWORK"      // no connection, or it broke
	ReasonTLS         fault.Reason = "TLS"          // the certificate is not trusted, or does not fit
	ReasonPlainHTTP   fault.Reason = "PLAIN_HTTP"   // https was asked for and the host speaks http
	ReasonRealm       fault.Reason = "REALM"        // the token server is one that must not get the credentials
	ReasonRedirect    fault.Reason = "REDIRECT"     // a redirect that must not or cannot be followed
	ReasonNoRegistry  fault.Reason = "NO_REGISTRY"  // what answered does not speak the API
	ReasonWrongDigest fault.Reason = "WRONG_DIGEST" // the bytes, or what is said of them, are not what was asked for
)

// Answer is what a registry said when it did not do what it was asked: the cause of the fault that is returned.
type Answer struct {
	Method, URL string // without secrets: no query
	Status      int
	Code        string // of the first error in the body; "" when it has none
	Message     string // likewise
	Request     string // the registry's id of the request, for its log; "" when not said
	Login       string // of a refusal for want of a login: Credentials.Source of what was found
	Nobody      bool   // there were no credentials
}

// Error is one line: status, code and message.
func (a *Answer) Error() string {
	s := fmt.Sprintf("%s %s: %d %s", a.Method, a.URL, a.Status, http.StatusText(a.Status))
	if a.Code != "" {
		s += " " + a.Code
	}
	if a.Request != "" {
		s += ", request " + a.Request
	}
	return s
}

// maxErrorBody is how much of a refusal is read.
const maxErrorBody = 64 << 10

// refusal makes a fault of an answer that was not hoped for, and closes its body.
func (cl *call) refusal(h *host, resp *http.Response, login Credentials) error {
	defer discard(resp)
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // what could be read is as good as it gets
	a := &Answer{Method: resp.Request.Method, URL: resp.Request.URL.Scheme + "://" + resp.Request.URL.Host + resp.Request.URL.Path,
		Status: resp.StatusCode, Request: plain(resp.Header.Get("X-Request-Id"), 80), Login: login.Source, Nobody: login.None()}
	said := a.read(resp.Header.Get("Content-Type"), body)
	kind, reason := classify(a.Status)
	if a.Code != "" {
		reason = fault.Reason(a.Code)
	} else if kind == fault.NotFound {
		reason = cl.missing
	}
	if kind == fault.NotFound && reason == "" {
		reason = fault.Unknown
	}
	detail := fmt.Sprintf("%d %s", a.Status, http.StatusText(a.Status))
	if a.Code != "" {
		detail = fmt.Sprintf("%s, %d", a.Code, a.Status)
	}
	f := fault.New(kind, reason, "%s: %s: %s (%s)", h.name, cl.describe(), said, detail)
	if d, ok := parseRetryAfter(resp.Header.Get("Retry-After"), cl.now); ok {
		f.After = int(d.Seconds())
	}
	return f.Because(a)
}

// read takes code and message from the body, and says in words what it is where it has none.
func (a *Answer) read(contentType string, body []byte) string {
	var doc struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
		Message string `json:"message"`
		Error   string `json:"error"`
		Details string `json:"details"`
	}
	if json.Unmarshal(body, &doc) == nil {
		if len(doc.Errors) > 0 {
			a.Code, a.Message = plain(doc.Errors[0].Code, 60), plain(doc.Errors[0].Message, 300)
		} else if a.Message = plain(doc.Message, 300); a.Message == "" {
			a.Message = plain(strings.TrimSpace(doc.Error+" "+doc.Details), 300)
		}
	}
	switch {
	case a.Message != "":
		return a.Message
	case a.Code != "":
		return "the registry gave no reason"
	case strings.Contains(contentType, "html") || strings.HasPrefix(strings.TrimSpace(string(body[:min(len(body), 64)])), "<"):
		return "the answer is an HTML page, not a registry's; is there a proxy or a login page in between?"
	case len(body) > 0 && strings.HasPrefix(contentType, "text/plain"):
		return plain(string(body), 200)
	case a.Method == http.MethodHead: // its answer has no body, whatever the reason
		switch a.Status {
		case http.StatusNotFound:
			return "it is not there"
		case http.StatusUnauthorized:
			return "the registry asks for a login, or does not accept this one"
		case http.StatusForbidden:
			return "the registry does not allow it"
		}
	}
	return "the registry gave no reason"
}

func classify(status int) (fault.Kind, fault.Reason) {
	switch status {
	case http.StatusUnauthorized, http.StatusProxyAuthRequired:
		return fault.Unauthenticated, fault.UnauthorizedReason
	case http.StatusForbidden:
		return fault.Denied, fault.DeniedReason
	case http.StatusNotFound, http.StatusGone:
		return fault.NotFound, ""
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return fault.Unsupported, fault.UnsupportedReason
	case http.StatusRequestEntityTooLarge:
		return fault.TooLarge, fault.SizeInvalid
	case http.StatusRequestedRangeNotSatisfiable:
		return fault.Range, fault.RangeInvalid
	case http.StatusConflict, http.StatusPreconditionFailed, http.StatusLocked:
		return fault.Conflict, fault.Unknown
	case http.StatusTooManyRequests:
		return fault.RateLimited, fault.TooManyRequests
	case http.StatusInsufficientStorage:
		return fault.Full, fault.StorageFull
	}
	switch {
	case status >= 500:
		return fault.Unavailable, fault.UnavailableReason
	case status >= 400:
		return fault.Invalid, fault.Unknown
	}
	return fault.Unavailable, ReasonNoRegistry // a success or a redirect where neither means anything
}

// broken makes a fault of a request that got no answer. What the context says wins: it is no failure of the host.
func (cl *call) broken(ctx context.Context, h *host, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", cl.describe(), context.Cause(ctx))
	}
	if f := (*fault.Error)(nil); errors.As(err, &f) {
		return err
	}
	var (
		record    tls.RecordHeaderError
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		dns       *net.DNSError
	)
	switch {
	case errors.As(err, &record) && string(record.RecordHeader[:]) == "HTTP/", strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fault.New(fault.Unavailable, ReasonPlainHTTP, "%s: %s: the host speaks http, not https", h.name, cl.describe()).Because(err)
	case errors.As(err, &record):
		return fault.New(fault.Unavailable, ReasonTLS, "%s: %s: what listens there speaks neither https nor http; look at the host and the port", h.name, cl.describe()).Because(err)
	case errors.As(err, &authority):
		return fault.New(fault.Unavailable, ReasonTLS, "%s: %s: the certificate was issued by an authority that is not trusted here", h.name, cl.describe()).Because(err)
	case errors.As(err, &name):
		return fault.New(fault.Unavailable, ReasonTLS, "%s: %s: the certificate is for another name: %s", h.name, cl.describe(), plain(name.Error(), 200)).Because(err)
	case errors.As(err, &invalid):
		return fault.New(fault.Unavailable, ReasonTLS, "%s: %s: the certificate is not valid: %s", h.name, cl.describe(), plain(invalid.Error(), 200)).Because(err)
	case errors.As(err, &dns) && dns.IsNotFound:
		return fault.New(fault.Unavailable, ReasonNetwork, "%s: %s: there is no host of this name", h.name, cl.describe()).Because(err)
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fault.New(fault.Unavailable, ReasonNetwork, "%s: %s: nobody listens there", h.name, cl.describe()).Because(err)
	}
	return fault.New(fault.Unavailable, ReasonNetwork, "%s: %s: the connection failed: %s", h.name, cl.describe(), plain(err.Error(), 200)).Because(err)
}

// lasting reports whether trying again is pointless though no registry answered. A login that was refused is refused again, and a
// registry that counts refusals would soon let nobody in; so is a token that is not to be had.
func lasting(err error) bool {
	if a := (*Answer)(nil); errors.As(err, &a) && !transient(a.Status) { // of a token server
		return true
	}
	return fault.Is(err, fault.Unauthenticated) || fault.Is(err, fault.Denied) || fault.Has(err, ReasonTLS) || fault.Has(err, ReasonPlainHTTP) || fault.Has(err, ReasonRealm) || fault.Has(err, ReasonRedirect) ||
		fault.Has(err, ReasonNoRegistry) || fault.Has(err, ReasonWrongDigest)
}

// plain is what may stand in a message or on a terminal: one line, without control characters, of bounded length.
func plain(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// page says of an answer that looks like a success when it is a web page: a proxy or a login page in between answers 200 to
// everything, and what was never sent would count as there. It reads a part of the body. Registries call empty answers and
// those of a word HTML, so the type alone says nothing; an answer to HEAD has nothing else, but then it has the digest.
func (cl *call) page(h *host, resp *http.Response) error {
	if !strings.Contains(resp.Header.Get("Content-Type"), "html") {
		return nil
	}
	if resp.Request.Method == http.MethodHead {
		if resp.Header.Get("Docker-Content-Digest") != "" {
			return nil
		}
	} else {
		var first [512]byte
		n, _ := io.ReadFull(resp.Body, first[:]) // what could be read is as good as it gets
		if !strings.HasPrefix(strings.TrimSpace(string(first[:n])), "<") {
			return nil
		}
	}
	return fault.New(fault.Unavailable, ReasonNoRegistry, "%s: %s: the answer is an HTML page; is there a proxy or a login page in between, or is this not a registry?", h.name, cl.describe())
}

// settled closes an answer of which the status is all there is to know, and fails when it is a web page.
func (cl *call) settled(h *host, resp *http.Response) error {
	err := cl.page(h, resp)
	discard(resp)
	return err
}

func discard(resp *http.Response) {
	// Read a little, so that the connection can be used again; what is longer is not worth it.
	_, _ = io.CopyN(io.Discard, resp.Body, maxErrorBody)
	_ = resp.Body.Close()
}
