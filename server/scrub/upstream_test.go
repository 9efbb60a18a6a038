package scrub_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/registry"
	"github.com/berth-registry/berth/server/scrub"
)

// elsewhere is another registry, as well-meaning as its answers are. content is by path: what it has and where.
type elsewhere struct {
	*httptest.Server
	host  string
	asked atomic.Int64

	mu      sync.Mutex
	content map[string][]byte
	answer  http.HandlerFunc // in place of content, for blobs and manifests; nil is content
}

func newElsewhere(t *testing.T) *elsewhere {
	e := &elsewhere{content: map[string][]byte{}}
	e.Server = httptest.NewServer(http.HandlerFunc(e.serve))
	t.Cleanup(e.Close)
	u, err := url.Parse(e.URL)
	must(t, err)
	e.host = u.Host
	return e
}

func (e *elsewhere) serve(w http.ResponseWriter, r *http.Request) {
	e.asked.Add(1)
	e.mu.Lock()
	content, ok := e.content[r.URL.Path]
	answer := e.answer
	e.mu.Unlock()
	switch {
	case answer != nil:
		answer(w, r)
	case !ok:
		http.Error(w, `{"errors":[{"code":"BLOB_UNKNOWN"}]}`, http.StatusNotFound)
	default:
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		}
		_, _ = w.Write(content)
	}
}

func (e *elsewhere) set(answer http.HandlerFunc) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = answer
}

// have gives it an image under a name.
func (e *elsewhere) have(img *image, repo string) {
	config, layer, manifest := img.digests()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.content["/v2/"+repo+"/blobs/"+config.String()] = img.config
	e.content["/v2/"+repo+"/blobs/"+layer.String()] = img.layer
	e.content["/v2/"+repo+"/manifests/"+manifest.String()] = img.manifest
}

func (e *elsewhere) upstream() scrub.Upstream { return scrub.Upstream{Host: e.host, Plain: true} }

// spoilAll damages all three parts of an image.
func (h *house) spoilAll(t *testing.T, img *image) {
	t.Helper()
	config, layer, manifest := img.digests()
	h.flip(t, layer, 3)
	h.spoil(t, config, true)
	h.spoil(t, manifest, false)
}

// What is damaged is taken from the first registry that has it, under the name of any repository that has it here; what none
// has stays put aside, and is asked for again by the next check.
func TestUpstreamsRepair(t *testing.T) {
	eachDatabase(t, func(t *testing.T, database func(*options)) {
		one, two := newElsewhere(t), newElsewhere(t)
		h := newHouse(t, database, func(o *options) { o.upstreams = []scrub.Upstream{one.upstream(), two.upstream()} })
		first, second, nowhere := newImage(1, "team/first", "v1"), newImage(2, "team/second", "v1"), newImage(3, "team/nowhere", "v1")
		for _, img := range []*image{first, second, nowhere} {
			h.push(t, img)
		}
		h.put(t, "team/also", second.layer)
		one.have(first, "team/first")
		two.have(first, "team/first")
		two.have(second, "team/second")
		_, layer, _ := second.digests()
		two.mu.Lock() // has the layer under the other name alone
		two.content["/v2/team/also/blobs/"+layer.String()] = second.layer
		delete(two.content, "/v2/team/second/blobs/"+layer.String())
		two.mu.Unlock()
		for _, img := range []*image{first, second, nowhere} {
			h.spoilAll(t, img)
		}

		r := h.check(t, scrub.Ask{})
		if r.Repaired != 6 || r.Damaged != 2 || r.Missing != 1 || r.RepairedFrom[one.host] != 3 || r.RepairedFrom[two.host] != 3 {
			t.Errorf("the check says: %s", r.String())
		}
		if want := fmt.Sprintf("3 from %s", two.host); !strings.Contains(r.String(), want) {
			t.Errorf("the check says %q, want %q in it", r.String(), want)
		}
		if r.LastUnrepaired == "" || !strings.Contains(r.LastUnrepaired, "none of the registries") {
			t.Errorf("why the others were not repaired: %q", r.LastUnrepaired)
		}
		must(t, h.pull(t, first))
		must(t, h.pull(t, second))
		if len(h.findings(t)) != 3 || h.pull(t, nowhere) == nil {
			t.Errorf("still damaged: %v", h.findings(t))
		}
		uploads, err := h.db.ExpiredUploads(t.Context(), time.Now().Add(time.Hour), metadb.Upload{}, 10)
		if err != nil || len(uploads) != 0 {
			t.Errorf("uploads that repairs have left: %v, %v", uploads, err)
		}
		one.have(nowhere, "team/nowhere")
		if r := h.check(t, scrub.Ask{}); r.Repaired != 3 || !r.Clean() {
			t.Errorf("the next check says: %s", r.String())
		}
		must(t, h.pull(t, nowhere))
		h.wantMetric(t, "registry_scrub_repaired_total", map[string]string{"from": one.host}, 6)
		h.wantMetric(t, "registry_scrub_repaired_total", map[string]string{"from": two.host}, 3)
		h.wantEvents(t, map[string]int{"blob.damaged": 9, "blob.repaired": 9})
	})
}

