package backup

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

// kind is where a registry keeps what it has.
type kind struct {
	name     string
	database func(t *testing.T) string
	storage  func(t *testing.T) []string // environment
	target   func(t *testing.T) string   // of backups
}

func local() kind {
	return kind{"sqlite and files", func(*testing.T) string { return "" }, func(*testing.T) []string { return nil },
		func(t *testing.T) string { return filepath.Join(t.TempDir(), "backup") }}
}

func shared() kind {
	return kind{"postgres and bucket", func(t *testing.T) string { return testkit.Postgres(t) }, bucket,
		func(t *testing.T) string {
			_, name := testkit.S3Bucket(t, testkit.VersityGW)
			return "s3://" + name + "/some/where"
		}}
}

func bucket(t *testing.T) []string {
	server, name := testkit.S3Bucket(t, testkit.VersityGW)
	return server.Env(name)
}

// site is a registry of a kind: its daemon, and its commands.
type site struct {
	t      *testing.T
	data   string
	env    []string
	daemon *testkit.Daemon
}

func newSite(t *testing.T, k kind) *site {
	t.Helper()
	s := &site{t: t, data: t.TempDir()}
	s.env = append([]string{"BERTH_ANONYMOUS=delete", "BERTH_DATA=" + s.data}, k.storage(t)...)
	if dsn := k.database(t); dsn != "" {
		s.env = append(s.env, "BERTH_DATABASE="+dsn)
	}
	return s
}

func (s *site) start() *client {
	s.t.Helper()
	s.daemon = testkit.Start(s.t, testkit.Options{Data: s.data, Env: s.env})
	return newClient(s.daemon.URL)
}

// berthd runs a command and returns what it printed.
func (s *site) berthd(args ...string) (string, error) {
	s.t.Helper()
	cmd := exec.Command(testkit.BuildBerthd(s.t), args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "BERTH") && !strings.HasPrefix(v, "REGISTRY") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, s.env...)
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	failed := cmd.Run()
	if failed != nil {
		failed = fmt.Errorf("berthd %s: %w: %s", strings.Join(args, " "), failed, err.String())
	}
	return out.String(), failed
}

