package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

// sample is an image that is there before something goes away.
type sample struct {
	repo         string
	small, large []byte
	manifest     manifest
}

func pushSample(t *testing.T, c *client, repo string) sample {
	t.Helper()
	s := sample{repo: repo, small: content{uint64(len(repo)), 1000}.bytes(), large: content{uint64(len(repo)) + 1, 300_000}.bytes()}
	for _, data := range [][]byte{s.small, s.large} {
		if a := c.pushAtOnce(repo, digestOf(data), data); a.status != http.StatusCreated {
			t.Fatalf("push: %s", a)
		}
	}
	s.manifest = imageOf(repo, descriptor{imageConfig, digestOf(s.small), len(s.small)}, descriptor{imageLayer, digestOf(s.large), len(s.large)})
	if a := c.putManifest(repo, "1", s.manifest); a.status != http.StatusCreated {
		t.Fatalf("push: %s", a)
	}
	return s
}

// wants gets something and expects a status, and the right content with 200.
func wants(t *testing.T, c *client, status int, repo, kind, ref, digest string) {
	t.Helper()
	a := c.get(repo, kind, ref)
	if a.status != status || status == http.StatusOK && digestOf(a.body) != digest {
		t.Errorf("GET %s %s of %s: %s, want %d", kind, ref, repo, a, status)
	}
}

// refuses expects a 503 that says what is away, in time.
func refuses(t *testing.T, what string, a answer, word string, within time.Duration) {
	t.Helper()
	var body struct {
		Errors []struct{ Code, Message string }
	}
	_ = json.Unmarshal(a.body, &body) // what is missing then shows below
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || len(body.Errors) != 1 ||
		body.Errors[0].Code != "UNAVAILABLE" || !strings.Contains(body.Errors[0].Message, word) {
		t.Errorf("%s: %s, Retry-After %q; want 503 UNAVAILABLE that speaks of the %s", what, a, a.header.Get("Retry-After"), word)
	}
	if took := a.ended.Sub(a.began); took > within {
		t.Errorf("%s was answered after %s, want %s", what, took, within)
	}
}

// becomes waits until every replica says of itself that it is ready, or that it is not, naming what is away.
func (f *fleet) becomes(status int, word string, within time.Duration) {
	f.t.Helper()
	for i := range f.replicas {
		for deadline := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
			a := f.direct(i).do(request{method: http.MethodGet, target: "/readyz"})
			if a.status == status && strings.Contains(string(a.body), word) {
				break
			}
			if time.Now().After(deadline) {
				f.t.Fatalf("/readyz of replica %d is not %d with the word %q within %s: %s", i, status, word, within, a)
			}
		}
		if a := f.direct(i).do(request{method: http.MethodGet, target: "/livez"}); a.status != http.StatusOK {
			f.t.Errorf("/livez of replica %d: %s", i, a)
		}
	}
}

// While PostgreSQL is away, what a replica has in memory is served through any of them, the rest is refused clearly and at
// once, and when it is back everything works again, and uploads go on where they were.
func TestWithoutPostgres(t *testing.T) {
	f := newFleet(t)
	c := newClient(f.balancer.URL, nil)
	warm, cold := pushSample(t, c, "team/warm"), pushSample(t, c, "team/cold-one")
	data := content{7, 500_000}.bytes()
	a := c.begin(warm.repo, "")
	u := &upload{location: a.header.Get("Location")}
	if a = c.patch(u.location, 0, data[:200_000], 0); a.status != http.StatusAccepted {
		t.Fatalf("first chunk: %s", a)
	}
	u.location = a.header.Get("Location")

	for _, crash := range []bool{true, false} {
		for i := range f.replicas { // which forget everything whenever the database comes back
			for _, ref := range []string{"1", warm.manifest.digest} {
				wants(t, f.direct(i), http.StatusOK, warm.repo, "manifests", ref, warm.manifest.digest)
			}
		}
		back := f.withdraw(crash)
		f.becomes(http.StatusServiceUnavailable, "database", 10*time.Second)
		for range 2 {
			for range 2 * replicaCount { // each through another replica
				wants(t, c, http.StatusOK, warm.repo, "manifests", "1", warm.manifest.digest)
				wants(t, c, http.StatusOK, warm.repo, "manifests", warm.manifest.digest, warm.manifest.digest)
			}
			time.Sleep(trustFor / 2)
		}
		const quick = 5 * time.Second
		for range replicaCount {
			fresh := content{uint64(time.Now().UnixNano()), 100_000}.bytes()
			refuses(t, "a push of a blob", c.pushAtOnce(warm.repo, digestOf(fresh), fresh), "database", quick)
			refuses(t, "a push of a small blob", c.pushAtOnce(warm.repo, digestOf(fresh[:500]), fresh[:500]), "database", quick)
			refuses(t, "a push of a manifest", c.putManifest(warm.repo, "2", warm.manifest), "database", quick)
			refuses(t, "a chunk", c.patch(u.location, 200_000, data[200_000:300_000], 0), "database", quick)
			refuses(t, "a delete", c.delete(warm.repo, "manifests", "1"), "database", quick)
			refuses(t, "a list of tags", c.do(request{method: http.MethodGet, target: "/v2/" + warm.repo + "/tags/list"}), "database", quick)
			refuses(t, "a pull of what is in no memory", c.get(cold.repo, "manifests", "never-asked-for"), "database", quick)
		}
		back()
		f.becomes(http.StatusOK, "", 10*time.Second)
		for range replicaCount {
			wants(t, c, http.StatusOK, cold.repo, "manifests", "1", cold.manifest.digest)
			wants(t, c, http.StatusOK, warm.repo, "manifests", "1", warm.manifest.digest)
		}
		pushSample(t, c, fmt.Sprint("team/after-", crash))
	}
	if offset, a := c.status(u.location); offset != 200_000 {
		t.Fatalf("the upload is at %d: %s", offset, a)
	}
	if a := c.finish(u.location, digestOf(data), 200_000, data[200_000:]); a.status != http.StatusCreated {
		t.Fatalf("the upload does not go on: %s", a)
	}
	wants(t, c, http.StatusOK, warm.repo, "blobs", digestOf(data), digestOf(data))
}

