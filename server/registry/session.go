package registry

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/berth-registry/berth/oci"
)

// sessions gives uploads their ids. An id proves by a signature when, by whom and for which repository the upload was
// started, so that starting one writes nothing, on any replica; its row is made when there are bytes to remember. An
// upload that ends is remembered as ended in bounded memory. Where that is forgotten, or on another replica, its id
// begins an empty upload again, for the same caller and repository, until the id expires; except that of an upload which was
// cancelled, whose row says so (metadb.Tx.EndedUpload). Where no other process makes
// rows, one that has only been started is remembered, too, and not looked up.
//
// An id is a random UUID, as the specification wants it, which names the row and the bytes, "-", eight digits of the start
// in seconds, "a" for sha256 or "b" for sha512, and twenty digits of signature.
type sessions struct {
	key   []byte
	age   time.Duration
	now   func() time.Time
	alone bool // only this process makes rows
	known *otter.Cache[string, phase]
}

// phase is what is remembered of an upload without a row.
type phase uint8

const (
	started phase = iota + 1 // it has no row yet
	ended                    // it has none any more
)

const (
	coreDigits = 36
	macDigits  = 20
	idLength   = coreDigits + 1 + 8 + 1 + macDigits
	knownIDs   = 50_000
)

// session is what an id says.
type session struct {
	core  string // names the row and the bytes
	alg   oci.Algorithm
	fresh bool // it has no row
}

func newSessions(key []byte, age time.Duration, alone bool, now func() time.Time) *sessions {
	if len(key) == 0 {
		key = make([]byte, sha256.Size)
		_, _ = rand.Read(key) // never fails
	}
	return &sessions{key: key, age: age, now: now, alone: alone, known: otter.Must(&otter.Options[string, phase]{MaximumSize: knownIDs})}
}

// start makes an id for a new upload.
func (s *sessions) start(repository, principal string, a oci.Algorithm) string {
	letter := "a"
	if a == oci.SHA512 {
		letter = "b"
	}
	core := newCore()
	if s.alone {
		s.known.Set(core, started)
	}
	head := core + "-" + seconds(s.now()) + letter
	return head + s.sign(head, repository, principal)
}

// seconds is the time in eight hexadecimal digits, enough until 2106.
func seconds(t time.Time) string {
	s := "0000000" + strconv.FormatInt(t.Unix()&0xffffffff, 16)
	return s[len(s)-8:]
}

// open checks an id against its caller. It is false for what was never given to this caller for this repository, for
// what has ended and for what is too old.
func (s *sessions) open(id, repository, principal string) (session, bool) {
	if len(id) != idLength {
		return session{}, false
	}
	head, mac := id[:idLength-macDigits], id[idLength-macDigits:]
	if !hmac.Equal([]byte(mac), []byte(s.sign(head, repository, principal))) {
		return session{}, false
	}
	began, err := strconv.ParseInt(head[coreDigits+1:coreDigits+9], 16, 64)
	if err != nil || s.now().Sub(time.Unix(began, 0)) > s.age {
		return session{}, false
	}
	known, _ := s.known.GetIfPresent(head[:coreDigits])
	if known == ended {
		return session{}, false
	}
	alg := oci.SHA256
	if head[coreDigits+9] == 'b' {
		alg = oci.SHA512
	}
	return session{core: head[:coreDigits], alg: alg, fresh: known == started}, true
}

func (s *sessions) end(core string) { s.known.Set(core, ended) }

// record is called before an upload gets a row.
func (s *sessions) record(core string) {
	if s.alone {
		s.known.Invalidate(core)
	}
}

// sign covers the id, the repository and the caller; none of them contains a zero byte.
func (s *sessions) sign(head, repository, principal string) string {
	m := hmac.New(sha256.New, s.key)
	m.Write([]byte(head + "\x00" + repository + "\x00" + principal))
	return hex.EncodeToString(m.Sum(nil))[:macDigits]
}

// newCore is a new name for a row and for bytes: a random UUID (RFC 9562, version 4).
func newCore() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	text := hex.EncodeToString(b[:])
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
}
