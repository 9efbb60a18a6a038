package adminapi

import (
	"context"
	"encoding/base64"
	"net/url"
	"strconv"
	"strings"

	"github.com/berth-registry/berth/internal/legible"
)

// PageQuery are the parameters of every list.
type PageQuery struct {
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Most items on a page."`
	After string `query:"after" doc:"The member next of the page before."`
}

// page is a part of a list.
type page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"What to send as after for the next page; absent at the end."`
}

// listed is an answer of a part of a list. In the header the next page is a whole address (RFC 8288), with the other
// parameters as they came.
type listed[T any] struct {
	Link string `header:"Link" doc:"Address of the next page, with rel=\"next\"; absent at the end."`
	Body page[T]
}

// key is where a page begins: behind the item with this key, "" is the beginning. A cursor is the list it belongs to and
// the key, in a form that says that nobody should make one: what it means may change with the next version.
func (q PageQuery) key(ctx context.Context) (string, error) {
	if q.After == "" {
		return "", nil
	}
	text, err := base64.RawURLEncoding.DecodeString(q.After)
	if err != nil {
		return "", badCursor(q.After)
	}
	list, key, ok := strings.Cut(string(text), "\x00")
	if !ok || list != listName(ctx) || key == "" || !legible.Storable(key) {
		return "", badCursor(q.After)
	}
	return key, nil
}

// number is the key of a list that counts, 0 for the beginning.
func (q PageQuery) number(ctx context.Context) (int64, error) {
	key, err := q.key(ctx)
	if err != nil || key == "" {
		return 0, err
	}
	n, err := strconv.ParseInt(key, 10, 64)
	if err != nil || n < 0 {
		return 0, badCursor(q.After)
	}
	return n, nil
}

// listName is the list that a cursor belongs to: the operation, and the order that was asked for.
func listName(ctx context.Context) string {
	c := callOf(ctx)
	name := c.rt.id
	if sort := c.r.URL.Query().Get("sort"); sort != "" {
		name += " " + sort
	}
	return name
}

func badCursor(text string) error {
	return badField("after", "after expects the member next of a page of this list, got %.100q", text)
}

// pageOf answers with a part of a list of at most limit items: of found, at most limit, as view shows them. A full page may
// have more behind it, so it has a cursor.
func pageOf[T, V any](ctx context.Context, found []T, limit int, view func(T) V, key func(T) string) (*listed[V], error) {
	next := ""
	if len(found) == limit {
		next = key(found[limit-1])
	}
	return pageUntil(ctx, viewAll(found, view), next)
}

// pageUntil answers with items behind which the list goes on at the key next, "" at its end.
func pageUntil[V any](ctx context.Context, items []V, next string) (*listed[V], error) {
	out := &listed[V]{Body: page[V]{Items: list(items)}}
	if next == "" {
		return out, nil
	}
	out.Body.Next = base64.RawURLEncoding.EncodeToString([]byte(listName(ctx) + "\x00" + next))
	c := callOf(ctx)
	q := c.asked.Query()
	q.Set("after", out.Body.Next)
	u := url.URL{Path: c.asked.Path, RawPath: c.asked.RawPath, RawQuery: q.Encode()}
	out.Link = "<" + c.h.location(u.RequestURI()) + `>; rel="next"`
	return out, nil
}
