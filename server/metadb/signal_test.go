package metadb_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/recall"
)

// ear collects what a replica was told to forget.
type ear struct {
	mu    sync.Mutex
	heard []metadb.Change
	trust func() recall.Trust
}

func (e *ear) hear(c metadb.Change) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard = append(e.heard, c)
}

func (e *ear) count(c metadb.Change) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, h := range e.heard {
		if h == c {
			n++
		}
	}
	return n
}

// await returns how long it took until the change was heard once more than before.
func (e *ear) await(t testing.TB, c metadb.Change, before int) time.Duration {
	t.Helper()
	began := time.Now()
	eventually(t, fmt.Sprintf("change %+v is heard", c), 30*time.Second, func() bool { return e.count(c) > before })
	return time.Since(began)
}

func eventually(t testing.TB, what string, within time.Duration, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !ok(); time.Sleep(200 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", within, what)
		}
	}
}

// replica opens another DB on the server, and waits until it trusts what it hears.
func replica(t testing.TB, url string, o metadb.Options) (*metadb.DB, *ear) {
	t.Helper()
	o.URL = url
	db := open(t, o)
	t.Cleanup(func() { _ = db.Close() })
	e := &ear{}
	db.Watch(e.hear)
	e.trust = db.Trust()
	eventually(t, "the replica listens", 30*time.Second, func() bool { return e.trust() == recall.Current })
	return db, e
}

