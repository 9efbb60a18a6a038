package s3_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/blobtest"
)

// late hides from listings what was written since, as services do whose listings are behind. Reads see it.
type late struct {
	mu   sync.Mutex
	news map[string]bool // keys; nil when listings are up to date
}

var listedObject = regexp.MustCompile(`(?s)<Contents>.*?</Contents>`)
var listedKey = regexp.MustCompile(`<Key>(.*?)</Key>`)

// stand makes the listings behind a store's back late, from now on until show.
func (l *late) stand(x *trouble) {
	l.mu.Lock()
	l.news = map[string]bool{}
	l.mu.Unlock()
	x.plan(&plan{times: -1, do: func(x *trouble, w http.ResponseWriter, r *http.Request) {
		switch operation(r) {
		case "PutObject", "CopyObject", "CompleteMultipartUpload":
			_, key, _ := strings.Cut(strings.Trim(r.URL.Path, "/"), "/")
			l.mu.Lock()
			if l.news != nil {
				l.news[key] = true
			}
			l.mu.Unlock()
		case "List":
			answer := httptest.NewRecorder()
			x.target.ServeHTTP(answer, r)
			body := listedObject.ReplaceAllFunc(answer.Body.Bytes(), func(object []byte) []byte {
				l.mu.Lock()
				defer l.mu.Unlock()
				if key := listedKey.FindSubmatch(object); key != nil && l.news[string(key[1])] {
					return nil
				}
				return object
			})
			h := w.Header()
			for name, values := range answer.Header() {
				h[name] = values
			}
			h.Del("Content-Length")
			w.WriteHeader(answer.Code)
			_, _ = w.Write(body)
			return
		}
		x.target.ServeHTTP(w, r)
	}})
}

// show lets listings catch up.
func (l *late) show() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.news = nil
}

// listed are the digests that a listing of the content shows.
func listed(t *testing.T, s blob.Store) (ds []oci.Digest) {
	t.Helper()
	err := blob.List(t.Context(), s, oci.Digest{}, func(l blob.Listed) error {
		ds = append(ds, l.Digest)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

// Listings that are behind cost time and never content: what was acknowledged is read whatever they show, what they do not
// show is not taken for gone, and what an upload has left is found when they show it.
func TestLateListings(t *testing.T) {
	for _, kind := range kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s, x, server, o := troubled(t, kind)
			o.Endpoint = x.url
			l := &late{}
			l.stand(x)

			var ds []oci.Digest
			for what, push := range pushes() {
				for _, size := range []int{100_000, 11 << 20} {
					data := blobtest.Random(byte(len(what)+size), size)
					if err := push(s, strings.ToLower(what)+"-late", data); err != nil {
						t.Fatalf("%s of %d bytes: %v", what, size, err)
					}
					d := oci.FromBytes(oci.SHA256, data)
					blobtest.RequireContent(t, s, d, data)
					ds = append(ds, d)
				}
			}
			if got := listed(t, s); len(got) > 0 {
				t.Fatalf("the listing shows %v: it is not late, and nothing is tested", got)
			}

			// The journal's pages are notes: each is read by its name at once, and listed in the end.
			const page = "journal/some/log-1"
			if err := s.PutNote(t.Context(), page, []byte("names")); err != nil {
				t.Fatal(err)
			}
			if got, err := s.Note(t.Context(), page); err != nil || string(got) != "names" {
				t.Errorf("a note is %q, %v", got, err)
			}

			// An upload is aborted that no listing shows: parts, and an object that was parked.
			half := send(t, s, "half", blob.State{}, blobtest.Random(7, 11<<20))
			data := blobtest.Random(8, 11<<20)
			parked := send(t, s, "parked", blob.State{}, data)
			place, err := s.Park(t.Context(), "parked", parked, oci.FromBytes(oci.SHA256, data))
			if err != nil || place == "" {
				t.Fatalf("parked at %q, %v", place, err)
			}
			for id, state := range map[string]blob.State{"half": half, "parked": parked} {
				if err := s.Abort(t.Context(), id, state); err != nil {
					t.Errorf("abort of %s: %v", id, err)
				}
			}
			requireParked(t, s, place, data)

			// The object's listing is behind that of its marker.
			l.mu.Lock()
			for key := range l.news {
				if strings.Contains(key, "/berth/uploads/") {
					delete(l.news, key)
				}
			}
			l.mu.Unlock()
			if err := s.Abort(t.Context(), "parked", parked); err != nil {
				t.Error(err)
			}
			requireParked(t, s, place, data)

			l.show()
			ids, err := s.StaleUploads(t.Context(), time.Now().Add(time.Minute))
			if err != nil || !slices.Contains(ids, "half") || !slices.Contains(ids, "parked") {
				t.Errorf("when listings have caught up, the uploads that left something are %q, %v", ids, err)
			}
			for _, id := range ids {
				end(t, open(t, o), id) // by another replica, which knows nothing of it
			}
			var keys []string
			for _, d := range ds {
				keys = append(keys, keyOf(d))
			}
			wantClean(t, server, s, o, keys...)
			got := listed(t, s)
			for _, d := range ds {
				if !slices.Contains(got, d) {
					t.Errorf("%s was acknowledged and is not listed", d)
				}
			}
			if names, err := s.NoteNames(t.Context(), "journal"); err != nil || !slices.Equal(names, []string{page}) {
				t.Errorf("notes are %q, %v", names, err)
			}
		})
	}
}

// requireParked fails the test when what is parked is not there, whole.
func requireParked(t *testing.T, s blob.Parker, place string, data []byte) {
	t.Helper()
	c, size, err := s.OpenAt(context.Background(), place)
	if err != nil {
		t.Fatalf("%s: %v", place, err)
	}
	defer c.Close()
	var got bytes.Buffer
	if _, err := got.ReadFrom(c); err != nil || size != int64(len(data)) || !bytes.Equal(got.Bytes(), data) {
		t.Errorf("%s has %d bytes, %v", place, size, err)
	}
}
