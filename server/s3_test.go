package server_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob/blobtest"
)

// The S3 servers that other tests use take any storage class and any list for granted, and have one address. So here a
// bucket writes down what it is asked.

// asked is a request that a bucket got.
type asked struct {
	what, host, key string // what is S3's name of the operation
	header          http.Header
}

// account is the access key that a request is signed with.
func (a asked) account() string {
	_, key, _ := strings.Cut(a.header.Get("Authorization"), "Credential=")
	key, _, _ = strings.Cut(key, "/")
	return key
}

// listener is a bucket, under whatever name it is asked for, that remembers requests.
type listener struct {
	url     string
	mu      sync.Mutex
	asked   []asked
	objects map[string][]byte
	uploads map[string]map[int][]byte
}

func listen(t *testing.T) *listener {
	l := &listener{objects: map[string][]byte{}, uploads: map[string]map[int][]byte{}}
	s := httptest.NewServer(l)
	t.Cleanup(s.Close)
	l.url = s.URL
	return l
}

// took are the requests so far.
func (l *listener) took() []asked {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.asked)
}

func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	key := strings.TrimPrefix(r.URL.Path, "/")
	if !strings.HasPrefix(r.Host, "bucket.") {
		key = strings.TrimPrefix(strings.TrimPrefix(key, "bucket"), "/")
	}
	q := r.URL.Query()
	note := func(what string) {
		l.asked = append(l.asked, asked{what, r.Host, key, r.Header.Clone()})
	}
	source := func() []byte {
		from, err := url.PathUnescape(r.Header.Get("X-Amz-Copy-Source"))
		if err != nil {
			return nil
		}
		return l.objects[strings.TrimPrefix(from, "bucket/")]
	}
	tag := func(b []byte) string { return strconv.Quote(oci.FromBytes(oci.SHA256, b).Hex()[:32]) }
	part, _ := strconv.Atoi(q.Get("partNumber"))
	if sum := r.Header.Get("X-Amz-Checksum-Crc32c"); sum != "" {
		w.Header().Set("X-Amz-Checksum-Crc32c", sum)
	}
	upload := l.uploads[q.Get("uploadId")]
	switch {
	case q.Has("uploadId") && upload == nil:
		note("unknown upload")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `<Error><Code>NoSuchUpload</Code></Error>`)
	case r.Method == http.MethodPut && part > 0 && r.Header.Get("X-Amz-Copy-Source") != "":
		note("UploadPartCopy")
		upload[part] = source()
		fmt.Fprintf(w, `<CopyPartResult><ETag>%s</ETag></CopyPartResult>`, tag(source()))
	case r.Method == http.MethodPut && part > 0:
		note("UploadPart")
		upload[part] = body
		w.Header().Set("ETag", tag(body))
	case r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") != "":
		note("CopyObject")
		l.objects[key] = source()
		fmt.Fprintf(w, `<CopyObjectResult><ETag>%s</ETag></CopyObjectResult>`, tag(source()))
	case r.Method == http.MethodPut:
		note("PutObject")
		l.objects[key] = body
		w.Header().Set("ETag", tag(body))
	case r.Method == http.MethodPost && q.Has("uploads"):
		note("CreateMultipartUpload")
		id := fmt.Sprint("upload", len(l.asked))
		l.uploads[id] = map[int][]byte{}
		fmt.Fprintf(w, `<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>`, id)
	case r.Method == http.MethodGet && q.Has("uploadId"):
		note("ListParts")
		fmt.Fprint(w, `<ListPartsResult><IsTruncated>false</IsTruncated>`)
		for number, part := range upload {
			fmt.Fprintf(w, `<Part><PartNumber>%d</PartNumber><ETag>%s</ETag><Size>%d</Size></Part>`, number, tag(part), len(part))
		}
		fmt.Fprint(w, `</ListPartsResult>`)
	case r.Method == http.MethodPost && q.Has("uploadId"):
		note("CompleteMultipartUpload")
		var in struct {
			Part []struct{ PartNumber int }
		}
		if xml.Unmarshal(body, &in) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		var whole []byte
		for _, p := range in.Part {
			whole = append(whole, upload[p.PartNumber]...)
		}
		l.objects[key] = whole
		delete(l.uploads, q.Get("uploadId"))
		fmt.Fprintf(w, `<CompleteMultipartUploadResult><ETag>%s</ETag></CompleteMultipartUploadResult>`, tag(whole))
	case r.Method == http.MethodPost:
		note("DeleteObjects")
		fmt.Fprint(w, `<DeleteResult/>`)
	case r.Method == http.MethodDelete:
		note("DeleteObject")
		w.WriteHeader(http.StatusNoContent)
	case key == "" && r.Method == http.MethodGet && q.Has("versioning"):
		note("GetBucketVersioning")
		fmt.Fprint(w, `<VersioningConfiguration/>`)
	case key == "" && r.Method == http.MethodGet:
		note("List")
		fmt.Fprint(w, `<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>`)
	case key == "":
		note("HeadBucket")
	default:
		note(map[string]string{http.MethodGet: "GetObject", http.MethodHead: "HeadObject"}[r.Method])
		content, ok := l.objects[key]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			if r.Method == http.MethodGet {
				fmt.Fprint(w, `<Error><Code>NoSuchKey</Code></Error>`)
			}
			return
		}
		w.Header().Set("ETag", tag(content))
		http.ServeContent(w, r, "", time.Unix(1, 0), bytes.NewReader(content))
	}
}

