package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/metadb/metadbtest"
	"github.com/berth-registry/berth/server/webhook"
)

// onBoth runs a test on SQLite and on PostgreSQL. open gives another DB of the same database, as another replica has it.
func onBoth(t *testing.T, run func(t *testing.T, open func(t *testing.T) *metadb.DB)) {
	t.Run("SQLite", func(t *testing.T) {
		var db *metadb.DB // one process has it
		path := metadbtest.File(t)
		outer := t
		run(t, func(*testing.T) *metadb.DB {
			if db == nil {
				db = open(outer, metadb.Options{Path: path})
			}
			return db
		})
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		url := metadbtest.Postgres(t)
		run(t, func(t *testing.T) *metadb.DB { return open(t, metadb.Options{URL: url, MaxOpen: 4}) })
	})
}

func open(t *testing.T, o metadb.Options) *metadb.DB {
	t.Helper()
	db, err := metadb.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return db
}

// got is an event as a receiver sees it.
type got struct {
	ID     string
	Action string
	Target struct{ Repository, Tag, Digest string }
}

// receiver is a server that is told, and answers what the test wants.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	events []got // that it took
	tries  int
	// answer decides what to do with an event: a status, or 0 for cutting the connection. nil is 200.
	answer func(n int, e got) int
}

func newReceiver(t *testing.T, answer func(n int, e got) int) *receiver {
	r := &receiver{answer: answer}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

// ServeHTTP implements http.Handler.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	var doc struct{ Events []got }
	if err := json.Unmarshal(body, &doc); err != nil || len(doc.Events) != 1 || req.Header.Get("Content-Type") != webhook.MediaType {
		http.Error(w, "what is this", http.StatusTeapot)
		return
	}
	r.mu.Lock()
	r.tries++
	n := r.tries
	r.mu.Unlock()
	status := http.StatusOK
	if r.answer != nil {
		status = r.answer(n, doc.Events[0])
	}
	if status == 0 {
		conn, _, _ := w.(http.Hijacker).Hijack()
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
		return
	}
	if status/100 == 2 {
		r.mu.Lock()
		r.events = append(r.events, doc.Events[0])
		r.mu.Unlock()
	}
	w.WriteHeader(status)
}

func (r *receiver) took() []got {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

func (r *receiver) tried() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tries
}

// tags are the tags that were told of a repository, in order.
func (r *receiver) tags(repo string) (tags []string) {
	for _, e := range r.took() {
		if e.Target.Repository == repo {
			tags = append(tags, e.Target.Tag)
		}
	}
	return tags
}

// await waits until the condition holds.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 3000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("still not: %s", what)
}

// options are quick ones.
func options(t *testing.T, db *metadb.DB, endpoints ...webhook.Endpoint) webhook.Options {
	for i := range endpoints {
		e := &endpoints[i]
		if e.Backoff == 0 {
			e.Backoff = 20 * time.Millisecond
		}
		if e.Threshold == 0 {
			e.Threshold = 3
		}
	}
	return webhook.Options{
		DB: db, Endpoints: endpoints, Poll: 10 * time.Millisecond, Lease: 20 * time.Second, Now: time.Now,
		Log: slog.New(slog.NewTextHandler(testWriter{t}, nil)), Metrics: webhook.NewMetrics(),
	}
}

// testWriter keeps the log for a test that fails.
type testWriter struct{ t *testing.T }

