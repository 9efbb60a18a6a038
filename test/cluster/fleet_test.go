package cluster

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

const replicaCount = 3

// fleet is the replicas and what they depend on.
type fleet struct {
	t        *testing.T
	judge    *judge
	postgres *testkit.PostgresServer
	bucket   *testkit.S3
	name     string // of the bucket
	sink     *sink
	replicas []*testkit.Daemon
	configs  []string
	balancer *testkit.Balancer
}

const bucketName = "registry"

// s3Kind is the make of S3 server that this run uses.
func s3Kind(t testing.TB) testkit.S3Kind {
	t.Helper()
	switch kind := testkit.S3Kind(os.Getenv("BERTH_CLUSTER_S3")); kind {
	case "":
		return testkit.VersityGW
	case testkit.MinIO, testkit.VersityGW:
		return kind
	default:
		t.Fatalf("BERTH_CLUSTER_S3 is %q; minio or versitygw is needed", kind)
		return ""
	}
}

// newFleet starts everything, the replicas at the same moment, each with a data directory of its own as on machines of their
// own. env is for all of them.
func newFleet(t *testing.T, env ...string) *fleet {
	t.Helper()
	f := &fleet{
		t: t, judge: &judge{t: t, replicas: make([]outages, replicaCount)}, name: bucketName,
		postgres: testkit.OwnPostgres(t), bucket: testkit.StartS3(t, s3Kind(t)), sink: newSink(t),
	}
	f.bucket.MakeBucket(t, f.name)
	f.replicas = make([]*testkit.Daemon, replicaCount)
	f.configs = make([]string, replicaCount)
	testkit.BuildBerthd(t)
	var starting sync.WaitGroup
	for i := range replicaCount {
		f.configs[i] = filepath.Join(t.TempDir(), "berth.yml")
		f.configure(i, uploadAge, 2*time.Second)
		o := testkit.Options{
			Env: append([]string{"BERTH_ANONYMOUS=delete"}, env...), Args: []string{f.configs[i]}, Data: t.TempDir(),
			Database: f.postgres.DSN, Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(testkit.FreePort(t))),
		}
		starting.Go(func() { f.replicas[i] = testkit.Start(t, o) })
	}
	starting.Wait()
	urls := make([]string, replicaCount)
	for i, d := range f.replicas {
		if d == nil {
			t.FailNow()
		}
		urls[i] = d.URL
	}
	f.balancer = testkit.StartBalancer(t, f.judge.exchanged, urls...)
	return f
}

// uploadAge is when an upload counts as abandoned, while the storm lasts.
const uploadAge = time.Hour

// configure writes the configuration file of a replica. The last replica sends downloads to the bucket, the others answer
// them: clients may not notice.
func (f *fleet) configure(i int, age, interval time.Duration) {
	text := fmt.Sprintf(`
storage:
  s3: {accesskey: %q, secretkey: %q, region: %q, regionendpoint: %q, bucket: %q, rootdirectory: /some/prefix}
  redirect: {disable: %v}
  maintenance: {uploadpurging: {age: %s, interval: %s}}
http:
  trustedproxies: [127.0.0.1]
notifications:
  endpoints:
    - {name: sink, url: %q, timeout: 1s, threshold: 5, backoff: 100ms, ignore: {actions: [pull]}}
`, f.bucket.AccessKey, f.bucket.SecretKey, f.bucket.Region, f.bucket.Endpoint, f.name, i < replicaCount-1, age, interval, f.sink.url)
	if err := os.WriteFile(f.configs[i], []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// client speaks to the balancer.
func (f *fleet) client() *client { return newClient(f.balancer.URL, f.judge) }

// direct speaks to one replica, and judges for itself.
func (f *fleet) direct(i int) *client { return newClient(f.replicas[i].URL, nil) }

// kill ends a replica as a power cut would; the function that it returns starts it again.
func (f *fleet) kill(i int) (back func()) {
	again := f.judge.away(&f.judge.replicas[i])
	f.replicas[i].Kill()
	return func() {
		f.replicas[i].Restart(f.t)
		again()
	}
}

// withdraw takes PostgreSQL away: crash as the end of its machine would, else as an administrator stops it.
func (f *fleet) withdraw(crash bool) (back func()) {
	again := f.judge.away(&f.judge.database)
	if crash {
		f.postgres.Crash()
	} else {
		f.postgres.Stop(f.t)
	}
	return func() {
		f.postgres.Start(f.t)
		again()
	}
}

// hang stops the S3 server without closing its connections.
func (f *fleet) hang() (back func()) {
	again := f.judge.away(&f.judge.bucket)
	if err := f.bucket.Pause(); err != nil {
		f.t.Fatal(err)
	}
	return func() {
		if err := f.bucket.Resume(); err != nil {
			f.t.Fatal(err)
		}
		again()
	}
}

// fell kills the S3 server.
func (f *fleet) fell() (back func()) {
	again := f.judge.away(&f.judge.bucket)
	f.bucket.Kill()
	return func() {
		f.bucket.Restart(f.t)
		again()
	}
}
