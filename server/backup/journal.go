package backup

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/metadb"
)

// The journal is what a registry is called, written beside its bytes: from it and from them Rebuild makes the metadata
// again. It follows the outbox of events, seconds behind the pushes, on one replica at a time.
//
//	berth/journal/head         which journal counts
//	berth/journal/ID/base-N    everything, as it was when the journal began
//	berth/journal/ID/log-E-I-F what happened up to the event (E, I), by the holder F
//	berth/journal/last-ID      which page was written last; see chain.go
//
// Bytes that are only in the database (manifests, small blobs) are in the pages, with the push that needed them. When the
// log has outgrown the base, a new journal is begun and takes the place of the old one: so the journal is never more than a
// few times what lives, and each byte of it is written a bounded number of times.
//
// What a restart of the journal reads while others push is mended by the log: a journal counts when its log has passed the
// last event that the reading can have met.

// JournalReader is the name under which the journal's cursor is kept beside those of notifications.
const JournalReader = "berth:journal"

// Journal writes the journal. Make it with NewJournal, then Run it.
type Journal struct {
	o     JournalOptions
	notes blob.NoteKeeper

	lag      atomic.Int64 // µs
	pages    prometheus.Counter
	failures prometheus.Counter
}

// JournalOptions configure a Journal. DB, Blobs, Holder, Now and Log are required.
type JournalOptions struct {
	DB      *metadb.DB
	Blobs   blob.Store
	Holder  string                // names this replica
	Metrics prometheus.Registerer // nil for nowhere

	Gather time.Duration // how long events are gathered; default 3 s
	Lease  time.Duration // how long the journal of a replica that vanished waits; default 15 s
	// Slack is how much the log may have, in bytes, before it is compared with the base; default 16 MiB.
	Slack int64

	Now func() time.Time
	Log *slog.Logger
}

// NewJournal returns a Journal, and has the outbox kept for it from now on. blob.ErrNoNotes: this store cannot have one.
func NewJournal(ctx context.Context, o JournalOptions) (*Journal, error) {
	o.Gather = cmp.Or(o.Gather, 3*time.Second)
	o.Lease = cmp.Or(o.Lease, 15*time.Second)
	o.Slack = cmp.Or(o.Slack, 16<<20)
	j := &Journal{o: o,
		pages:    prometheus.NewCounter(prometheus.CounterOpts{Name: "registry_journal_pages_total", Help: "Objects that were written to the journal of names."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "registry_journal_failures_total", Help: "Attempts to write the journal of names that failed."}),
	}
	var err error
	if j.notes, err = blob.Notes(o.Blobs); err != nil {
		return nil, err
	}
	if o.Metrics != nil {
		lag := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "registry_journal_lag_seconds",
			Help: "Age of the oldest event that this replica, which writes the journal of names, has not written; 0 on the others."},
			func() float64 { return time.Duration(j.lag.Load() * 1000).Seconds() })
		for _, c := range []prometheus.Collector{lag, j.pages, j.failures} {
			if err := o.Metrics.Register(c); err != nil {
				return nil, err
			}
		}
	}
	return j, o.DB.Update(ctx, func(tx *metadb.Tx) error {
		_, err := tx.EnsureDelivery(JournalReader)
		return err
	})
}

// Run writes the journal until ctx ends, and then what has happened until then.
func (j *Journal) Run(ctx context.Context) error {
	for pause := time.Duration(0); sleep(ctx, pause) == nil; {
		pause = j.o.Lease / 3
		err := j.lead(ctx)
		if err == nil || ctx.Err() != nil || errors.Is(err, metadb.ErrFenced) {
			continue
		}
		j.failures.Inc()
		j.o.Log.Warn("the journal of names cannot be written; it is tried again", "err", err)
		pause = j.o.Gather
	}
	return nil
}

