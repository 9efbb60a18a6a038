package stand

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

// Make is what a registry stands on.
type Make struct {
	Shared   bool // PostgreSQL and a bucket, else SQLite and files
	Replicas int
}

func (m Make) String() string {
	if !m.Shared {
		return "sqlite+files"
	}
	return fmt.Sprintf("postgres+bucket×%d", m.Replicas)
}

// Makes are all that there are to be tested.
func Makes() []Make {
	return []Make{{Replicas: 1}, {Shared: true, Replicas: 1}, {Shared: true, Replicas: 3}}
}

// Settings are those that a test of collection cares about. Zero is a berthd's own default.
type Settings struct {
	Grace     time.Duration                // how long an answer about a blob is a promise
	Hold      time.Duration                // how long what was deleted can be brought back
	Interval  time.Duration                // between two looks of the collector
	UploadAge time.Duration                // after how long without a byte an upload counts as abandoned
	Verify    bool                         // every blob is verified while it is pulled, not one in sixteen
	Front     func(endpoint string) string // puts something in front of the S3 server at the endpoint; nil: nothing
}

// Fleet is a running registry.
type Fleet struct {
	Make
	Settings
	Replicas []*testkit.Daemon
	DSN      string      // of PostgreSQL; "" for SQLite
	Bucket   *testkit.S3 // nil for files
	Name     string      // of the bucket

	t        testing.TB
	endpoint string   // of the bucket, for berthd
	env      []string // of every berthd, but for where its data are
	configs  []string
	target   string // of backups, once there was one
	left     string // what AwaitNoGarbage found in the end
	mu       sync.Mutex
	clients  []*Client
}

// Start starts a registry that anybody may write to. It ends with the test.
func Start(t testing.TB, m Make, s Settings) *Fleet {
	t.Helper()
	f := &Fleet{t: t, Make: m, Settings: s, Replicas: make([]*testkit.Daemon, m.Replicas), clients: make([]*Client, m.Replicas)}
	t.Cleanup(func() { // behind the logs of all replicas, where people look first
		if f.left != "" {
			t.Logf("in short: %s", f.left)
		}
	})
	f.env = []string{"BERTH_ANONYMOUS=delete", "BERTH_ADMIN_PASSWORD=" + password}
	if m.Shared {
		f.DSN = testkit.Postgres(t)
		f.Bucket, f.Name = testkit.S3Bucket(t, testkit.VersityGW)
		f.endpoint = f.Bucket.Endpoint
		if s.Front != nil {
			f.endpoint = s.Front(f.endpoint)
		}
	}
	testkit.BuildBerthd(t)
	var starting sync.WaitGroup
	for i := range m.Replicas {
		f.configs = append(f.configs, filepath.Join(t.TempDir(), "berth.yml"))
		f.configure(i)
		o := testkit.Options{
			Env: f.env, Args: []string{f.configs[i]}, Data: t.TempDir(), Database: f.DSN,
			Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(testkit.FreePort(t))),
		}
		starting.Go(func() { f.Replicas[i] = testkit.Start(t, o) })
	}
	starting.Wait()
	for i, d := range f.Replicas {
		if d == nil {
			t.FailNow()
		}
		f.clients[i] = NewClient(d.URL)
	}
	return f
}

// Change writes other settings; a replica has them after its next start.
func (f *Fleet) Change(s Settings) {
	f.Settings = s
	for i := range f.Replicas {
		f.configure(i)
	}
}

func (f *Fleet) configure(i int) {
	var b strings.Builder
	setting := func(indent, name string, d time.Duration) {
		if d > 0 {
			fmt.Fprintf(&b, "%s%s: %s\n", indent, name, d)
		}
	}
	b.WriteString("storage:\n  delete: {enabled: true}\n")
	if f.Shared {
		fmt.Fprintf(&b, "  s3: {accesskey: %q, secretkey: %q, region: %q, regionendpoint: %q, bucket: %q}\n  redirect: {disable: true}\n",
			f.Bucket.AccessKey, f.Bucket.SecretKey, f.Bucket.Region, f.endpoint, f.Name)
	} else {
		b.WriteString("  filesystem: {}\n")
	}
	if f.UploadAge > 0 {
		fmt.Fprintf(&b, "  maintenance: {uploadpurging: {age: %s, interval: %s}}\n", f.UploadAge, max(time.Second, f.UploadAge/4))
	}
	b.WriteString("berth:\n")
	if f.Verify {
		b.WriteString("  integrity: {reads: always}\n")
	}
	b.WriteString("  gc:\n    untagged: 0\n")
	setting("    ", "grace", f.Grace)
	setting("    ", "interval", f.Interval)
	if f.Hold > 0 {
		fmt.Fprintf(&b, "  trash:\n    hold: %s\n", f.Hold)
	}
	if err := os.WriteFile(f.configs[i], []byte(b.String()), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// Client speaks to the nth replica, counted round and round.
func (f *Fleet) Client(n int) *Client {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.clients[n%len(f.clients)]
}

// Kill ends a replica as a power cut would.
func (f *Fleet) Kill(i int) { f.Replicas[i].Kill() }

// Restart starts a replica that was killed, or stops it first.
func (f *Fleet) Restart(i int) {
	f.t.Helper()
	f.Replicas[i].Restart(f.t)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clients[i].Close()
	f.clients[i] = NewClient(f.Replicas[i].URL)
}

// Metric is the sum of a metric over its labels and all replicas, since each one's last start.
func (f *Fleet) Metric(name string) (n float64) {
	f.t.Helper()
	for i := range f.Replicas {
		a := f.Client(i).Do("GET", "/metrics", nil, nil)
		if a.Status != 200 {
			f.t.Fatalf("metrics of replica %d: %s", i, a)
		}
		for line := range strings.Lines(string(a.Body)) {
			rest, ok := strings.CutPrefix(line, name)
			if !ok || rest[0] != ' ' && rest[0] != '{' {
				continue
			}
			var value float64
			if _, err := fmt.Sscan(rest[strings.LastIndexByte(rest, ' '):], &value); err != nil {
				f.t.Fatalf("metric %s: %v", line, err)
			}
			n += value
		}
	}
	return n
}
