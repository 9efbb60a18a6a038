package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/metadb/metadbtest"
)

type happened struct{ ID, Kind, Repository, Tag, Principal string }

type eventPage struct {
	Items []happened
	Next  string
}

func (d *daemon) events(t testing.TB, query string) (p eventPage) {
	t.Helper()
	a := d.do(t, basic("admin", adminPassword), http.MethodGet, "/api/v1/events?"+query, "")
	if a.status != http.StatusOK || json.Unmarshal([]byte(a.body), &p) != nil {
		t.Fatalf("events?%s: %d %s", query, a.status, a.body)
	}
	return p
}

// TestEventsAreFollowed: who follows by cursor, while many push at the same time, has every event once, over both databases.
func TestEventsAreFollowed(t *testing.T) {
	for name, dsn := range map[string]func() string{"SQLite": func() string { return "" }, "PostgreSQL": func() string { return metadbtest.Postgres(t) }} {
		t.Run(name, func(t *testing.T) {
			env := []string{}
			if url := dsn(); url != "" {
				env = append(env, "BERTH_DATABASE="+url)
			}
			d := start(t, env...)
			d.fill(t)
			const writers, each = 6, 10
			var pushing sync.WaitGroup
			for w := range writers {
				pushing.Go(func() {
					for i := range each {
						body := fmt.Sprintf(`{"schemaVersion":2,"manifests":[],"annotations":{"n":"%d %d"}}`, w, i)
						a := d.do(t, basic("admin", adminPassword), http.MethodPut, fmt.Sprintf("/v2/team/app/manifests/w%d-%d", w, i), body, "Content-Type", oci.MediaTypeIndex)
						if a.status != http.StatusCreated {
							t.Errorf("push: %d %s", a.status, a.body)
						}
					}
				})
			}
			seen, ids, after := map[string]int{}, map[string]bool{}, ""
			for deadline := time.Now().Add(time.Minute); len(seen) < writers*each && time.Now().Before(deadline); {
				p := d.events(t, "kind=tag.moved&project=team&limit=7&wait=5&after="+url.QueryEscape(after))
				for _, e := range p.Items {
					if ids[e.ID] || e.Kind != "tag.moved" || e.Repository != "team/app" {
						t.Errorf("%+v does not belong here, or comes twice", e)
					}
					ids[e.ID] = true
					if strings.HasPrefix(e.Tag, "w") {
						seen[e.Tag]++
					}
				}
				after = p.Next
			}
			pushing.Wait()
			for w := range writers {
				for i := range each {
					if n := seen[fmt.Sprintf("w%d-%d", w, i)]; n != 1 {
						t.Errorf("the tag w%d-%d was told %d times", w, i, n)
					}
				}
			}
			if p := d.events(t, "limit=1000"); len(p.Items) < 2*writers*each || p.Items[0].Principal != "admin" {
				t.Errorf("%d events of %d pushes: %+v", len(p.Items), writers*each, p.Items[:1])
			}
			if p := d.events(t, "repository=library/app&kind=tag.moved"); len(p.Items) != 1 || p.Next == "" {
				t.Errorf("of one repository: %+v", p)
			}
			if p := d.events(t, "project=tea"); len(p.Items) != 0 {
				t.Errorf("of a project that is not there: %+v", p)
			}
		})
	}
}

// TestEventsWait: a question that waits is answered by what happens then, and in vain after its time.
func TestEventsWait(t *testing.T) {
	d := start(t)
	d.fill(t)
	end := d.events(t, "limit=1000").Next
	began := time.Now()
	if p := d.events(t, "wait=1&after="+end); len(p.Items) != 0 || p.Next != end || time.Since(began) < 900*time.Millisecond {
		t.Errorf("after %s: %+v", time.Since(began), p)
	}
	go func() {
		time.Sleep(300 * time.Millisecond)
		d.push(t, "team/late", blobContent)
	}()
	began = time.Now()
	if p := d.events(t, "wait=20&repository=team/late&after="+end); len(p.Items) == 0 || time.Since(began) > 15*time.Second {
		t.Errorf("after %s: %+v", time.Since(began), p)
	}
	for _, query := range []string{"kind=secret", "wait=61", "after=x", "principal=admin", "after=bGlzdEpvYnMANw"} {
		if a := d.do(t, basic("admin", adminPassword), http.MethodGet, "/api/v1/events?"+query, ""); a.status != http.StatusBadRequest && a.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", query, a.status, a.body)
		}
	}
}

// TestEventStream: events come as they happen, and a stream that is taken up again goes on behind the last one.
func TestEventStream(t *testing.T) {
	d := start(t)
	d.fill(t)
	all := d.events(t, "limit=1000").Items
	first := d.stream(t, "", len(all))
	for i, e := range first {
		if e != all[i] {
			t.Errorf("event %d of the stream is %+v, want %+v", i, e, all[i])
		}
	}
	d.push(t, "team/other", blobContent)
	rest := d.stream(t, first[1].ID, len(all)-1)
	if rest[0] != all[2] || rest[len(rest)-1].Repository != "team/other" {
		t.Errorf("the stream goes on with %+v to %+v", rest[0], rest[len(rest)-1])
	}
	if a := d.do(t, basic("alice", alicePassword), http.MethodGet, "/api/v1/events", "", "Accept", "text/event-stream"); a.status != http.StatusForbidden {
		t.Errorf("a user reads the stream: %d", a.status)
	}
	if a := d.do(t, basic("admin", adminPassword), http.MethodGet, "/api/v1/events", "", "Accept", "text/event-stream", "Last-Event-ID", "7"); a.status != http.StatusBadRequest {
		t.Errorf("a cursor that is none: %d %s", a.status, a.body)
	}
}

