package adminapi

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/identity"
)

const (
	// eventBatch events are read at once, and at most eventScan for one answer: a filter that fits nothing ends as well.
	eventBatch, eventScan = 500, 10_000
	// eventLook is how often the database is asked for events that a follower waits for: replicas tell nobody of theirs.
	eventLook = 500 * time.Millisecond
	// eventBeat is how often a silent stream says that it is alive, and asks whether its caller may still read.
	eventBeat = 15 * time.Second
	// eventStream is the longest life of a stream: whoever follows on proves again who it is.
	eventStream = 5 * time.Minute
	// mediaStream is the media type of a stream.
	mediaStream = "text/event-stream"
	// latest is the cursor of what happens from now on.
	latest = "latest"
)

// eventQuery are the parameters of listEvents.
type eventQuery struct {
	PageQuery
	Kind       string `query:"kind" enum:"manifest.pushed,manifest.deleted,manifest.purged,manifest.signed,tag.moved,tag.deleted,blob.mounted,blob.deleted,blob.damaged,blob.repaired" doc:"Only events of this kind."`
	Repository string `query:"repository" maxLength:"255" doc:"Only events of the repository of this name."`
	Project    string `query:"project" maxLength:"255" doc:"Only events of repositories below this name."`
	Wait       int    `query:"wait" minimum:"0" maximum:"60" default:"0" doc:"Wait so many seconds for an event when there is none yet."`
	Last       string `header:"Last-Event-ID" doc:"Of a stream: the id of the last event that was read; it takes the place of after."`
}

// fits says whether the filters let an event through.
func (q *eventQuery) fits(e event.Event) bool {
	return (q.Kind == "" || e.Kind == q.Kind) && (q.Repository == "" || e.Repository == q.Repository) &&
		(q.Project == "" || e.Repository == q.Project || strings.HasPrefix(e.Repository, q.Project+"/"))
}

// eventView is an event as callers see it.
type eventView struct {
	ID         string    `json:"id" doc:"Its cursor: what to send as after to go on behind it."`
	At         time.Time `json:"at"`
	Kind       string    `json:"kind"`
	Repository string    `json:"repository,omitempty"`
	Digest     string    `json:"digest,omitempty"`
	Tag        string    `json:"tag,omitempty"`
	Principal  string    `json:"principal,omitempty" doc:"Who made it so."`
}

// eventsView is a part of the sequence of events, which has no end.
type eventsView struct {
	Items []eventView `json:"items"`
	Next  string      `json:"next" doc:"What to send as after to go on; also when there are no items."`
}

func (h *Handler) declareEvents(f *face) {
	declare(f, operation{
		id: "listEvents", method: http.MethodGet, path: "events", tag: "events", needs: on(onRegistry, identity.EventRead),
		summary: "Follow what happens, in its order",
		text: "Without `after` it begins with the oldest event that is kept, with `after=latest` with what happens from now on. Whoever goes on at `next` " +
			"misses none and gets none twice; when some behind `after` were removed before they were read, that is said with 410. " +
			"With `Accept: text/event-stream` the answer is a stream of server-sent events: `id` is the cursor, `event` the kind, `data` the event as JSON. " +
			"It ends after some minutes; a client goes on with the header `Last-Event-ID`. A stream that falls behind what is kept ends with an event `gap`, whose data is a problem.",
		answer: "Events, or the stream of them.", media: mediaStream, also: reflect.TypeFor[eventsView](),
	}, h.listEvents)
}

func (h *Handler) listEvents(ctx context.Context, q *eventQuery) (*shown[eventsView], error) {
	c := callOf(ctx)
	get := c.r.Method == http.MethodGet
	stream := get && slices.ContainsFunc(c.r.Header.Values("Accept"), func(v string) bool { return strings.Contains(v, mediaStream) })
	if stream && q.Last != "" {
		q.After = q.Last
	}
	after, err := h.eventsAfter(ctx, q)
	if err != nil {
		return nil, err
	}
	if stream {
		c.stream = func(w http.ResponseWriter) { h.streamEvents(ctx, w, q, after) }
		return show(eventsView{Items: []eventView{}})
	}
	wait := time.Duration(q.Wait) * time.Second
	if !get {
		wait = 0
	}
	found, next, err := h.awaitEvents(ctx, q, after, wait)
	if err != nil {
		return nil, err
	}
	view := func(e event.Event) eventView { return viewEvent(ctx, e) }
	return show(eventsView{viewAll(found, view), eventCursor(ctx, next)})
}

// eventsAfter is where the caller begins; EventsRemoved when that is no more.
func (h *Handler) eventsAfter(ctx context.Context, q *eventQuery) (event.Cursor, error) {
	if q.After == latest {
		return h.Database.EventsEnd(ctx)
	}
	after, err := q.cursor(ctx)
	if err != nil {
		return after, err
	}
	return after, h.kept(ctx, after)
}

