package server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server"
	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/config"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// replicaOptions say how a replica differs from its brothers.
type replicaOptions struct {
	dsn  string
	skew time.Duration // of its clock; not backwards, which this machine's sockets would not understand
	env  []string
}

// startReplicas starts berthds at the same moment on one database and one directory.
func startReplicas(t testing.TB, dir string, of ...replicaOptions) []*daemon {
	t.Helper()
	all := make([]*daemon, len(of))
	servers := make([]*server.Server, len(of))
	logs := make([]*safeBuffer, len(of))
	var starting sync.WaitGroup
	for i, o := range of {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(testkit.FreePort(t)))
		logs[i] = &safeBuffer{}
		all[i] = &daemon{"http://" + addr, &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}, Timeout: 60 * time.Second}}
		starting.Go(func() {
			loaded, err := config.Load(config.LoadOptions{Search: []string{}, Fallback: []string{}, Env: append([]string{
				"BERTH_DATA=" + filepath.Join(dir, "data"), "BERTH_ADDR=" + addr, "BERTH_DATABASE=" + o.dsn,
				"BERTH_LOG_LEVEL=warn", "REGISTRY_LOG_ACCESSLOG_DISABLED=true",
			}, o.env...)})
			if err != nil {
				t.Error(err)
				return
			}
			now := func() time.Time { return time.Now().Add(o.skew) }
			if servers[i], err = server.New(context.Background(), server.Options{Config: loaded, Stderr: logs[i], Getenv: func(string) string { return "" }, Now: now}); err != nil {
				t.Errorf("replica %d: %v", i, err)
			}
		})
	}
	starting.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for i, s := range servers {
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		t.Cleanup(func() {
			all[i].client.CloseIdleConnections()
			stop()
			if err := <-ended; err != nil {
				t.Errorf("run: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			if t.Failed() {
				t.Logf("replica %d:\n%s", i, logs[i])
			}
		})
	}
	for _, d := range all {
		d.await(t, 10*time.Second, http.StatusOK)
	}
	return all
}

// await waits until the daemon says of itself that it is ready, or that it is not.
func (d *daemon) await(t testing.TB, within time.Duration, status int) {
	t.Helper()
	for deadline := time.Now().Add(within); ; time.Sleep(10 * time.Millisecond) {
		resp, err := d.client.Get(d.url + "/readyz")
		said := ""
		if err == nil {
			b, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode == status {
				return
			}
			said = string(b)
		}
		if time.Now().After(deadline) {
			t.Fatalf("/readyz is not %d within %s: %v %s", status, within, err, said)
		}
	}
}

// safeBuffer is a log that is read while it is written.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

const configuredAdmin = "BERTH_ADMIN_PASSWORD=" + adminPassword

