package s3_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
)

// A state that was damaged, or that another version wrote, is an upload that nobody knows; it costs neither memory nor a
// wrong blob.
func TestDamagedState(t *testing.T) {
	server, bucket := testkit.S3Bucket(t, testkit.VersityGW)
	s := open(t, options(server, bucket))
	for name, state := range map[string]blob.State{
		"no JSON":         {Offset: 4, Driver: []byte("nope")},
		"other version":   {Offset: 4, Driver: []byte(`{"v":3,"t":"AAAAAA=="}`)},
		"shorter":         {Offset: 4, Driver: []byte(`{"v":1,"t":"AAAA"}`)},
		"longer":          {Offset: 2, Driver: []byte(`{"v":1,"t":"AAAA"}`)},
		"hole":            {Offset: 20, Driver: []byte(`{"v":1,"w":["a"],"r":[[0,0,5,1],[0,10,10,1]]}`)},
		"unknown writer":  {Offset: 5, Driver: []byte(`{"v":1,"w":["a"],"r":[[1,0,5,1]]}`)},
		"negative writer": {Offset: 5, Driver: []byte(`{"v":1,"w":["a"],"r":[[-1,0,5,1]]}`)},
		"no size":         {Offset: 0, Driver: []byte(`{"v":1,"w":["a"],"r":[[0,0,0,9]]}`)},
		"countless":       {Offset: math.MaxInt64, Driver: fmt.Appendf(nil, `{"v":1,"w":["a"],"r":[[0,0,1,%d]]}`, int64(math.MaxInt64))},
		"beyond 64 bits":  {Offset: 0, Driver: fmt.Appendf(nil, `{"v":1,"w":["a"],"r":[[0,0,%d,2097152]]}`, int64(1)<<62)},
		"short, now":      {Offset: 4, Driver: []byte(`{"v":2,"t":"AAAA"}`)},
		"parts of no one": {Offset: 5, Driver: []byte(`{"v":2,"p":[[1,5,1]],"e":"AAAAAAAAAAAAAAAAAAAAAAA="}`)},
		"no ETag":         {Offset: 5, Driver: []byte(`{"v":2,"m":"x","n":"abcdefghij","p":[[1,5,1]]}`)},
		"ETag too many":   {Offset: 5, Driver: []byte(`{"v":2,"m":"x","n":"abcdefghij","p":[[1,5,1]],"e":"AWEBYQ=="}`)},
		"numbers mixed":   {Offset: 10, Driver: []byte(`{"v":2,"m":"x","n":"abcdefghij","p":[[2,5,1],[1,5,1]],"e":"AWEBYQ=="}`)},
		"number too high": {Offset: 5, Driver: []byte(`{"v":2,"m":"x","n":"abcdefghij","p":[[10001,5,1]],"e":"AWE="}`)},
		"parts for ever":  {Offset: math.MaxInt64, Driver: fmt.Appendf(nil, `{"v":2,"m":"x","n":"abcdefghij","p":[[1,1,%d]],"e":"AWE="}`, int64(math.MaxInt64))},
		"a path":          {Offset: 5, Driver: []byte(`{"v":2,"m":"x","n":"../../etc/","p":[[1,5,1]],"e":"AWE="}`)},
		"parts gone":      {Offset: 5, Driver: []byte(`{"v":2,"m":"x","n":"abcdefghij","p":[[1,5,1]],"e":"AWE="}`)},
		"gone":            {Offset: 5, Driver: []byte(`{"v":1,"w":["never"],"r":[[0,0,5,1]]}`)},
	} {
		_, err := s.Upload(t.Context(), "damaged", state)
		if !fault.Has(err, fault.BlobUploadUnknown) {
			t.Errorf("%s: upload: %v", name, err)
		}
		if err := s.Commit(t.Context(), "damaged", state, oci.FromBytes(oci.SHA256, nil)); !fault.Has(err, fault.BlobUploadUnknown) {
			t.Errorf("%s: commit: %v", name, err)
		}
		if _, err := s.OpenUpload(t.Context(), "damaged", state); !fault.Has(err, fault.BlobUploadUnknown) {
			t.Errorf("%s: read: %v", name, err)
		}
	}
}
