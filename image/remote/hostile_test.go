package remote_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// A registry that misbehaves in one way. What it is asked is remembered, with the authorization that came along.
type hostile struct {
	*httptest.Server
	host string

	mu    sync.Mutex
	seen  []string // "METHOD path"
	auths []string
}

func serve(t *testing.T, h http.HandlerFunc) *hostile {
	t.Helper()
	s := &hostile{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.seen = append(s.seen, r.Method+" "+r.URL.Path)
		if a := r.Header.Get("Authorization"); a != "" {
			s.auths = append(s.auths, a)
		}
		s.mu.Unlock()
		h(w, r)
	}))
	t.Cleanup(s.Close)
	s.host = strings.TrimPrefix(s.URL, "http://")
	return s
}

func (s *hostile) authorizations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.auths...)
}

func (s *hostile) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen)
}

var login = remote.Credentials{User: "alice", Password: "secret", Source: "a test"}

func client(o remote.Options) *remote.Client {
	o.Endpoint = func(string) remote.Endpoint { return remote.Endpoint{Scheme: "http"} }
	if o.Sleep == nil {
		o.Sleep = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	}
	if o.Credentials == nil {
		o.Credentials = func(context.Context, string, string) (remote.Credentials, error) { return login, nil }
	}
	return remote.New(o)
}

func app(t *testing.T, c *remote.Client, host string) *remote.Repository {
	t.Helper()
	n, err := ref.ParseName("team/app")
	if err != nil {
		t.Fatal(err)
	}
	return c.Repository(host, n)
}

