package conformance_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func errorChecks() []check {
	return []check{
		{"errors: form and code", []string{"err-1", "err-2", "err-3", "err-4"}, errorCodes},
		{"errors: who are you", []string{"err-3", "http-4"}, unauthorized},
		{"errors: too many requests", []string{"err-5"}, tooManyRequests},
		{"warnings", []string{"warn-1", "warn-2", "warn-3"}, warnings},
	}
}

// errorCodes provokes each error that a client can provoke without a login. That its body has the right form and a
// code of the list is a rule for every answer (brokenRules); here it must be there, and fit.
func errorCodes(t *testing.T, r *registry) {
	repo, nothing := r.repo(), sha256Of(noise(8))
	m := r.pushed(t, repo, "v1")
	missing := r.image(t, repo, func(i *image) { i.Layers = []descriptor{describe(layerType, noise(9))} })
	upload, _ := r.open(t, repo)
	chunk := noise(10)
	for _, c := range []struct {
		name, method, target string
		opts                 []option
		status               int
		codes                []string
	}{
		{"blob", http.MethodGet, r.path("%s/blobs/%s", repo, nothing), nil, 404, []string{"BLOB_UNKNOWN"}},
		{"chunk out of order", http.MethodPatch, upload, []option{octets(chunk), with("Content-Range", "5-14")}, 416, []string{"BLOB_UPLOAD_INVALID"}},
		{"upload", http.MethodGet, r.path("%s/blobs/uploads/00000000-0000-4000-8000-000000000000", repo), nil, 404, []string{"BLOB_UPLOAD_UNKNOWN"}},
		{"digest of other bytes", http.MethodPut, upload, []option{query("digest", nothing), octets(chunk)}, 400, []string{"DIGEST_INVALID"}},
		{"manifest with a missing blob", http.MethodPut, r.path("%s/manifests/x", repo), []option{content(imageType, missing.body)}, 0, []string{"MANIFEST_BLOB_UNKNOWN"}},
		{"manifest that is none", http.MethodPut, r.path("%s/manifests/x", repo), []option{content(imageType, []byte("{"))}, 400, []string{"MANIFEST_INVALID"}},
		{"manifest", http.MethodGet, r.path("%s/manifests/none", repo), nil, 404, []string{"MANIFEST_UNKNOWN"}},
		// docker repeats a refused POST for 50 s, unless it is told DENIED.
		{"name that is none", http.MethodPost, r.path("%s/A/blobs/uploads/", repo), nil, 0, []string{"NAME_INVALID", "DENIED"}},
		{"name that is none, pulled", http.MethodGet, r.path("%s/A/manifests/v1", repo), nil, 0, []string{"NAME_INVALID", "NAME_UNKNOWN"}},
		{"repository", http.MethodGet, r.path("%s/tags/list", r.repo()), nil, 404, []string{"NAME_UNKNOWN"}},
		{"repository of a manifest", http.MethodGet, r.path("%s/manifests/v1", r.repo()), nil, 404, []string{"NAME_UNKNOWN", "MANIFEST_UNKNOWN"}},
		{"content length that is not the range's", http.MethodPatch, r.reopened(t, repo), []option{octets(chunk), with("Content-Range", "0-19")}, 0, []string{"SIZE_INVALID", "BLOB_UPLOAD_INVALID"}},
		{"method", http.MethodPost, r.path("%s/manifests/v1", repo), nil, 405, []string{"UNSUPPORTED"}},
		{"manifest over the limit", http.MethodPut, r.path("%s/manifests/x", repo), []option{content(imageType, noise(r.overLimit()))}, 413, []string{"MANIFEST_INVALID", "SIZE_INVALID"}},
		{"referrers of no digest", http.MethodGet, r.path("%s/referrers/v1", repo), nil, 400, []string{"DIGEST_INVALID"}},
		{"n that is no number", http.MethodGet, r.path("%s/tags/list?n=x", repo), nil, 400, nil},
	} {
		a := r.do(t, c.method, c.target, c.opts...)
		if c.status != 0 && a.status != c.status {
			t.Errorf("%s: got %d, want %d; body: %s", c.name, a.status, c.status, short(a.body))
			continue
		}
		if !isJSON(a.header) {
			if r.ours {
				t.Errorf("%s: %d with Content-Type %q, want JSON; body: %s", c.name, a.status, a.header.Get("Content-Type"), short(a.body))
			}
			continue
		}
		if a.refused(t); len(c.codes) > 0 { // for some mistakes the list has no code that fits; any of it will do
			a.says(t, c.codes...)
		}
		var doc struct {
			Errors []struct {
				Message string `json:"message"`
			} `json:"errors"`
		}
		if err := json.Unmarshal(a.body, &doc); err != nil {
			continue // said by the rules already
		}
		// For people: more than a code or an empty phrase, and never what is inside the program.
		for _, e := range doc.Errors {
			if r.ours && (len(e.Message) < 8 || strings.ToUpper(e.Message) == e.Message) {
				t.Errorf("%s: message %q says nothing to a person", c.name, e.Message)
			}
			for _, inside := range []string{"goroutine ", ".go:", "sql:", "SQLSTATE", "/blobs/sha256/", "runtime error"} {
				if strings.Contains(e.Message, inside) {
					t.Errorf("%s: message %q shows the inside of the program", c.name, e.Message)
				}
			}
		}
	}
	r.getManifest(t, repo, "v1").want(t, http.StatusOK).same(t, m.body)
}

