package s3

import (
	"encoding/json"
	"strconv"

	"github.com/berth-registry/berth/server/blob"
)

const (
	// inlineTail is up to how many bytes behind the last segment are kept in the state itself. Many uploads are no longer
	// than that, and end in the database without a request to the bucket.
	inlineTail = 32 << 10
	// maxPieces is how many objects shorter than a part may be at the end before they are made one.
	maxPieces = 16
)

// maxSegments bounds what a row that is damaged can make us list: more than the largest object has.
const maxSegments = 2 << 20

// segment is an object with a part of an upload's bytes.
type segment struct {
	nonce       string // of the writer that made it
	start, size int64
}

// run is count segments of one writer and one size, one behind the other.
type run struct {
	nonce       string
	start, size int64
	count       int64
}

func (r run) end() int64 { return r.start + r.size*r.count }

// segments are in the order of their bytes, without holes. Most are as long as a part, so that millions of them are few
// runs.
type segments []run

func (s segments) end() int64 {
	if len(s) == 0 {
		return 0
	}
	return s[len(s)-1].end()
}

func (s segments) add(g segment) segments {
	if n := len(s); n > 0 && s[n-1].nonce == g.nonce && s[n-1].size == g.size {
		s[n-1].count++
		return s
	}
	return append(s, run{g.nonce, g.start, g.size, 1})
}

func (s segments) list() []segment {
	var out []segment
	for _, r := range s {
		for i := range r.count {
			out = append(out, segment{r.nonce, r.start + i*r.size, r.size})
		}
	}
	return out
}

// split takes off the segments at the end that are too short for a part.
func (s segments) split(least int64) (whole segments, pieces []segment) {
	n := len(s)
	for n > 0 && s[n-1].size < least {
		n--
	}
	return s[:n:n], s[n:].list()
}

// segmentKey is the name of a segment of upload id.
func (s *Store) segmentKey(id string, g segment) string {
	return s.uploadPrefix(id) + g.nonce + "-" + strconv.FormatInt(g.start, 10)
}

// progress is what is known of an upload: the driver's part of its state.
type progress struct {
	segments segments
	tail     []byte // the bytes behind the segments
	litter   bool   // there may be objects of the upload that are not in segments
}

// written is progress in a row. It is versioned, since another version of berthd may continue the upload.
type written struct {
	Version int        `json:"v"`
	Runs    [][4]int64 `json:"r,omitempty"` // index into Writers, start, size, count
	Writers []string   `json:"w,omitempty"`
	Tail    []byte     `json:"t,omitempty"`
	Litter  bool       `json:"l,omitempty"`
}

func (p progress) state() (blob.State, error) {
	out := written{Version: 1, Tail: p.tail, Litter: p.litter}
	for _, r := range p.segments {
		if n := len(out.Writers); n == 0 || out.Writers[n-1] != r.nonce {
			out.Writers = append(out.Writers, r.nonce)
		}
		out.Runs = append(out.Runs, [4]int64{int64(len(out.Writers) - 1), r.start, r.size, r.count})
	}
	driver, err := json.Marshal(out)
	return blob.State{Offset: p.segments.end() + int64(len(p.tail)), Driver: driver}, err
}

// progressOf reads a state that was recorded. fresh is the zero state of an upload that begins. A state that does not add
// up to its offset is of bytes that nobody has.
func progressOf(id string, state blob.State) (p progress, fresh bool, err error) {
	if len(state.Driver) == 0 {
		if state.Offset != 0 {
			return p, false, blob.UploadUnknown(id)
		}
		return p, true, nil
	}
	var in written
	if err := json.Unmarshal(state.Driver, &in); err != nil || in.Version != 1 {
		return p, false, blob.UploadUnknown(id)
	}
	at := int64(0)
	for _, r := range in.Runs {
		if r[0] < 0 || r[0] >= int64(len(in.Writers)) || r[1] != at || r[2] < 1 || r[3] < 1 || r[3] > maxSegments || r[2] > (state.Offset-at)/r[3] {
			return p, false, blob.UploadUnknown(id)
		}
		next := run{in.Writers[r[0]], r[1], r[2], r[3]}
		p.segments = append(p.segments, next)
		at = next.end()
	}
	p.tail, p.litter = in.Tail, in.Litter
	if at+int64(len(p.tail)) != state.Offset {
		return progress{}, false, blob.UploadUnknown(id)
	}
	return p, false, nil
}