// indexOf is a manifest of its own for each text.
func indexOf(text string) string {
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[],"annotations":{"text":%q}}`, oci.MediaTypeIndex, text)
}

func (d *daemon) tag(t testing.TB, name, tag, manifest string) {
	t.Helper()
	a := d.do(t, basic("admin", adminPassword), http.MethodPut, "/v2/"+name+"/manifests/"+tag, manifest, "Content-Type", oci.MediaTypeIndex)
	if a.status != http.StatusCreated {
		t.Fatalf("tag %s: %+v", tag, a)
	}
}

// TestReplicasStartTogether: of several that start at the same moment on nothing, all come up, and are one registry.
func TestReplicasStartTogether(t *testing.T) {
	for round := range 3 {
		t.Run(strconv.Itoa(round), func(t *testing.T) {
			dsn, dir := testkit.Postgres(t), t.TempDir()
			small := replicaOptions{dsn: dsn, env: []string{"BERTH_DATABASE_MAXOPEN=2"}}
			all := startReplicas(t, dir, small, small, small)
			first, err := os.ReadFile(filepath.Join(dir, "data", "first-run.txt"))
			if err != nil {
				t.Fatal(err)
			}
			_, rest, _ := strings.Cut(string(first), "admin / ")
			password, _, _ := strings.Cut(rest, " ")
			password = strings.TrimSpace(password)
			ca := ""
			for i, d := range all {
				token := d.token(t, basic("admin", password), "repository:team/app:pull,push")
				if token == "" {
					t.Fatalf("the first password %q is refused by replica %d; the file says %q", password, i, first)
				}
				for j, other := range all {
					if a := other.do(t, token, http.MethodPost, "/v2/team/app/blobs/uploads/", ""); a.status != http.StatusAccepted {
						t.Errorf("replica %d on a token of replica %d: %+v", j, i, a)
					}
				}
				a := d.do(t, "", http.MethodGet, "/ca.crt", "")
				if ca == "" {
					ca = a.body
				}
				if a.status != http.StatusOK || a.body != ca {
					t.Errorf("replica %d has a certificate authority of its own", i)
				}
			}
		})
	}
}

// TestTagMovesAreSeen: after the 201 for a tag on one replica, the others give the new manifest in some milliseconds, and
// never the old one after metadb.TrustFor.
func TestTagMovesAreSeen(t *testing.T) {
	dsn := testkit.Postgres(t)
	o := replicaOptions{dsn: dsn, env: []string{configuredAdmin}}
	all := startReplicas(t, t.TempDir(), o, o, o)
	admin := basic("admin", adminPassword)
	var late []time.Duration
	for i := range 60 {
		at := all[i%3]
		m := indexOf(fmt.Sprint("version ", i))
		at.tag(t, "team/app", "latest", m)
		acked := time.Now()
		for _, d := range all {
			for {
				asked := time.Now()
				a := d.do(t, admin, http.MethodGet, "/v2/team/app/manifests/latest", "")
				if a.status == http.StatusOK && a.body == m {
					break
				}
				if d == at {
					t.Fatalf("the replica that moved the tag does not know of it: %+v", a)
				}
				if late := asked.Sub(acked); late > metadb.TrustFor {
					t.Fatalf("an old tag %s after it was moved: %+v", late, a)
				}
			}
			if d != at {
				late = append(late, time.Since(acked))
			}
		}
	}
	slices.Sort(late)
	t.Logf("seen after %s at the median, %s at the 95th percentile, %s at most (with the requests themselves)", late[len(late)/2], late[len(late)*95/100], late[len(late)-1])
	if late[len(late)/2] > metadb.TrustFor/4 { // what only the look of each second brings takes longer
		t.Errorf("seen after %s at the median", late[len(late)/2])
	}
}

// TestDeletesAndRightsAreSeen: what was deleted, hidden or changed through one replica ends on the others, in time.
func TestDeletesAndRightsAreSeen(t *testing.T) {
	dsn := testkit.Postgres(t)
	o := replicaOptions{dsn: dsn, env: []string{configuredAdmin, "REGISTRY_STORAGE_DELETE_ENABLED=true", "REGISTRY_AUTH_ANONYMOUS=pull"}}
	all := startReplicas(t, t.TempDir(), o, o)
	a, b := all[0], all[1]
	admin := basic("admin", adminPassword)
	a.fill(t)
	db := otherProcess(t, dsn)
	becomes := func(what string, want int, ask func() answer) {
		t.Helper()
		began := time.Now()
		for {
			got := ask()
			if got.status == want {
				t.Logf("%s: %s", what, time.Since(began))
				return
			}
			if time.Since(began) > metadb.TrustFor {
				t.Fatalf("%s: still %d after %s", what, got.status, time.Since(began))
			}
		}
	}
	get := func(d *daemon, who caller, path string) func() answer {
		return func() answer { return d.do(t, who, http.MethodGet, path, "") }
	}
	manifest, blob := "/v2/library/app/manifests/1", "/v2/library/app/blobs/"+digestOf(blobContent)
	anonymous := b.token(t, "", "repository:library/app:pull")
	for _, path := range []string{manifest, blob, "/v2/library/app/manifests/" + digestOf(indexContent)} {
		if got := b.do(t, anonymous, http.MethodGet, path, ""); got.status != http.StatusOK {
			t.Fatalf("%s: %+v", path, got)
		}
	}

	// The visibility of a project, by another process.
	update := func(fn func(tx *metadb.Tx) error) {
		t.Helper()
		if err := db.Update(t.Context(), fn); err != nil {
			t.Fatal(err)
		}
	}
	public := func(yes bool) func(tx *metadb.Tx) error {
		return func(tx *metadb.Tx) error {
			p, err := tx.Project(t.Context(), "library")
			if err != nil {
				return err
			}
			return tx.SetPublic(p.ID, yes)
		}
	}
	update(public(false))
	becomes("a project is hidden", http.StatusUnauthorized, get(b, anonymous, manifest))
	update(public(true))
	becomes("a project is public", http.StatusOK, get(b, anonymous, manifest))

	// A password.
	token := b.token(t, admin, "repository:team/app:pull")
	if got := b.do(t, token, http.MethodGet, "/v2/team/app/manifests/1", ""); got.status != http.StatusOK {
		t.Fatalf("%+v", got)
	}
	accounts, err := auth.New(auth.Options{Store: db, Access: nobody{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := accounts.SetPassword(identity.With(t.Context(), identity.Principal{Kind: identity.Local, Admin: true}), "admin", "another-Password-11", false); err != nil {
		t.Fatal(err)
	}
	becomes("a token of the old password", http.StatusUnauthorized, get(b, token, "/v2/team/app/manifests/1"))
	becomes("the old password", http.StatusUnauthorized, get(b, admin, "/v2/team/app/manifests/1"))
	admin = basic("admin", "another-Password-11")
	for i, d := range all {
		if got := d.do(t, admin, http.MethodGet, "/v2/team/app/manifests/1", ""); got.status != http.StatusOK {
			t.Errorf("replica %d on the new password: %+v", i, got)
		}
	}

	// Content.
	for _, path := range []string{manifest, "/v2/library/app/manifests/" + digestOf(indexContent), blob} {
		if got := a.do(t, admin, http.MethodDelete, path, ""); got.status != http.StatusAccepted {
			t.Fatalf("delete %s: %+v", path, got)
		}
		becomes("deleted "+path, http.StatusNotFound, get(b, admin, path))
	}
}

// nobody has no rights; SetPassword asks for none.
type nobody struct{}

func (nobody) Narrow(context.Context, identity.Principal, []identity.Grant) ([]identity.Grant, error) {
	return nil, nil
}

func (nobody) CheckGiveAll(context.Context, metadb.Subject) error        { return nil }
func (nobody) CheckTakeAll(context.Context, metadb.Subject) error        { return nil }
func (nobody) CheckActAs(context.Context, identity.Principal) error      { return nil }
func (nobody) CheckSystem(context.Context, identity.Verb) error          { return nil }
func (nobody) CheckProject(context.Context, identity.Verb, string) error { return nil }

// otherProcess opens the database as another process would.
func otherProcess(t testing.TB, dsn string) *metadb.DB {
	t.Helper()
	db, err := metadb.Open(t.Context(), metadb.Options{URL: dsn, MaxOpen: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// TestUploadOverReplicas: every request of an upload meets another replica, whose clocks are minutes apart.
func TestUploadOverReplicas(t *testing.T) {
	dsn := testkit.Postgres(t)
	env := []string{configuredAdmin}
	all := startReplicas(t, t.TempDir(),
		replicaOptions{dsn: dsn, env: env}, replicaOptions{dsn: dsn, env: env, skew: 10 * time.Minute}, replicaOptions{dsn: dsn, env: env, skew: 25 * time.Minute})
	for i := range all {
		at := func(n int) *daemon { return all[(i+n)%3] }
		token := at(0).token(t, basic("admin", adminPassword), "repository:team/app:pull,push")
		content := strings.Repeat(fmt.Sprintf("part of upload %d, ", i), 20_000)
		d := digestOf(content)
		a := at(1).do(t, token, http.MethodPost, "/v2/team/app/blobs/uploads/", "")
		if a.status != http.StatusAccepted {
			t.Fatalf("post: %+v", a)
		}
		path := location(a)
		third := len(content) / 3
		for n, part := range []string{content[:third], content[third : 2*third], content[2*third:]} {
			a = at(2+n).do(t, token, http.MethodPatch, path, part, "Content-Type", "application/octet-stream",
				"Content-Range", fmt.Sprintf("%d-%d", n*third, n*third+len(part)-1))
			if a.status != http.StatusAccepted {
				t.Fatalf("patch %d: %+v", n, a)
			}
			path = location(a)
			a = at(n).do(t, token, http.MethodGet, path, "")
			if want := fmt.Sprintf("0-%d", n*third+len(part)-1); a.status != http.StatusNoContent || a.header.Get("Range") != want {
				t.Fatalf("status after patch %d: %+v, want %s", n, a, want)
			}
		}
		if a = at(2).do(t, token, http.MethodPut, path+"?digest="+d, ""); a.status != http.StatusCreated {
			t.Fatalf("put: %+v", a)
		}
		for n := range 3 {
			if a = at(n).do(t, token, http.MethodGet, "/v2/team/app/blobs/"+d, ""); a.status != http.StatusOK || a.body != content {
				t.Errorf("blob at %d: %d, %d bytes", n, a.status, len(a.body))
			}
			// The answer to the PUT was lost, and the client asks again, somewhere.
			if a = at(n).do(t, token, http.MethodPut, path+"?digest="+d, ""); a.status != http.StatusCreated && a.code != "BLOB_UPLOAD_UNKNOWN" {
				t.Errorf("second put at %d: %+v", n, a)
			}
			if a = at(n).do(t, token, http.MethodPut, path+"?digest="+digestOf("other"), ""); a.code != "BLOB_UPLOAD_UNKNOWN" {
				t.Errorf("a put of another digest to the ended upload at %d: %+v", n, a)
			}
		}
	}
}

// TestUploadOnTwoReplicasAtOnce: two replicas are sent bytes of one upload at the same moment, and then both are asked to
// end it, as one or as the other content. What is acknowledged is there, byte for byte; most rounds acknowledge something.
func TestUploadOnTwoReplicasAtOnce(t *testing.T) {
	dsn := testkit.Postgres(t)
	o := replicaOptions{dsn: dsn, env: []string{configuredAdmin}}
	dir := t.TempDir()
	all := startReplicas(t, dir, o, o)
	token := all[0].token(t, basic("admin", adminPassword), "repository:team/app:pull,push")
	send := func(d *daemon, method, path, body string) answer {
		pieces := make([]io.Reader, 0, 8)
		for rest := body; rest != ""; {
			n := min(len(rest), 40_000)
			pieces = append(pieces, strings.NewReader(rest[:n]), late(2*time.Millisecond))
			rest = rest[n:]
		}
		r, err := http.NewRequestWithContext(t.Context(), method, d.url+path, io.MultiReader(pieces...))
		if err != nil {
			t.Error(err)
			return answer{}
		}
		r.Header.Set("Authorization", string(token))
		r.Header.Set("Content-Type", "application/octet-stream")
		resp, err := d.client.Do(r)
		if err != nil {
			t.Error(err)
			return answer{}
		}
		defer func() { _ = resp.Body.Close() }()
		b, _ := io.ReadAll(resp.Body)
		return answer{status: resp.StatusCode, header: resp.Header, body: string(b)}
	}
	both := func(ask func(d *daemon, i int) answer) (got [2]answer) {
		var wg sync.WaitGroup
		for i := range got {
			wg.Go(func() { got[i] = ask(all[i], i) })
		}
		wg.Wait()
		return got
	}
	acked := 0
	for round := range 30 {
		contents := [2]string{
			strings.Repeat(fmt.Sprintf("first %d, ", round), 20_000), strings.Repeat(fmt.Sprintf("other %d, ", round), 20_000),
		}
		path := location(all[0].do(t, token, http.MethodPost, "/v2/team/app/blobs/uploads/", ""))
		start := strings.Repeat("x", round%3*50_000) // from the beginning, or from a chunk that both know
		if start != "" {
			a := send(all[round%2], http.MethodPatch, path, start)
			if path = location(a); a.status != http.StatusAccepted {
				t.Fatalf("first chunk: %+v", a)
			}
		}
		patched := both(func(d *daemon, i int) answer { return send(d, http.MethodPatch, path, contents[i]) })
		ended := both(func(d *daemon, i int) answer {
			which := i
			if patched[i].status != http.StatusAccepted {
				which = 1 - i // what the other one has is what there is
			}
			return send(d, http.MethodPut, path+"?digest="+digestOf(start+contents[which]), "")
		})
		for i, a := range append(patched[:], ended[:]...) {
			if a.status >= 500 || a.status == 0 {
				t.Errorf("answer %d of round %d: %+v", i, round, a)
			}
		}
		for i, content := range contents {
			for _, d := range all {
				a := d.do(t, token, http.MethodGet, "/v2/team/app/blobs/"+digestOf(start+content), "")
				if a.status == http.StatusOK && a.body != start+content {
					t.Fatalf("round %d: blob %d has other bytes than its digest says", round, i)
				}
				if a.status == http.StatusOK {
					acked++
				}
			}
		}
		for i, a := range ended {
			if a.status != http.StatusCreated {
				continue
			}
			found := 0
			for _, content := range contents {
				if b := all[1-i].do(t, token, http.MethodHead, "/v2/team/app/blobs/"+digestOf(start+content), ""); b.status == http.StatusOK {
					found++
				}
			}
			if found == 0 {
				t.Errorf("round %d: acknowledged by %d, and not there", round, i)
			}
		}
	}
	t.Logf("%d of 60 readings found a blob", acked)
	if acked < 40 {
		t.Errorf("only %d of 60 readings found a blob", acked)
	}
}

// late is a reader that takes its time to be empty.
type late time.Duration

func (l late) Read([]byte) (int, error) {
	time.Sleep(time.Duration(l))
	return 0, io.EOF
}

func location(a answer) string {
	_, path, _ := strings.Cut(a.header.Get("Location"), "/v2/")
	return "/v2/" + path
}

// TestWithoutPostgres: while the database is away, what is remembered is still served, the rest is a clear 503 at once,
// and everything works again by itself.
func TestWithoutPostgres(t *testing.T) {
	postgres := testkit.OwnPostgres(t)
	o := replicaOptions{dsn: postgres.DSN, env: []string{configuredAdmin, "BERTH_LOG_LEVEL=error"}}
	all := startReplicas(t, t.TempDir(), o, o)
	large := strings.Repeat("a large blob, ", 10_000)
	admin := basic("admin", adminPassword)
	all[0].push(t, "team/app", large)
	all[0].push(t, "team/cold", "another blob")
	token := all[0].token(t, admin, "repository:team/app:pull,push", "repository:team/cold:pull")
	warm := []string{"/v2/team/app/manifests/1", "/v2/team/app/manifests/" + digestOf(indexContent), "/v2/team/app/blobs/" + digestOf(large)}
	for _, d := range all {
		for _, path := range warm {
			for _, who := range []caller{token, admin} {
				if a := d.do(t, who, http.MethodGet, path, ""); a.status != http.StatusOK {
					t.Fatalf("%s: %+v", path, a)
				}
			}
		}
	}

	postgres.Crash()
	for _, d := range all {
		d.await(t, 10*time.Second, http.StatusServiceUnavailable)
		for range 2 {
			for _, path := range warm {
				for _, who := range []caller{token, admin} {
					if a := d.do(t, who, http.MethodGet, path, ""); a.status != http.StatusOK {
						t.Errorf("%s without the database: %+v", path, a)
					}
				}
			}
			time.Sleep(metadb.TrustFor / 2)
		}
		for _, c := range [][]string{
			{http.MethodGet, "/v2/team/cold/manifests/1", ""},
			{http.MethodPut, "/v2/team/app/manifests/2", indexContent},
			{http.MethodPost, "/v2/team/app/blobs/uploads/?digest=" + digestOf("new"), "new"},
			{http.MethodPost, "/v2/team/app/blobs/uploads/?digest=" + digestOf(large+"new"), large + "new"},
			{http.MethodGet, "/v2/team/app/tags/list", ""},
		} {
			began := time.Now()
			a := d.do(t, token, c[0], c[1], c[2], "Content-Type", oci.MediaTypeIndex)
			if a.status != http.StatusServiceUnavailable || a.code != "UNAVAILABLE" || a.header.Get("Retry-After") == "" || !strings.Contains(a.message, "database") {
				t.Errorf("%s %s: %+v", c[0], c[1], a)
			}
			if took := time.Since(began); took > 5*time.Second { // "at once", on a slow machine
				t.Errorf("%s %s: answered after %s", c[0], c[1], took)
			}
		}
	}

	postgres.Start(t)
	for _, d := range all {
		d.await(t, 10*time.Second, http.StatusOK)
		d.push(t, "team/app", "new")
		if a := d.do(t, token, http.MethodGet, "/v2/team/cold/manifests/1", ""); a.status != http.StatusOK {
			t.Errorf("afterwards: %+v", a)
		}
	}
}

// TestPostgresRestartsUnderLoad: nothing that was acknowledged is lost or undone while the database crashes and comes
// back, no tag is read older than it was acknowledged, and no request hangs.
func TestPostgresRestartsUnderLoad(t *testing.T) {
	postgres := testkit.OwnPostgres(t)
	o := replicaOptions{dsn: postgres.DSN, env: []string{configuredAdmin, "BERTH_LOG_LEVEL=error"}}
	all := startReplicas(t, t.TempDir(), o, o, o)
	admin := basic("admin", adminPassword)
	var stop atomic.Bool
	var pushed, refused atomic.Int64
	var writers sync.WaitGroup
	for w := range 6 {
		writers.Go(func() {
			name := fmt.Sprintf("team/app%d", w)
			acked, unsure := -1, 0 // the version that was acknowledged last, and how many after it nobody knows of
			version := map[string]int{}
			for n := 0; !stop.Load(); n++ {
				d := all[n%3]
				m := indexOf(fmt.Sprintf("%d of %s", n, name))
				version[m] = n
				began := time.Now()
				a := d.do(t, admin, http.MethodPut, "/v2/"+name+"/manifests/latest", m, "Content-Type", oci.MediaTypeIndex)
				switch {
				case a.status == http.StatusCreated:
					acked, unsure = n, 0
					pushed.Add(1)
				case a.status == http.StatusServiceUnavailable && a.code == "UNAVAILABLE":
					unsure++
					refused.Add(1)
					time.Sleep(20 * time.Millisecond)
				default:
					t.Errorf("push: %+v", a)
				}
				if took := time.Since(began); took > 15*time.Second {
					t.Errorf("a push took %s", took)
				}
				if acked < 0 || unsure > 0 {
					continue
				}
				if a := d.do(t, admin, http.MethodGet, "/v2/"+name+"/manifests/latest", ""); a.status == http.StatusOK && version[a.body] != acked {
					t.Errorf("%s: version %d is read after %d was acknowledged", name, version[a.body], acked)
				}
			}
			time.Sleep(metadb.TrustFor)
			for i, d := range all {
				a := d.do(t, admin, http.MethodGet, "/v2/"+name+"/manifests/latest", "")
				if a.status != http.StatusOK || version[a.body] < acked || version[a.body] > acked+unsure {
					t.Errorf("%s at the end on replica %d: %d, version %d; %d was acknowledged", name, i, a.status, version[a.body], acked)
				}
			}
		})
	}
	for range 3 {
		time.Sleep(1500 * time.Millisecond)
		postgres.Crash()
		time.Sleep(700 * time.Millisecond)
		postgres.Start(t)
	}
	time.Sleep(1500 * time.Millisecond)
	for _, d := range all {
		d.await(t, 10*time.Second, http.StatusOK)
	}
	stop.Store(true)
	writers.Wait()
	t.Logf("%d pushes, %d were refused", pushed.Load(), refused.Load())
	if pushed.Load() < 50 || refused.Load() == 0 {
		t.Errorf("%d pushes, %d refused: that proves nothing", pushed.Load(), refused.Load())
	}
}