func (s *site) must(args ...string) string {
	s.t.Helper()
	out, err := s.berthd(args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// TestBackup saves a registry that is pushed to, is killed in the middle of it, saves it again, and restores it as a
// registry of the other kind.
func TestBackup(t *testing.T) {
	testkit.RequireDisk(t, t.TempDir(), 2<<30)
	for _, c := range []struct{ from, to kind }{{local(), shared()}, {shared(), local()}} {
		t.Run(c.from.name+" to "+c.to.name, func(t *testing.T) {
			t.Parallel() // most of it is waiting for the claim of the killed job to run out
			testBackup(t, c.from, c.to)
		})
	}
}

func testBackup(t *testing.T, from, to kind) {
	source, target := newSite(t, from), from.target(t)
	source.start()
	l := &ledger{tags: map[string]string{}, moving: map[string][]string{}}
	stop, _ := load(func() string { return source.daemon.URL }, l, 1, 25)
	time.Sleep(500 * time.Millisecond)

	// Slow enough to be killed in the middle.
	killed := make(chan error, 1)
	go func() {
		_, err := source.berthd("backup", target, "--rate", "1MiB")
		killed <- err
	}()
	time.Sleep(1500 * time.Millisecond)
	source.daemon.Kill()
	if err := <-killed; err == nil {
		t.Error("a backup whose berthd was killed says that it succeeded")
	}
	if out := source.must("backup", "--list", target); strings.Count(out, "\n") != 1 {
		t.Fatalf("a backup that was killed left a snapshot:\n%s", out)
	}
	source.daemon.Restart(t)
	stop()

	stop, _ = load(func() string { return source.daemon.URL }, l, 2, 25)
	time.Sleep(300 * time.Millisecond)
	before := l.copy()
	source.must("backup", target)
	stop()
	if len(before.tags) < 10 {
		t.Fatalf("only %d images were acknowledged before the backup", len(before.tags))
	}
	// The next one copies what is new.
	c := newClient(source.daemon.URL)
	random := rand.NewChaCha8([32]byte{9})
	source.must("backup", target)
	if _, err := c.push("team/app0", "new", 50_000, random, nil); err != nil {
		t.Fatal(err)
	}
	out := source.must("backup", target, "--keep", "2")
	if !regexp.MustCompile(`copied 1 blobs, 48\.8 KiB`).MatchString(out) {
		t.Errorf("a backup after one push of 50,000 bytes says %q", out)
	}
	list := source.must("backup", "--list", target)
	rows := strings.Split(strings.TrimSpace(list), "\n")[1:]
	if len(rows) != 2 {
		t.Fatalf("of three snapshots two were to be kept:\n%s", list)
	}
	source.must("restore", "--check", target)
	if out := source.must("restore", "--drill", "--sample", "5", target); !strings.Contains(out, ": 5 tags pulled and verified") {
		t.Errorf("the drill says %q", out)
	}

	if err := source.daemon.Stop(); err != nil {
		t.Fatal(err)
	}
	copied := newSite(t, to)
	if c := credentials(source.env); len(c) > 0 && len(credentials(copied.env)) == 0 {
		copied.env = append(copied.env, c...)
		target += "?region=us-east-1&endpoint=" + endpoint(source.env)
	}
	copied.must("restore", "--verify", target)
	if _, err := copied.berthd("restore", target); err == nil {
		t.Error("a restore into a registry that is there is not refused")
	}
	r := copied.start()
	for key, want := range before.tags {
		repo, tag, _ := strings.Cut(key, ":")
		if got, err := r.pull(repo, tag); err != nil || got != want {
			t.Errorf("%s was acknowledged as %s before the backup and is %s, %v", key, want, got, err)
		}
	}
	for key, digests := range before.moving {
		repo, tag, _ := strings.Cut(key, ":")
		got, err := r.pull(repo, tag)
		l.mu.Lock()
		at, acknowledged := -1, -1
		for i, d := range l.moving[key] {
			if strings.HasPrefix(d, got) {
				at = i
			}
			if i < len(digests) && !strings.HasSuffix(d, "lost") {
				acknowledged = i
			}
		}
		l.mu.Unlock()
		if err != nil || at < acknowledged {
			t.Errorf("%s was acknowledged as push %d before the backup and is push %d, %v", key, acknowledged, at, err)
		}
	}
	if _, err := r.push("team/app0", "after", 50_000, random, nil); err != nil {
		t.Errorf("push to the restored registry: %v", err)
	}
	all, err := r.list() // pulls every tag
	if err != nil || len(all) < len(before.tags) {
		t.Errorf("the restored registry lists %d tags, %v", len(all), err)
	}
}

// credentials are those of a bucket, as the AWS SDK finds them.
func credentials(env []string) (out []string) {
	for _, v := range env {
		if value, ok := strings.CutPrefix(v, "REGISTRY_STORAGE_S3_ACCESSKEY="); ok {
			out = append(out, "AWS_ACCESS_KEY_ID="+value)
		} else if value, ok := strings.CutPrefix(v, "REGISTRY_STORAGE_S3_SECRETKEY="); ok {
			out = append(out, "AWS_SECRET_ACCESS_KEY="+value)
		}
	}
	return out
}

func endpoint(env []string) string {
	for _, v := range env {
		if value, ok := strings.CutPrefix(v, "REGISTRY_STORAGE_S3_REGIONENDPOINT="); ok {
			return value
		}
	}
	return ""
}

// TestRebuild loses the database and makes it again from the storage.
func TestRebuild(t *testing.T) {
	testkit.RequireDisk(t, t.TempDir(), 2<<30)
	for _, k := range []kind{local(), shared()} {
		t.Run(k.name, func(t *testing.T) {
			s := newSite(t, k)
			s.start()
			l := &ledger{tags: map[string]string{}, moving: map[string][]string{}}
			_, wait := load(func() string { return s.daemon.URL }, l, 1, 12)
			wait()
			s.daemon.Kill() // it goes on where it was
			s.daemon.Restart(t)
			c := newClient(s.daemon.URL)
			random := rand.NewChaCha8([32]byte{7})
			subject, err := c.push("team/app1", "signed", 1000, random, nil)
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if _, err := c.push("team/app1", "", 100, random, &subject); err != nil {
					t.Fatal(err)
				}
			}
			signatures := "/extensions/v2/team/app1/signatures/" + subject.Digest
			sig := fmt.Sprintf(`{"schemaVersion":2,"name":"%s@%032x","type":"atomic","content":"c2lnbmVk"}`, subject.Digest, 1)
			if _, _, err := c.want(201, "PUT", signatures, "application/json", []byte(sig)); err != nil {
				t.Fatal(err)
			}
			_, signed, err := c.want(200, "GET", signatures, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			gone, err := c.push("team/gone", "gone", 1000, random, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := c.want(202, "DELETE", "/v2/team/gone/manifests/"+gone.Digest, "", nil); err != nil {
				t.Fatal(err)
			}
			if _, _, err := c.want(202, "DELETE", "/v2/team/app0/manifests/t1-0", "", nil); err != nil {
				t.Fatal(err)
			}
			if k.database(t) != "" { // the journal of a replica that was killed is another's when its lease is over
				time.Sleep(22 * time.Second)
			}
			want, err := c.list()
			if err != nil {
				t.Fatal(err)
			}
			if err := s.daemon.Stop(); err != nil {
				t.Fatal(err)
			}
			if _, err := s.berthd("rebuild"); err == nil {
				t.Fatal("a rebuild over a database that is there is not refused")
			}
			s.lose(k)
			dry := s.must("rebuild", "--dry-run")
			out := s.must("rebuild")
			if strings.Replace(dry, "would rebuild", "rebuilt", 1) != out {
				t.Errorf("the dry run said\n%sand the rebuild\n%s", dry, out)
			}
			c = s.start()
			got, err := c.list()
			if err != nil {
				t.Fatal(err)
			}
			if !maps.Equal(got, want) {
				for key := range want {
					if got[key] != want[key] {
						t.Errorf("%s was %q and is %q", key, want[key], got[key])
					}
				}
				t.Errorf("%d tags were, %d are", len(want), len(got))
			}
			if _, now, err := c.want(200, "GET", signatures, "", nil); err != nil || string(now) != string(signed) || !strings.Contains(string(now), "c2lnbmVk") {
				t.Errorf("the signatures were %s and are %s: %v", signed, now, err)
			}
			if _, err := c.push("team/app0", "after", 50_000, random, nil); err != nil {
				t.Errorf("push to the rebuilt registry: %v", err)
			}
		})
	}
}

// lose takes the database away.
func (s *site) lose(k kind) {
	s.t.Helper()
	if dsn := k.database(s.t); dsn != "" {
		for i, v := range s.env {
			if strings.HasPrefix(v, "BERTH_DATABASE=") {
				s.env[i] = "BERTH_DATABASE=" + dsn
			}
		}
		return
	}
	files, err := filepath.Glob(filepath.Join(s.data, "berth.db*"))
	if err != nil || len(files) == 0 {
		s.t.Fatalf("there is no database: %v", err)
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			s.t.Fatal(err)
		}
	}
}
