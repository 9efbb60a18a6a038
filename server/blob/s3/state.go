package s3

import (
	"encoding/hex"
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

// maxParts is the highest number that a part may have.
const maxParts = 10_000

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

func (s segments) size() int64 {
	if len(s) == 0 {
		return 0
	}
	return s[len(s)-1].end() - s[0].start
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

// part is a part of a multipart upload, as the service answered for it.
type part struct {
	number int
	size   int64
	etag   string // as the service wrote it
}

// parts are in the order of their numbers, which have gaps.
type parts []part

func (ps parts) size() (n int64) {
	for _, p := range ps {
		n += p.size
	}
	return n
}

// last is the highest number, or 0.
func (ps parts) last() int {
	if len(ps) == 0 {
		return 0
	}
	return ps[len(ps)-1].number
}

// progress is what is known of an upload: the driver's part of its state. Its bytes are those of the parts, then those of
// the segments, then the tail.
type progress struct {
	multipart string // the service's name for the multipart upload that has the parts; "" when there is none
	nonce     string // names its object
	parts     parts
	segments  segments // behind the parts
	tail      []byte   // the bytes behind the segments
	litter    bool     // there may be objects of the upload that are not in segments
}

// end is where the segments end.
func (p progress) end() int64 { return p.parts.size() + p.segments.size() }

// written is progress in a row. It is versioned, since another version of berthd may continue the upload: version 1 has
// segments only.
type written struct {
	Version   int        `json:"v"`
	Multipart string     `json:"m,omitempty"`
	Nonce     string     `json:"n,omitempty"`
	Parts     [][3]int64 `json:"p,omitempty"` // runs: first number, size, count; the numbers of a run follow each other
	Tags      []byte     `json:"e,omitempty"` // of the parts, see packTag
	Runs      [][4]int64 `json:"r,omitempty"` // index into Writers, start, size, count
	Writers   []string   `json:"w,omitempty"`
	Tail      []byte     `json:"t,omitempty"`
	Litter    bool       `json:"l,omitempty"`
}

func (p progress) state() (blob.State, error) {
	out := written{Version: 2, Multipart: p.multipart, Nonce: p.nonce, Tail: p.tail, Litter: p.litter}
	for _, q := range p.parts {
		if n := len(out.Parts) - 1; n >= 0 && out.Parts[n][1] == q.size && out.Parts[n][0]+out.Parts[n][2] == int64(q.number) {
			out.Parts[n][2]++
		} else {
			out.Parts = append(out.Parts, [3]int64{int64(q.number), q.size, 1})
		}
		out.Tags = packTag(out.Tags, q.etag)
	}
	for _, r := range p.segments {
		if n := len(out.Writers); n == 0 || out.Writers[n-1] != r.nonce {
			out.Writers = append(out.Writers, r.nonce)
		}
		out.Runs = append(out.Runs, [4]int64{int64(len(out.Writers) - 1), r.start, r.size, r.count})
	}
	driver, err := json.Marshal(out)
	return blob.State{Offset: p.end() + int64(len(p.tail)), Driver: driver}, err
}

// packTag appends an ETag: a zero and 16 bytes for the usual MD5 in quotes, else its length and its text.
func packTag(b []byte, tag string) []byte {
	if len(tag) == 34 && tag[0] == '"' && tag[33] == '"' {
		if sum, err := hex.DecodeString(tag[1:33]); err == nil && hex.EncodeToString(sum) == tag[1:33] {
			return append(append(b, 0), sum...)
		}
	}
	tag = tag[:min(len(tag), 255)]
	return append(append(b, byte(len(tag))), tag...)
}

// unpackTag reads what packTag has appended.
func unpackTag(b []byte) (tag string, rest []byte, ok bool) {
	switch {
	case len(b) == 0:
		return "", nil, false
	case b[0] == 0 && len(b) >= 17:
		return `"` + hex.EncodeToString(b[1:17]) + `"`, b[17:], true
	case b[0] > 0 && len(b) > int(b[0]):
		return string(b[1 : 1+b[0]]), b[1+b[0]:], true
	}
	return "", nil, false
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
	if err := json.Unmarshal(state.Driver, &in); err != nil || in.Version != 1 && in.Version != 2 {
		return p, false, blob.UploadUnknown(id)
	}
	var ok bool
	if p.parts, ok = in.parts(state.Offset); !ok || (len(p.parts) > 0) != (in.Multipart != "") || in.Multipart != "" && !isNonce(in.Nonce) {
		return progress{}, false, blob.UploadUnknown(id)
	}
	at := p.parts.size()
	for _, r := range in.Runs {
		if r[0] < 0 || r[0] >= int64(len(in.Writers)) || r[1] != at || r[2] < 1 || r[3] < 1 || r[3] > maxSegments || r[2] > (state.Offset-at)/r[3] {
			return progress{}, false, blob.UploadUnknown(id)
		}
		next := run{in.Writers[r[0]], r[1], r[2], r[3]}
		p.segments = append(p.segments, next)
		at = next.end()
	}
	p.multipart, p.nonce, p.tail, p.litter = in.Multipart, in.Nonce, in.Tail, in.Litter
	if at+int64(len(p.tail)) != state.Offset {
		return progress{}, false, blob.UploadUnknown(id)
	}
	return p, false, nil
}

// parts reads the parts, which are not more bytes than most.
func (in written) parts(most int64) (ps parts, ok bool) {
	number, left, tags := int64(0), most, in.Tags
	for _, r := range in.Parts {
		if r[0] <= number || r[1] < 1 || r[2] < 1 || r[0]+r[2] > maxParts+1 || r[1] > left/r[2] {
			return nil, false
		}
		left -= r[1] * r[2]
		for i := range r[2] {
			var tag string
			if tag, tags, ok = unpackTag(tags); !ok {
				return nil, false
			}
			ps = append(ps, part{number: int(r[0] + i), size: r[1], etag: tag})
		}
		number = r[0] + r[2] - 1
	}
	return ps, len(tags) == 0
}