// lead is the writer, as long as it has the lease; nil when another has it.
func (j *Journal) lead(ctx context.Context) error {
	w := &writer{j: j, seen: &digests{}}
	d, err := j.o.DB.Delivery(ctx, JournalReader)
	if err != nil {
		return err
	}
	held := false
	if d.Holder == "" || d.LeaseUntil.Before(j.clock()) {
		err = j.o.DB.Update(ctx, func(tx *metadb.Tx) (err error) {
			w.at, held, err = tx.LeaseDelivery(JournalReader, j.o.Holder, j.o.Lease)
			return err
		})
	}
	if err != nil || !held {
		return err
	}
	w.leased = j.o.Now()
	defer j.lag.Store(0)
	err = w.run(ctx)
	last, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer stop()
	if ctx.Err() != nil { // the process ends
		if err = nil; !w.counts {
			err = w.resume(last)
		}
		if err == nil {
			err = w.follow(last)
		}
	}
	release := j.o.DB.UpdateSoft(last, func(tx *metadb.Tx) error { return tx.ReleaseDelivery(JournalReader, w.at.Fence) })
	if errors.Is(release, metadb.ErrFenced) {
		release = nil
	}
	return errors.Join(err, release)
}

// clock is the time by which leases are measured.
func (j *Journal) clock() time.Time {
	if shared := j.o.DB.Clock(); shared != nil {
		return shared()
	}
	return j.o.Now()
}

// writer is the journal while this replica writes it.
type writer struct {
	j      *Journal
	at     metadb.Delivery // where it stands
	leased time.Time
	id     string
	counts bool  // it is what the head says
	base   int64 // bytes of its pages
	log    int64
	last   link     // the page that was written last
	seen   *digests // content that is in the journal, as far as it is remembered
}

const (
	eventPage   = 500
	maxSeen     = 200_000
	basePage    = 500
	contentPage = 16 // rows of up to 4 MiB
)

func (w *writer) run(ctx context.Context) error {
	if err := w.resume(ctx); err != nil {
		return err
	}
	for {
		if err := w.follow(ctx); err != nil {
			return err
		}
		if w.log > max(w.j.o.Slack, w.base) {
			if err := w.begin(ctx); err != nil {
				return err
			}
		}
		if err := sleep(ctx, w.j.o.Gather); err != nil {
			return err
		}
	}
}

// resume goes on with the journal that the database knows, or begins one: when the store has another one or none, or when
// events were dropped that it has not got.
func (w *writer) resume(ctx context.Context) error {
	known, err := w.j.o.DB.Setting(ctx, metadb.JournalSetting)
	if err != nil && !errors.Is(err, metadb.ErrNotFound) {
		return err
	}
	id, lost, _ := strings.Cut(known, " ")
	head, err := readHead(ctx, w.j.notes)
	switch {
	case fault.Is(err, fault.NotFound), fault.Is(err, fault.Conflict):
		return w.begin(ctx)
	case err != nil:
		return err
	case head.Format < journalFormat || head.ID != id || !head.Chained || lost != strconv.FormatInt(w.at.Lost, 10):
		return w.begin(ctx)
	}
	if w.last, err = readChain(ctx, w.j.notes, id); fault.Is(err, fault.NotFound) || fault.Is(err, fault.Conflict) {
		return w.begin(ctx)
	} else if err != nil {
		return err
	}
	w.id, w.counts = id, true
	names, err := w.j.notes.NoteNames(ctx, journalFolder+"/"+id)
	if err != nil {
		return err
	}
	w.log, w.base = 0, int64(len(names))*pageBytes/8 // roughly: a page after compression
	return nil
}

// begin writes a journal anew. The old one counts until this one can stand alone.
func (w *writer) begin(ctx context.Context) error {
	began := w.j.o.Now()
	w.id, w.counts, w.base, w.log, w.last, w.seen = word(), false, 0, 0, link{}, &digests{}
	// From here on the cursor is that of the new one: whoever comes after a crash must not go on with the old.
	if err := w.know(ctx, ""); err != nil {
		return err
	}
	if err := w.skip(ctx); err != nil {
		return err
	}
	if err := w.writeBase(ctx); err != nil {
		return err
	}
	from := w.at.Cursor
	if err := w.follow(ctx); err != nil { // past whatever the base can have met
		return err
	}
	head, err := json.Marshal(journalHead{Format: journalFormat, ID: w.id, At: w.j.o.Now().UTC(), Chained: true})
	if err != nil {
		return err
	}
	if err := w.renew(ctx, true); err != nil { // a writer that lost the journal must not say that its own counts
		return err
	}
	if err := w.j.notes.PutNote(ctx, headNote, head); err != nil {
		return err
	}
	d, err := w.j.o.DB.Delivery(ctx, JournalReader)
	if err != nil {
		return err
	}
	w.at.Lost = d.Lost
	if err := w.know(ctx, w.id+" "+strconv.FormatInt(w.at.Lost, 10)); err != nil {
		return err
	}
	w.counts = true
	w.j.o.Log.Info("journal of names begun", "journal", w.id, "bytes", w.base, "events", w.at.Cursor.ID-from.ID, "took", w.j.o.Now().Sub(began).Round(time.Millisecond))
	return w.forget(ctx)
}