var (
	content  = bytes.Repeat([]byte("berth "), 50_000)
	blob     = oci.Descriptor{Digest: oci.FromBytes(oci.SHA256, content), Size: int64(len(content))}
	manifest = []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}`)
	digest   = oci.FromBytes(oci.SHA256, manifest)
	v1       = ref.Reference{Tag: "v1"}
)

func readAll(t *testing.T, r *remote.Repository, d oci.Descriptor) ([]byte, error) {
	t.Helper()
	rc, err := r.Blob(t.Context(), d, 0)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}

// elsewhere is the same server under another loopback address: another host, to which no secret may go.
func elsewhere(t *testing.T, h http.HandlerFunc) *hostile {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Skipf("this machine has no second loopback address: %v", err)
	}
	s := &hostile{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.seen = append(s.seen, r.Method+" "+r.URL.Path)
		if a := r.Header.Get("Authorization"); a != "" {
			s.auths = append(s.auths, a)
		}
		s.mu.Unlock()
		h(w, r)
	}))
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	s.host = l.Addr().String()
	return s
}

func wantBasic(w http.ResponseWriter, r *http.Request) bool {
	if r.Header.Get("Authorization") == "" {
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	return false
}

// Credentials never follow a redirect, an upload's location, or a link to the next page to another host or port.
func TestCredentialsStay(t *testing.T) {
	for name, other := range map[string]func(*testing.T, http.HandlerFunc) *hostile{"another host": elsewhere, "another port": serve} {
		t.Run(name, func(t *testing.T) {
			bucket := other(t, func(w http.ResponseWriter, r *http.Request) {
				switch r.Method {
				case http.MethodGet:
					_, _ = w.Write(content)
				default:
					_, _ = io.Copy(io.Discard, r.Body)
					w.WriteHeader(http.StatusCreated)
				}
			})
			var reg *hostile
			reg = serve(t, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case wantBasic(w, r):
				case r.Method == http.MethodPost:
					w.Header().Set("Location", bucket.URL+"/upload?x=1")
					w.WriteHeader(http.StatusAccepted)
				case strings.Contains(r.URL.Path, "/blobs/"):
					http.Redirect(w, r, bucket.URL+"/blob", http.StatusTemporaryRedirect)
				case strings.HasSuffix(r.URL.Path, "/tags/list"):
					w.Header().Set("Link", "<"+bucket.URL+`/more>; rel="next"`)
					fmt.Fprint(w, `{"tags":["a"]}`)
				}
			})
			r := app(t, client(remote.Options{}), reg.host)
			if got, err := readAll(t, r, blob); err != nil || !bytes.Equal(got, content) {
				t.Errorf("a redirected blob: %d bytes, %v", len(got), err)
			}
			if _, err := r.PutBlob(t.Context(), blob, nil, func(_ context.Context, from int64) (io.ReadCloser, error) {
				return io.NopCloser(bytes.NewReader(content[from:])), nil
			}); err != nil {
				t.Errorf("an upload elsewhere: %v", err)
			}
			if _, err := r.Tags(t.Context()); !fault.Has(err, remote.ReasonRedirect) {
				t.Errorf("a list that goes on elsewhere: %v", err)
			}
			if len(reg.authorizations()) == 0 || bucket.requests() < 2 {
				t.Fatal("the test did not come to its point")
			}
			if got := bucket.authorizations(); len(got) > 0 {
				t.Errorf("the other host was sent %q", got)
			}
		})
	}
}

func TestTokenServerElsewhere(t *testing.T) {
	thief := elsewhere(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"token":"t"}`) })
	reg := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer t" {
			fmt.Fprint(w, `{"tags":["a"]}`)
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+thief.URL+`/token",service="x",scope="repository:team/app:pull"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	if _, err := app(t, client(remote.Options{}), reg.host).Tags(t.Context()); !fault.Has(err, remote.ReasonRealm) || thief.requests() != 0 {
		t.Errorf("%v; the token server was asked %d times", err, thief.requests())
	}
	// Without credentials there is nothing to lose, and with the user's word it is no theft.
	nobody := func(context.Context, string, string) (remote.Credentials, error) { return remote.Credentials{}, nil }
	if tags, err := app(t, client(remote.Options{Credentials: nobody}), reg.host).Tags(t.Context()); err != nil || len(tags) != 1 || len(thief.authorizations()) != 0 {
		t.Errorf("anonymous: %v, %v, %q", tags, err, thief.authorizations())
	}
	trust := func(_, realm *url.URL) bool { return realm.Host == thief.host }
	if _, err := app(t, client(remote.Options{TrustRealm: trust}), reg.host).Tags(t.Context()); err != nil {
		t.Error(err)
	}
	if got := thief.authorizations(); len(got) != 1 || got[0] != "Basic "+base64.StdEncoding.EncodeToString([]byte("alice:secret")) {
		t.Errorf("trusted: %q", got)
	}
}

func TestSameSite(t *testing.T) {
	for _, tc := range []struct {
		registry, realm string
		want            bool
	}{
		{"https://registry-1.docker.io", "https://auth.docker.io/token", true},
		{"https://registry.example.co.uk", "https://example.co.uk/jwt", true},
		{"https://reg.example.com:5000", "https://reg.example.com:5001/auth", true},
		{"https://a.github.io", "https://b.github.io/token", false},
		{"https://registry.example.co.uk", "https://evil.co.uk/token", false},
		{"https://registry.example.com", "http://auth.example.com/token", false},
		{"https://10.0.0.1", "https://10.0.0.2/token", false},
		{"https://10.0.0.1:5000", "https://10.0.0.1/token", true},
		{"http://localhost:5000", "http://localhost:5001/token", true},
		{"http://127.0.0.1:5000", "http://127.0.0.2:5000/token", false},
		{"http://reg.example.com", "http://reg.example.com:81/token", false},
		{"https://example.com.evil.org", "https://example.com/token", false},
	} {
		a, _ := url.Parse(tc.registry)
		b, _ := url.Parse(tc.realm)
		if got := remote.SameSite(a, b); got != tc.want {
			t.Errorf("%s, %s: %v", tc.registry, tc.realm, got)
		}
	}
}

// What a registry says and sends must fit what was asked for.
func TestWrongContent(t *testing.T) {
	answer := func(header map[string]string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for k, v := range header {
				w.Header().Set(k, v)
			}
			_, _ = w.Write(body)
		}
	}
	typed := map[string]string{"Content-Type": oci.MediaTypeManifest}
	lies := map[string]string{"Content-Type": oci.MediaTypeManifest, "Docker-Content-Digest": "sha256:" + strings.Repeat("0", 64)}
	html := map[string]string{"Content-Type": "text/html"}
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		at     ref.Reference
		reason fault.Reason
		text   string
	}{
		"another manifest":        {answer(typed, []byte(`{"schemaVersion":2}`)), ref.Reference{Digest: digest}, remote.ReasonWrongDigest, "the bytes that came"},
		"a header that lies":      {answer(lies, manifest), v1, remote.ReasonWrongDigest, "the registry says"},
		"a lie about a digest":    {answer(lies, manifest), ref.Reference{Digest: digest}, remote.ReasonWrongDigest, "the registry says"},
		"a header without digest": {answer(map[string]string{"Content-Type": oci.MediaTypeManifest, "Docker-Content-Digest": "../../x"}, manifest), v1, remote.ReasonWrongDigest, "which is none"},
		"an HTML page":            {answer(html, []byte("<html>Sign in</html>")), v1, remote.ReasonNoRegistry, "HTML page"},
		"HTML called a manifest":  {answer(typed, []byte("<html>Sign in</html>")), v1, remote.ReasonNoRegistry, "no manifest"},
		"an endless manifest": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", oci.MediaTypeManifest)
			for range 9 << 10 {
				if _, err := w.Write(make([]byte, 1<<10)); err != nil {
					return
				}
			}
		}, v1, fault.SizeInvalid, "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			reg := serve(t, tc.answer)
			_, body, err := app(t, client(remote.Options{}), reg.host).Manifest(t.Context(), tc.at)
			if !fault.Has(err, tc.reason) || !strings.Contains(err.Error(), tc.text) || body != nil {
				t.Errorf("%v, %d bytes", err, len(body))
			}
			if reg.requests() > 1 {
				t.Errorf("it was asked %d times", reg.requests())
			}
		})
	}
}

func TestWrongBlob(t *testing.T) {
	flipped := bytes.Clone(content)
	flipped[len(flipped)-1]++
	for name, tc := range map[string]struct {
		body   []byte
		reason fault.Reason
	}{
		"flipped": {flipped, remote.ReasonWrongDigest},
		"short":   {content[:1000], remote.ReasonWrongDigest},
		"long":    {append(bytes.Clone(content), 'x'), remote.ReasonWrongDigest},
	} {
		t.Run(name, func(t *testing.T) {
			reg := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", fmt.Sprint(len(tc.body)))
				_, _ = w.Write(tc.body)
			})
			got, err := readAll(t, app(t, client(remote.Options{}), reg.host), blob)
			if !fault.Has(err, tc.reason) || len(got) >= len(content) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	t.Run("a range that is another", func(t *testing.T) {
		reg := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(content)-1, len(content)))
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write(content)
				return
			}
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			_, _ = w.Write(content[:1000])
		})
		if got, err := readAll(t, app(t, client(remote.Options{}), reg.host), blob); !fault.Has(err, remote.ReasonWrongDigest) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	t.Run("no ranges at all", func(t *testing.T) {
		var n atomic.Int64
		reg := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			if n.Add(1) == 1 {
				_, _ = w.Write(content[:200_000])
				return
			}
			_, _ = w.Write(content)
		})
		if got, err := readAll(t, app(t, client(remote.Options{}), reg.host), blob); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

// A transfer that stands still is given up and goes on in a new one.
func TestStalledRead(t *testing.T) {
	var n atomic.Int64
	reg := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 {
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			_, _ = w.Write(content[:100_000])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	})
	if got, err := readAll(t, app(t, client(remote.Options{Stall: 200 * time.Millisecond}), reg.host), blob); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// An answer that stands still, or that drips, is given up: documents, lists, tokens and blobs.
func TestAnswerThatDrips(t *testing.T) {
	for name, pause := range map[string]time.Duration{"stands still": time.Hour, "drips": 20 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			reg := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
				from := 0
				if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil {
					w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(content)-1, len(content)))
				}
				w.Header().Set("Content-Length", fmt.Sprint(len(content)-from))
				if from > 0 {
					w.WriteHeader(http.StatusPartialContent)
				}
				for i := from; i < len(content); i++ {
					if _, err := w.Write(content[i : i+1]); err != nil {
						return
					}
					w.(http.Flusher).Flush()
					select {
					case <-r.Context().Done():
						return
					case <-time.After(pause):
					}
				}
			})
			repo := app(t, client(remote.Options{Stall: 150 * time.Millisecond, Tries: 2}), reg.host)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			_, _, manifest := repo.Manifest(ctx, ref.Reference{Tag: "v1"})
			_, list := repo.Tags(ctx)
			_, read := readAll(t, repo, blob)
			for what, err := range map[string]error{"manifest": manifest, "list": list, "blob": read} {
				if !fault.Has(err, remote.ReasonNetwork) || !strings.Contains(err.Error(), "stood still") {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

func TestRetriesAndPauses(t *testing.T) {
	var pauses []time.Duration
	var n int
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	o := remote.Options{Now: func() time.Time { return now }, Sleep: func(_ context.Context, d time.Duration) error {
		pauses = append(pauses, d)
		now = now.Add(d)
		return nil
	}}
	reg := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		n++
		switch n {
		case 1:
			w.Header().Set("Retry-After", "30")
			w.WriteHeader(http.StatusTooManyRequests)
		case 2:
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusBadGateway)
			fmt.Fprint(w, "<html>bad gateway</html>")
		case 3:
			w.Header().Set("RateLimit-Limit", "100;w=60")
			w.Header().Set("RateLimit-Remaining", "0;w=60")
			w.Header().Set("RateLimit-Reset", "7")
			fmt.Fprint(w, `{"tags":["a"]}`)
		default:
			fmt.Fprint(w, `{"tags":["b"]}`)
		}
	})
	c := client(o)
	r := app(t, c, reg.host)
	if tags, err := r.Tags(t.Context()); err != nil || len(tags) != 1 || n != 3 {
		t.Fatalf("%v, %v after %d", tags, err, n)
	}
	if l := c.Limit(reg.host); !l.Known || l.Remaining != 0 || l.Limit != 100 {
		t.Errorf("%+v", l)
	}
	began := now
	if _, err := r.Tags(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := now.Sub(began); got != 7*time.Second {
		t.Errorf("it waited %s for the limit; pauses %v", got, pauses)
	}
	total := time.Duration(0)
	for _, p := range pauses {
		total += p
	}
	if total < 37*time.Second || total > 40*time.Second {
		t.Errorf("pauses %v", pauses)
	}
	// A pause that is longer than anybody wants to wait is an error at once.
	long := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "21600")
		w.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprint(w, `{"errors":[{"code":"TOOMANYREQUESTS","message":"pull limit"}]}`)
	})
	_, err := app(t, c, long.host).Tags(t.Context())
	if f := fault.Of(err); f.Kind != fault.RateLimited || f.After != 21600 || long.requests() != 1 || !strings.Contains(f.Message, "pull limit") {
		t.Errorf("%+v after %d requests", f, long.requests())
	}
}

// What a registry refuses is told in its words, with its id of the request, and not tried again.
func TestRefusal(t *testing.T) {
	reg := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Request-Id", "7f3a")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"tag v1 is immutable\\u001b[31m\\nsecond line\"}]}")
	})
	err := app(t, client(remote.Options{}), reg.host).PutManifest(t.Context(), v1, oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: digest}, manifest)
	var a *remote.Answer
	if !errors.As(err, &a) || a.Code != "DENIED" || a.Request != "7f3a" || a.Status != 403 || !fault.Is(err, fault.Denied) || reg.requests() != 1 {
		t.Fatalf("%v", err)
	}
	if msg := fault.Of(err).Message; strings.ContainsAny(msg, "\x1b\n") || !strings.Contains(msg, "put manifest v1 of team/app: tag v1 is immutable") {
		t.Errorf("%q", msg)
	}
}

// A registry may answer strangers with a part of its catalog: a login that is known is used before it is asked for, nobody's
// is not, and a wrong one is an error rather than a shorter list.
func TestCatalogSignsIn(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		switch known := user == login.User && password == login.Password; {
		case r.URL.Path == "/v2/_catalog" && known:
			fmt.Fprint(w, `{"repositories":["open/app","private/app"]}`)
		case r.URL.Path == "/v2/_catalog":
			fmt.Fprint(w, `{"repositories":["open/app"]}`)
		case !known:
			w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	for name, tc := range map[string]struct {
		cred remote.Credentials
		want int // entries; 0 is a failure
	}{"signed in": {login, 2}, "nobody": {remote.Credentials{}, 1}, "wrong password": {remote.Credentials{User: login.User, Password: "x"}, 0}} {
		t.Run(name, func(t *testing.T) {
			c := client(remote.Options{Credentials: func(context.Context, string, string) (remote.Credentials, error) { return tc.cred, nil }})
			names, err := c.Catalog(t.Context(), s.host)
			if len(names) != tc.want || (err != nil) != (tc.want == 0) || err != nil && !fault.Is(err, fault.Unauthenticated) {
				t.Errorf("%v, %v; want %d", names, err, tc.want)
			}
		})
	}
}

func TestEndlessLists(t *testing.T) {
	reg := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "<"+r.URL.Path+`>; rel="next"`)
		fmt.Fprint(w, `{"tags":["a"]}`)
	})
	if _, err := app(t, client(remote.Options{}), reg.host).Tags(t.Context()); !fault.Has(err, remote.ReasonNoRegistry) || reg.requests() > 3 {
		t.Errorf("%v after %d", err, reg.requests())
	}
	loop := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) })
	if _, err := app(t, client(remote.Options{}), loop.host).Tags(t.Context()); !fault.Has(err, remote.ReasonRedirect) {
		t.Errorf("%v", err)
	}
}

// A registry without the referrers API is served by the fallback tag, for reading and for writing.
func TestFallbackReferrers(t *testing.T) {
	var mu sync.Mutex
	stored := map[string][]byte{}
	reg := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		name, isManifest := strings.CutPrefix(r.URL.Path, "/v2/team/app/manifests/")
		switch {
		case isManifest && r.Method == http.MethodPut:
			b, _ := io.ReadAll(r.Body)
			stored[name] = b
			w.WriteHeader(http.StatusCreated)
		case isManifest && stored[name] != nil:
			w.Header().Set("Content-Type", oci.MediaTypeIndex)
			_, _ = w.Write(stored[name])
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})
	r := app(t, client(remote.Options{}), reg.host)
	subject := oci.FromBytes(oci.SHA256, []byte("subject"))
	var want []oci.Digest
	for i := range 3 {
		body := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"artifactType":"a/%d","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":7}}`,
			oci.MediaTypeManifest, i, oci.MediaTypeManifest, subject.String())
		d := oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: oci.FromBytes(oci.SHA256, body), Size: int64(len(body))}
		for range 2 { // twice is once
			if err := r.PutManifest(t.Context(), ref.Reference{Digest: d.Digest}, d, body); err != nil {
				t.Fatal(err)
			}
		}
		want = append(want, d.Digest)
	}
	got, err := r.Referrers(t.Context(), subject)
	if err != nil || len(got) != 3 {
		t.Fatalf("%v, %v", got, err)
	}
	for i, d := range got {
		if d.Digest != want[i] || d.ArtifactType != fmt.Sprint("a/", i) {
			t.Errorf("%d: %+v", i, d)
		}
	}
}

