package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/blobtest"
	"github.com/berth-registry/berth/server/blob/s3"
)

// trouble stands between the driver and a server, and does to requests what networks and busy services do.
type trouble struct {
	url    string
	mu     sync.Mutex
	asked  map[string]int // requests by operation
	plans  []*plan
	target *httputil.ReverseProxy
	over   chan struct{} // closed when the test ends
}

// plan is what happens to some requests.
type plan struct {
	operation string // "" is any
	skip      int    // requests to let pass before
	times     int    // requests that it happens to; negative is all
	do        func(t *trouble, w http.ResponseWriter, r *http.Request)
}

func newTrouble(t *testing.T, server *testkit.S3) *trouble {
	t.Helper()
	to, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	x := &trouble{asked: map[string]int{}, over: make(chan struct{})}
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	x.target = &httputil.ReverseProxy{
		Transport: transport, FlushInterval: -1,
		// The host stays what was signed.
		Rewrite:      func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host },
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	srv := httptest.NewServer(x)
	t.Cleanup(func() {
		close(x.over)
		srv.CloseClientConnections()
		srv.Close()
	})
	x.url = srv.URL
	return x
}

// operation is S3's name for a request.
func operation(r *http.Request) string {
	q := r.URL.Query()
	object := strings.Count(strings.Trim(r.URL.Path, "/"), "/") > 0
	switch {
	case r.Method == http.MethodPost && q.Has("uploads"):
		return "CreateMultipartUpload"
	case r.Method == http.MethodPost && q.Has("uploadId"):
		return "CompleteMultipartUpload"
	case r.Method == http.MethodPost && q.Has("delete"):
		return "DeleteObjects"
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		return "AbortMultipartUpload"
	case r.Method == http.MethodDelete:
		return "DeleteObject"
	case r.Method == http.MethodPut && q.Has("partNumber") && r.Header.Get("X-Amz-Copy-Source") != "":
		return "UploadPartCopy"
	case r.Method == http.MethodPut && q.Has("partNumber"):
		return "UploadPart"
	case r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") != "":
		return "CopyObject"
	case r.Method == http.MethodPut:
		return "PutObject"
	case r.Method == http.MethodHead && !object:
		return "HeadBucket"
	case r.Method == http.MethodHead:
		return "HeadObject"
	case r.Method == http.MethodGet && object:
		return "GetObject"
	}
	return "List"
}

func (x *trouble) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	op := operation(r)
	x.mu.Lock()
	x.asked[op]++
	var hit *plan
	for _, p := range x.plans {
		if p.operation != "" && p.operation != op || p.times == 0 || hit != nil {
			continue
		}
		if p.skip > 0 {
			p.skip--
			continue
		}
		p.times--
		hit = p
	}
	x.mu.Unlock()
	if hit == nil {
		x.target.ServeHTTP(w, r)
		return
	}
	hit.do(x, w, r)
}

// plan makes trouble from now on.
func (x *trouble) plan(p ...*plan) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.plans = p
}

func (x *trouble) count(op string) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.asked[op]
}

// What can happen to a request.

