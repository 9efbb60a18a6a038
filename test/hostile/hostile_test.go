package hostile_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
)

// TestMalformed is promise 13: no input gives a 5xx, a panic, a path or a driver's message; every error under /v2/ is
// the specification's; and the store is afterwards what it was, also after a restart.
func TestMalformed(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); malformed(t, "") })
	t.Run("postgres", func(t *testing.T) { t.Parallel(); malformed(t, testkit.Postgres(t)) })
}

const repo = "hostile/app"

func malformed(t *testing.T, database string) {
	d := testkit.Start(t, testkit.Options{Database: database, Env: []string{"BERTH_ANONYMOUS=delete", "BERTH_LOG_LEVEL=warn"}})
	config := seed(t, d.Addr)
	before := snapshot(t, d.Addr, config)
	files := stored(t, d.Data)
	upload := open(t, d.Addr)

	requests := slices.Concat(pathCases(repo, upload), partCases(repo, upload, config), elsewhere(), headerCases(repo), manifestCases(repo, config), signatureCases(repo, digestOf(seeded(config))))
	if len(requests) < 1000 {
		t.Fatalf("only %d requests", len(requests))
	}
	sendAll(t, d, requests)
	t.Logf("%d requests", len(requests))

	must(t, d.Addr, 200, request{method: "GET", target: "/readyz"})
	must(t, d.Addr, 204, request{method: "DELETE", target: upload})
	for _, bad := range []string{"panic", "goroutine ", "level=ERROR", "fatal error", "SQLSTATE"} {
		if i := strings.Index(d.Log(), bad); i >= 0 {
			t.Errorf("the log has %q: %.600s", bad, d.Log()[i:])
		}
	}
	if peak := peakMemory(t, d.PID()); peak > 300<<20 {
		t.Errorf("berthd needed %d MiB, want at most 300", peak>>20)
	}
	same := func(when string) {
		if after := snapshot(t, d.Addr, config); after != before {
			t.Errorf("%s the registry is not what it was:\n%s\nbefore:\n%s", when, after, before)
		}
		if after := stored(t, d.Data); !slices.Equal(after, files) {
			t.Errorf("%s the store has %v, before %v", when, after, files)
		}
	}
	same("afterwards")
	d.Restart(t)
	same("after a restart")
}

// sendAll sends the requests from eight connections at a time and holds every answer against the rules.
func sendAll(t *testing.T, d *testkit.Daemon, requests []request) {
	next := make(chan request)
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for q := range next {
				a, err := send(d.Addr, q)
				if err != nil {
					t.Errorf("%s: %v", q, err)
					continue
				}
				for _, broken := range judge(q, a, d.Data) {
					t.Errorf("%s: %d: %s: %.300q", q, a.status, broken, a.body)
				}
			}
		})
	}
	for _, q := range requests {
		next <- q
	}
	close(next)
	workers.Wait()
}

// String is a request as a failure names it.
func (q request) String() string {
	if q.raw != "" {
		return fmt.Sprintf("%.80q", q.raw)
	}
	return fmt.Sprintf("%.20s %.160q %.120q %.120q", q.method, q.target, q.header, q.body)
}

var (
	codes = []string{
		"BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN", "MANIFEST_INVALID", "MANIFEST_UNKNOWN",
		"NAME_INVALID", "NAME_UNKNOWN", "SIZE_INVALID", "UNAUTHORIZED", "DENIED", "UNSUPPORTED", "TOOMANYREQUESTS",
	}
	inside = regexp.MustCompile(`goroutine |\.go:\d|(?i:sqlstate|sqlite|\bpgx\b|constraint|syntax error)|runtime error|panic|/blobs/sha256/`)
	secret = regexp.MustCompile(`root:x:|PRIVATE KEY`)
)

// judge says what is wrong with an answer.
func judge(q request, a answer, data string) (broken []string) {
	if q.allow == gone {
		if a.status >= 500 && a.status != 501 && a.status != 505 {
			return []string{"a server error"}
		}
		return nil
	}
	switch {
	case a.status >= 500:
		return []string{"a server error"}
	case a.status < 400 && q.allow == refused:
		return []string{"want a refusal"}
	}
	if found := inside.Find(a.body); a.status >= 400 && (found != nil || strings.Contains(string(a.body), data)) {
		broken = append(broken, fmt.Sprintf("the answer shows the inside: %s", found))
	}
	if secret.Match(a.body) {
		broken = append(broken, "the answer shows a secret")
	}
	if a.status < 400 || q.method == "HEAD" || !strings.HasPrefix(q.target, "/v2/") && !strings.HasPrefix(q.target, "/extensions/v2/") && !strings.HasPrefix(q.target, "/lookaside/") && !strings.HasPrefix(q.target, "/token") && !strings.HasPrefix(q.target, "/v1/search") {
		return broken
	}
	var doc struct {
		Errors []struct {
			Code, Message string
		}
	}
	switch err := json.Unmarshal(a.body, &doc); {
	case a.header.Get("Content-Type") != "application/json" || err != nil:
		broken = append(broken, fmt.Sprintf("want JSON, got %q (%v)", a.header.Get("Content-Type"), err))
	case len(doc.Errors) != 1:
		broken = append(broken, "want one error")
	case !slices.Contains(codes, doc.Errors[0].Code):
		broken = append(broken, "unknown code")
	case len(doc.Errors[0].Message) < 8 || len(doc.Errors[0].Message) > 2000:
		broken = append(broken, fmt.Sprintf("a message of %d bytes", len(doc.Errors[0].Message)))
	}
	return broken
}