// An expired token is replaced, and many transfers that need one ask for one.
func TestTokens(t *testing.T) {
	var tokens, asked atomic.Int64
	var reg *hostile
	reg = serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			if u, p, _ := r.BasicAuth(); u != "alice" || p != "secret" || r.URL.Query().Get("scope") != "repository:team/app:pull" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			fmt.Fprintf(w, `{"access_token":"t%d","expires_in":300}`, tokens.Add(1))
			return
		}
		if r.Header.Get("Authorization") != fmt.Sprintf("Bearer t%d", tokens.Load()) || asked.Add(1) == 20 {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+reg.URL+`/token",service="x",scope="repository:team/app:pull"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"tags":["a"]}`)
	})
	r := app(t, client(remote.Options{}), reg.host)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, err := r.Tags(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for range 10 {
		if _, err := r.Tags(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := tokens.Load(); n < 2 || n > 6 {
		t.Errorf("%d tokens for 26 requests", n)
	}
	wrong := func(context.Context, string, string) (remote.Credentials, error) {
		return remote.Credentials{User: "alice", Password: "wrong", Source: "auth.json"}, nil
	}
	_, err := app(t, client(remote.Options{Credentials: wrong}), reg.host).Tags(t.Context())
	var a *remote.Answer
	if !fault.Is(err, fault.Unauthenticated) || !errors.As(err, &a) || a.Login != "auth.json" {
		t.Errorf("%v", err)
	}
}

// A proxy or a login page that answers 200 and HTML to everything is no registry, whatever is asked: nothing counts as there, as
// written or as deleted. One that calls the word OK HTML, as some registries do, is one.
func TestLoginPageIsNoRegistry(t *testing.T) {
	for name, html := range map[string]bool{"a page": true, "a word": false} {
		t.Run(name, func(t *testing.T) {
			var status atomic.Int64
			reg := serve(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				if !html {
					switch r.Method {
					case http.MethodPost:
						w.Header().Set("Location", r.URL.Path+"1")
						w.WriteHeader(http.StatusAccepted)
					case http.MethodHead:
						w.Header().Set("Docker-Content-Digest", blob.Digest.String())
						w.Header().Set("Content-Length", fmt.Sprint(blob.Size))
						return
					case http.MethodPut:
						w.WriteHeader(http.StatusCreated)
					}
					fmt.Fprint(w, "OK")
					return
				}
				w.WriteHeader(int(status.Load()))
				fmt.Fprint(w, "\n  <!DOCTYPE html><html>Sign in</html>")
			})
			r := app(t, client(remote.Options{Tries: 2}), reg.host)
			for _, code := range []int64{200, 201, 202} {
				status.Store(code)
				for what, do := range map[string]func() error{
					"look for a blob": func() error { _, err := r.HasBlob(t.Context(), blob); return err },
					"put a blob": func() error {
						_, err := r.PutBlob(t.Context(), blob, []ref.Name{r.Name()}, func(_ context.Context, from int64) (io.ReadCloser, error) {
							return io.NopCloser(bytes.NewReader(content[from:])), nil
						})
						return err
					},
					"put a manifest": func() error {
						return r.PutManifest(t.Context(), v1, oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: digest}, manifest)
					},
					"delete": func() error { return r.Delete(t.Context(), v1) },
				} {
					switch err := do(); {
					case html && !fault.Has(err, remote.ReasonNoRegistry) && !fault.Is(err, fault.Unavailable):
						t.Errorf("%d, %s: %v", code, what, err)
					case !html && what != "delete" && err != nil:
						t.Errorf("%s: %v", what, err)
					}
				}
			}
			if !html {
				return
			}
			status.Store(200)
			for what, do := range map[string]func() error{
				"list tags":      func() error { _, err := r.Tags(t.Context()); return err },
				"get a manifest": func() error { _, _, err := r.Manifest(t.Context(), v1); return err },
				"look for a tag": func() error { _, err := r.Head(t.Context(), v1); return err },
				"size of a blob": func() error { _, err := r.BlobSize(t.Context(), blob.Digest); return err },
				"list referrers": func() error { _, err := r.Referrers(t.Context(), digest); return err },
				"read a blob":    func() error { _, err := readAll(t, r, blob); return err },
			} {
				if err := do(); err == nil || !fault.Has(err, remote.ReasonNoRegistry) && !fault.Has(err, remote.ReasonWrongDigest) {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

// What a registry says of an upload is not believed where it can be checked, and where it says nothing of use the upload fails.
func TestUploadsThatAreAnsweredWrong(t *testing.T) {
	lie := "sha256:" + strings.Repeat("0", 64)
	for name, tc := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request) bool // true when it did
		reason fault.Reason
		text   string
	}{
		"another digest": {func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut {
				return false
			}
			w.Header().Set("Docker-Content-Digest", lie)
			w.WriteHeader(http.StatusCreated)
			return true
		}, remote.ReasonWrongDigest, "the registry stored"},
		"no location": {func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPost {
				return false
			}
			w.WriteHeader(http.StatusAccepted)
			return true
		}, remote.ReasonNoRegistry, "where to send it"},
		"a location that is a file": {func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPost {
				return false
			}
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusAccepted)
			return true
		}, remote.ReasonRedirect, "is not sent"},
		"a location with a login": {func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPost {
				return false
			}
			w.Header().Set("Location", "http://eve:secret@"+r.Host+"/upload")
			w.WriteHeader(http.StatusAccepted)
			return true
		}, remote.ReasonRedirect, "is not sent"},
		"a redirect that loses the body": {func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut {
				return false
			}
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
			return true
		}, remote.ReasonRedirect, "must arrive as it is"},
		"it says that the digest is wrong": {func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut {
				return false
			}
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}`)
			return true
		}, fault.DigestInvalid, "no"},
		"HTML and 502 for ever": {func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut {
				return false
			}
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusBadGateway)
			fmt.Fprint(w, "<html>bad gateway</html>")
			return true
		}, fault.UnavailableReason, "HTML page"},
	} {
		t.Run(name, func(t *testing.T) {
			reg := serve(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if tc.answer(w, r) {
					return
				}
				switch r.Method {
				case http.MethodPost:
					w.Header().Set("Location", "/upload")
					w.WriteHeader(http.StatusAccepted)
				case http.MethodGet:
					w.Header().Set("Range", "0-0")
					w.WriteHeader(http.StatusNoContent)
				default:
					w.WriteHeader(http.StatusCreated)
				}
			})
			_, err := app(t, client(remote.Options{Tries: 3}), reg.host).PutBlob(t.Context(), blob, nil, func(_ context.Context, from int64) (io.ReadCloser, error) {
				return io.NopCloser(bytes.NewReader(content[from:])), nil
			})
			if !fault.Has(err, tc.reason) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("%v; want %s: %s", err, tc.reason, tc.text)
			}
			if n := reg.requests(); n > 20 {
				t.Errorf("it was asked %d times", n)
			}
		})
	}
	// A manifest under another digest than its own.
	reg := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Docker-Content-Digest", lie)
		w.WriteHeader(http.StatusCreated)
	})
	err := app(t, client(remote.Options{}), reg.host).PutManifest(t.Context(), v1, oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: digest}, manifest)
	if !fault.Has(err, remote.ReasonWrongDigest) {
		t.Errorf("%v", err)
	}
}