func refuse(status int, code string) func(*trouble, http.ResponseWriter, *http.Request) {
	return func(_ *trouble, w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>planned</Message></Error>`, code)
		}
	}
}

// reset breaks the connection in the middle of the body.
func reset(_ *trouble, _ http.ResponseWriter, r *http.Request) {
	_, _ = io.CopyN(io.Discard, r.Body, 1<<20)
	panic(http.ErrAbortHandler)
}

// loseAnswer lets the service do its work and breaks the connection before the answer.
func loseAnswer(x *trouble, _ http.ResponseWriter, r *http.Request) {
	x.target.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

// hang neither reads nor answers.
func hang(x *trouble, _ http.ResponseWriter, r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-x.over:
	}
	panic(http.ErrAbortHandler)
}

// cutAfter sends so many bytes of an answer's body and breaks the connection; stallAfter sends them and hangs.
func cutAfter(n int) func(*trouble, http.ResponseWriter, *http.Request) {
	return func(x *trouble, w http.ResponseWriter, r *http.Request) {
		x.target.ServeHTTP(&cutting{ResponseWriter: w, left: n, end: func() { panic(http.ErrAbortHandler) }}, r)
	}
}

func stallAfter(n int) func(*trouble, http.ResponseWriter, *http.Request) {
	return func(x *trouble, w http.ResponseWriter, r *http.Request) {
		x.target.ServeHTTP(&cutting{ResponseWriter: w, left: n, end: func() { hang(x, w, r) }}, r)
	}
}

type cutting struct {
	http.ResponseWriter
	left int
	end  func()
}

func (c *cutting) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p[:min(len(p), c.left)])
	c.left -= n
	if err == nil && n < len(p) {
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		c.end()
	}
	return n, err
}

func (c *cutting) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func slowly(x *trouble, w http.ResponseWriter, r *http.Request) {
	time.Sleep(300 * time.Millisecond)
	x.target.ServeHTTP(w, r)
}

// troubled is a store that reaches its server through trouble, and loses patience quickly.
func troubled(t *testing.T, kind testkit.S3Kind) (*s3.Store, *trouble, *testkit.S3, s3.Options) {
	t.Helper()
	server, bucket := testkit.S3Bucket(t, kind)
	x := newTrouble(t, server)
	o := options(server, bucket)
	o.Endpoint = x.url
	o.Stall, o.Slow, o.Attempts = time.Second, 2*time.Second, 5
	return open(t, o), x, server, o
}

// pushes are the ways to bring content of any size.
func pushes() map[string]func(s *s3.Store, id string, data []byte) error {
	return map[string]func(s *s3.Store, id string, data []byte) error{
		"upload": func(s *s3.Store, id string, data []byte) error { return blobtest.Push(s, id, data) },
		"place": func(s *s3.Store, id string, data []byte) error {
			p, err := s.Place(context.Background(), id, oci.FromBytes(oci.SHA256, data))
			if err != nil {
				return err
			}
			defer p.Close()
			if _, err := p.Write(data); err != nil {
				return err
			}
			return p.Commit(context.Background())
		},
	}
}

// Trouble that passes is not noticed, except by its time: what was pushed is there, whole, and nothing is left.
func TestTroubleThatPasses(t *testing.T) {
	for _, kind := range kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s, x, server, o := troubled(t, kind)
			n := byte(0)
			for what, plans := range map[string][]*plan{
				"slow answers":               {{times: 5, do: slowly}},
				"500 to some of all":         {{skip: 1, times: 1, do: refuse(500, "InternalError")}, {skip: 3, times: 2, do: refuse(500, "InternalError")}},
				"503 SlowDown to parts":      {{operation: "UploadPart", times: 3, do: refuse(503, "SlowDown")}, {operation: "PutObject", times: 3, do: refuse(503, "SlowDown")}},
				"reset in a part":            {{operation: "UploadPart", times: 2, do: reset}, {operation: "PutObject", times: 2, do: reset}},
				"reset in copies":            {{operation: "UploadPartCopy", times: 2, do: reset}},
				"a part that hangs":          {{operation: "UploadPart", times: 1, do: hang}, {operation: "PutObject", times: 1, do: hang}},
				"a copy that hangs":          {{operation: "UploadPartCopy", times: 1, do: hang}},
				"lost answer of a part":      {{operation: "UploadPart", times: 1, do: loseAnswer}, {operation: "PutObject", times: 1, do: loseAnswer}},
				"lost answer of the end":     {{operation: "CompleteMultipartUpload", times: 1, do: loseAnswer}},
				"500 to the end":             {{operation: "CompleteMultipartUpload", times: 2, do: refuse(500, "InternalError")}},
				"503 to the beginning":       {{operation: "CreateMultipartUpload", times: 2, do: refuse(503, "SlowDown")}},
				"deletes that fail at first": {{operation: "DeleteObjects", times: 2, do: refuse(503, "SlowDown")}, {operation: "DeleteObject", times: 2, do: refuse(500, "InternalError")}},
			} {
				for how, push := range pushes() {
					n++
					data := blobtest.Random(n, 12<<20)
					d := oci.FromBytes(oci.SHA256, data)
					x.plan(plans...)
					if err := push(s, fmt.Sprint("passes-", n), data); err != nil {
						t.Errorf("%s, %s: %v", what, how, err)
						continue
					}
					x.plan()
					blobtest.RequireContent(t, s, d, data)
					wantClean(t, server, s, o, keyOf(d))
					if err := s.Delete(t.Context(), d); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
}

// Trouble that stays is a clear error; nothing is acknowledged, nothing appears under the digest, and what is left goes
// with the upload when the service is back.
func TestTroubleThatStays(t *testing.T) {
	for _, kind := range kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			server, bucket := testkit.S3Bucket(t, kind)
			x := newTrouble(t, server)
			o := options(server, bucket)
			o.Endpoint, o.Stall, o.Slow, o.Attempts = x.url, 500*time.Millisecond, time.Second, 2
			s := open(t, o)
			n := byte(100)
			for what, c := range map[string]struct {
				plan   *plan
				kind   fault.Kind
				reason fault.Reason
			}{
				"500 to everything":      {&plan{times: -1, do: refuse(500, "InternalError")}, fault.Unavailable, fault.UnavailableReason},
				"resets":                 {&plan{times: -1, do: reset}, fault.Unavailable, fault.UnavailableReason},
				"nobody answers":         {&plan{times: -1, do: hang}, fault.Unavailable, fault.UnavailableReason},
				"the end is refused":     {&plan{operation: "CompleteMultipartUpload", times: -1, do: refuse(500, "InternalError")}, fault.Unavailable, fault.UnavailableReason},
				"later parts fail":       {&plan{operation: "UploadPart", skip: 1, times: -1, do: refuse(500, "InternalError")}, fault.Unavailable, fault.UnavailableReason},
				"full":                   {&plan{operation: "UploadPart", times: -1, do: refuse(507, "XMinioStorageFull")}, fault.Full, fault.StorageFull},
				"credentials taken away": {&plan{times: -1, do: refuse(403, "AccessDenied")}, fault.Unavailable, fault.UnavailableReason},
			} {
				for how, push := range pushes() {
					planned := *c.plan
					if how == "upload" && planned.operation == "UploadPart" {
						planned.operation = "PutObject"
					}
					n++
					id := fmt.Sprint("stays-", n)
					data := blobtest.Random(n, 12<<20)
					d := oci.FromBytes(oci.SHA256, data)
					x.plan(&planned)
					err := push(s, id, data)
					x.plan()
					if !fault.Is(err, c.kind) || !fault.Has(err, c.reason) {
						t.Errorf("%s, %s: %v", what, how, err)
						continue
					}
					if public := fault.Of(err).Message; strings.Contains(public, bucket) || strings.Contains(public, "127.0.0.1") {
						t.Errorf("%s: clients are told %q", what, public)
					}
					blobtest.RequireNoBlob(t, s, d)
					if err := s.Abort(t.Context(), id, blob.State{}); err != nil {
						t.Errorf("%s, %s: abort: %v", what, how, err)
					}
					wantClean(t, server, s, o, keyOf(d))
				}
			}
		})
	}
}

// A part that the service lost is noticed at the end, and the end is refused.
func TestLostPart(t *testing.T) {
	eachKind(t, func(t *testing.T, server *testkit.S3, o s3.Options) {
		s := open(t, o)
		data := blobtest.Random(1, 12<<20)
		d := oci.FromBytes(oci.SHA256, data)
		state := send(t, s, "lost-part", blob.State{}, data)
		left, err := s.Leftovers(t.Context())
		if err != nil || len(left) != 2 { // the tail, and the marker of the multipart upload
			t.Fatalf("%q, %v", left, err)
		}
		for _, key := range left {
			if !strings.Contains(key, "multipart-") {
				remove(t, server, o.Bucket, key)
			}
		}
		err = s.Commit(t.Context(), "lost-part", state, d)
		if !fault.Has(err, fault.BlobUploadUnknown) {
			t.Errorf("commit: %v", err)
		}
		blobtest.RequireNoBlob(t, s, d)
		if r, err := s.OpenUpload(t.Context(), "lost-part", state); err == nil {
			if _, err := io.ReadAll(r); !fault.Has(err, fault.BlobUploadUnknown) {
				t.Errorf("read: %v", err)
			}
			r.Close()
		}
		if err := s.Abort(t.Context(), "lost-part", state); err != nil {
			t.Error(err)
		}
		wantClean(t, server, s, o, keyOf(d))
	})
}

// A download whose connection breaks or stalls goes on where it was; one whose object changes breaks off rather than to
// mix two.
func TestDownloadInTrouble(t *testing.T) {
	for _, kind := range kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s, x, _, _ := troubled(t, kind)
			data := blobtest.Random(1, 6<<20)
			d := blobtest.Put(t, s, "download", data)
			for what, plans := range map[string][]*plan{
				"cut at once":         {{operation: "GetObject", times: 2, do: cutAfter(0)}},
				"cut again and again": {{operation: "GetObject", times: 4, do: cutAfter(1_000_000)}},
				"stalled":             {{operation: "GetObject", times: 1, do: stallAfter(100_000)}},
				"no answer":           {{operation: "GetObject", times: 1, do: hang}},
				"500":                 {{operation: "GetObject", times: 2, do: refuse(500, "InternalError")}},
				"cut, then 503":       {{operation: "GetObject", times: 1, do: cutAfter(2_000_000)}, {operation: "GetObject", times: 2, do: refuse(503, "SlowDown")}},
			} {
				x.plan(plans...)
				blobtest.RequireContent(t, s, d, data)
				if t.Failed() {
					t.Fatal(what)
				}
			}

			// It changes while a reader is in the middle: another size, and the same size.
			for _, other := range [][]byte{blobtest.Random(2, 5<<20), blobtest.Random(3, 6<<20)} {
				x.plan(&plan{operation: "GetObject", times: 1, do: cutAfter(1_000_000)})
				c, _, err := s.Open(t.Context(), d)
				if err != nil {
					t.Fatal(err)
				}
				head := make([]byte, 500_000)
				if _, err := io.ReadFull(c, head); err != nil {
					t.Fatal(err)
				}
				p, err := s.Place(t.Context(), fmt.Sprint("changed-", len(other)), d)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := p.Write(other); err != nil {
					t.Fatal(err)
				}
				if err := p.Commit(t.Context()); err != nil {
					t.Fatal(err)
				}
				rest, err := io.ReadAll(c)
				if got := append(head, rest...); err == nil || !bytes.Equal(got, data[:len(got)]) {
					t.Errorf("of an object that changed %d bytes were read, %v", len(got), err)
				}
				c.Close()
				p, err = s.Place(t.Context(), fmt.Sprint("back-", len(other)), d)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := p.Write(data); err != nil {
					t.Fatal(err)
				}
				if err := p.Commit(t.Context()); err != nil {
					t.Fatal(err)
				}
			}

			// Trouble that stays.
			x.plan(&plan{operation: "GetObject", times: -1, do: cutAfter(1000)})
			c, _, err := s.Open(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, _, err := s.Open(ctx, d); err != nil {
				t.Fatal(err)
			}
			x.plan(&plan{operation: "GetObject", times: -1, do: refuse(500, "InternalError")})
			if n, err := io.Copy(io.Discard, c); !fault.Is(err, fault.Unavailable) || n >= int64(len(data)) {
				t.Errorf("%d bytes, %v", n, err)
			}
		})
	}
}

// A request is not tried for ever, and a caller that leaves ends it at once.
func TestPatience(t *testing.T) {
	s, x, _, _ := troubled(t, testkit.VersityGW)
	d := oci.FromBytes(oci.SHA256, []byte("x"))
	x.plan(&plan{times: -1, do: refuse(500, "InternalError")})
	before := x.count("GetObject")
	if _, _, err := s.Open(t.Context(), d); !fault.Is(err, fault.Unavailable) {
		t.Errorf("open: %v", err)
	}
	if tried := x.count("GetObject") - before; tried != 5 {
		t.Errorf("a request was sent %d times, want 5", tried)
	}
	x.plan(&plan{times: -1, do: hang})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, _, err := s.Open(ctx, d); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("open with little time: %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %s after its caller had left", took)
	}
	start = time.Now()
	if err := s.Check(t.Context()); !fault.Is(err, fault.Unavailable) {
		t.Errorf("check: %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("check took %s, want at most a second", took)
	}
	_, _, _, o := troubled(t, testkit.VersityGW)
	o.Endpoint, o.Stall, o.Slow = x.url, time.Minute, time.Minute
	patient := open(t, o)
	start = time.Now()
	if err := patient.Abort(t.Context(), "left", blob.State{Offset: 1, Driver: []byte("unknown")}); err == nil {
		t.Error("a bucket that hangs was cleaned")
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("cleaning up a bucket that hangs took %s", took)
	}
	x.plan()
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("check when it is back: %v", err)
	}
}

// A batch whose answer names keys that failed is asked for again, key by key.
func TestDeleteReportsKeys(t *testing.T) {
	s, x, _, _ := troubled(t, testkit.VersityGW)
	one, two := blobtest.Put(t, s, "report-1", []byte("one")), blobtest.Put(t, s, "report-2", []byte("two"))
	x.plan(&plan{operation: "DeleteObjects", times: 1, do: func(_ *trouble, w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, `<?xml version="1.0"?><DeleteResult><Error><Key>%s</Key><Code>InternalError</Code></Error><Error><Key>%s</Key><Code>InternalError</Code></Error></DeleteResult>`, keyOf(one), keyOf(two))
	}})
	if err := s.Delete(t.Context(), one, two); err != nil {
		t.Fatal(err)
	}
	blobtest.RequireNoBlob(t, s, one)
	blobtest.RequireNoBlob(t, s, two)

	one, two = blobtest.Put(t, s, "report-3", []byte("one")), blobtest.Put(t, s, "report-4", []byte("two"))
	x.plan(&plan{operation: "DeleteObjects", times: -1, do: refuse(501, "NotImplemented")})
	if err := s.Delete(t.Context(), one, two); err != nil {
		t.Fatalf("a service without batches: %v", err)
	}
	blobtest.RequireNoBlob(t, s, one)
	blobtest.RequireNoBlob(t, s, two)

	one = blobtest.Put(t, s, "report-5", []byte("one"))
	x.plan(&plan{operation: "DeleteObject", times: -1, do: refuse(403, "AccessDenied")})
	if err := s.Delete(t.Context(), one); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "policy") {
		t.Errorf("a delete that is not allowed: %v", err)
	}
}
