package sync_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	stdsync "sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/copy"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/image/sync"
	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// counter counts the manifests that are pulled, by host, and the requests.
type counter struct {
	http.RoundTripper
	mu    stdsync.Mutex
	pulls map[string]int
	asked map[string]int
}

func (c *counter) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	c.asked[r.URL.Host]++
	c.mu.Unlock()
	if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/manifests/") {
		c.mu.Lock()
		c.pulls[r.URL.Host]++
		c.mu.Unlock()
	}
	return c.RoundTripper.RoundTrip(r)
}

func (c *counter) of(host string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pulls[host]
}

func (c *counter) all(host string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked[host]
}

func client(c *counter) *remote.Client {
	return remote.New(remote.Options{Transport: c, Backoff: time.Millisecond, Endpoint: func(string) remote.Endpoint { return remote.Endpoint{Scheme: "http"} }})
}

func open(c *remote.Client) func(context.Context, string) (sync.Place, error) {
	return func(_ context.Context, name string) (sync.Place, error) {
		host, n, err := sync.Split(name)
		return c.Repository(host, n), err
	}
}

// put writes an image whose only layer is a text, and returns its digest.
func put(t testing.TB, p sync.Place, tag, text string, more map[string]any) oci.Descriptor {
	t.Helper()
	blob := func(s string) oci.Descriptor {
		d := oci.Descriptor{MediaType: "text/plain", Digest: oci.FromBytes(oci.SHA256, []byte(s)), Size: int64(len(s))}
		if _, err := p.PutBlob(t.Context(), d, nil, func(_ context.Context, from int64) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(s[from:])), nil
		}); err != nil {
			t.Fatal(err)
		}
		return d
	}
	doc := map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeManifest, "config": blob("{}"), "layers": []oci.Descriptor{blob(text)}}
	for k, v := range more {
		doc[k] = v
	}
	body, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	d := oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: oci.FromBytes(oci.SHA256, body), Size: int64(len(body))}
	at := ref.Reference{Tag: tag}
	if tag == "" {
		at.Digest = d.Digest
	}
	if err := p.PutManifest(t.Context(), at, d, body); err != nil {
		t.Fatal(err)
	}
	return d
}

type world struct {
	c        *remote.Client
	count    *counter
	src, dst *testkit.Daemon
	from, to sync.Place
	e        *sync.Engine
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{count: &counter{RoundTripper: remote.NewTransport(nil), pulls: map[string]int{}, asked: map[string]int{}}}
	w.c = client(w.count)
	w.src = testkit.Start(t, testkit.Options{Env: []string{"BERTH_ANONYMOUS=delete"}})
	w.dst = testkit.Start(t, testkit.Options{Env: []string{"BERTH_ANONYMOUS=delete"}})
	w.from, w.to = w.open(t, w.src, "team/app"), w.open(t, w.dst, "mirror/app")
	w.e = &sync.Engine{Open: open(w.c), Catalog: w.c.Catalog}
	return w
}