// inBucket starts a berthd with these lines of storage.s3, and an environment in which the SDK finds nothing but env.
func inBucket(t *testing.T, settings string, env ...string) *testkit.Daemon {
	t.Helper()
	home := t.TempDir()
	return testkit.Start(t, testkit.Options{
		Config: "storage:\n  s3: {bucket: bucket, region: us-east-1, rootdirectory: root, " + settings + "}\n",
		Env: append([]string{
			"BERTH_ANONYMOUS=push", "HOME=" + home, "AWS_CONFIG_FILE=" + filepath.Join(home, "none"), "AWS_SHARED_CREDENTIALS_FILE=" + filepath.Join(home, "none"),
			"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_EC2_METADATA_DISABLED=true",
		}, env...),
	})
}

// tell sends a request to berthd and wants a status.
func tell(t *testing.T, want int, method, target string, body []byte) (http.Header, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		t.Fatalf("%s %s: %d %.300s, %v; want %d", method, target, resp.StatusCode, got, err, want)
	}
	return resp.Header, got
}

// pushSmall is content in one request, to the bucket, too: more than what the database keeps.
func pushSmall(t *testing.T, d *testkit.Daemon, data []byte) (target string) {
	t.Helper()
	repo := d.URL + "/v2/team/app/blobs/"
	digest := oci.FromBytes(oci.SHA256, data).String()
	tell(t, http.StatusCreated, http.MethodPost, repo+"uploads/?digest="+digest, data)
	return repo + digest
}

// pushLarge is content that is sent in parts or as an object, whose digest is the last that is said. It is a SHA-512, for which berthd reads what was
// sent and copies it under its digest before it answers.
func pushLarge(t *testing.T, d *testkit.Daemon, data []byte) (target string) {
	t.Helper()
	repo := d.URL + "/v2/team/app/blobs/"
	h, _ := tell(t, http.StatusAccepted, http.MethodPost, repo+"uploads/", nil)
	h, _ = tell(t, http.StatusAccepted, http.MethodPatch, located(t, d, h), data)
	to, err := url.Parse(located(t, d, h))
	if err != nil {
		t.Fatal(err)
	}
	digest := oci.FromBytes(oci.SHA512, data).String()
	q := to.Query()
	q.Set("digest", digest)
	to.RawQuery = q.Encode()
	tell(t, http.StatusCreated, http.MethodPut, to.String(), nil)
	return repo + digest
}