// stream reads n events behind last, and goes.
func (d *daemon) stream(t *testing.T, last string, n int) (all []happened) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url+"/api/v1/events", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", string(basic("admin", adminPassword)))
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Last-Event-ID", last)
	resp, err := d.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || got != "text/event-stream" {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("%d %s %s", resp.StatusCode, got, body)
	}
	id := ""
	for lines := bufio.NewScanner(resp.Body); len(all) < n && lines.Scan(); {
		if v, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			id = v
		}
		if v, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			var e happened
			if err := json.Unmarshal([]byte(v), &e); err != nil || e.ID != id {
				t.Fatalf("%s with id %s: %v", v, id, err)
			}
			all = append(all, e)
		}
	}
	if len(all) < n {
		t.Fatalf("%d events came of %d", len(all), n)
	}
	return all
}

// TestEventsGap: who comes back behind what is kept is told so, and who has read all of it is not; a question and a stream
// may begin with what happens from now on.
func TestEventsGap(t *testing.T) {
	dsn := metadbtest.Postgres(t)
	d := start(t, "BERTH_DATABASE="+dsn)
	d.fill(t)
	db, err := metadb.Open(t.Context(), metadb.Options{URL: dsn, MaxOpen: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	p := d.events(t, "limit=1000")
	early, end := p.Items[1].ID, p.Next
	now := d.events(t, "after=latest")
	if len(now.Items) != 0 || now.Next == "" {
		t.Fatalf("from now on: %+v", now)
	}
	waited := make(chan eventPage)
	go func() { waited <- d.events(t, "after=latest&wait=20") }()
	time.Sleep(time.Second)
	d.push(t, "team/late", blobContent)
	if w := <-waited; len(w.Items) == 0 || w.Items[0].Repository != "team/late" {
		t.Errorf("who waited from then on has %+v", w)
	}
	if p := d.events(t, "limit=1000&after="+now.Next); len(p.Items) == 0 || p.Items[0].Repository != "team/late" {
		t.Errorf("behind latest: %+v", p)
	}
	if first := d.stream(t, end, 1); first[0].Repository != "team/late" {
		t.Errorf("the stream begins with %+v", first)
	}
	admin := basic("admin", adminPassword)
	ask := func(after string, header ...string) answer {
		return d.do(t, admin, http.MethodGet, "/api/v1/events?after="+url.QueryEscape(after), "", header...)
	}
	if a := ask(early); a.status != http.StatusOK {
		t.Fatalf("before anything is removed: %d %s", a.status, a.body)
	}
	all := d.events(t, "limit=1000").Items
	trim := func(upto int) {
		if err := db.Update(t.Context(), func(tx *metadb.Tx) error {
			n, err := tx.TrimEvents(time.Now().Add(time.Hour), metadb.OutboxEnd(), upto)
			if err == nil && n != upto {
				t.Errorf("%d events were removed, not %d", n, upto)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	trim(3)
	for what, a := range map[string]answer{"a page": ask(early), "a stream": ask(early, "Accept", "text/event-stream"), "a stream that goes on": ask("", "Accept", "text/event-stream", "Last-Event-ID", early)} {
		if a.status != http.StatusGone || !strings.Contains(a.body, `"reason":"EVENTS_REMOVED"`) || !strings.Contains(a.body, "after=latest") {
			t.Errorf("%s behind what was removed: %d %s", what, a.status, a.body)
		}
	}
	if p := d.events(t, "limit=1000&after="+all[2].ID); len(p.Items) != len(all)-3 || p.Items[0] != all[3] {
		t.Errorf("who has the last event that was removed goes on with %+v", p)
	}
	if p := d.events(t, "limit=1000"); len(p.Items) != len(all)-3 {
		t.Errorf("from the beginning: %+v", p)
	}
	trim(len(all) - 3) // of an outbox that is empty, too
	if a := ask(all[len(all)-2].ID); a.status != http.StatusGone {
		t.Errorf("all are removed: %d %s", a.status, a.body)
	}
	if p := d.events(t, "after="+all[len(all)-1].ID); len(p.Items) != 0 {
		t.Errorf("behind the last: %+v", p)
	}
}

// TestEventStreamGap: a stream ends with the news that it fell behind what is kept.
func TestEventStreamGap(t *testing.T) {
	dsn := metadbtest.Postgres(t)
	d := start(t, "BERTH_DATABASE="+dsn)
	d.fill(t)
	db, err := metadb.Open(t.Context(), metadb.Options{URL: dsn, MaxOpen: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url+"/api/v1/events?after=latest", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", string(basic("admin", adminPassword)))
	r.Header.Set("Accept", "text/event-stream")
	resp, err := d.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	if !lines.Scan() || resp.StatusCode != http.StatusOK { // it has begun
		t.Fatalf("%d %v", resp.StatusCode, lines.Err())
	}
	// An event that is removed in the transaction that wrote it was never read by anybody.
	if err := db.Update(ctx, func(tx *metadb.Tx) error {
		if err := tx.Emit(event.Event{Kind: event.KindTagMoved, Repository: "team/app"}); err != nil {
			return err
		}
		_, err := tx.TrimEvents(time.Now().Add(time.Hour), metadb.OutboxEnd(), 1000)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for lines.Scan() {
		got = append(got, lines.Text())
	}
	text := strings.Join(got, "\n")
	if !strings.Contains(text, "event: gap\ndata: {") || !strings.Contains(text, `"reason":"EVENTS_REMOVED"`) {
		t.Errorf("the stream ended with %q, %v", text, lines.Err())
	}
}
