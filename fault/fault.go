// Package fault says how things fail: a kind that decides the protocol status, a reason that clients and tests can
// match, a public message that people read, and a private cause that only the log sees.
//
// Every room returns faults for what a caller can act upon and plain wrapped errors for everything else; Of turns any
// error into a fault, so a face needs one call. Start reading at [Error].
package fault

import (
	"context"
	"errors"
	"fmt"
)

// Kind is the class of a failure. Faces map kinds to statuses; nothing else may.
type Kind uint8

// The kinds, in the order in which a face should think about them.
const (
	Internal        Kind = iota // a fault of ours: logged with its cause, answered without it
	Invalid                     // the request is malformed or contradicts itself
	NotFound                    // what was named does not exist, or the caller may not know that it does
	Conflict                    // the state of the store forbids it now
	Unauthenticated             // we do not know who is calling, or the token does not reach this far
	Denied                      // we know who is calling, and they may not
	TooLarge                    // the request exceeds a stated limit
	RateLimited                 // too many requests; RetryAfter says when
	Unsupported                 // switched off, read-only, or not offered
	Range                       // a range that the content or the upload does not have
	Unavailable                 // a dependency is down; the same request may work later
	Full                        // no space left for the bytes; reads and deletes still work
)

// Reason is a stable, machine-readable name of what went wrong. Where the distribution specification has a code for it,
// the reason is that code.
type Reason string

// Reasons of the distribution specification v1.1.1, section "Error Codes", and our own where it has none.
const (
	BlobUnknown         Reason = "BLOB_UNKNOWN"
	BlobUploadInvalid   Reason = "BLOB_UPLOAD_INVALID"
	BlobUploadUnknown   Reason = "BLOB_UPLOAD_UNKNOWN"
	DigestInvalid       Reason = "DIGEST_INVALID"
	ManifestBlobUnknown Reason = "MANIFEST_BLOB_UNKNOWN"
	ManifestInvalid     Reason = "MANIFEST_INVALID"
	ManifestUnknown     Reason = "MANIFEST_UNKNOWN"
	NameInvalid         Reason = "NAME_INVALID"
	NameUnknown         Reason = "NAME_UNKNOWN"
	SizeInvalid         Reason = "SIZE_INVALID"
	TagInvalid          Reason = "TAG_INVALID"
	UnauthorizedReason  Reason = "UNAUTHORIZED"
	InsufficientScope   Reason = "INSUFFICIENT_SCOPE" // the token is too narrow; the subject's right is not
	DeniedReason        Reason = "DENIED"
	UnsupportedReason   Reason = "UNSUPPORTED"
	TooManyRequests     Reason = "TOOMANYREQUESTS"
	RangeInvalid        Reason = "RANGE_INVALID"
	PaginationInvalid   Reason = "PAGINATION_NUMBER_INVALID"
	UnavailableReason   Reason = "UNAVAILABLE"
	StorageFull         Reason = "STORAGE_FULL"
	Unknown             Reason = "UNKNOWN"
)

// Error is a failure with a public and a private side.
type Error struct {
	Kind    Kind
	Reason  Reason
	Message string // public: lowercase, subject first, what was asked, what was found, what to do
	Scope   string // for Unauthenticated: the token scope that would help, "repository:team/app:pull"; else ""
	After   int    // for RateLimited and Unavailable: seconds after which to try again; 0 is "not said"
	Field   string // for Invalid and Denied: the parameter or member that is the cause, such as rules[0].claims; "" when none is
	cause   error  // private: logged once at the face, never sent
}

// Error is the text for logs: the public message and the cause.
func (e *Error) Error() string {
	if e.cause == nil {
		return e.Message
	}
	return e.Message + ": " + e.cause.Error()
}

// Unwrap gives the private cause to errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.cause }

// Because returns a copy of e with a private cause.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

// At returns a copy of e that names the parameter or member which is the cause.
func (e *Error) At(field string) *Error {
	c := *e
	c.Field = field
	return &c
}

// New makes a fault with a public message in the form of fmt.Sprintf.
func New(k Kind, r Reason, format string, args ...any) *Error {
	return &Error{Kind: k, Reason: r, Message: fmt.Sprintf(format, args...)}
}

// Of finds the fault in err's chain. An error without one is Internal with a neutral public message, except a
// cancelled or expired context, which is Unavailable: the caller went away or a deadline passed. Of(nil) is nil.
func Of(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return &Error{Kind: Unavailable, Reason: UnavailableReason, Message: "the request ended before it was answered; try again", cause: err}
	}
	return &Error{Kind: Internal, Reason: Unknown, Message: "the registry failed; the log has the cause under this request id", cause: err}
}

// Is reports whether err carries a fault of kind k.
func Is(err error, k Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == k
}

// Has reports whether err carries a fault with reason r.
func Has(err error, r Reason) bool {
	var e *Error
	return errors.As(err, &e) && e.Reason == r
}
