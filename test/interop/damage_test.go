package interop_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/berth-registry/berth/internal/testkit"
)

// bytesOf is where a registry keeps its blobs, as somebody sees it who has a grudge against them.
type bytesOf interface {
	read(t *testing.T, digest string) []byte
	write(t *testing.T, digest string, content []byte)
	remove(t *testing.T, digest string)
}

type onFiles struct{ dir string }

func (o onFiles) path(digest string) string {
	hex := strings.TrimPrefix(digest, "sha256:")
	return filepath.Join(o.dir, "blobs", "sha256", hex[:2], hex)
}

func (o onFiles) read(t *testing.T, digest string) []byte { return readFile(t, o.path(digest)) }

func (o onFiles) write(t *testing.T, digest string, content []byte) {
	if err := os.WriteFile(o.path(digest), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (o onFiles) remove(t *testing.T, digest string) {
	if err := os.Remove(o.path(digest)); err != nil {
		t.Fatal(err)
	}
}

// inBucket finds a blob by its content, wherever it lies.
type inBucket struct {
	client *s3.Client
	bucket string
	keys   map[string]string // by digest, as they were found
}

func (b *inBucket) key(t *testing.T, digest string) string {
	t.Helper()
	if key, ok := b.keys[digest]; ok {
		return key
	}
	list, err := b.client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &b.bucket})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range list.Contents {
		sum := sha256.Sum256(b.object(t, *o.Key))
		b.keys["sha256:"+hex.EncodeToString(sum[:])] = *o.Key
	}
	key, ok := b.keys[digest]
	if !ok {
		t.Fatalf("no object of the bucket is %s", digest)
	}
	return key
}

func (b *inBucket) object(t *testing.T, key string) []byte {
	t.Helper()
	out, err := b.client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &b.bucket, Key: &key})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	content, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func (b *inBucket) read(t *testing.T, digest string) []byte { return b.object(t, b.key(t, digest)) }

func (b *inBucket) write(t *testing.T, digest string, content []byte) {
	_, err := b.client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &b.bucket, Key: aws.String(b.key(t, digest)), Body: bytes.NewReader(content)})
	if err != nil {
		t.Fatal(err)
	}
}

func (b *inBucket) remove(t *testing.T, digest string) {
	if _, err := b.client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &b.bucket, Key: aws.String(b.key(t, digest))}); err != nil {
		t.Fatal(err)
	}
}

// fsck runs berthd fsck beside the daemon and returns its exit code and what it says.
func fsck(t *testing.T, r *registry, args ...string) (code int, said struct {
	Clean                                                bool
	Damaged, Missing, Repaired, Released, Blobs, Orphans int64
	Damage                                               []struct {
		Digest, Detail string
		Missing        bool
		Needs          []struct{ Repository, Tag string }
	}
}) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testkit.BuildBerthd(t), append([]string{"fsck", "--output", "json", "--data", r.Data}, args...)...)
	cmd.Env = userEnv(t.TempDir())
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if err := json.Unmarshal(stdout.Bytes(), &said); err != nil {
		t.Fatalf("berthd fsck: %v\n%s%s", err, stdout.String(), stderr.String())
	}
	return cmd.ProcessState.ExitCode(), said
}