func change(t testing.TB, db *metadb.DB, fn func(tx *metadb.Tx) error) {
	t.Helper()
	if err := db.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// image makes a repository with two manifests, the first of them tagged.
func image(t testing.TB, db *metadb.DB) (repo int64, project metadb.Project, one, two oci.Digest) {
	t.Helper()
	one, two = oci.FromBytes(oci.SHA256, []byte("one")), oci.FromBytes(oci.SHA256, []byte("two"))
	change(t, db, func(tx *metadb.Tx) error {
		p, _, err := tx.EnsureProject("team", false)
		if err != nil {
			return err
		}
		r, err := tx.EnsureRepository(p.ID, "team/app")
		if err != nil {
			return err
		}
		repo, project = r.ID, p
		for _, m := range []struct {
			d    oci.Digest
			body string
		}{{one, "one"}, {two, "two"}} {
			if err := tx.PutBlob(metadb.Blob{Digest: m.d, Size: 3}, []byte(m.body)); err != nil {
				return err
			}
			if _, err := tx.LinkBlob(repo, m.d); err != nil {
				return err
			}
			if _, err := tx.PutManifest(metadb.Manifest{RepoID: repo, Digest: m.d, MediaType: "m", Size: 3}, nil); err != nil {
				return err
			}
		}
		_, err = tx.PutTag(repo, "latest", one, metadb.Origin{})
		return err
	})
	return repo, project, one, two
}

func TestSignalOfEveryChange(t *testing.T) {
	dsn := testkit.Postgres(t)
	a, own := replica(t, dsn, metadb.Options{MaxOpen: 2})
	_, b := replica(t, dsn, metadb.Options{MaxOpen: 2})
	repo, project, one, two := image(t, a)
	change(t, a, func(tx *metadb.Tx) error { _, err := tx.PutTag(repo, "other", one, metadb.Origin{}); return err })
	change(t, a, func(tx *metadb.Tx) error { _, err := tx.PutTag(repo, "latest", one, metadb.Origin{}); return err }) // moves nothing
	for _, c := range []struct {
		name string
		want metadb.Change
		fn   func(tx *metadb.Tx) error
	}{
		{"tag moved", metadb.Change{Kind: metadb.TagChanged, ID: repo, Key: "latest"}, func(tx *metadb.Tx) error { _, err := tx.PutTag(repo, "latest", two, metadb.Origin{}); return err }},
		{"tag deleted", metadb.Change{Kind: metadb.TagChanged, ID: repo, Key: "latest"}, func(tx *metadb.Tx) error { _, _, err := tx.DeleteTag(repo, "latest", metadb.Origin{}); return err }},
		{"tags of a manifest", metadb.Change{Kind: metadb.TagChanged, ID: repo, Key: "other"}, func(tx *metadb.Tx) error { _, err := tx.DeleteTagsOf(repo, one, metadb.Origin{}); return err }},
		{"manifest deleted", metadb.Change{Kind: metadb.ManifestGone, ID: repo, Key: one.String()}, func(tx *metadb.Tx) error { _, err := tx.DeleteManifest(repo, one); return err }},
		{"blob unlinked", metadb.Change{Kind: metadb.BlobGone, ID: repo, Key: one.String()}, func(tx *metadb.Tx) error { _, err := tx.UnlinkBlob(repo, one); return err }},
		{"visibility", metadb.Change{Kind: metadb.ProjectChanged, ID: project.ID, Key: "team"}, func(tx *metadb.Tx) error { return tx.SetPublic(project.ID, true) }},
		{"account", metadb.Change{Kind: metadb.AccountChanged, Key: "alice"}, func(tx *metadb.Tx) error { _, err := tx.PutAccount(metadb.Account{Name: "alice"}); return err }},
		{"account deleted", metadb.Change{Kind: metadb.AccountChanged, Key: "alice"}, func(tx *metadb.Tx) error { _, err := tx.DeleteAccount("alice"); return err }},
		{"key", metadb.Change{Kind: metadb.KeysChanged}, func(tx *metadb.Tx) error { return tx.AddSigningKey(metadb.SigningKey{ID: "k", Private: []byte("p")}) }},
		{"key deleted", metadb.Change{Kind: metadb.KeysChanged}, func(tx *metadb.Tx) error { return tx.DeleteSigningKey("k") }},
	} {
		before := b.count(c.want)
		change(t, a, c.fn)
		b.await(t, c.want, before)
	}
	// Two changes of each of three rows, and nothing for what was made, or rolled back, or our own.
	if n := b.count(metadb.Change{Kind: metadb.TagChanged, ID: repo, Key: "latest"}); n != 2 {
		t.Errorf("the tag was heard of %d times, want 2", n)
	}
	own.mu.Lock()
	if heard := slices.DeleteFunc(slices.Clone(own.heard), func(c metadb.Change) bool { return c.Kind == metadb.Everything }); len(heard) > 0 {
		t.Errorf("a replica heard of its own changes: %v", heard)
	}
	own.mu.Unlock()

	everything := b.count(metadb.Change{Kind: metadb.Everything})
	change(t, a, func(tx *metadb.Tx) error {
		for i := range 65 {
			if _, err := tx.PutAccount(metadb.Account{Name: fmt.Sprint("user", i)}); err != nil {
				return err
			}
		}
		return nil
	})
	b.await(t, metadb.Change{Kind: metadb.Everything}, everything)
}

// TestSignalIsQuick: others hear of a change in some milliseconds, and within a second when the call to them is lost.
func TestSignalIsQuick(t *testing.T) {
	dsn := testkit.Postgres(t)
	a, _ := replica(t, dsn, metadb.Options{})
	_, b := replica(t, dsn, metadb.Options{})
	alice := metadb.Change{Kind: metadb.AccountChanged, Key: "alice"}
	// A machine that is busy with something else is slow for a while; what only the look of each second brings is slow always.
	for left := 5; ; left-- {
		var took []time.Duration
		for range 50 {
			before := b.count(alice)
			change(t, a, func(tx *metadb.Tx) error { _, err := tx.PutAccount(metadb.Account{Name: "alice"}); return err })
			took = append(took, b.await(t, alice, before))
			time.Sleep(10 * time.Millisecond)
		}
		slices.Sort(took)
		t.Logf("heard after %s at the median, %s at most", took[25], took[49])
		if took[25] <= 100*time.Millisecond {
			break
		}
		if left == 0 {
			t.Errorf("heard after %s at the median", took[25])
			break
		}
	}

	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	before := b.count(alice)
	if _, err := conn.Exec(t.Context(), "INSERT INTO cache_change (origin, kind, ref, key) VALUES (1, 5, 0, 'alice')"); err != nil {
		t.Fatal(err)
	}
	if took := b.await(t, alice, before); took > metadb.TrustFor {
		t.Errorf("without a call it was heard after %s", took)
	}
}

// TestSignalOfALateCommit: a transaction that began first and commits last is not overlooked, and nothing is told twice.
func TestSignalOfALateCommit(t *testing.T) {
	dsn := testkit.Postgres(t)
	a, _ := replica(t, dsn, metadb.Options{})
	_, b := replica(t, dsn, metadb.Options{})
	account := func(name string) metadb.Change { return metadb.Change{Kind: metadb.AccountChanged, Key: name} }
	put := func(tx *metadb.Tx, name string) error {
		_, err := tx.PutAccount(metadb.Account{Name: name})
		return err
	}
	began, release, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- a.Update(context.Background(), func(tx *metadb.Tx) error {
			err := put(tx, "late")
			close(began)
			<-release
			return err
		})
	}()
	<-began
	for i := range 5 {
		name := fmt.Sprint("quick", i)
		change(t, a, func(tx *metadb.Tx) error { return put(tx, name) })
		b.await(t, account(name), 0)
	}
	if b.count(account("late")) != 0 {
		t.Error("heard of a change before it was made")
	}
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	b.await(t, account("late"), 0)
	time.Sleep(1200 * time.Millisecond) // two more looks
	for _, name := range []string{"late", "quick0", "quick4"} {
		if n := b.count(account(name)); n != 1 {
			t.Errorf("%s was heard of %d times, want once", name, n)
		}
	}
}

