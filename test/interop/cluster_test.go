package interop_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
)

// cluster is three berthds on one PostgreSQL and one bucket, behind a load balancer that ends TLS and sends every request
// for a repository to another replica than the one before.
type cluster struct {
	*registry
	replicas [3]*testkit.Daemon

	mu     sync.Mutex
	seen   map[string]map[int]int // repository → replica → requests that were answered
	chunks map[string]int         // repository → PATCHes that were taken
	failed []testkit.Exchange     // with an answer from 500 on, or without one
}

// startCluster starts one. What clients see of it is a registry.
func startCluster(t testing.TB) *cluster {
	t.Helper()
	bucketServer, bucket := testkit.S3Bucket(t, testkit.VersityGW)
	dsn := testkit.Postgres(t)
	c := &cluster{seen: map[string]map[int]int{}, chunks: map[string]int{}}
	env := append(bucketServer.Env(bucket), "BERTH_ADMIN_PASSWORD="+password, "REGISTRY_HTTP_TRUSTEDPROXIES=[127.0.0.1]")
	var urls []string
	for i := range c.replicas {
		o := testkit.Options{Database: dsn, Env: env}
		if i == 2 { // downloads from this one come out of the bucket itself
			// By its name: crane goes to no address of a private network when the registry has another host.
			byName := strings.Replace(bucketServer.Endpoint, "127.0.0.1", "localhost", 1)
			o.Env = slices.Concat(env, []string{"REGISTRY_STORAGE_REDIRECT_DISABLE=false", "REGISTRY_STORAGE_S3_REDIRECTENDPOINT=" + byName})
		}
		c.replicas[i] = testkit.Start(t, o)
		urls = append(urls, c.replicas[i].URL)
	}
	b := testkit.StartBalancer(t, c.watch, urls...)
	c.registry = &registry{Daemon: &testkit.Daemon{URL: b.URL, Addr: strings.TrimPrefix(b.URL, "http://")}, host: b.Host, ca: b.CA}
	return c
}

// watch counts requests, and who answered them.
func (c *cluster) watch(x testkit.Exchange) {
	name, _, ok := strings.Cut(strings.TrimPrefix(x.Path, "/v2/"), "/blobs/")
	if !ok {
		name, _, ok = strings.Cut(strings.TrimPrefix(x.Path, "/v2/"), "/manifests/")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if x.Err != nil && !x.GaveUp || x.Status >= http.StatusInternalServerError {
		c.failed = append(c.failed, x)
	}
	if !ok || x.Err != nil {
		return
	}
	if x.Method == http.MethodPatch && x.Status == http.StatusAccepted {
		c.chunks[name]++
	}
	if c.seen[name] == nil {
		c.seen[name] = map[int]int{}
	}
	c.seen[name][x.Replica]++
}

// spread checks that all replicas took part in what was done to a repository, and none failed.
func (c *cluster) spread(t testing.TB, repository string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.seen[repository]) != len(c.replicas) {
		t.Errorf("requests for %s were answered by these replicas: %v, want all three", repository, c.seen[repository])
	}
	for _, x := range c.failed {
		t.Errorf("replica %d: %s %s: %d %s, %v", x.Replica, x.Method, x.Path, x.Status, x.Body, x.Err)
	}
	c.failed = nil
}

// same checks that every replica has the same image under a tag, or that none has.
func (c *cluster) same(t testing.TB, repository, reference string, status int) (digest string) {
	t.Helper()
	for i, d := range c.replicas {
		one := &registry{Daemon: d}
		got, header, body := one.get(t, "/v2/"+repository+"/manifests/"+reference, manifestTypes...)
		if got != status {
			t.Errorf("replica %d: %s:%s is %d, want %d\n%s", i, repository, reference, got, status, body)
		}
		if i > 0 && header.Get("Docker-Content-Digest") != digest {
			t.Errorf("replica %d: %s:%s is %q, at another %q", i, repository, reference, header.Get("Docker-Content-Digest"), digest)
		}
		digest = header.Get("Docker-Content-Digest")
	}
	return digest
}

// TestCluster drives clients against three replicas, every request at another one: logins, pushes, pulls, copies, deletes.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	t.Run("docker", func(t *testing.T) { clusterDocker(t, c) })
	t.Run("podman", func(t *testing.T) { clusterPodman(t, c) })
	t.Run("skopeo", func(t *testing.T) { clusterSkopeo(t, c) })
	t.Run("crane", func(t *testing.T) { clusterCrane(t, c) })
	t.Run("regctl", func(t *testing.T) { clusterRegctl(t, c) })
	t.Run("chunks", func(t *testing.T) { clusterChunks(t, c) })
}