// kept says whether nothing behind a cursor was removed. The beginning is where there is something.
func (h *Handler) kept(ctx context.Context, after event.Cursor) error {
	if after == (event.Cursor{}) {
		return nil
	}
	gone, err := h.Database.EventsTrimmed(ctx)
	if err == nil && after.Before(gone) {
		err = fault.New(fault.NotFound, EventsRemoved, "events behind this cursor were removed before they were read; begin again, without after for the oldest event that is kept, or with after=%s, and look at the state of what you follow", latest)
	}
	return err
}

// awaitEvents reads events behind a cursor, and waits so long when there is none. A caller that
// goes ends it, and the end of the server.
func (h *Handler) awaitEvents(ctx context.Context, q *eventQuery, after event.Cursor, wait time.Duration) ([]event.Event, event.Cursor, error) {
	end := time.NewTimer(wait)
	defer end.Stop()
	look := time.NewTicker(eventLook)
	defer look.Stop()
	for {
		found, next, err := h.readEvents(ctx, q, after)
		if err != nil || len(found) > 0 || wait <= 0 || h.ending() {
			return found, next, err
		}
		after = next
		select {
		case <-ctx.Done():
			return nil, after, ctx.Err()
		case <-end.C:
			return nil, after, nil
		case <-look.C:
		}
	}
}

// readEvents are the events behind a cursor that the filters let through, up to the limit, and the cursor behind all that was
// looked at for them.
func (h *Handler) readEvents(ctx context.Context, q *eventQuery, after event.Cursor) (found []event.Event, next event.Cursor, err error) {
	next = after
	for range eventScan / eventBatch {
		batch, err := h.Database.Events(ctx, next, eventBatch)
		if err == nil {
			err = h.kept(ctx, next) // asked last: what was removed before the batch was read is seen
		}
		if err != nil {
			return nil, after, err
		}
		for _, e := range batch {
			next = e.Cursor
			if q.fits(e) {
				if found = append(found, e); len(found) == q.Limit {
					return found, next, nil
				}
			}
		}
		if len(batch) < eventBatch {
			break
		}
	}
	return found, next, nil
}

// streamEvents sends events until the caller goes, may not read them any more, or the stream is old enough. A failure ends it
// too: the caller goes on behind the last event that it has.
//
// Spec: HTML, 9.2 Server-sent events.
func (h *Handler) streamEvents(ctx context.Context, w http.ResponseWriter, q *eventQuery, after event.Cursor) {
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", mediaStream)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy that gathers an answer would hold it back
	w.WriteHeader(http.StatusOK)
	ctx, cancel := context.WithTimeout(ctx, eventStream)
	defer cancel()
	_, err := fmt.Fprint(w, "retry: 1000\n\n")
	for err == nil && out.Flush() == nil {
		var found []event.Event
		sent := after
		if found, after, err = h.awaitEvents(ctx, q, after, eventBeat); err != nil {
			var f *fault.Error
			if errors.As(err, &f) && f.Reason == EventsRemoved {
				_, body := document(f, problem(f), "")
				_, _ = fmt.Fprintf(w, "event: gap\ndata: %s\n\n", bytes.TrimSpace(body))
				_ = out.Flush() // it ends anyway
			}
			return
		}
		if h.ending() || h.Access.CheckSystem(ctx, identity.EventRead) != nil {
			return
		}
		for _, e := range found {
			var data []byte
			if data, err = json.Marshal(viewEvent(ctx, e)); err != nil {
				return
			}
			if _, err = fmt.Fprintf(w, "id: %s\nevent: %s\ndata: %s\n\n", eventCursor(ctx, e.Cursor), e.Kind, data); err != nil {
				return
			}
		}
		switch {
		case len(found) > 0:
		case sent != after: // an id alone: whoever comes again need not look again at what the filters kept back
			_, err = fmt.Fprintf(w, "id: %s\n\n", eventCursor(ctx, after))
		default:
			_, err = fmt.Fprint(w, ": alive\n\n")
		}
	}
}

func (h *Handler) ending() bool { return h.Draining != nil && h.Draining() }

func viewEvent(ctx context.Context, e event.Event) eventView {
	return eventView{eventCursor(ctx, e.Cursor), e.At.UTC(), e.Kind, e.Repository, text(e.Digest), e.Tag, e.Principal}
}

// eventCursor writes a cursor as other lists do theirs, "" for the beginning.
func eventCursor(ctx context.Context, c event.Cursor) string {
	if c == (event.Cursor{}) {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%s\x00%d %d", listName(ctx), c.Epoch, c.ID))
}

// cursor reads what eventCursor has written.
func (q *eventQuery) cursor(ctx context.Context) (c event.Cursor, err error) {
	key, err := q.key(ctx)
	if err != nil || key == "" {
		return c, err
	}
	epoch, id, ok := strings.Cut(key, " ")
	c.Epoch, err = strconv.ParseInt(epoch, 10, 64)
	if err == nil && ok {
		c.ID, err = strconv.ParseInt(id, 10, 64)
	}
	if err != nil || !ok || c.Epoch < 0 || c.ID < 0 {
		return event.Cursor{}, badCursor(q.After)
	}
	return c, nil
}