func (r *registry) reopened(t *testing.T, repo string) string {
	t.Helper()
	at, _ := r.open(t, repo)
	return at
}

func unauthorized(t *testing.T, r *registry) {
	r = r.start(t, "BERTH_ANONYMOUS=none", "BERTH_ADMIN_PASSWORD=correct horse")
	for _, c := range []struct{ method, path string }{
		{http.MethodGet, ""}, {http.MethodGet, "library/x/manifests/v1"}, {http.MethodPost, "library/x/blobs/uploads/"},
		{http.MethodGet, "library/x/tags/list"}, {http.MethodDelete, "library/x/manifests/v1"},
	} {
		a := r.do(t, c.method, r.path("%s", c.path)).want(t, http.StatusUnauthorized).says(t, "UNAUTHORIZED")
		if a.header.Get("Www-Authenticate") == "" {
			t.Errorf("%s: 401 without a challenge", a.what)
		}
	}
	r.user, r.password = "admin", "correct horse"
	r.do(t, http.MethodGet, r.path("")).want(t, http.StatusOK)
	repo := r.repo()
	m := r.pushed(t, repo, "v1")
	r.getManifest(t, repo, "v1").want(t, http.StatusOK).same(t, m.body)
	r.password = "wrong"
	r.getManifest(t, repo, "v1").want(t, http.StatusUnauthorized).says(t, "UNAUTHORIZED")
}

// tooManyRequests guesses passwords, many at once, until it is told to wait.
func tooManyRequests(t *testing.T, r *registry) {
	r = r.start(t, "BERTH_ANONYMOUS=none", "BERTH_ADMIN_PASSWORD=correct horse")
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	const guesses = 100
	answers := make(chan *http.Response, guesses)
	var sent sync.WaitGroup
	// The body of a 429 is read before the others are called off.
	defer sent.Wait()
	defer cancel()
	for i := range guesses {
		sent.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.path(""), nil)
			if err != nil {
				t.Error(err)
				return
			}
			req.SetBasicAuth("admin", strconv.Itoa(i))
			resp, err := r.client.Do(req)
			if err != nil {
				resp = nil // called off, or out of time
			}
			answers <- resp
		})
	}
	told := false
	for range guesses {
		resp := <-answers
		if resp == nil {
			continue
		}
		if resp.StatusCode == http.StatusTooManyRequests && !told {
			told = true
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Error(err)
			}
			a := &answer{what: "GET /v2/ with a wrong password", status: resp.StatusCode, header: resp.Header, body: body}
			a.says(t, "TOOMANYREQUESTS")
			for _, broken := range brokenRules(a) {
				t.Errorf("%s: %d: %s", a.what, a.status, broken)
			}
			if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err != nil || n < 1 {
				t.Errorf("429 with Retry-After %q, want seconds", resp.Header.Get("Retry-After"))
			}
			cancel()
		}
		resp.Body.Close()
	}
	if !told {
		t.Errorf("%d wrong passwords at once, and never a 429", guesses)
	}
}

// warnings looks at answers of every kind. The rules hold for each answer of the suite; TestRulesCatch shows that
// they catch what is wrong.
func warnings(t *testing.T, r *registry) {
	repo := r.repo()
	m := r.pushed(t, repo, "v1")
	digest := r.push(t, repo, noise(10))
	for _, path := range []string{"", repo + "/tags/list", repo + "/manifests/v1", repo + "/manifests/none", repo + "/blobs/" + digest, repo + "/referrers/" + m.Digest} {
		a := r.do(t, http.MethodGet, r.path("%s", path))
		if broken := brokenWarnings(a.header.Values("Warning")); len(broken) != 0 {
			t.Errorf("%s: %v", a.what, broken)
		}
	}
}