// A registry that answers with wrong bytes, too few of them, refuses, or sends us elsewhere repairs nothing, and
// does not keep another one from it.
func TestHostileUpstream(t *testing.T) {
	inner := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a host was asked that nobody named")
	}))
	defer inner.Close()
	img := newImage(1, "team/app", "v1")
	other := newImage(2, "team/app", "v1")
	_, layer, _ := img.digests()
	body := func(p []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/manifests/") {
				w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			}
			_, _ = w.Write(p)
		}
	}
	for what, answer := range map[string]http.HandlerFunc{
		"wrong bytes": body(other.layer),
		"few bytes":   body(img.layer[:1000]),
		"nothing":     func(http.ResponseWriter, *http.Request) {},
		"a login":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) },
		"another host": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, inner.URL+"/latest/meta-data", http.StatusFound)
		},
		"another realm": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+inner.URL+`/token"`)
			w.WriteHeader(http.StatusUnauthorized)
		},
	} {
		t.Run(what, func(t *testing.T) {
			hostile, good := newElsewhere(t), newElsewhere(t)
			hostile.set(answer)
			u := hostile.upstream()
			u.User, u.Password = "alice", "secret"
			h := newHouse(t, func(o *options) { o.upstreams = []scrub.Upstream{u, good.upstream()} })
			h.push(t, img)
			h.spoilAll(t, img)
			r := h.check(t, scrub.Ask{})
			if r.Repaired != 0 || r.Damaged+r.Missing != 3 || r.LastUnrepaired == "" {
				t.Errorf("the check says: %s", r.String())
			}
			if h.pull(t, img) == nil || len(h.findings(t)) != 3 {
				t.Errorf("still damaged: %v", h.findings(t))
			}
			h.wantMetric(t, "registry_scrub_repair_failures_total", map[string]string{"from": hostile.host}, 3)
			if _, err := os.Stat(h.file(layer)); err != nil {
				t.Errorf("the damaged file: %v", err)
			}
			good.have(img, "team/app")
			if r := h.check(t, scrub.Ask{}); r.Repaired != 3 || r.RepairedFrom[good.host] != 3 {
				t.Errorf("with a good registry behind it: %s", r.String())
			}
			must(t, h.pull(t, img))
		})
	}
}

// A host that was named is followed to, without the password.
func TestUpstreamRedirects(t *testing.T) {
	img := newImage(1, "team/app", "v1")
	_, layer, _ := img.digests()
	storage := newElsewhere(t)
	storage.set(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Errorf("the storage was sent %q", r.Header.Get("Authorization"))
		}
		_, _ = w.Write(img.layer)
	})
	e := newElsewhere(t)
	e.set(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "alice" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.Redirect(w, r, storage.URL+"/there", http.StatusTemporaryRedirect)
	})
	u := e.upstream()
	u.User, u.Password, u.Hosts = "alice", "secret", []string{storage.host}
	h := newHouse(t, func(o *options) { o.upstreams = []scrub.Upstream{u} })
	h.push(t, img)
	h.flip(t, layer, 3)
	if r := h.check(t, scrub.Ask{}); r.Repaired != 1 || !r.Clean() {
		t.Errorf("the check says: %s", r.String())
	}
	must(t, h.pull(t, img))
}

