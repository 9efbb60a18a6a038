package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

const (
	objectsAccount = "berthbench"
	objectsSecret  = "berthbench-secret"
	objectsRegion  = "us-east-1"
	objectsPeers   = "test/setup/peers.txt"
)

// objects is an S3 server that this program started. It syncs, or does not, as it is shipped.
type objects struct {
	proc   *process
	dir    string
	addr   string
	client *s3.Client
}

// makesOfObjects are the servers that are measured. The first is the one of scenarios that need just any.
func makesOfObjects() []string { return []string{"versitygw", "minio"} }

// startObjects starts one. many is for objects of a thousand parts: versitygw keeps what it knows of parts in attributes of the
// file, of which ext4 has room for about 4 KiB, and then in a folder beside.
func startObjects(ctx context.Context, make, parent string, many bool) (o *objects, err error) {
	program, err := findPeer(make)
	if err != nil {
		return nil, err
	}
	o = &objects{}
	if o.dir, err = os.MkdirTemp(parent, make+"-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.stop())
		}
	}()
	if o.addr, err = freeAddr(); err != nil {
		return nil, err
	}
	data := filepath.Join(o.dir, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		return nil, err
	}
	argv := []string{program, "--access", objectsAccount, "--secret", objectsSecret, "--region", objectsRegion, "--port", o.addr, "--quiet", "--keep-alive", "posix"}
	if many {
		beside := filepath.Join(o.dir, "attributes")
		if err := os.Mkdir(beside, 0o755); err != nil {
			return nil, err
		}
		argv = append(argv, "--sidecar", beside)
	}
	argv = append(argv, data)
	env := []string{"HOME=" + o.dir}
	if make == "minio" {
		argv = []string{program, "server", "--quiet", "--address", o.addr, data}
		env = append(env, "MINIO_ROOT_USER="+objectsAccount, "MINIO_ROOT_PASSWORD="+objectsSecret, "MINIO_BROWSER=off", "MINIO_UPDATE=off")
	}
	if o.proc, err = startProcess(filepath.Join(o.dir, "log"), o.dir, env, argv); err != nil {
		return nil, err
	}
	o.client = newObjectsClient(o.addr)
	return o, o.await(ctx, make)
}

// newObjectsClient has the settings of berthd's own client that cost time: its pool and buffers, and no checksums beyond the
// signature's.
func newObjectsClient(addr string) *s3.Client {
	return s3.New(s3.Options{
		HTTPClient: &http.Client{Transport: &http.Transport{MaxIdleConns: 256, MaxIdleConnsPerHost: 256,
			WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10, DisableCompression: true}},
		BaseEndpoint: aws.String("http://" + addr), Region: objectsRegion, UsePathStyle: true,
		Credentials:                credentials.NewStaticCredentialsProvider(objectsAccount, objectsSecret, ""),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	})
}

func (o *objects) await(ctx context.Context, make string) error {
	for began := time.Now(); ; {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, err := o.client.ListBuckets(try, &s3.ListBucketsInput{}, func(c *s3.Options) { c.RetryMaxAttempts = 1 })
		cancel()
		if err == nil {
			return nil
		}
		if o.proc.exited() {
			return fmt.Errorf("%s ended at once: %s", make, o.proc.logTail())
		}
		if time.Since(began) > readyWait {
			return fmt.Errorf("%s is not ready after %s: %w: %s", make, readyWait, err, o.proc.logTail())
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

func (o *objects) stop() error {
	var err error
	if o.proc != nil {
		err = o.proc.stop()
	}
	return errors.Join(err, os.RemoveAll(o.dir))
}

// makeBucket makes a bucket; one of an earlier round is as good.
func (o *objects) makeBucket(ctx context.Context, name string) error {
	var owned *types.BucketAlreadyOwnedByYou
	if _, err := o.client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name}); err != nil && !errors.As(err, &owned) {
		return fmt.Errorf("make bucket %s: %w", name, err)
	}
	return nil
}

// empty removes every object of a bucket.
func (o *objects) empty(ctx context.Context, bucket string) error {
	pages := s3.NewListObjectsV2Paginator(o.client, &s3.ListObjectsV2Input{Bucket: &bucket})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("empty bucket %s: %w", bucket, err)
		}
		var keys []types.ObjectIdentifier
		for _, c := range page.Contents {
			keys = append(keys, types.ObjectIdentifier{Key: c.Key})
		}
		if len(keys) == 0 {
			continue
		}
		if _, err := o.client.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &bucket, Delete: &types.Delete{Objects: keys}}); err != nil {
			return fmt.Errorf("empty bucket %s: %w", bucket, err)
		}
	}
	return nil
}

// env is how a berthd is told to use a bucket. Parts have the default size.
func (o *objects) env(bucket string) []string {
	return []string{
		"REGISTRY_STORAGE_S3_ACCESSKEY=" + objectsAccount, "REGISTRY_STORAGE_S3_SECRETKEY=" + objectsSecret,
		"REGISTRY_STORAGE_S3_REGION=" + objectsRegion, "REGISTRY_STORAGE_S3_REGIONENDPOINT=http://" + o.addr,
		"REGISTRY_STORAGE_S3_BUCKET=" + bucket,
	}
}

// findPeer is the path of a program that test/setup/setup.sh installs, in the version that peers.txt pins.
func findPeer(program string) (string, error) {
	list, err := os.Open(objectsPeers)
	if err != nil {
		return "", fmt.Errorf("find %s (run from the module's root): %w", program, err)
	}
	defer list.Close()
	cache := os.Getenv("BERTH_TEST_CACHE")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find the cache folder: %w", err)
		}
		cache = filepath.Join(user, "berth-test")
	}
	for lines := bufio.NewScanner(list); lines.Scan(); {
		field := strings.Fields(lines.Text())
		if len(field) < 4 || field[1] != program {
			continue
		}
		path := filepath.Join(cache, "bin", program+"@"+field[3], program)
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("%s %s is not installed: run test/setup/setup.sh", program, field[3])
		}
		return path, nil
	}
	return "", fmt.Errorf("%s has no %s", objectsPeers, program)
}