// TestSignalAfterAGap: whoever loses the connection forgets everything before it believes anything again.
func TestSignalAfterAGap(t *testing.T) {
	dsn := testkit.Postgres(t)
	_, b := replica(t, dsn, metadb.Options{})
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for range 3 {
		before := b.count(metadb.Change{Kind: metadb.Everything})
		tag, err := conn.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
		if err != nil || tag.RowsAffected() == 0 {
			t.Fatalf("nothing was ended: %v, %v", tag, err)
		}
		if took := b.await(t, metadb.Change{Kind: metadb.Everything}, before); took > metadb.TrustFor {
			t.Errorf("listening again took %s", took)
		}
		eventually(t, "trust comes back", metadb.TrustFor, func() bool { return b.trust() == recall.Current })
	}
}

// TestSignalsAreTrimmed: changes that every replica has seen are removed, later ones are not.
func TestSignalsAreTrimmed(t *testing.T) {
	dsn := testkit.Postgres(t)
	db, _ := replica(t, dsn, metadb.Options{})
	put := func(name string) {
		change(t, db, func(tx *metadb.Tx) error { _, err := tx.PutAccount(metadb.Account{Name: name}); return err })
	}
	put("before")
	if err := metadb.Trim(t.Context(), db, func() { put("after") }); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	rows, err := conn.Query(t.Context(), "SELECT key FROM cache_change")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || !slices.Equal(keys, []string{"after"}) {
		t.Errorf("what is left: %v, %v; want after", keys, err)
	}
}

// TestClaimsByOneClock: a claim holds as long as it was made for, also between replicas whose clocks are minutes apart.
func TestClaimsByOneClock(t *testing.T) {
	dsn := testkit.Postgres(t)
	at := func(skew time.Duration) *metadb.DB {
		db, _ := replica(t, dsn, metadb.Options{Now: func() time.Time { return time.Now().Add(skew) }})
		return db
	}
	behind, right, ahead := at(-10*time.Minute), at(0), at(10*time.Minute)
	for name, db := range map[string]*metadb.DB{"behind": behind, "ahead": ahead} {
		if off := time.Until(db.Clock()()).Abs(); off > time.Minute {
			t.Errorf("the shared clock of the replica %s is off by %s", name, off)
		}
		for what, hold := range map[string]time.Duration{"holds": time.Minute, "is over": -time.Second} {
			d := oci.FromBytes(oci.SHA256, []byte(name+what))
			change(t, db, func(tx *metadb.Tx) error {
				if err := tx.CreateUpload(metadb.Upload{ID: name + what, Algorithm: oci.SHA256, HashState: []byte{}, DriverState: []byte{}}); err != nil {
					return err
				}
				return tx.SetCommitting(name+what, d)
			})
			claim := func(db *metadb.DB) (claimed bool, err error) {
				err = db.Update(t.Context(), func(tx *metadb.Tx) error { claimed, err = tx.ClaimOrphan(d, name+what, hold); return err })
				return claimed, err
			}
			if claimed, err := claim(db); !claimed || err != nil {
				t.Fatal(claimed, err)
			}
			for other, db := range map[string]*metadb.DB{"right": right, "ahead": ahead, "behind": behind} {
				claimed, err := claim(db)
				if held := errors.Is(err, metadb.ErrClaimed); held != (hold > 0) || claimed == held {
					t.Errorf("a claim that %s, of the replica %s, seen by the one that is %s: %v, %v", what, name, other, claimed, err)
				}
			}
		}
	}
}