func located(t *testing.T, d *testkit.Daemon, h http.Header) string {
	t.Helper()
	base, err := url.Parse(d.URL)
	if err != nil {
		t.Fatal(err)
	}
	to, err := base.Parse(h.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	return to.String()
}

// writes says that the operation makes an object.
func (a asked) writes() bool {
	return a.what == "PutObject" || a.what == "CopyObject" || a.what == "CreateMultipartUpload"
}

// content says that the object is what a client has pushed, and not berthd's own.
func (a asked) content() bool {
	return strings.Contains(a.key, "/blobs/sha") || strings.Contains(a.key, "/parked/")
}

// Each key of storage.s3 that only the service sees does what the documentation says, in every request that it is about.
func TestStorageKeysAtTheService(t *testing.T) {
	const (
		sse    = "X-Amz-Server-Side-Encryption"
		kms    = "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id"
		class  = "X-Amz-Storage-Class"
		acl    = "X-Amz-Acl"
		custom = "own"
	)
	for _, c := range []struct {
		name, settings string
		host           string            // of every request; custom is the endpoint that is set
		writes         map[string]string // headers of every write
		content        map[string]string // headers of every write of content, and of no other
		agent          string
	}{
		{name: "nothing", host: custom},
		{name: "encrypt", settings: "encrypt: true", host: custom, writes: map[string]string{sse: "AES256"}},
		{name: "keyid", settings: "encrypt: true, keyid: some-key", host: custom, writes: map[string]string{sse: "aws:kms", kms: "some-key"}},
		{name: "storageclass", settings: "storageclass: standard_ia", host: custom, content: map[string]string{class: "STANDARD_IA"}},
		{name: "storageclass NONE", settings: "storageclass: NONE", host: custom},
		{name: "objectacl", settings: "objectacl: bucket-owner-full-control", host: custom, content: map[string]string{acl: "bucket-owner-full-control"}},
		{name: "useragent", settings: "useragent: harbour-seven", host: custom, agent: "harbour-seven"},
		{name: "Amazon", host: "bucket.s3.us-east-1.amazonaws.com"},
		{name: "accelerate", settings: "accelerate: true", host: "bucket.s3-accelerate.amazonaws.com"},
		{name: "usedualstack", settings: "usedualstack: true", host: "bucket.s3.dualstack.us-east-1.amazonaws.com"},
		{name: "accelerate and usedualstack", settings: "accelerate: true, usedualstack: true", host: "bucket.s3-accelerate.dualstack.amazonaws.com"},
		{name: "usefipsendpoint", settings: "usefipsendpoint: true", host: "bucket.s3-fips.us-east-1.amazonaws.com"},
		{name: "usefipsendpoint and usedualstack", settings: "usefipsendpoint: true, usedualstack: true", host: "bucket.s3-fips.dualstack.us-east-1.amazonaws.com"},
		{name: "forcepathstyle", settings: "forcepathstyle: true", host: "s3.us-east-1.amazonaws.com"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			bucket := listen(t)
			settings, host := "accesskey: a, secretkey: s", c.host
			var env []string
			if c.host == custom {
				settings += ", regionendpoint: " + strconv.Quote(bucket.url)
				host = strings.TrimPrefix(bucket.url, "http://")
			} else { // the bucket stands where the way to Amazon leads
				settings += ", secure: false"
				env = append(env, "HTTP_PROXY="+bucket.url, "http_proxy="+bucket.url, "NO_PROXY=", "no_proxy=")
			}
			if c.settings != "" {
				settings += ", " + c.settings
			}
			d := inBucket(t, settings, env...)
			for _, blob := range []string{
				pushSmall(t, d, blobtest.Random(1, 100_000)), pushLarge(t, d, blobtest.Random(2, 3<<20)), pushLarge(t, d, blobtest.Random(3, 11<<20)),
			} {
				h, _ := tell(t, http.StatusTemporaryRedirect, http.MethodGet, blob, nil)
				if to, err := url.Parse(h.Get("Location")); err != nil || to.Host != host {
					t.Errorf("a download is sent to %s, want %s", h.Get("Location"), host)
				}
			}

			all := bucket.took()
			met := map[string]bool{}
			for _, a := range all {
				met[a.what] = true
				if a.content() && a.writes() {
					met[a.what+" of content"] = true
				}
				if a.host != host {
					t.Errorf("%s goes to %s, want %s", a.what, a.host, host)
				}
				if agent := a.header.Get("User-Agent"); c.agent != "" && !strings.Contains(agent, c.agent) {
					t.Errorf("%s has the User-Agent %q", a.what, agent)
				}
				for _, name := range []string{sse, kms, class, acl} {
					want := ""
					if a.writes() {
						want = c.writes[name]
					}
					if a.writes() && a.content() && c.content[name] != "" {
						want = c.content[name]
					}
					if got := a.header.Get(name); got != want {
						t.Errorf("%s of %s has %s: %q, want %q", a.what, a.key, name, got, want)
					}
				}
			}
			for _, what := range []string{"PutObject of content", "PutObject", "CreateMultipartUpload of content", "UploadPart", "UploadPartCopy", "CompleteMultipartUpload", "CopyObject of content", "GetObject", "HeadBucket"} {
				if !met[what] {
					t.Errorf("there was no %s among %d requests: nothing is shown of it", what, len(all))
				}
			}
		})
	}
}