func (w *world) open(t *testing.T, d *testkit.Daemon, name string) sync.Place {
	t.Helper()
	p, err := open(w.c)(t.Context(), d.Addr+"/"+name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (w *world) rule() sync.Rule {
	return sync.Rule{From: w.src.Addr + "/team/app", To: w.dst.Addr + "/mirror/app"}
}

func (w *world) run(t *testing.T, rules ...sync.Rule) *sync.Report {
	t.Helper()
	rep, err := w.e.Run(t.Context(), rules)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func tags(t *testing.T, p sync.Place) []string {
	t.Helper()
	all, err := p.Tags(t.Context())
	if err != nil && !fault.Is(err, fault.NotFound) {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// Of many tags those that are new are copied, the others are only looked at; a signature that came later is brought; what the
// source lost goes when that is asked for.
func TestNewTagsOnly(t *testing.T) {
	w := newWorld(t)
	for i := range 20 {
		put(t, w.from, fmt.Sprintf("v%02d", i), fmt.Sprint("layer ", i), nil)
	}
	if rep := w.run(t, w.rule()); rep.Actions[sync.Copied] != 20 || len(rep.Outcomes) != 20 {
		t.Fatalf("%v", rep.Actions)
	}
	moved := put(t, w.from, "v03", "another layer", nil)
	d, err := w.from.Head(t.Context(), ref.Reference{Tag: "v07"})
	if err != nil {
		t.Fatal(err)
	}
	sig := put(t, w.from, "", "signature", map[string]any{"subject": d, "artifactType": "application/vnd.example.sig"})
	att := put(t, w.from, remote.FallbackTag(d.Digest)+".att", "attestation", nil)
	put(t, w.from, "v20", "new", nil)
	put(t, w.to, "old", "old", nil)

	w.e.DryRun, w.e.Prune = true, true
	plan := w.run(t, w.rule())
	if plan.Actions[sync.Copied] != 3 || plan.Actions[sync.Unchanged] != 18 || plan.Actions[sync.Pruned] != 1 || !slices.Contains(tags(t, w.to), "old") {
		t.Fatalf("the plan: %v", plan.Actions)
	}
	w.e.DryRun = false
	before := w.count.of(w.src.Addr)
	rep := w.run(t, w.rule())
	if rep.Actions[sync.Copied] != 3 || rep.Actions[sync.Unchanged] != 18 || rep.Actions[sync.Pruned] != 1 {
		t.Fatalf("%v", rep.Actions)
	}
	if pulls := w.count.of(w.src.Addr) - before; pulls > 5 {
		t.Errorf("%d manifests were pulled for 2 new images and 2 things that belong to one", pulls)
	}
	for _, want := range []struct {
		at ref.Reference
		d  oci.Digest
	}{{ref.Reference{Tag: "v03"}, moved.Digest}, {ref.Reference{Digest: sig.Digest}, sig.Digest}, {ref.Reference{Tag: remote.FallbackTag(d.Digest) + ".att"}, att.Digest}} {
		if got, err := w.to.Head(t.Context(), want.at); err != nil || got.Digest != want.d {
			t.Errorf("%s: %v, %v", want.at, got.Digest, err)
		}
	}
	if slices.Contains(tags(t, w.to), "old") || len(tags(t, w.to)) != 22 {
		t.Errorf("%v", tags(t, w.to))
	}
	// berthd says that nothing is attached to 20 of them, which are looked at and no more; v07 has two manifests, its attestation's tag
	// among them, and each of them is asked for what refers to it.
	asked := w.count.all(w.src.Addr)
	if rep := w.run(t, w.rule()); rep.Actions[sync.Unchanged] != 21 || len(rep.Actions) != 1 {
		t.Errorf("the last run: %v", rep.Actions)
	}
	if n := w.count.all(w.src.Addr) - asked; n > 21+1+5 {
		t.Errorf("%d requests to the source for 21 unchanged images", n)
	}
	// So are the images for one platform, where a tag names an image and no index: that would have to be read. Two manifests belong to
	// one of them.
	one := w.rule()
	one.Options.One = &copy.Platform{OS: "linux", Architecture: "amd64"}
	before = w.count.of(w.src.Addr)
	if rep := w.run(t, one); rep.Actions[sync.Unchanged] != 21 || len(rep.Actions) != 1 || w.count.of(w.src.Addr)-before > 2 {
		t.Errorf("of one platform: %v, %d manifests were pulled", rep.Actions, w.count.of(w.src.Addr)-before)
	}
}

func TestFilters(t *testing.T) {
	w := newWorld(t)
	for _, tag := range []string{"1.0.0", "v1.2.3", "1.9", "2.0.0", "2.1.0-rc.1", "latest", "1.2.3-alpine"} {
		put(t, w.from, tag, tag, nil)
	}
	allow, err := sync.Anchored(`1\..*`)
	if err != nil {
		t.Fatal(err)
	}
	deny, err := sync.Anchored(`.*-alpine`)
	if err != nil {
		t.Fatal(err)
	}
	version, err := sync.Version(">= 1.2, < 2.1")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		rule sync.Rule
		want []string
	}{
		"regex":  {sync.Rule{Select: sync.Filter{Allow: regexps(allow), Deny: regexps(deny)}}, []string{"1.0.0", "1.9"}},
		"semver": {sync.Rule{Select: sync.Filter{Versions: constraints(version)}}, []string{"1.9", "2.0.0", "v1.2.3"}},
		"one":    {sync.Rule{Select: sync.Filter{Refs: []ref.Reference{{Tag: "latest"}}}, Rename: "stable"}, []string{"stable"}},
		"suffix": {sync.Rule{Select: sync.Filter{Refs: []ref.Reference{{Tag: "latest"}, {Tag: "1.9"}}}, Suffix: "-eu"}, []string{"1.9-eu", "latest-eu"}},
	} {
		tc.rule.From, tc.rule.To = w.src.Addr+"/team/app", w.dst.Addr+"/filter/"+name
		w.run(t, tc.rule)
		if got := tags(t, w.open(t, w.dst, "filter/"+name)); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// A rule about a registry follows its repositories.
func TestRegistryRule(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"team/a", "team/b", "other/c"} {
		put(t, w.open(t, w.src, name), "v1", name, nil)
	}
	re, err := sync.Anchored("team/.*")
	if err != nil {
		t.Fatal(err)
	}
	rep := w.run(t, sync.Rule{From: w.src.Addr, To: w.dst.Addr + "/all", Repos: &sync.RepositoryRule{Select: sync.Filter{Allow: regexps(re)}}})
	if rep.Actions[sync.Copied] != 2 || len(tags(t, w.open(t, w.dst, "all/team/b"))) != 1 || len(tags(t, w.open(t, w.dst, "all/other/c"))) != 0 {
		t.Errorf("%v", rep.Actions)
	}
}

// A failure stops the run or, on request, not; nothing is pruned after one; the state file says what was done, and goes at the end.
func TestFailureAndState(t *testing.T) {
	w := newWorld(t)
	for i := range 6 {
		put(t, w.from, fmt.Sprint("v", i), fmt.Sprint(i), nil)
	}
	put(t, w.to, "old", "old", nil)
	file := filepath.Join(t.TempDir(), "state")
	state, err := sync.OpenState(file)
	if err != nil {
		t.Fatal(err)
	}
	w.e.State, w.e.Keep, w.e.Prune, w.e.Images = state, true, true, 1
	rule := w.rule()
	rule.Select.Refs = []ref.Reference{{Tag: "v0"}, {Tag: "missing"}, {Tag: "v1"}}
	rep, err := w.e.Run(t.Context(), []sync.Rule{rule})
	if !fault.Is(err, fault.NotFound) || rep.Actions[sync.Copied] != 2 || rep.Actions[sync.Failed] != 1 || !slices.Contains(tags(t, w.to), "old") {
		t.Fatalf("%v, %v", rep.Actions, err)
	}
	if err := state.Close(false); err != nil {
		t.Fatal(err)
	}
	// As a process leaves it that was killed in the middle of a line.
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(b, []byte(`{"from":"x","to`)...), 0o600); err != nil {
		t.Fatal(err)
	}
	if w.e.State, err = sync.OpenState(file); err != nil {
		t.Fatal(err)
	}
	rep = w.run(t, w.rule())
	if rep.Actions[sync.Skipped] != 2 || rep.Actions[sync.Copied] != 4 || rep.Actions[sync.Pruned] != 1 {
		t.Errorf("%v", rep.Actions)
	}
	if err := w.e.State.Close(true); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the state file is still there: %v", err)
	}
	if err := os.WriteFile(file, []byte("something else\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sync.OpenState(file); !fault.Is(err, fault.Invalid) {
		t.Errorf("%v", err)
	}
	if b, _ := os.ReadFile(file); !bytes.Equal(b, []byte("something else\n")) {
		t.Errorf("another file was changed to %q", b)
	}
}

// What is left of the source's limit is not used up.
func TestLimitIsKept(t *testing.T) {
	w := newWorld(t)
	put(t, w.from, "v1", "x", nil)
	w.e.Limit = func(string) remote.Limit { return remote.Limit{Known: true, Limit: 100, Remaining: 9} }
	rule := w.rule()
	rule.Options.Least = 10
	if _, err := w.e.Run(t.Context(), []sync.Rule{rule}); !fault.Is(err, fault.RateLimited) {
		t.Errorf("%v", err)
	}
	rule.Options.Least = 9
	rule.Options.Referrers = &copy.Referrers{None: true}
	w.run(t, rule)
}