// know has the database say which journal is its.
func (w *writer) know(ctx context.Context, journal string) error {
	return w.j.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		if err := tx.HoldDelivery(JournalReader, w.at.Fence); err != nil {
			return err
		}
		return tx.PutSetting(metadb.JournalSetting, journal)
	})
}

// skip moves behind all events: the base has what they did.
func (w *writer) skip(ctx context.Context) error {
	for {
		es, err := w.j.o.DB.Events(ctx, w.at.Cursor, eventPage)
		if err != nil {
			return err
		}
		if len(es) > 0 {
			w.at.Cursor = es[len(es)-1].Cursor
		}
		if len(es) < eventPage {
			return w.renew(ctx, false)
		}
		if err := w.renew(ctx, false); err != nil {
			return err
		}
	}
}

// forget removes journals that do not count.
func (w *writer) forget(ctx context.Context) error {
	names, err := w.j.notes.NoteNames(ctx, journalFolder)
	if err != nil {
		return err
	}
	var old []string
	for _, name := range names {
		if name != headNote && name != chainNote(w.id) && !strings.HasPrefix(name, journalFolder+"/"+w.id+"/") {
			old = append(old, name)
		}
	}
	return w.j.notes.DeleteNotes(ctx, old...)
}

// renew keeps the lease, when a third of it is gone or when it must be sure.
func (w *writer) renew(ctx context.Context, sure bool) error {
	now := w.j.o.Now()
	if !sure && now.Sub(w.leased) < w.j.o.Lease/3 {
		return nil
	}
	err := w.j.o.DB.UpdateSoft(ctx, func(tx *metadb.Tx) error { return tx.RenewDelivery(JournalReader, w.at.Fence, w.j.o.Lease) })
	if err == nil {
		w.leased = now
	}
	return err
}

// follow writes what has happened behind the cursor.
func (w *writer) follow(ctx context.Context) error {
	for {
		if err := w.renew(ctx, false); err != nil {
			return err
		}
		es, err := w.j.o.DB.Events(ctx, w.at.Cursor, eventPage)
		if err != nil {
			return err
		}
		if len(es) == 0 {
			w.j.lag.Store(0)
			return nil
		}
		w.j.lag.Store(max(w.j.o.Now().Sub(es[0].At).Microseconds(), 0))
		if err := w.events(ctx, es); err != nil {
			w.seen = &digests{} // a page that is written again must have all that it had
			return err
		}
	}
}

// events writes pages for events and moves the cursor behind them.
func (w *writer) events(ctx context.Context, es []event.Event) error {
	p := &page{}
	public := map[string]bool{} // projects that the page has
	for i, e := range es {
		if err := w.event(ctx, p, e, public); err != nil {
			return err
		}
		last := i == len(es)-1
		if p.lines == 0 && last {
			return w.save(ctx, e.Cursor)
		}
		if !last && !p.full() {
			continue
		}
		if p.lines > 0 {
			n, err := w.put(ctx, p, w.pageName(e.Cursor))
			if err != nil {
				return err
			}
			w.log += n
			clear(public)
		}
		if err := w.save(ctx, e.Cursor); err != nil {
			return err
		}
	}
	return nil
}

// pageName sorts by the last event of the page. No writer replaces the page of another one, whose later pages rely on it.
func (w *writer) pageName(c event.Cursor) string {
	return fmt.Sprintf("%s/%s/log-%020d-%020d-%d", journalFolder, w.id, c.Epoch, c.ID, w.at.Fence)
}