// Write implements io.Writer.
func (w testWriter) Write(p []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

// run runs a service until stop is called, or the test ends.
func run(t *testing.T, o webhook.Options) (s *webhook.Service, stop func()) {
	t.Helper()
	s, err := webhook.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(stop)
	return s, stop
}

// move writes that a tag was moved.
func move(t *testing.T, db *metadb.DB, repo, tag string) {
	t.Helper()
	d := oci.FromBytes(oci.SHA256, []byte(repo+tag))
	err := db.Update(t.Context(), func(tx *metadb.Tx) error {
		return tx.Emit(event.TagMoved(t.Context(), repo, tag, d).WithDetail(t.Context(), event.Detail{MediaType: "m", Size: 3}))
	})
	if err != nil {
		t.Error(err)
	}
}

func numbers(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

func equal(t *testing.T, what string, have, want any) {
	t.Helper()
	if fmt.Sprint(have) != fmt.Sprint(want) {
		t.Fatalf("%s: got %v, want %v", what, have, want)
	}
}

// TestOrder: while several push at the same time, what is told of a repository is in the order of its commits, and each once.
func TestOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, open func(*testing.T) *metadb.DB) {
		db := open(t)
		r := newReceiver(t, nil)
		run(t, options(t, db, webhook.Endpoint{Name: "ci", URL: r.URL}))
		const repos, each = 8, 40
		var all sync.WaitGroup
		for i := range repos {
			all.Go(func() {
				for _, tag := range numbers(each) {
					move(t, db, fmt.Sprint("team/app", i), tag)
				}
			})
		}
		all.Wait()
		await(t, "all are told", func() bool { return len(r.took()) >= repos*each })
		for i := range repos {
			equal(t, "order", r.tags(fmt.Sprint("team/app", i)), numbers(each))
		}
		distinct(t, r.took(), repos*each)
	})
}