// While the bucket is away, what is in the database is served and taken, the rest is refused clearly, and when it is back
// everything works again.
func TestWithoutBucket(t *testing.T) {
	f := newFleet(t, "REGISTRY_STORAGE_REDIRECT_DISABLE=true")
	c := newClient(f.balancer.URL, nil)
	s := pushSample(t, c, "team/app")
	for name, take := range map[string]func() func(){"killed": f.fell, "paused": f.hang} {
		back := take()
		f.becomes(http.StatusServiceUnavailable, "storage", 15*time.Second)
		for range replicaCount {
			wants(t, c, http.StatusOK, s.repo, "manifests", "1", s.manifest.digest)
			wants(t, c, http.StatusOK, s.repo, "blobs", digestOf(s.small), digestOf(s.small))
			small := []byte(fmt.Sprint(name, time.Now().UnixNano()))
			if a := c.pushAtOnce(s.repo, digestOf(small), small); a.status != http.StatusCreated {
				t.Errorf("a push of a small blob while the bucket is %s: %s", name, a)
			}
			if a := c.putManifest(s.repo, name, s.manifest); a.status != http.StatusCreated {
				t.Errorf("a push of a manifest while the bucket is %s: %s", name, a)
			}
		}
		if name == "killed" { // a server that hangs is given more time than a test has
			var asking sync.WaitGroup
			for range replicaCount {
				asking.Go(func() {
					a := c.do(request{method: http.MethodGet, target: "/v2/" + s.repo + "/blobs/" + digestOf(s.large), within: time.Minute})
					refuses(t, "a pull of a large blob", a, "storage", 35*time.Second)
				})
				asking.Go(func() {
					fresh := content{uint64(time.Now().UnixNano()), 100_000}.bytes()
					a := c.do(request{
						method: http.MethodPost, target: "/v2/" + s.repo + "/blobs/uploads/?digest=" + digestOf(fresh), header: octets(), body: fresh, within: time.Minute,
					})
					refuses(t, "a push of a large blob", a, "storage", 35*time.Second)
				})
			}
			asking.Wait()
		}
		back()
		f.becomes(http.StatusOK, "", 15*time.Second)
		for range replicaCount {
			wants(t, c, http.StatusOK, s.repo, "blobs", digestOf(s.large), digestOf(s.large))
		}
		pushSample(t, c, "team/after-"+name)
	}
}

// A berthd that was told the wrong thing about its bucket or database ends at once, and names the setting.
func TestStartIsRefused(t *testing.T) {
	bin := testkit.BuildBerthd(t)
	for _, kind := range []testkit.S3Kind{testkit.VersityGW, testkit.MinIO} {
		server, bucket := testkit.S3Bucket(t, kind)
		good := append(server.Env(bucket), "BERTH_DATABASE="+testkit.Postgres(t))
		for name, c := range map[string]struct{ env, want string }{
			"wrong secret key":   {"REGISTRY_STORAGE_S3_SECRETKEY=wrong-secret-key", "storage.s3.secretkey"},
			"unknown access key": {"REGISTRY_STORAGE_S3_ACCESSKEY=nobody-known", "storage.s3.accesskey"},
			"missing bucket":     {"REGISTRY_STORAGE_S3_BUCKET=no-such-bucket", "storage.s3.bucket"},
			"wrong region":       {"REGISTRY_STORAGE_S3_REGION=eu-north-7", "storage.s3.region"},
			"no database there":  {"BERTH_DATABASE=postgres://postgres@127.0.0.1:1/none?sslmode=disable", "berth.database.url"},
			"database not there": {"BERTH_DATABASE=" + strings.Replace(testkit.Postgres(t), "/berth_", "/not_", 1), "berth.database.url"},
		} {
			if kind == testkit.MinIO && name == "wrong region" {
				continue // it takes any
			}
			t.Run(fmt.Sprint(kind, "/", name), func(t *testing.T) {
				t.Parallel()
				code, said := startFails(t, bin, slices.Concat(good, []string{c.env}))
				if code <= 0 {
					t.Errorf("exit code %d:\n%s", code, said)
				}
				if !strings.Contains(said, c.want) {
					t.Errorf("no word of %s:\n%s", c.want, said)
				}
			})
		}
	}
}

// startFails starts a berthd that has to end by itself, and gives its exit code and what it said.
func startFails(t *testing.T, bin string, env []string) (code int, said string) {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	cmd := exec.CommandContext(ctx, bin, "serve", "--addr", "127.0.0.1:0", "--data", t.TempDir())
	cmd.Env = append([]string{"HOME=" + t.TempDir(), "AWS_EC2_METADATA_DISABLED=true"}, env...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if ctx.Err() != nil || err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v, after %v:\n%s", err, ctx.Err(), out)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}
