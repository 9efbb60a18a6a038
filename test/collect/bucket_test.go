package collect

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/berth-registry/berth/internal/testkit/stand"
)

// deleter is a bucket's front that deletes badly.
type deleter struct {
	mode     atomic.Int32
	requests atomic.Int64 // deletions that it met, while it was bad
	delete   func(key string) error
}

// The ways in which a deletion fails.
const (
	deletes  int32 = iota
	refuses        // all of it, as a bucket whose policy changed
	halves         // every other key is deleted, the others have an error of their own
	breaks         // everything is deleted, and the connection breaks before the answer
	overload       // 503 SlowDown
)

func (d *deleter) serve(to http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		many := r.Method == http.MethodPost && r.URL.Query().Has("delete")
		mode := d.mode.Load()
		if mode == deletes || !many && (r.Method != http.MethodDelete || r.URL.Query().Has("uploadId")) {
			to.ServeHTTP(w, r)
			return
		}
		d.requests.Add(1)
		switch mode {
		case refuses:
			failS3(w, http.StatusForbidden, "AccessDenied")
		case overload:
			failS3(w, http.StatusServiceUnavailable, "SlowDown")
		case breaks:
			to.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		case halves:
			if !many {
				failS3(w, http.StatusInternalServerError, "InternalError")
				return
			}
			d.half(w, r)
		}
	})
}

func failS3(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>as the test wants it</Message></Error>`, code)
}

// half deletes every other key of a request for many, and says so.
func (d *deleter) half(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var asked struct {
		Object []struct{ Key string }
	}
	if err == nil {
		err = xml.Unmarshal(body, &asked)
	}
	if err != nil {
		failS3(w, http.StatusBadRequest, "MalformedXML")
		return
	}
	var answer bytes.Buffer
	answer.WriteString(`<?xml version="1.0" encoding="UTF-8"?><DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`)
	for i, o := range asked.Object {
		if i%2 == 0 && d.delete(o.Key) == nil {
			fmt.Fprintf(&answer, `<Deleted><Key>%s</Key></Deleted>`, o.Key)
			continue
		}
		fmt.Fprintf(&answer, `<Error><Key>%s</Key><Code>InternalError</Code><Message>as the test wants it</Message></Error>`, o.Key)
	}
	answer.WriteString(`</DeleteResult>`)
	w.Header().Set("Content-Type", "application/xml")
	_, _ = w.Write(answer.Bytes())
}

// A bucket that refuses deletions, does half of them, or does them and does not say so, costs space for as long as it does,
// and nothing else: clients are served, what they push again while its deletion fails is whole, and when the bucket is well
// again the space comes back. Who pushes content whose deletion hangs in the bucket at that moment may be told to wait.
func TestBucketDeletesBadly(t *testing.T) {
	bad := &deleter{}
	s := settings()
	s.Front = func(endpoint string) string {
		target, err := url.Parse(endpoint)
		if err != nil {
			t.Fatal(err)
		}
		proxy := &httputil.ReverseProxy{
			Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
			ErrorLog:     log.New(io.Discard, "", 0),
			ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		}
		front := httptest.NewServer(bad.serve(proxy))
		t.Cleanup(front.Close)
		return front.URL
	}
	f := stand.Start(t, stand.Make{Shared: true, Replicas: 2}, s)
	bad.delete = func(key string) error {
		_, err := f.Bucket.Client().DeleteObject(context.Background(), &s3.DeleteObjectInput{Bucket: &f.Name, Key: &key})
		return err
	}
	r := newRace(t, f)
	for _, mode := range []int32{refuses, halves, breaks, overload} {
		before := bad.requests.Load()
		bad.mode.Store(mode)
		r.pushAndDelete(4 * grace)
		bad.mode.Store(deletes)
		if t.Failed() {
			t.Fatalf("while the bucket deleted badly (%d)", mode)
		}
		if bad.requests.Load() == before {
			t.Errorf("mode %d: the bucket was asked to delete nothing: nothing was tested", mode)
		}
	}
	t.Logf("%d images were pushed; %d times a client was told to try again; the bucket was asked %d times while it deleted badly", r.pushes.Load(), r.told.Load(), bad.requests.Load())
	c := newClientOf(r, 9)
	c.waits = true
	for i := range 5 {
		m, blobs := c.shared(i)
		for pushed := false; !pushed; {
			began := time.Now()
			for _, b := range blobs {
				if err := c.push("race/kept", b); err != nil {
					t.Fatal(err)
				}
			}
			// A push that waited for a deletion of before takes longer than what was said of the others is worth.
			pushed = time.Since(began) <= promised/2
		}
		if a := f.Client(i).PutManifest("race/kept", fmt.Sprint("k", i), m); a.Status != http.StatusCreated {
			t.Fatalf("push of an image: %s", a)
		}
		r.keep("race/kept", m)
	}
	r.settle()
}

// pushAndDelete lets clients push what they deleted, for a while.
func (r *race) pushAndDelete(length time.Duration) {
	until := time.Now().Add(length)
	var all sync.WaitGroup
	for i := range 4 {
		c := newClientOf(r, i)
		c.waits = true
		all.Go(func() {
			for time.Now().Before(until) && !r.t.Failed() {
				do := c.again
				if i%2 == 0 {
					do = c.skip
				}
				if err := do(); err != nil {
					r.t.Errorf("client %d: %v", i, err)
				}
			}
		})
	}
	all.Wait()
}