// TestOrderOfBeginnings: a transaction that began first and wrote last, because it waited for another one, is told last.
func TestOrderOfBeginnings(t *testing.T) {
	db := open(t, metadb.Options{URL: metadbtest.Postgres(t)})
	r := newReceiver(t, nil)
	run(t, options(t, db, webhook.Endpoint{Name: "ci", URL: r.URL}))
	began, wrote := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		err := db.Update(t.Context(), func(tx *metadb.Tx) error {
			if err := tx.PutSetting("x", "1"); err != nil { // it has its epoch
				return err
			}
			close(began)
			<-wrote
			return tx.Emit(event.TagMoved(t.Context(), "team/a", "second", oci.Digest{}))
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-began
	move(t, db, "team/a", "first")
	close(wrote)
	all.Wait()
	await(t, "both are told", func() bool { return len(r.took()) == 2 })
	equal(t, "order", r.tags("team/a"), []string{"first", "second"})
}

// distinct fails unless there are n events with n ids.
func distinct(t *testing.T, events []got, n int) {
	t.Helper()
	ids := map[string]bool{}
	for _, e := range events {
		ids[e.ID] = true
	}
	if len(ids) != n || len(events) != n {
		t.Fatalf("%d events with %d ids, want %d", len(events), len(ids), n)
	}
}

// TestFailures: whatever an endpoint does, everything arrives when it comes to its senses, in order, and the endpoint
// beside it does not wait.
func TestFailures(t *testing.T) {
	for name, bad := range map[string]func(n int) int{
		"Reset":    func(int) int { return 0 },
		"500":      func(int) int { return 500 },
		"503":      func(int) int { return 503 },
		"401":      func(int) int { return 401 },
		"Redirect": func(int) int { return 307 },
		"Mixed":    func(n int) int { return []int{0, 500, 429, 404}[n%4] },
		"Slow":     func(int) int { time.Sleep(300 * time.Millisecond); return 200 },
	} {
		t.Run(name, func(t *testing.T) {
			db := open(t, metadb.Options{Path: metadbtest.File(t)})
			var well atomic.Bool
			r := newReceiver(t, func(n int, _ got) int {
				if well.Load() {
					return 200
				}
				return bad(n)
			})
			beside := newReceiver(t, nil)
			// Only the slow one is to be cut: what a slow machine cuts comes twice, and is no mistake.
			patience := 10 * time.Second
			if name == "Slow" {
				patience = 100 * time.Millisecond
			}
			run(t, options(t, db, webhook.Endpoint{Name: "ci", URL: r.URL, Timeout: patience}, webhook.Endpoint{Name: "beside", URL: beside.URL, Timeout: 10 * time.Second}))
			for _, tag := range numbers(10) {
				move(t, db, "team/a", tag)
				move(t, db, "team/b", tag)
			}
			await(t, "the other endpoint is told", func() bool { return len(beside.took()) == 20 })
			await(t, "it was tried some times", func() bool { return r.tried() > 4 })
			well.Store(true)
			await(t, "all are told", func() bool {
				return len(r.tags("team/a")) >= 10 && len(r.tags("team/b")) >= 10 && len(ids(r.took())) == 20
			})
			if name == "Slow" { // what came too late for us was taken, so it comes twice
				return
			}
			equal(t, "order", r.tags("team/a"), numbers(10))
			equal(t, "order", r.tags("team/b"), numbers(10))
		})
	}
}

func ids(events []got) []string {
	all := map[string]bool{}
	for _, e := range events {
		all[e.ID] = true
	}
	return slices.Collect(maps.Keys(all))
}

// TestPoison: an event that the endpoint never takes holds up its own repository only, becomes a dead letter, and can be
// replayed.
func TestPoison(t *testing.T) {
	onBoth(t, func(t *testing.T, open func(*testing.T) *metadb.DB) {
		for name, status := range map[string]int{"refused": 400, "crashing": 0} {
			t.Run(name, func(t *testing.T) {
				db := open(t)
				var cured atomic.Bool
				r := newReceiver(t, func(_ int, e got) int {
					if e.Target.Repository == name+"/bad" && e.Target.Tag == "1" && !cured.Load() {
						return status
					}
					return 200
				})
				o := options(t, db, webhook.Endpoint{Name: name, URL: r.URL})
				// By this clock nothing is given up until the test says that time has passed.
				var later atomic.Int64
				o.MaxAge, o.Now = time.Hour, func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
				_, stop := run(t, o)
				defer stop()
				for _, tag := range numbers(3) {
					move(t, db, name+"/bad", tag)
				}
				for _, tag := range numbers(20) {
					move(t, db, name+"/good", tag)
				}
				await(t, "the good ones are told", func() bool { return len(r.tags(name+"/good")) == 20 })
				equal(t, "of the bad ones", r.tags(name+"/bad"), []string{"0"})
				later.Store(int64(4 * o.MaxAge))
				await(t, "those behind it are told", func() bool { return len(r.tags(name+"/bad")) == 2 })
				equal(t, "of the bad ones then", r.tags(name+"/bad"), []string{"0", "2"})
				desk := &webhook.Desk{DB: db, Enabled: map[string]bool{name: true}, Now: o.Now}
				letters, err := desk.DeadLetters(t.Context(), name, 10)
				if err != nil || len(letters) != 1 || letters[0].Repository != name+"/bad" {
					t.Fatalf("dead letters %+v, %v", letters, err)
				}
				cured.Store(true)
				n, err := desk.ReplayDead(t.Context(), name)
				if err != nil || n != 1 {
					t.Fatalf("replayed %d, %v", n, err)
				}
				await(t, "the dead letter is told", func() bool { return len(r.tags(name+"/bad")) == 3 })
				all := r.took()
				if last := all[len(all)-1]; last.ID != letters[0].EventID {
					t.Errorf("the dead letter %s came as %s", letters[0].EventID, last.ID)
				}
			})
		}
	})
}

// TestLeaseIsShort: a replica that is killed keeps its endpoints for seconds, as docs/operate/notifications.md promises.
func TestLeaseIsShort(t *testing.T) {
	db := open(t, metadb.Options{URL: metadbtest.Postgres(t)})
	r := newReceiver(t, nil)
	o := options(t, db, webhook.Endpoint{Name: "ci", URL: r.URL})
	o.Lease = 0
	run(t, o)
	move(t, db, "team/a", "1")
	await(t, "it is told", func() bool { return len(r.took()) == 1 })
	d, err := db.Delivery(t.Context(), "ci")
	if left := d.LeaseUntil.Sub(db.Clock()()); err != nil || left > 8*time.Second {
		t.Errorf("the endpoint is held for another %s, %v", left, err)
	}
}

// TestReplicas: two replicas tell each event once while nothing happens to them, and when one dies the other goes on.
func TestReplicas(t *testing.T) {
	url := metadbtest.Postgres(t)
	db := open(t, metadb.Options{URL: url})
	r := newReceiver(t, nil)
	var stops []func()
	for range 2 {
		o := options(t, open(t, metadb.Options{URL: url, MaxOpen: 4}), webhook.Endpoint{Name: "ci", URL: r.URL})
		_, stop := run(t, o)
		stops = append(stops, stop)
	}
	for _, tag := range numbers(100) {
		move(t, db, "team/a", tag)
	}
	await(t, "all are told", func() bool { return len(r.took()) >= 100 })
	time.Sleep(100 * time.Millisecond) // for a second one to come, if there is one
	distinct(t, r.took(), 100)
	for i, stop := range stops {
		stop()
		if i == 1 {
			break
		}
		for _, tag := range numbers(20) {
			move(t, db, "team/b", tag)
		}
		await(t, "the other goes on", func() bool { return len(r.tags("team/b")) >= 20 })
	}
	equal(t, "order", r.tags("team/b"), numbers(20))
}

// TestReplay: from a time and from an event on, under the same ids, while a replica is delivering.
func TestReplay(t *testing.T) {
	onBoth(t, func(t *testing.T, open func(*testing.T) *metadb.DB) {
		db := open(t)
		r := newReceiver(t, nil)
		run(t, options(t, db, webhook.Endpoint{Name: "ci", URL: r.URL}))
		desk := &webhook.Desk{DB: open(t), Enabled: map[string]bool{"ci": true}, Now: time.Now}
		for _, tag := range numbers(10) {
			move(t, db, "team/a", tag)
		}
		await(t, "all are told", func() bool { return len(r.took()) == 10 })
		first := r.took()
		n, err := desk.Replay(t.Context(), "ci", time.Time{}, first[6].ID)
		if err != nil || n != 4 {
			t.Fatalf("replay from the seventh: %d, %v", n, err)
		}
		await(t, "four are told again", func() bool { return len(r.took()) >= 14 })
		equal(t, "again", r.took()[10:], first[6:])
		if n, err = desk.Replay(t.Context(), "ci", time.Now().Add(-time.Hour), ""); err != nil || n != 10 {
			t.Fatalf("replay of an hour: %d, %v", n, err)
		}
		await(t, "all are told again", func() bool { return len(r.took()) >= 24 })
		equal(t, "all again", r.took()[14:], first)
		for what, f := range map[string]func() (int, error){
			"a later time":     func() (int, error) { return desk.Replay(t.Context(), "ci", time.Now().Add(time.Hour), "") },
			"nobody":           func() (int, error) { return desk.Replay(t.Context(), "nobody", time.Time{}, "1") },
			"no id of a event": func() (int, error) { return desk.Replay(t.Context(), "ci", time.Time{}, "x") },
		} {
			if _, err := f(); err == nil {
				t.Errorf("replay of %s is accepted", what)
			}
		}
		all, err := desk.Status(t.Context())
		if err != nil || len(all) != 1 || all[0].State != "active" || all[0].Lost != 0 || all[0].Dead != 0 {
			t.Fatalf("status %+v, %v", all, err)
		}
	})
}

// TestTrim: what every endpoint has and is old goes, what an endpoint needs stays, and beyond the cap the loss is counted.
func TestTrim(t *testing.T) {
	onBoth(t, func(t *testing.T, open func(*testing.T) *metadb.DB) {
		db := open(t)
		left := func() int {
			n, _, err := db.Behind(t.Context(), event.Cursor{}, 1000)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		none := options(t, db)
		none.Keep = time.Nanosecond
		for _, tag := range numbers(5) {
			move(t, db, "team/a", tag)
		}
		_, stop := run(t, none)
		await(t, "without endpoints, old events go", func() bool { return left() == 0 })
		stop()

		away := newReceiver(t, func(int, got) int { return 503 })
		o := options(t, db, webhook.Endpoint{Name: "ci", URL: away.URL})
		o.Keep = time.Nanosecond
		_, stop = run(t, o)
		for _, tag := range numbers(8) {
			move(t, db, "team/b", tag)
		}
		await(t, "the endpoint is tried", func() bool { return away.tried() > 3 })
		stop()
		_, stop = run(t, o) // trims at its start
		time.Sleep(300 * time.Millisecond)
		stop()
		// What is parked is kept for itself; the rest waits in the outbox.
		waiting, _, err := db.CountParked(t.Context(), "ci")
		if err != nil || int(waiting)+left() < 8 {
			t.Fatalf("%d parked, %d in the outbox: some of 8 are gone; %v", waiting, left(), err)
		}
		for _, tag := range numbers(8) { // of another repository: the first has made room by being parked
			move(t, db, "team/c", tag)
			move(t, db, "team/d", tag)
		}
		o.Most = 2
		_, stop = run(t, o)
		await(t, "the cap holds", func() bool { return left() <= 2 })
		stop()
		d, err := db.Delivery(t.Context(), "ci")
		if err != nil || d.Lost == 0 {
			t.Fatalf("lost events are not counted: %+v, %v", d, err)
		}
	})
}

// TestIgnore: what an endpoint ignores is not sent, and does not stand in the way.
func TestIgnore(t *testing.T) {
	db := open(t, metadb.Options{Path: metadbtest.File(t)})
	r := newReceiver(t, nil)
	run(t, options(t, db, webhook.Endpoint{Name: "ci", URL: r.URL, IgnoreActions: []string{"delete"}, IgnoreMediaTypes: []string{"x"}}))
	emit := func(e event.Event, mediaType string) {
		err := db.Update(t.Context(), func(tx *metadb.Tx) error {
			return tx.Emit(e.WithDetail(t.Context(), event.Detail{MediaType: mediaType}))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	emit(event.TagDeleted(t.Context(), "a/b", "gone", oci.Digest{}), "")
	emit(event.TagMoved(t.Context(), "a/b", "x", oci.Digest{}), "x")
	emit(event.Event{Kind: "of the future", Repository: "a/b"}, "")
	emit(event.TagMoved(t.Context(), "a/b", "y", oci.Digest{}), "y")
	await(t, "the last is told", func() bool { return len(r.took()) > 0 })
	equal(t, "told", r.tags("a/b"), []string{"y"})
}

// TestSecrets: headers reach the endpoint and nobody else, and neither they nor the URL are in the log.
func TestSecrets(t *testing.T) {
	db := open(t, metadb.Options{Path: metadbtest.File(t)})
	other := newReceiver(t, nil)
	var auth atomic.Value
	first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		auth.Store(r.Header.Get("Authorization") + r.URL.Query().Get("token"))
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	}))
	defer first.Close()
	closed := httptest.NewServer(nil)
	closed.Close()
	var log lockedBuffer
	o := options(t, db, webhook.Endpoint{Name: "ci", URL: first.URL + "?token=hush2", Headers: map[string][]string{"authorization": {"hush1"}}},
		webhook.Endpoint{Name: "closed", URL: strings.Replace(closed.URL, "//", "//user:hush3@", 1) + "/hush4?token=hush5"})
	o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	run(t, o)
	move(t, db, "a/b", "1")
	move(t, db, "a/c", "1")
	await(t, "both fail", func() bool { return strings.Count(log.String(), "endpoint=") > 5 })
	if auth.Load() != "hush1hush2" {
		t.Errorf("the endpoint got %v", auth.Load())
	}
	if other.tried() > 0 {
		t.Error("a redirect was followed")
	}
	d, err := db.Delivery(t.Context(), "closed")
	if err != nil || d.Failure == "" {
		t.Errorf("no failure is noted: %+v, %v", d, err)
	}
	if text := log.String() + d.Failure; strings.Contains(text, "hush") {
		t.Errorf("a secret is in the log:\n%s", text)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String is what was written.
func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestPulls: a pull is told from memory; a queue that is full drops and says so, and the puller never waits.
func TestPulls(t *testing.T) {
	db := open(t, metadb.Options{Path: metadbtest.File(t)})
	block := make(chan struct{})
	r := newReceiver(t, func(int, got) int { <-block; return 200 })
	o := options(t, db, webhook.Endpoint{Name: "ci", URL: r.URL})
	s, _ := run(t, o)
	defer close(block)
	began := time.Now()
	const n = 6000
	for range n {
		s.Pulled(webhook.Pull{Repository: "a/b", Digest: oci.FromBytes(oci.SHA256, nil), MediaType: "m", Size: 1})
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("%d pulls waited %s for an endpoint that hangs", n, took)
	}
	await(t, "the first is told", func() bool { return r.tried() > 0 })
	registry := prometheus.NewRegistry()
	registry.MustRegister(o.Metrics.Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if strings.Contains(f.String(), `"Dropped"`) && f.GetName() == "registry_notifications_events_total" {
			return
		}
	}
	t.Errorf("dropped pulls are not counted: %v", families)
}
