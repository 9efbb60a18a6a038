package event

import (
	"context"
	"encoding/json"
)

// Request is what is known of the request that made a fact true.
type Request struct {
	ID        string `json:"id,omitempty"`
	Addr      string `json:"addr,omitempty"` // of the client, without port
	Host      string `json:"host,omitempty"`
	Method    string `json:"method,omitempty"`
	UserAgent string `json:"useragent,omitempty"`
	Base      string `json:"base,omitempty"` // under which the client reached the registry: https://registry.example.com
}

// maxText bounds what a stranger can make every event of a request cost, in bytes of one header.
const maxText = 512

type requestKey struct{}

// WithRequest returns a context that carries the request. What is longer than any honest header is cut.
func WithRequest(ctx context.Context, r Request) context.Context {
	r.Host, r.UserAgent = cut(r.Host), cut(r.UserAgent)
	return context.WithValue(ctx, requestKey{}, &r)
}

func cut(s string) string {
	if len(s) <= maxText {
		return s
	}
	return s[:maxText]
}

// RequestFrom returns the request of the context, or nil when there is none: what berthd does by itself.
func RequestFrom(ctx context.Context) *Request {
	r, _ := ctx.Value(requestKey{}).(*Request)
	return r
}

// Detail is what an event says beyond its columns: its Payload. Fields are only ever added.
type Detail struct {
	MediaType      string   `json:"mediaType,omitempty"`
	Size           int64    `json:"size,omitempty"`           // bytes
	FromRepository string   `json:"fromRepository,omitempty"` // where a mounted blob came from
	Tagged         bool     `json:"tagged,omitempty"`         // the push of this manifest moved tags, which have events of their own
	Cause          string   `json:"cause,omitempty"`          // why, where it was not asked for as such: see the engine
	Signature      string   `json:"signature,omitempty"`      // name of the one that was put
	Request        *Request `json:"request,omitempty"`

	Damage *DamageDetail `json:"damage,omitempty"`
}

// DamageDetail is what an event says of a damaged blob.
type DamageDetail struct {
	What string   `json:"what,omitempty"` // was found; for people
	Tags []string `json:"tags,omitempty"` // of the repository, that cannot be pulled without the blob
}

// WithDetail returns the event with a payload, and the request of the context in it.
func (e Event) WithDetail(ctx context.Context, d Detail) Event {
	d.Request = RequestFrom(ctx)
	text, err := json.Marshal(d)
	if err == nil { // texts and numbers can be written
		e.Payload = string(text)
	}
	return e
}

// Detail reads the payload. One that is missing, as of events of berthd 0.1.0, or cannot be read says nothing.
func (e Event) Detail() (d Detail) {
	if e.Payload != "" && json.Unmarshal([]byte(e.Payload), &d) != nil {
		return Detail{}
	}
	return d
}
