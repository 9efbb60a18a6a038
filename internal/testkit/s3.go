package testkit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// S3Kind is a make of S3 server.
type S3Kind string

// The servers that test/setup/setup.sh installs. They disagree usefully: MinIO is strict, versitygw is quick to start.
const (
	MinIO     S3Kind = "minio"
	VersityGW S3Kind = "versitygw"
)

// The root account of every server that is started here.
const (
	s3AccessKey = "berthtest"
	s3SecretKey = "berthtest-secret"
	s3Region    = "us-east-1"
)

// S3 is a running S3 server on 127.0.0.1 with the account AccessKey. Its methods are for one goroutine at a time.
type S3 struct {
	Kind      S3Kind
	Endpoint  string // http://127.0.0.1:port
	AccessKey string
	SecretKey string
	Region    string

	bin, dir, addr string
	log            *tail
	run            *running // nil once it was stopped
}

// StartS3 starts a server of its own in a temporary directory, and ends it with the test. It syncs as it is shipped. It
// sets no bound to what it stores: a test bounds what it writes, and asks RequireDisk for more than 100 MB.
//
// Without the program the test is skipped, or fails where the package comment says so.
func StartS3(t testing.TB, kind S3Kind) *S3 {
	t.Helper()
	s := &S3{Kind: kind, AccessKey: s3AccessKey, SecretKey: s3SecretKey, Region: s3Region, bin: goPeer(t, string(kind)), dir: t.TempDir(), log: &tail{}}
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("log of %s at %s:\n%s", kind, s.addr, s.log)
		}
	})
	var err error
	for range 3 { // another process may take the port first
		if s.addr, err = freeAddr(); err != nil {
			t.Fatalf("testkit: port for %s: %v", kind, err)
		}
		s.Endpoint = "http://" + s.addr
		if err = s.start(); err == nil {
			return s
		}
	}
	t.Fatalf("testkit: %v", err)
	return nil
}

// sharedS3 are the servers of this process, started when first asked for. They end with the process.
var sharedS3 sync.Map // S3Kind → func() (*S3, error)

// S3Bucket returns a server that the tests of this process share, and the name of an empty bucket in it of this test's
// own. What is left in the bucket is removed with the server, at the end of the process.
func S3Bucket(t testing.TB, kind S3Kind) (server *S3, bucket string) {
	t.Helper()
	bin := goPeer(t, string(kind))
	start, _ := sharedS3.LoadOrStore(kind, sync.OnceValues(func() (*S3, error) { return keepS3(kind, bin) }))
	server, err := start.(func() (*S3, error))()
	if err != nil {
		t.Fatal(err)
	}
	bucket = "t-" + strings.ToLower(rand.Text()[:16])
	server.MakeBucket(t, bucket)
	return server, bucket
}

// Client is a plain client of the server, as its root. It keeps no connections.
func (s *S3) Client() *s3.Client {
	return s3.New(s3.Options{
		HTTPClient:   &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
		BaseEndpoint: aws.String(s.Endpoint), Region: s.Region, UsePathStyle: true,
		Credentials:                credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, ""),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	})
}

// Env is the environment of a berthd that keeps its content in a bucket of the server. Downloads are answered by berthd;
// a later REGISTRY_STORAGE_REDIRECT_DISABLE=false changes that.
func (s *S3) Env(bucket string) []string {
	return []string{
		"REGISTRY_STORAGE_S3_ACCESSKEY=" + s.AccessKey, "REGISTRY_STORAGE_S3_SECRETKEY=" + s.SecretKey,
		"REGISTRY_STORAGE_S3_REGION=" + s.Region, "REGISTRY_STORAGE_S3_REGIONENDPOINT=" + s.Endpoint,
		"REGISTRY_STORAGE_S3_BUCKET=" + bucket, "REGISTRY_STORAGE_REDIRECT_DISABLE=true",
	}
}

