package httpd

import (
	"net/http"
	"strings"

	"github.com/berth-registry/berth/fault"
)

// Limits of a request's header. net/http's own limit is larger, because it answers in plain text.
const (
	maxHeader        = 16 << 10 // all fields together
	maxAuthorization = 8 << 10  // a token is read before anybody is known
	netHTTPMaxHeader = 96 << 10
)

// refuseHeader answers requests whose header is too large or says the same thing twice, and returns true when it did.
// Two values of one of these fields are how proxies and servers come to disagree about who is calling for what.
func (c *Chain) refuseHeader(w *writer, r *http.Request) bool {
	size := len(r.Method) + len(r.RequestURI) + len(r.Host)
	for name, values := range r.Header {
		for _, v := range values {
			size += len(name) + len(v) + 4
		}
		if len(values) > 1 && singular(name) {
			WriteError(w, r, fault.New(fault.Invalid, fault.Reason("HEADER_INVALID"), "the header %s is given %d times; give it once", name, len(values)))
			return true
		}
	}
	if a := r.Header["Authorization"]; len(a) == 1 && len(a[0]) > maxAuthorization {
		WriteError(w, r, fault.New(fault.Unauthenticated, InvalidToken, "the Authorization header has %d bytes; at most %d are read", len(a[0]), maxAuthorization))
		return true
	}
	if size > maxHeader {
		WriteError(w, r, fault.New(fault.TooLarge, HeaderTooLarge, "the request's header has %d bytes; at most %d are accepted", size, maxHeader))
		return true
	}
	return false
}

func singular(name string) bool {
	switch name {
	case "Authorization", "Content-Range", "Content-Type", "Content-Length", "Range", "Host":
		return true
	}
	return false
}

// isUpload reports whether the path takes bodies of any size. Everything else has a limit.
func isUpload(path string) bool {
	return strings.HasPrefix(path, "/v2/") && strings.Contains(path, "/blobs/uploads/")
}

// validID accepts a proxy's request id when it is short and printable.
func validID(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for i := 0; i < len(id); i++ {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c == ':', c == '/', c == '=', c == '+':
		default:
			return false
		}
	}
	return true
}