func clusterDocker(t *testing.T, c *cluster) {
	docker := newDocker(t)
	app := c.host + "/team/docker"
	id := loadDocker(t, docker, "a", app+":1")
	docker.pipe(t, strings.NewReader(password), "login", "--username", "admin", "--password-stdin", c.host)
	pushed := docker.run(t, "push", app+":1")
	digest := c.same(t, "team/docker", "1", http.StatusOK)
	mustContain(t, pushed, digest)
	for _, reference := range []string{":1", "@" + digest} {
		docker.run(t, "image", "rm", "--force", id)
		docker.run(t, "pull", app+reference)
		mustEqual(t, "image id", docker.run(t, "image", "inspect", "--format", "{{.Id}}", app+reference), id)
	}
	// Another tag, another repository: layers are mounted, whoever answers.
	docker.run(t, "tag", app+"@"+digest, c.host+"/other/docker:1")
	out := docker.run(t, "push", c.host+"/other/docker:1")
	if n := strings.Count(out, "Mounted from team/docker"); n != 3 {
		t.Errorf("%d of 3 layers were mounted:\n%s", n, out)
	}
	c.spread(t, "team/docker")
}

func clusterPodman(t *testing.T, c *cluster) {
	podman := newPodman(t, c.registry)
	app := c.host + "/team/podman"
	loadPodman(t, podman, "a", app+":1")
	podman.pipe(t, strings.NewReader(password), "login", "--username", "admin", "--password-stdin", c.host)
	podman.run(t, "push", "--format", "oci", app+":1")
	digest := c.same(t, "team/podman", "1", http.StatusOK)
	for _, reference := range []string{":1", "@" + digest} {
		podman.run(t, "rmi", "--all", "--force")
		podman.run(t, "pull", app+reference)
	}
	tags := strings.Fields(podman.run(t, "search", "--list-tags", app))
	mustEqual(t, "tags", strings.Join(tags, " "), "NAME TAG "+app+" 1")
	c.spread(t, "team/podman")
}

func clusterSkopeo(t *testing.T, c *cluster) {
	skopeo := newClient(t, "skopeo", c.registry)
	skopeo.pipe(t, strings.NewReader(password), "login", "--username", "admin", "--password-stdin", c.host)
	app := "docker://" + c.host + "/team/skopeo"
	index := multiArch(t, "a")
	skopeo.run(t, "copy", "--all", "oci:"+ociLayout(t, index)+":v1", app+":multi")
	digest := c.same(t, "team/skopeo", "multi", http.StatusOK)
	for _, child := range childrenOf(t, index) {
		c.same(t, "team/skopeo", child.Digest.String(), http.StatusOK)
	}
	skopeo.run(t, "copy", "--all", app+":multi", "docker://"+c.host+"/other/skopeo:multi")
	mustEqual(t, "digest of the copy", c.same(t, "other/skopeo", "multi", http.StatusOK), digest)
	skopeo.run(t, "copy", "--all", app+"@"+digest, "dir:"+filepath.Join(t.TempDir(), "image"))
	skopeo.run(t, "delete", app+":multi")
	if status, _, body := c.get(t, "/v2/team/skopeo/manifests/multi", manifestTypes...); status != http.StatusNotFound {
		awaitGone(t, c, "team/skopeo", "multi", string(body))
	}
	skopeo.run(t, "copy", "--all", "docker://"+c.host+"/other/skopeo:multi", app+":again")
	mustEqual(t, "digest of the second push", c.same(t, "team/skopeo", "again", http.StatusOK), digest)
	c.spread(t, "team/skopeo")
}

// awaitGone gives replicas the moment that they may be behind.
func awaitGone(t testing.TB, c *cluster, repository, reference, body string) {
	t.Helper()
	for range 20 {
		if status, _, _ := c.get(t, "/v2/"+repository+"/manifests/"+reference, manifestTypes...); status == http.StatusNotFound {
			return
		}
	}
	t.Errorf("%s:%s was deleted and is there:\n%s", repository, reference, body)
}

