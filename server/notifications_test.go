package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/server/metadb/metadbtest"
)

// receiver keeps what it is told.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []string
	header http.Header
	hold   chan struct{} // while it is open, requests get no answer
}

func receive(t testing.TB) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.bodies, r.header = append(r.bodies, string(b)), req.Header
		hold := r.hold
		r.mu.Unlock()
		if hold != nil {
			<-hold
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) told() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string{}, r.bodies...)
}

// await waits until it was told n times.
func (r *receiver) await(t testing.TB, n int) []string {
	t.Helper()
	for range 2000 {
		if all := r.told(); len(all) >= n {
			return all
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%d of %d events were told", len(r.told()), n)
	return nil
}

// endpoint are the variables that name a receiver.
func endpoint(url string, more ...string) []string {
	env := []string{
		"REGISTRY_NOTIFICATIONS_ENDPOINTS_0_NAME=ci", "REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL=" + url,
		"REGISTRY_NOTIFICATIONS_ENDPOINTS_0_BACKOFF=100ms", "REGISTRY_NOTIFICATIONS_ENDPOINTS_0_TIMEOUT=2s",
	}
	return append(env, more...)
}

const (
	mediaImage   = "application/vnd.oci.image.manifest.v1+json"
	mediaIndex   = "application/vnd.oci.image.index.v1+json"
	mediaSchema2 = "application/vnd.docker.distribution.manifest.v2+json"
	mediaConfig  = "application/vnd.oci.image.config.v1+json"
)

// TestEnvelope: what a receiver gets for everything that happens, byte for byte but for what differs in every run. It is
// the contract with receivers that were written for distribution.
func TestEnvelope(t *testing.T) {
	for name, url := range map[string]func() string{"SQLite": func() string { return "" }, "PostgreSQL": func() string { return metadbtest.Postgres(t) }} {
		t.Run(name, func(t *testing.T) {
			r := receive(t)
			env := endpoint(r.URL, "REGISTRY_NOTIFICATIONS_EVENTS_INCLUDEREFERENCES=true",
				"REGISTRY_NOTIFICATIONS_ENDPOINTS_0_HEADERS={X-Token: [hush]}", "REGISTRY_NOTIFICATIONS_ENDPOINTS_0_IGNORE_MEDIATYPES=application/octet-stream")
			if name == "PostgreSQL" {
				env = append(env, "BERTH_DATABASE="+url())
			}
			d := start(t, env...)
			got := d.everything(t, r, false)
			if r.header.Get("X-Token") != "hush" || r.header.Get("Content-Type") != "application/vnd.docker.distribution.events.v2+json" {
				t.Errorf("header %v", r.header)
			}
			golden(t, "testdata/notifications.golden", got)
		})
	}
}

// TestMountsAndBlobs: mounts, and pulls and deletes of blobs.
func TestMountsAndBlobs(t *testing.T) {
	r := receive(t)
	d := start(t, endpoint(r.URL)...)
	golden(t, "testdata/notifications-blobs.golden", d.everything(t, r, true))
}

// everything does all that is told of, one after the other, and returns what was told.
func (d *daemon) everything(t *testing.T, r *receiver, blobs bool) string {
	t.Helper()
	who := basic("admin", adminPassword)
	told := 0
	var out strings.Builder
	step := func(what string, events int, method, path, body string, header ...string) {
		t.Helper()
		a := d.do(t, who, method, path, body, append(header, "User-Agent", "test/1")...)
		if a.status >= 300 {
			t.Fatalf("%s: %d %s", what, a.status, a.body)
		}
		all := r.await(t, told+events)
		fmt.Fprintf(&out, "# %s\n", what)
		for _, body := range all[told:] {
			out.WriteString(d.settle(body) + "\n")
		}
		told += events
	}
	layer, config := "a layer", "{}"
	for _, b := range []string{layer, config} {
		step("upload", 0, http.MethodPost, "/v2/team/app/blobs/uploads/?digest="+digestOf(b), b, "Content-Type", "application/octet-stream")
	}
	if blobs {
		step("mount", 1, http.MethodPost, "/v2/team/other/blobs/uploads/?mount="+digestOf(layer)+"&from=team/app", "")
		step("mount again: nothing happens", 0, http.MethodPost, "/v2/team/other/blobs/uploads/?mount="+digestOf(layer)+"&from=team/app", "")
		step("pull of a blob", 1, http.MethodGet, "/v2/team/other/blobs/"+digestOf(layer), "")
		step("head: no pull", 0, http.MethodHead, "/v2/team/other/blobs/"+digestOf(layer), "")
		step("delete of a blob", 1, http.MethodDelete, "/v2/team/other/blobs/"+digestOf(layer), "")
		return out.String()
	}
	desc := func(mediaType, content string) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, digestOf(content), len(content))
	}
	image := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s]}`, mediaImage, desc(mediaConfig, config), desc("application/vnd.oci.image.layer.v1.tar", layer))
	schema2 := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s]}`, mediaSchema2,
		desc("application/vnd.docker.container.image.v1+json", config), desc("application/vnd.docker.image.rootfs.diff.tar.gzip", layer))
	index := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, mediaIndex,
		strings.TrimSuffix(desc(mediaImage, image), "}")+`,"platform":{"architecture":"arm64","os":"linux","variant":"v8"}}`)
	artifact := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"artifactType":"application/vnd.example.sbom","config":%s,"layers":[],"subject":%s}`,
		mediaImage, desc("application/vnd.oci.empty.v1+json", config), desc(mediaImage, image))
	step("push of an image", 1, http.MethodPut, "/v2/team/app/manifests/1", image, "Content-Type", mediaImage)
	step("push of the same: nothing happens", 0, http.MethodPut, "/v2/team/app/manifests/1", image, "Content-Type", mediaImage)
	step("push of an index", 1, http.MethodPut, "/v2/team/app/manifests/multi", index, "Content-Type", mediaIndex)
	step("push of a Docker schema 2 image", 1, http.MethodPut, "/v2/team/app/manifests/2", schema2, "Content-Type", mediaSchema2)
	step("push of an artifact with a subject, by digest", 1, http.MethodPut, "/v2/team/app/manifests/"+digestOf(artifact), artifact, "Content-Type", mediaImage)
	step("pull by tag", 1, http.MethodGet, "/v2/team/app/manifests/1", "")
	step("delete of a tag", 1, http.MethodDelete, "/v2/team/app/manifests/multi", "")
	step("delete of a manifest with a tag", 2, http.MethodDelete, "/v2/team/app/manifests/"+digestOf(schema2), "")
	return out.String()
}

// settle replaces what differs in every run, after a look at its form.
func (d *daemon) settle(body string) string {
	for _, r := range []struct{ form, by string }{
		{`"id": "[0-9a-f]{8}-[0-9a-f]{4}-[48][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",(\s+"timestamp": )"20[0-9T:.-]+Z"`, `"id": "UUID",$1"TIME"`},
		{`("request": \{\s+"id": )"[^"]{8,}"`, `$1"REQUEST"`},
		{`"addr": "[^"]*:\d+"`, `"addr": "HOST:PORT"`},
		{`"instanceID": "[0-9a-f]{32}"`, `"instanceID": "INSTANCE"`},
	} {
		body = regexp.MustCompile(r.form).ReplaceAllString(body, r.by)
	}
	return strings.ReplaceAll(body, strings.TrimPrefix(d.url, "http://"), "REGISTRY")
}