// save moves the cursor. What a power loss takes back is written again, and means the same.
func (w *writer) save(ctx context.Context, c event.Cursor) error {
	err := w.j.o.DB.UpdateSoft(ctx, func(tx *metadb.Tx) error { return tx.SaveDelivery(JournalReader, w.at.Fence, c) })
	if err == nil {
		w.at.Cursor = c
	}
	return err
}

// event writes the lines of an event.
func (w *writer) event(ctx context.Context, p *page, e event.Event, public map[string]bool) error {
	l := line{Repository: e.Repository, Digest: e.Digest, At: e.At, By: e.Principal}
	switch e.Kind {
	case event.KindManifestPushed:
		l.Kind, l.MediaType = manifestLine, e.Detail().MediaType
	case event.KindManifestDeleted:
		l.Kind = goneLine
	case event.KindManifestSigned:
		l.Kind = signatureLine
	case event.KindTagMoved:
		l.Kind, l.Tag = tagLine, e.Tag
	case event.KindTagDeleted:
		l.Kind, l.Tag = untagLine, e.Tag
	default:
		return nil
	}
	repo, err := w.j.o.DB.Repository(ctx, e.Repository)
	if errors.Is(err, metadb.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if !public[repo.Project] {
		public[repo.Project] = true
		if err := p.add(line{Kind: projectLine, Project: repo.Project, Public: repo.Public}, nil); err != nil {
			return err
		}
	}
	switch l.Kind {
	case manifestLine:
		if err := w.contents(ctx, p, repo.ID, e); err != nil {
			return err
		}
		if err := p.add(l, nil); err != nil {
			return err
		}
		return w.signatures(ctx, p, repo, e.Digest)
	case signatureLine:
		s, err := w.j.o.DB.Signature(ctx, repo.ID, e.Digest, e.Detail().Signature)
		if errors.Is(err, metadb.ErrNotFound) { // the manifest is gone by now
			return nil
		}
		if err != nil {
			return err
		}
		return p.add(signatureOf(repo.Name, s), nil)
	}
	return p.add(l, nil)
}

// signatures writes those that a manifest has already: one that comes back out of the trash brings them along.
func (w *writer) signatures(ctx context.Context, p *page, repo metadb.Repository, d oci.Digest) error {
	all, err := w.j.o.DB.Signatures(ctx, repo.ID, d)
	if err != nil {
		return err
	}
	for _, s := range all {
		if err := p.add(signatureOf(repo.Name, s), nil); err != nil {
			return err
		}
	}
	return nil
}

func signatureOf(repository string, s metadb.Signature) line {
	return line{Kind: signatureLine, Repository: repository, Digest: s.Digest, Tag: s.Name, At: s.CreatedAt, By: s.CreatedBy, Bytes: s.Content}
}

// contents writes what the database alone has of a manifest, unless the journal is known to have it.
func (w *writer) contents(ctx context.Context, p *page, repoID int64, e event.Event) error {
	children, err := w.j.o.DB.Children(ctx, repoID, e.Digest)
	if err != nil {
		return err
	}
	all := []metadb.Edge{{Child: e.Digest}}
	for _, c := range children {
		if c.Kind == metadb.ConfigEdge || c.Kind == metadb.LayerEdge {
			all = append(all, c)
		}
	}
	if len(w.seen.short)+len(w.seen.long) > maxSeen {
		w.seen = &digests{}
	}
	for _, c := range all {
		if w.seen.has(c.Child) {
			continue
		}
		content, err := w.j.o.DB.Content(ctx, c.Child)
		if err == nil {
			w.seen.add(c.Child)
			err = p.add(line{Kind: contentLine, Digest: c.Child, Size: int64(len(content))}, content)
		} else if errors.Is(err, metadb.ErrNotFound) { // its bytes are in the store
			err = w.placeOf(ctx, p, c)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// placeOf writes where the store has the bytes of a child, when that is not under its digest.
func (w *writer) placeOf(ctx context.Context, p *page, c metadb.Edge) error {
	b, err := w.j.o.DB.StoredBlob(ctx, c.Child)
	if errors.Is(err, metadb.ErrNotFound) || err == nil && b.Place == "" {
		return nil
	}
	if err != nil {
		return err
	}
	return p.add(line{Kind: placeLine, Digest: b.Digest, Place: b.Place, Size: b.Size}, nil)
}