// MakeBucket makes a bucket.
func (s *S3) MakeBucket(t testing.TB, name string) {
	t.Helper()
	if _, err := s.Client().CreateBucket(context.Background(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatalf("testkit: bucket %s on %s: %v", name, s.Kind, err)
	}
}

// Kill ends the server with SIGKILL and waits. Start starts it again with what it has stored.
func (s *S3) Kill() {
	if s.run == nil {
		return
	}
	_ = s.run.cmd.Process.Signal(syscall.SIGCONT)
	_ = s.run.cmd.Process.Kill()
	<-s.run.exited
	s.run = nil
}

// Restart starts a server that was killed at the same address, or kills it first.
func (s *S3) Restart(t testing.TB) {
	t.Helper()
	s.Kill()
	if err := s.start(); err != nil {
		t.Fatalf("testkit: %v", err)
	}
}

// Pause stops the server without closing its connections, as a machine that hangs; Resume lets it go on.
func (s *S3) Pause() error { return s.run.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *S3) Resume() error { return s.run.cmd.Process.Signal(syscall.SIGCONT) }

// PID is the process id, or 0 when the server does not run.
func (s *S3) PID() int {
	if s.run == nil {
		return 0
	}
	return s.run.cmd.Process.Pid
}

// command is how a server of this kind is started on dir.
func (s *S3) command() (args, env []string) {
	switch s.Kind {
	case MinIO:
		return []string{"server", "--quiet", "--address", s.addr, filepath.Join(s.dir, "data")},
			[]string{"MINIO_ROOT_USER=" + s.AccessKey, "MINIO_ROOT_PASSWORD=" + s.SecretKey, "MINIO_BROWSER=off", "MINIO_UPDATE=off", "HOME=" + s.dir}
	default:
		return []string{
				"--access", s.AccessKey, "--secret", s.SecretKey, "--region", s.Region, "--port", s.addr, "--quiet", "--keep-alive",
				"posix", "--versioning-dir", filepath.Join(s.dir, "versions"), filepath.Join(s.dir, "data"),
			},
			[]string{"HOME=" + s.dir}
	}
}

func (s *S3) makeDirs() error {
	return errors.Join(os.MkdirAll(filepath.Join(s.dir, "data"), 0o700), os.MkdirAll(filepath.Join(s.dir, "versions"), 0o700))
}

func (s *S3) start() error {
	if err := s.makeDirs(); err != nil {
		return err
	}
	args, env := s.command()
	cmd := exec.Command(s.bin, args...)
	cmd.Env = append(cleanEnv(), env...)
	cmd.Dir = s.dir
	cmd.Stdout, cmd.Stderr = s.log, s.log
	cmd.SysProcAttr = childAttr()
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", s.Kind, err)
	}
	run := &running{cmd: cmd, exited: make(chan struct{})}
	go func() {
		run.err = cmd.Wait()
		close(run.exited)
	}()
	if err := s.await(run.exited); err != nil {
		_ = cmd.Process.Kill()
		<-run.exited
		return fmt.Errorf("%w\n%s", err, s.log)
	}
	s.run = run
	return nil
}

// await returns when the server answers a signed request.
func (s *S3) await(exited <-chan struct{}) error {
	client := s.Client()
	deadline := time.Now().Add(30 * time.Second)
	for {
		ctx, stop := context.WithTimeout(context.Background(), 2*time.Second)
		_, err := client.ListBuckets(ctx, &s3.ListBucketsInput{}, func(o *s3.Options) { o.RetryMaxAttempts = 1 })
		stop()
		select {
		case <-exited:
			return fmt.Errorf("%s ended before it was ready", s.Kind)
		default:
		}
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not ready after 30 s: %w", s.Kind, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// s3Keeper runs "$@" until this process ends, and then removes directory $DIR.
const s3Keeper = `
"$@" </dev/null &
pid=$!
read _
kill -KILL $pid
wait $pid
rm -rf "$DIR"`

// keepS3 starts a server that ends with this process however that ends.
func keepS3(kind S3Kind, bin string) (*S3, error) {
	dir, err := os.MkdirTemp("", "berth-s3-")
	if err != nil {
		return nil, fmt.Errorf("testkit: directory for %s: %w", kind, err)
	}
	s := &S3{Kind: kind, AccessKey: s3AccessKey, SecretKey: s3SecretKey, Region: s3Region, bin: bin, dir: dir}
	if err := s.makeDirs(); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, fmt.Errorf("testkit: log of %s: %w", kind, err)
	}
	defer log.Close()
	for range 3 {
		if s.addr, err = freeAddr(); err != nil {
			return nil, err
		}
		s.Endpoint = "http://" + s.addr
		args, env := s.command()
		script := "export DIR='" + dir + "' " + strings.Join(quoted(env), " ") + "\n" + s3Keeper
		if _, err = keep(nil, log, script, append([]string{bin}, args...)...); err != nil {
			return nil, err
		}
		if err = s.await(nil); err == nil {
			return s, nil
		}
	}
	text, _ := os.ReadFile(log.Name())
	return nil, fmt.Errorf("testkit: %w\n%s", err, text)
}

// quoted makes NAME=value words of a shell.
func quoted(env []string) []string {
	out := make([]string, len(env))
	for i, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		out[i] = name + "='" + strings.ReplaceAll(value, "'", `'\''`) + "'"
	}
	return out
}

func freeAddr() (string, error) {
	port, err := freePort()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), err
}

// goPeer is the path of a Go program that test/setup/setup.sh installs, in the version that test/setup/peers.txt pins.
func goPeer(t testing.TB, program string) string {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile(filepath.Join(root, "test", "setup", "peers.txt"))
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(list)); lines.Scan(); {
		if field := strings.Fields(lines.Text()); len(field) >= 4 && field[1] == program {
			path := filepath.Join(peerCache(t), "bin", program+"@"+field[3], program)
			if _, err := os.Stat(path); err != nil {
				Missing(t, "%s is not installed (run test/setup/setup.sh): %v", program, err)
			}
			return path
		}
	}
	t.Fatalf("testkit: test/setup/peers.txt has no %s", program)
	return ""
}

// peerCache is where setup.sh puts Go programs.
func peerCache(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("BERTH_TEST_CACHE"); dir != "" {
		return dir
	}
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "berth-test")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	return filepath.Join(home, ".cache", "berth-test")
}