// TestSilentServer: a server that is there and says nothing, as behind a router that drops packets, is found out within
// TrustFor; what is asked then is answered in bounded time, soon at once, and all is well when it speaks again.
func TestSilentServer(t *testing.T) {
	dsn := testkit.Postgres(t)
	wire := newWire(t, dsn)
	db, e := replica(t, wire.dsn, metadb.Options{MaxOpen: 4, Outage: 12 * time.Second})
	change(t, db, func(tx *metadb.Tx) error { _, err := tx.PutAccount(metadb.Account{Name: "alice"}); return err })

	wire.silent.Store(true)
	began := time.Now()
	eventually(t, "doubt", metadb.TrustFor+100*time.Millisecond, func() bool { return e.trust() == recall.Doubtful })
	for _, ask := range []func() error{
		func() error { _, err := db.Account(t.Context(), "alice"); return err },
		func() error {
			return db.Update(t.Context(), func(tx *metadb.Tx) error { _, err := tx.PutAccount(metadb.Account{Name: "bob"}); return err })
		},
	} {
		if err := ask(); !fault.Is(err, fault.Unavailable) {
			t.Errorf("asked of a silent server: %v; want Unavailable", err)
		}
	}
	if took := time.Since(began); took > 25*time.Second {
		t.Errorf("two questions took %s", took)
	}
	began = time.Now()
	for range 50 {
		if _, err := db.Account(t.Context(), "alice"); !fault.Is(err, fault.Unavailable) {
			t.Errorf("%v; want Unavailable", err)
		}
	}
	if took := time.Since(began); took > 10*time.Second { // one that waits takes more than that
		t.Errorf("50 questions to a server that is known to be away took %s", took)
	}
	if err := db.Check(t.Context()); !fault.Is(err, fault.Unavailable) {
		t.Errorf("check: %v", err)
	}
	eventually(t, "what is remembered expires", 15*time.Second, func() bool { return e.trust() == recall.Expired })

	wire.silent.Store(false)
	eventually(t, "it is well again", 10*time.Second, func() bool { return e.trust() == recall.Current })
	if a, err := db.Account(t.Context(), "alice"); err != nil || a.Name != "alice" {
		t.Errorf("%v, %v", a, err)
	}
	change(t, db, func(tx *metadb.Tx) error { _, err := tx.PutAccount(metadb.Account{Name: "carol"}); return err })
}

// wire is a way to a server that can fall silent.
type wire struct {
	dsn    string
	silent atomic.Bool
}

func newWire(t testing.TB, dsn string) *wire {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := u.Host
	u.Host = l.Addr().String()
	w := &wire{dsn: u.String()}
	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	t.Cleanup(func() { stop(); _ = l.Close(); all.Wait() })
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", server)
			if err != nil {
				_ = c.Close()
				continue
			}
			for _, way := range [][2]net.Conn{{c, s}, {s, c}} {
				all.Go(func() { w.carry(ctx, way[0], way[1]) })
			}
			context.AfterFunc(ctx, func() { _, _ = c.Close(), s.Close() })
		}
	})
	return w
}

// carry passes bytes on while the wire is not silent; what comes meanwhile waits.
func (w *wire) carry(ctx context.Context, from, to net.Conn) {
	defer func() { _ = to.Close() }()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		for w.silent.Load() && ctx.Err() == nil {
			time.Sleep(5 * time.Millisecond)
		}
		if _, werr := to.Write(buf[:n]); werr != nil || err != nil && err != io.EOF || err == io.EOF {
			return
		}
	}
}