func clusterCrane(t *testing.T, c *cluster) {
	crane := newClient(t, "crane", c.registry)
	crane.pipe(t, strings.NewReader(password), "auth", "login", c.host, "--username", "admin", "--password-stdin")
	app := c.host + "/team/crane"
	archive, _ := dockerArchive(t, makeImage(t, "a"), app+":1")
	crane.run(t, "push", archive, app+":1")
	c.same(t, "team/crane", "1", http.StatusOK)
	layer := filepath.Join(t.TempDir(), "layer.tar.gz")
	writeFile(t, layer, compressedTar(t, "hello.txt", t.Name()))
	crane.run(t, "append", "--base", app+":1", "--new_layer", layer, "--new_tag", app+":appended")
	mustContain(t, crane.run(t, "validate", "--remote", app+":appended"), "PASS")
	crane.run(t, "copy", "--all-tags", app, c.host+"/copies/crane")
	mustEqual(t, "tags of the copy", crane.run(t, "ls", c.host+"/copies/crane"), "1\nappended")
	c.spread(t, "team/crane")
}

// regctl is told to send blobs in small chunks, so that each meets another replica.
func clusterRegctl(t *testing.T, c *cluster) {
	regctl := newClient(t, "regctl")
	regctl.run(t, "registry", "set", "--skip-check", "--cacert", string(c.ca), "--blob-chunk", "20000", "--blob-max", "10000", c.host)
	regctl.pipe(t, strings.NewReader(password), "registry", "login", "--user", "admin", "--pass-stdin", c.host)
	app := c.host + "/team/regctl"
	index := multiArch(t, "a")
	regctl.run(t, "image", "copy", "ocidir://"+ociLayout(t, index)+":v1", app+":multi")
	mustEqual(t, "digest", c.same(t, "team/regctl", "multi", http.StatusOK), digestOf(t, index))
	c.mu.Lock()
	patches := c.chunks["team/regctl"]
	c.mu.Unlock()
	if patches < 9 { // nine layers of 64 KiB
		t.Errorf("%d chunks were sent: it did not push in chunks", patches)
	}
	regctl.run(t, "image", "export", app+":multi", filepath.Join(t.TempDir(), "image.tar"))
	regctl.pipe(t, strings.NewReader("{}"), "artifact", "put", "--subject", app+":multi", "--artifact-type", "application/spdx+json")
	mustContain(t, regctl.run(t, "artifact", "tree", app+":multi"), "application/spdx+json")
	regctl.run(t, "tag", "delete", app+":multi")
	c.spread(t, "team/regctl")
}

// Chunks as large as parts of the bucket and as small as a line, each at another replica.
func clusterChunks(t *testing.T, c *cluster) {
	data := make([]byte, 17<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	sum := sha256.Sum256(data)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	status, header, body := c.do(t, http.MethodPost, "/v2/team/chunks/blobs/uploads/", nil, nil)
	if status != http.StatusAccepted {
		t.Fatalf("POST: %d\n%s", status, body)
	}
	for at, i := 0, 0; at < len(data); i++ {
		size := min([]int{6 << 20, 80, 300_000, 5 << 20, 1, 2 << 20}[i%6], len(data)-at)
		status, header, body = c.do(t, http.MethodPatch, header.Get("Location"), bytes.NewReader(data[at:at+size]), http.Header{
			"Content-Type": {"application/octet-stream"}, "Content-Range": {strconv.Itoa(at) + "-" + strconv.Itoa(at+size-1)},
		})
		if at += size; status != http.StatusAccepted || header.Get("Range") != "0-"+strconv.Itoa(at-1) {
			t.Fatalf("PATCH up to %d: %d, Range %q\n%s", at, status, header.Get("Range"), body)
		}
	}
	separator := "?"
	if strings.Contains(header.Get("Location"), "?") {
		separator = "&"
	}
	if status, _, body = c.do(t, http.MethodPut, header.Get("Location")+separator+"digest="+digest, nil, nil); status != http.StatusCreated {
		t.Fatalf("PUT: %d\n%s", status, body)
	}
	for range c.replicas {
		status, header, _ := c.do(t, http.MethodHead, "/v2/team/chunks/blobs/"+digest, nil, nil)
		if status != http.StatusOK || header.Get("Content-Length") != strconv.Itoa(len(data)) {
			t.Errorf("HEAD: %d, %s bytes", status, header.Get("Content-Length"))
		}
	}
	status, _, body = c.do(t, http.MethodGet, "/v2/team/chunks/tags/list", nil, nil)
	if status != http.StatusOK || !json.Valid(body) {
		t.Errorf("tags of a repository without any: %d\n%s", status, body)
	}
	c.spread(t, "team/chunks")
}