// A registry that does not answer is left alone after some blobs, and asked again later.
func TestUpstreamThatIsAway(t *testing.T) {
	e := newElsewhere(t)
	e.set(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	var later atomic.Int64
	h := newHouse(t, func(o *options) {
		o.upstreams = []scrub.Upstream{e.upstream()}
		o.now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	})
	var images []*image
	for i := range 12 {
		images = append(images, newImage(i, "team/app", fmt.Sprintf("v%d", i)))
		h.push(t, images[i])
		_, layer, _ := images[i].digests()
		h.flip(t, layer, 3)
	}
	r := h.check(t, scrub.Ask{})
	if n := e.asked.Load(); r.Damaged != 12 || n < 9 || n > 3*7 { // three blobs; four more may be asked for at the same moment
		t.Errorf("asked %d times for %d blobs", n, r.Damaged)
	}
	if !strings.Contains(r.LastUnrepaired, e.host) {
		t.Errorf("why: %q", r.LastUnrepaired)
	}
	e.set(nil)
	for _, img := range images {
		e.have(img, "team/app")
	}
	later.Store(int64(6 * time.Minute))
	if r := h.check(t, scrub.Ask{}); r.Repaired != 12 || !r.Clean() {
		t.Errorf("when it is back: %s", r.String())
	}
}

// What a pull finds is counted, and repaired at once.
func TestPullIsRepaired(t *testing.T) {
	eachDatabase(t, func(t *testing.T, database func(*options)) {
		e := newElsewhere(t)
		var suspect func(tx *metadb.Tx, m metadb.Damage) error
		h := newHouse(t, database, func(o *options) {
			o.registry.Verify = registry.VerifyAlways
			o.registry.Suspect = func(tx *metadb.Tx, m metadb.Damage) error { return suspect(tx, m) }
			o.upstreams = []scrub.Upstream{e.upstream()}
		})
		suspect = h.scrub.Suspect
		h.work(t)
		img := newImage(1, "team/app", "v1")
		h.push(t, img)
		e.have(img, "team/app")
		config, layer, manifest := img.digests()
		h.spoilAll(t, img)
		h.Forget(config, h.repoID(t, img.repo))
		h.Forget(manifest, h.repoID(t, img.repo))
		n := name(t, img.repo)
		_, err1 := h.read(n, layer)
		_, err2 := h.read(n, config)
		_, err3 := h.Manifest(admin(), n, byDigest(manifest))
		if err1 == nil || err2 == nil || err3 == nil {
			t.Fatalf("pulled: %v, %v, %v", err1, err2, err3)
		}
		h.wantMetric(t, "registry_scrub_damaged_total", map[string]string{"found": "wrong", "by": "pull"}, 2)
		h.wantMetric(t, "registry_scrub_damaged_total", map[string]string{"found": "missing", "by": "pull"}, 1)
		for deadline := time.Now().Add(20 * time.Second); len(h.findings(t)) > 0; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("still damaged: %v", h.findings(t))
			}
		}
		must(t, h.pull(t, img))
		h.wantMetric(t, "registry_scrub_repaired_total", map[string]string{"from": e.host}, 3)
	})
}

// wantMetric looks at one counter.
func (h *house) wantMetric(t testing.TB, name string, labels map[string]string, want float64) {
	t.Helper()
	families, err := h.metrics.Gather()
	must(t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	metrics:
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if v, ok := labels[l.GetName()]; ok && v != l.GetValue() {
					continue metrics
				}
			}
			if got := m.GetCounter().GetValue(); got != want {
				t.Errorf("%s%v is %g, want %g", name, labels, got, want)
			}
			return
		}
	}
	t.Errorf("there is no %s%v", name, labels)
}