// TestJudge shows that the rules can fail.
func TestJudge(t *testing.T) {
	const good = `{"errors":[{"code":"NAME_INVALID","message":"a name is wrong"}]}`
	jsonType := map[string][]string{"Content-Type": {"application/json"}}
	for name, c := range map[string]struct {
		a    answer
		want string
	}{
		"good":         {answer{status: 400, header: jsonType, body: []byte(good)}, ""},
		"server error": {answer{status: 500, header: jsonType, body: []byte(good)}, "server error"},
		"accepted":     {answer{status: 201}, "refusal"},
		"text":         {answer{status: 404, body: []byte("404 page not found")}, "JSON"},
		"none":         {answer{status: 404, header: jsonType, body: []byte(`{"errors":[]}`)}, "one error"},
		"code":         {answer{status: 404, header: jsonType, body: []byte(strings.Replace(good, "NAME", "NOM", 1))}, "code"},
		"no message":   {answer{status: 404, header: jsonType, body: []byte(strings.Replace(good, "a name is wrong", "", 1))}, "message"},
		"a path":       {answer{status: 404, header: jsonType, body: []byte(strings.Replace(good, "a name", "/data/x", 1))}, "inside"},
		"a file":       {answer{status: 404, header: jsonType, body: []byte(strings.Replace(good, "a name", "root:x:0:0:", 1))}, "secret"},
		"a driver":     {answer{status: 404, header: jsonType, body: []byte(strings.Replace(good, "a name", "SQLSTATE 22021", 1))}, "inside"},
	} {
		got := strings.Join(judge(request{method: "GET", target: "/v2/x"}, c.a, "/data"), "; ")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// seed pushes an image of one small config, with a signature, and returns the config's digest.
func seed(t *testing.T, addr string) (config string) {
	t.Helper()
	config = digestOf([]byte("{}"))
	must(t, addr, 201, request{method: "POST", target: "/v2/" + repo + "/blobs/uploads/?digest=" + url.QueryEscape(config), body: []byte("{}")})
	image := seeded(config)
	must(t, addr, 201, request{method: "PUT", target: "/v2/" + repo + "/manifests/v1", header: []string{"Content-Type: " + imageType}, body: image})
	signature := `{"schemaVersion":2,"name":"` + digestOf(image) + "@" + strings.Repeat("f", 32) + `","type":"atomic","content":"c2lnbmVk"}`
	must(t, addr, 201, request{method: "PUT", target: "/extensions/v2/" + repo + "/signatures/" + digestOf(image), header: []string{"Content-Type: application/json"}, body: []byte(signature)})
	return config
}

// seeded is the manifest of the image that seed pushes.
func seeded(config string) []byte {
	return []byte(`{"schemaVersion":2,"mediaType":"` + imageType + `","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"` + config + `","size":2},"layers":[]}`)
}

// open starts an upload and returns its path.
func open(t *testing.T, addr string) string {
	t.Helper()
	a := must(t, addr, 202, request{method: "POST", target: "/v2/" + repo + "/blobs/uploads/"})
	u, err := url.Parse(a.header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	return u.Path
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// snapshot is what the registry shows.
func snapshot(t *testing.T, addr, config string) string {
	t.Helper()
	var b strings.Builder
	for _, target := range []string{"_catalog", repo + "/tags/list", repo + "/manifests/v1", repo + "/blobs/" + config, repo + "/referrers/" + config} {
		a := must(t, addr, 200, request{method: "GET", target: "/v2/" + target})
		fmt.Fprintf(&b, "%s: %s\n", target, a.body)
	}
	a := must(t, addr, 200, request{method: "GET", target: "/extensions/v2/" + repo + "/signatures/" + digestOf(seeded(config))})
	fmt.Fprintf(&b, "signatures: %s\n", a.body)
	return b.String()
}

// stored lists the files of blobs and uploads.
func stored(t *testing.T, data string) (files []string) {
	t.Helper()
	for _, dir := range []string{"blobs", "uploads"} {
		err := filepath.WalkDir(filepath.Join(data, dir), func(path string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				files = append(files, strings.TrimPrefix(path, data))
			}
			return err
		})
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	return files
}

// peakMemory is the most the process ever needed in bytes; 0 where the system does not say.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.ParseInt(strings.Fields(after)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
