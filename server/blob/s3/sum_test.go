package s3_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob/blobtest"
)

const sumHeader = "X-Amz-Checksum-Crc32c"

// spoil changes a byte on the way.
func spoil(x *trouble, w http.ResponseWriter, r *http.Request) {
	r.Body = io.NopCloser(&spoiled{r: r.Body})
	x.target.ServeHTTP(w, r)
}

type spoiled struct {
	r    io.Reader
	done bool
}

func (s *spoiled) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if n > 0 && !s.done {
		p[0] ^= 1
		s.done = true
	}
	return n, err
}

// Bytes that are changed on the way are noticed, and sent again.
func TestBytesChangedOnTheWay(t *testing.T) {
	for _, kind := range kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s, x, server, o := troubled(t, kind)
			for how, push := range pushes() {
				for i, op := range []string{"UploadPart", "PutObject"} {
					data := blobtest.Random(byte(i), 12<<20+len(how))
					d := oci.FromBytes(oci.SHA256, data)
					x.plan(&plan{operation: op, times: 2, do: spoil})
					if err := push(s, fmt.Sprint(how, "-changed-", i), data); err != nil {
						t.Errorf("%s, %s: %v", how, op, err)
						continue
					}
					x.plan()
					blobtest.RequireContent(t, s, d, data)
					wantClean(t, server, s, o, keyOf(d))
				}
			}
		})
	}
}

// A service that does not know the checksum, or does not say that it has looked at it, gets the bytes signed.
func TestServiceWithoutChecksums(t *testing.T) {
	for what, do := range map[string]func(x *trouble, w http.ResponseWriter, r *http.Request){
		"refuses it": func(x *trouble, w http.ResponseWriter, r *http.Request) {
			if r.Header.Get(sumHeader) != "" {
				refuse(400, "InvalidRequest")(x, w, r)
				return
			}
			x.target.ServeHTTP(w, r)
		},
		"says nothing of it": func(x *trouble, w http.ResponseWriter, r *http.Request) {
			x.target.ServeHTTP(&silent{w}, r)
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s, x, server, o := troubled(t, testkit.VersityGW)
			unsigned := 0
			x.plan(&plan{times: -1, do: func(x *trouble, w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPut && r.Header.Get("X-Amz-Content-Sha256") == "UNSIGNED-PAYLOAD" {
					x.mu.Lock()
					unsigned++
					x.mu.Unlock()
				}
				do(x, w, r)
			}})
			for i := range 3 {
				data := blobtest.Random(byte(i), 6<<20)
				if err := blobtest.Push(s, fmt.Sprint("unknown-", i), data); err != nil {
					t.Fatal(err)
				}
				blobtest.RequireContent(t, s, oci.FromBytes(oci.SHA256, data), data)
			}
			if unsigned != 1 {
				t.Errorf("%d requests were not signed, want the first only", unsigned)
			}
			wantClean(t, server, s, o)
		})
	}
}

// silent leaves the checksum out of an answer.
type silent struct{ http.ResponseWriter }

func (s *silent) WriteHeader(status int) {
	s.Header().Del(sumHeader)
	s.ResponseWriter.WriteHeader(status)
}

func (s *silent) Unwrap() http.ResponseWriter { return s.ResponseWriter }
