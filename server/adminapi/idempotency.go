package adminapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// keyHeader is how a client says that a request which it sends again is the same one.
const keyHeader = "Idempotency-Key"

const (
	// keptAnswer is how long the answer to a key is remembered.
	keptAnswer = 24 * time.Hour
	// underWay is how long a request may take before its key is free again: the process that did it is gone.
	underWay = 2 * time.Minute
	// longestKey is in bytes.
	longestKey = 128
)

// database is what this face needs of the metadata database itself: the answers that it has given.
type database interface {
	Update(ctx context.Context, fn func(tx *metadb.Tx) error) error
	Events(ctx context.Context, after event.Cursor, limit int) ([]event.Event, error)
	EventsTrimmed(ctx context.Context) (event.Cursor, error)
	EventsEnd(ctx context.Context) (event.Cursor, error)
}

func keyParameter() *huma.Param {
	longest := longestKey
	return &huma.Param{
		Name: keyHeader, In: "header", Schema: &huma.Schema{Type: huma.TypeString, MaxLength: &longest},
		Description: "Chosen by the client, and the same when it sends the request again: for a day the answer is then the first one's, and nothing is done twice.",
	}
}

// once serves a creation that has a key: the first time it is done, later its answer is given again. Answers of failures
// are not kept: nothing was done. A secret is given only once; see route.secret.
func (h *Handler) once(c *call, body []byte, key string, do func() (*answer, error)) (*answer, error) {
	if len(key) > longestKey || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, badField(keyHeader, "%s expects 1 to %d printable characters without spaces, got %.100q", keyHeader, longestKey, key)
	}
	ctx := c.r.Context()
	mine := metadb.Idempotency{
		Key: key, Principal: owner(identity.From(ctx)), Route: c.rt.id,
		RequestHash: hashOf(c.asked.RequestURI(), string(body)), ExpiresAt: h.Now().Add(underWay),
	}
	var was metadb.Idempotency
	began := false
	err := h.Database.Update(ctx, func(tx *metadb.Tx) (err error) {
		was, began, err = tx.BeginIdempotency(mine)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case began:
		return h.first(ctx, c.rt, mine, do)
	case was.Route != mine.Route || was.RequestHash != mine.RequestHash:
		return nil, fault.New(fault.Conflict, KeyReused, "%s %q was sent with another request; choose a new key for this one", keyHeader, key)
	case was.Status == 0:
		f := fault.New(fault.Conflict, KeyInUse, "the request with %s %q is being done; try again", keyHeader, key)
		f.After = 1
		return nil, f
	}
	return again(was)
}

// owner is whose a key is: an account's or robot's of that number. One that is made again under a name has other keys.
func owner(p identity.Principal) string {
	if p.ID == 0 {
		return p.String()
	}
	return fmt.Sprintf("%s#%d", p, p.ID)
}

// first does the request and keeps its answer.
func (h *Handler) first(ctx context.Context, rt *route, mine metadb.Idempotency, do func() (*answer, error)) (*answer, error) {
	finished := false
	// Whatever happens to the client, the key ends up with an answer or free.
	ctx = context.WithoutCancel(ctx)
	defer func() {
		if !finished {
			_ = h.Database.Update(ctx, func(tx *metadb.Tx) error { return tx.DeleteIdempotency(mine.Principal, mine.Key) }) // else it is free in a while
		}
	}()
	a, err := do()
	if err != nil {
		return nil, err
	}
	header, err := json.Marshal(a.header)
	if err != nil {
		return nil, err
	}
	mine.Status, mine.Header, mine.Body, mine.ExpiresAt = a.status, string(header), rt.remembered(a.body.Bytes()), h.Now().Add(keptAnswer)
	err = h.Database.Update(ctx, func(tx *metadb.Tx) error { return tx.EndIdempotency(mine) })
	finished = err == nil || errors.Is(err, metadb.ErrNotFound) // it took too long, and is not remembered
	return a, nil
}

// again is the answer that was given.
func again(was metadb.Idempotency) (*answer, error) {
	a := &answer{header: http.Header{}, status: was.Status}
	if err := json.Unmarshal([]byte(was.Header), &a.header); err != nil {
		return nil, err
	}
	a.header.Set("Idempotency-Replayed", "true")
	a.body.Write(was.Body)
	return a, nil
}

// remembered is an answer without what is said only once.
func (rt *route) remembered(body []byte) []byte {
	if rt.secret == "" {
		return body
	}
	var all map[string]json.RawMessage
	if json.Unmarshal(body, &all) != nil {
		return nil
	}
	delete(all, rt.secret)
	text, err := json.Marshal(all)
	if err != nil {
		return nil
	}
	return append(text, '\n')
}

func hashOf(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:])
}