// Ten images rot, each in its own way. One fsck names all of them with their tags, HEAD does not vouch for any, skopeo
// cannot pull what is not there, and its ordinary push repairs all ten.
func TestSkopeoRepairsWhatIsDamaged(t *testing.T) {
	t.Parallel()
	for _, storage := range []string{"files", "bucket"} {
		t.Run(storage, func(t *testing.T) {
			t.Parallel()
			o := testkit.Options{Env: []string{"BERTH_ANONYMOUS=delete"}}
			var bucket *inBucket
			if storage == "bucket" {
				server, name := testkit.S3Bucket(t, testkit.VersityGW)
				bucket = &inBucket{server.Client(), name, map[string]string{}}
				o.Env = append(o.Env, server.Env(name)...)
				o.Database = testkit.Postgres(t)
			}
			r := startRegistry(t, o)
			var place bytesOf = onFiles{r.Data}
			if bucket != nil {
				place = bucket
			}
			skopeo := newClient(t, "skopeo", r)
			var layouts, layers []string
			for i := range 10 {
				img := ociImage(t, fmt.Sprint(i))
				layouts = append(layouts, "oci:"+ociLayout(t, img)+":v1")
				skopeo.run(t, "copy", layouts[i], fmt.Sprintf("docker://%s/team/app%d:v1", r.host, i))
				all, err := img.Layers()
				if err != nil {
					t.Fatal(err)
				}
				layers = append(layers, digestOf(t, all[i%3]))
			}
			for i, d := range layers {
				content := place.read(t, d)
				switch {
				case i == 8:
					place.write(t, d, content[:len(content)/2])
				case i == 9:
					place.remove(t, d)
				default:
					content[i*len(content)/8] ^= 1 << i
					place.write(t, d, content)
				}
			}
			code, said := fsck(t, r)
			if code != 1 || said.Clean || said.Damaged != 9 || said.Missing != 1 || len(said.Damage) != 10 {
				t.Fatalf("fsck exits with %d and says %+v", code, said)
			}
			tags := map[string]string{}
			for _, d := range said.Damage {
				for _, n := range d.Needs {
					tags[d.Digest] += n.Repository + ":" + n.Tag
				}
			}
			for i, d := range layers {
				if want := fmt.Sprintf("team/app%d:v1", i); tags[d] != want {
					t.Errorf("%s is needed by %q, says fsck; want %s", d, tags[d], want)
				}
				path := fmt.Sprintf("/v2/team/app%d/blobs/%s", i, d)
				if status, _, _ := r.do(t, http.MethodHead, path, nil, nil); status != http.StatusNotFound {
					t.Errorf("HEAD vouches for %s: %d", d, status)
				}
				status, _, body := r.get(t, path)
				if status != http.StatusNotFound || !strings.Contains(string(body), "push it again") {
					t.Errorf("GET of damaged %s: %d %s", d, status, body)
				}
			}
			skopeo.refused(t, "copy", "docker://"+r.host+"/team/app0:v1", "dir:"+filepath.Join(t.TempDir(), "image"))
			for i := range layers {
				target := fmt.Sprintf("docker://%s/team/app%d:v1", r.host, i)
				skopeo.run(t, "copy", layouts[i], target)
				skopeo.run(t, "copy", target, "dir:"+filepath.Join(t.TempDir(), "image"))
			}
			if code, said := fsck(t, r); code != 0 || !said.Clean || len(said.Damage) != 0 {
				t.Errorf("after the pushes fsck exits with %d and says %+v", code, said)
			}
		})
	}
}

// A blob that rots while nobody looks is never a clean answer when pulls are verified: the connection breaks before its
// end, over HTTP/1.1 and HTTP/2, and the next request is told that it is damaged.
func TestRottenBlobBreaksTheConnection(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		for name, spoil := range map[string]func([]byte) []byte{
			"first byte": func(p []byte) []byte { p[0] ^= 1; return p },
			"last byte":  func(p []byte) []byte { p[len(p)-1] ^= 1; return p },
		} {
			t.Run(protocol+" "+name, func(t *testing.T) {
				t.Parallel()
				r := startRegistry(t, testkit.Options{Env: []string{"BERTH_ANONYMOUS=delete", "BERTH_INTEGRITY_READS=always"}})
				img := ociImage(t, "a")
				r.push(t, img, "team/app:v1")
				layers, err := img.Layers()
				if err != nil {
					t.Fatal(err)
				}
				d := digestOf(t, layers[0])
				place := onFiles{r.Data}
				right := place.read(t, d)
				place.write(t, d, spoil(bytes.Clone(right)))

				transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: protocol == "HTTP/2.0"} //nolint:gosec // the test's own server
				defer transport.CloseIdleConnections()
				get := func() (*http.Response, []byte, error) {
					req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, "https://"+r.host+"/v2/team/app/blobs/"+d, nil)
					if err != nil {
						t.Fatal(err)
					}
					resp, err := transport.RoundTrip(req)
					if err != nil {
						return nil, nil, err
					}
					defer resp.Body.Close()
					body, err := io.ReadAll(resp.Body)
					return resp, body, err
				}
				resp, body, err := get()
				if err == nil || resp != nil && resp.Proto != protocol {
					t.Errorf("%d of %d bytes came, as a clean answer", len(body), len(right))
				}
				if resp != nil && len(body) >= len(right) {
					t.Errorf("all %d bytes came", len(body))
				}
				resp, body, err = get()
				if err != nil || resp.StatusCode != http.StatusNotFound || !strings.Contains(string(body), "damaged") {
					t.Errorf("the next request: %v %s %v", resp, body, err)
				}
			})
		}
	}
}