// TestKilledBetween: berthd is killed when a receiver has got an event and has not answered yet. After the restart the event
// comes again, under the same id, and so does what was pushed before the kill and not told yet.
func TestKilledBetween(t *testing.T) {
	for _, name := range []string{"SQLite", "PostgreSQL"} {
		t.Run(name, func(t *testing.T) {
			r := receive(t)
			r.hold = make(chan struct{})
			release := sync.OnceFunc(func() { r.mu.Lock(); defer r.mu.Unlock(); close(r.hold); r.hold = nil })
			defer release()
			o := testkit.Options{Env: endpoint(r.URL, "BERTH_ADMIN_PASSWORD="+adminPassword)}
			if name == "PostgreSQL" {
				o.Database = metadbtest.Postgres(t)
			}
			berthd := testkit.Start(t, o)
			push := func(tag string) {
				t.Helper()
				content := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[],"annotations":{"n":%q}}`, mediaIndex, tag)
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, berthd.URL+"/v2/team/app/manifests/"+tag, bytes.NewReader([]byte(content)))
				if err != nil {
					t.Fatal(err)
				}
				req.SetBasicAuth("admin", adminPassword)
				req.Header.Set("Content-Type", mediaIndex)
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusCreated {
					t.Fatalf("push: %s", resp.Status)
				}
			}
			push("1")
			r.await(t, 1) // and has no answer
			push("2")
			berthd.Kill()
			release()
			berthd.Restart(t)
			push("3")
			ids := map[string]string{} // by tag
			for deadline := time.Now().Add(60 * time.Second); len(ids) < 3; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("told of %v", ids)
				}
				ids = map[string]string{}
				for i, body := range r.told() {
					var doc struct {
						Events []struct {
							ID     string
							Target struct{ Tag string }
						}
					}
					if err := json.Unmarshal([]byte(body), &doc); err != nil || len(doc.Events) != 1 {
						t.Fatalf("body %s: %v", body, err)
					}
					e := doc.Events[0]
					if before, twice := ids[e.Target.Tag]; twice && before != e.ID {
						t.Fatalf("tag %s was told as %s and as %s", e.Target.Tag, before, e.ID)
					}
					if i == 1 && e.Target.Tag != "1" {
						t.Errorf("after the restart %s comes first, not what has no answer", e.Target.Tag)
					}
					ids[e.Target.Tag] = e.ID
				}
			}
		})
	}
}