// With no keys in the configuration, those that the place gives are used: what the service sees is signed with them, has
// their session, and after their time is signed with those that follow, without a restart.
func TestCredentialsOfThePlace(t *testing.T) {
	for _, c := range []struct {
		name string
		// give starts what hands out the keys, issue for each time, and returns what berthd's environment says of it.
		give func(t *testing.T, issue func() keys) (env []string)
	}{
		{"web identity", giveWebIdentity},
		{"container", giveContainer},
		{"instance", giveInstance},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			bucket := listen(t)
			var mu sync.Mutex
			issued := 0
			env := c.give(t, func() keys {
				mu.Lock()
				defer mu.Unlock()
				issued++
				until := time.Now().Add(time.Hour)
				if issued == 1 {
					until = time.Now().Add(time.Second)
				}
				return keys{fmt.Sprint("ASIAKEY", issued), "secret", fmt.Sprint("session", issued), until.UTC().Format(time.RFC3339)}
			})
			d := inBucket(t, "regionendpoint: "+strconv.Quote(bucket.url), append(env, "REGISTRY_STORAGE_REDIRECT_DISABLE=true")...)
			seen := map[string]bool{}
			for deadline := time.Now().Add(30 * time.Second); !seen["ASIAKEY2"] && time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
				data := blobtest.Random(byte(len(bucket.took())), 100_000)
				if _, got := tell(t, http.StatusOK, http.MethodGet, pushSmall(t, d, data), nil); !bytes.Equal(got, data) {
					t.Errorf("what was pushed is read as %d bytes", len(got))
				}
				for _, a := range bucket.took() {
					seen[a.account()] = true
					if want := strings.Replace(a.account(), "ASIAKEY", "session", 1); a.header.Get("X-Amz-Security-Token") != want {
						t.Fatalf("%s is signed with %s and of the session %q", a.what, a.account(), a.header.Get("X-Amz-Security-Token"))
					}
				}
			}
			if !seen["ASIAKEY1"] || !seen["ASIAKEY2"] {
				t.Errorf("requests were signed with %v, want the first keys and the next", seen)
			}
			if strings.Contains(d.Log(), "session1") {
				t.Error("the session is in the log")
			}
		})
	}
}

// keys are temporary credentials, as containers and instances get them.
type keys struct {
	AccessKeyID     string `json:"AccessKeyId"`
	SecretAccessKey string
	Token           string
	Expiration      string
}

// giveWebIdentity is IRSA: a token in a file, which the cluster renews, and a service that gives keys for it.
func giveWebIdentity(t *testing.T, issue func() keys) []string {
	file := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Error(err)
		}
	}
	write("token-1")
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k := issue()
		want := strings.Replace(k.AccessKeyID, "ASIAKEY", "token-", 1)
		if r.FormValue("Action") != "AssumeRoleWithWebIdentity" || r.FormValue("RoleArn") != "arn:aws:iam::123456789012:role/registry" ||
			r.FormValue("WebIdentityToken") != want {
			t.Errorf("the token service is asked %v, want the role and %s", r.Form, want)
		}
		write("token-2")
		w.Header().Set("Content-Type", "text/xml")
		fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials>`+
			`<AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>%s</SessionToken><Expiration>%s</Expiration>`+
			`</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, k.AccessKeyID, k.SecretAccessKey, k.Token, k.Expiration)
	}))
	t.Cleanup(sts.Close)
	return []string{
		"AWS_ROLE_ARN=arn:aws:iam::123456789012:role/registry", "AWS_WEB_IDENTITY_TOKEN_FILE=" + file, "AWS_ENDPOINT_URL_STS=" + sts.URL,
	}
}

// giveContainer is EKS Pod Identity, and ECS: an address that gives keys to who shows the token of the container.
func giveContainer(t *testing.T, issue func() keys) []string {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("of-this-container"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/credentials" || r.Header.Get("Authorization") != "of-this-container" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		writeKeys(t, w, issue())
	}))
	t.Cleanup(s.Close)
	return []string{"AWS_CONTAINER_CREDENTIALS_FULL_URI=" + s.URL + "/v1/credentials", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=" + file}
}

// giveInstance is the metadata service of a machine, version 2.
func giveInstance(t *testing.T, issue func() keys) []string {
	const roles = "/latest/meta-data/iam/security-credentials/"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && r.URL.Path == "/latest/api/token" {
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
			fmt.Fprint(w, "of-this-machine")
			return
		}
		if r.Header.Get("X-Aws-Ec2-Metadata-Token") != "of-this-machine" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		switch r.URL.Path {
		case roles:
			fmt.Fprint(w, "registry")
		case roles + "registry":
			writeKeys(t, w, issue())
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(s.Close)
	return []string{"AWS_EC2_METADATA_DISABLED=false", "AWS_EC2_METADATA_SERVICE_ENDPOINT=" + s.URL}
}

// writeKeys answers with keys, as both services do.
func writeKeys(t *testing.T, w http.ResponseWriter, k keys) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(struct {
		Code string
		keys
	}{"Success", k}); err != nil {
		t.Error(err)
	}
}
