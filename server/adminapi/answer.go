package adminapi

import (
	"bytes"
	"net/http"
	"strconv"
)

// answer holds what a handler writes until it is known that it has not failed.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

// Write implements http.ResponseWriter.
func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

// send writes it to the caller. What is not for everybody is kept by no cache.
func (a *answer) send(w http.ResponseWriter, public bool) {
	h := w.Header()
	for name, values := range a.header {
		h[name] = values
	}
	if !public {
		h.Set("Cache-Control", "no-store")
	}
	if a.status != http.StatusNoContent && a.status != http.StatusNotModified {
		h.Set("Content-Length", strconv.Itoa(a.body.Len()))
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body.Bytes()) // a peer that is gone needs no second failure
}

// notModified leaves of the answer that the caller has it already.
func (a *answer) notModified() {
	a.status = http.StatusNotModified
	a.body.Reset()
	a.header.Del("Content-Type")
}

// shown is an answer of one object.
type shown[T any] struct{ Body T }

func show[T any](v T) (*shown[T], error) { return &shown[T]{v}, nil }
