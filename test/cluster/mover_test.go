package cluster

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

// The tags that all movers move at once.
const (
	hotRepo = "cluster/hot"
	hotTags = 3
	movers  = 6
	restFor = 3 // seconds without moves of a tag, of hotTags times as many
)

// mover moves and reads the hot tags. Most reads are a client's, and may be behind by trustFor, which hides much while a tag
// is moved ten times a second. So each tag has its moments of rest, and some reads are of the row itself, which is never
// behind.
type mover struct {
	sql       *testkit.SQL
	c         *client
	judge     *judge
	name      string
	rnd       *rand.Rand
	histories []*history
	next      int
}

func hotTag(i int) string { return fmt.Sprint("hot", i) }

func (m *mover) step() {
	i := m.rnd.IntN(hotTags)
	h := m.histories[i]
	switch m.rnd.IntN(6) {
	case 0:
		m.readRow(i, h)
		return
	case 1, 2, 3:
		m.read(i, h)
		return
	}
	if (int(time.Now().Unix())/restFor+i)%hotTags == 0 {
		return
	}
	m.next++
	mark := markOf(fmt.Sprintf("%s-%d", m.name, m.next))
	move := h.begin(mark.digest, time.Now())
	a := m.c.putManifest(hotRepo, hotTag(i), mark)
	switch {
	case a.status == http.StatusCreated:
		h.acknowledge(move, a.ended)
	case !a.unsure():
		h.forget(mark.digest)
		m.judge.fault("move of %s: %s", hotTag(i), a)
	}
	time.Sleep(time.Duration(m.rnd.IntN(60)) * time.Millisecond)
}

// read notes what a replica says that the tag is.
func (m *mover) read(i int, h *history) {
	var a answer
	if m.rnd.IntN(2) == 0 {
		a = m.c.head(hotRepo, "manifests", hotTag(i))
	} else {
		a = m.c.get(hotRepo, "manifests", hotTag(i))
		if a.status == http.StatusOK && digestOf(a.body) != a.digest() {
			m.judge.fault("%s is %s and its bytes are %s", hotTag(i), a.digest(), digestOf(a.body))
		}
	}
	switch {
	case a.unsure():
		time.Sleep(50 * time.Millisecond)
	case a.status == http.StatusOK, a.status == http.StatusNotFound:
		h.read(a.digest(), m.judge.trustedFrom(a.began, a.ended, trustFor), a.ended)
	default:
		m.judge.fault("read of %s: %s", hotTag(i), a)
	}
}

// readRow notes what the database says that the tag is, unless it is away.
func (m *mover) readRow(i int, h *history) {
	began := time.Now()
	rows, err := m.sql.Query(`SELECT t.digest FROM tag t JOIN repository r ON r.id = t.repo_id WHERE r.name = $1 AND t.name = $2`, hotRepo, hotTag(i))
	switch {
	case err != nil:
		time.Sleep(50 * time.Millisecond)
	case len(rows) == 0:
		h.read("", began, time.Now())
	default:
		h.read(rows[0][0], began, time.Now())
	}
}

// puller reads what was acknowledged: whole images, by digest and by tag.
type puller struct {
	c     *client
	judge *judge
	shelf *shelf
	rnd   *rand.Rand
}

func (p *puller) step() {
	i, ok := p.shelf.some(p.rnd)
	if !ok {
		time.Sleep(50 * time.Millisecond)
		return
	}
	ref := i.digest
	if p.rnd.IntN(2) == 0 {
		ref = i.tag
	}
	a := p.c.get(i.repo, "manifests", ref)
	if a.unsure() {
		time.Sleep(50 * time.Millisecond)
		return
	}
	if a.status != http.StatusOK || digestOf(a.body) != i.digest {
		p.judge.fault("pull of %s %s, acknowledged %s before: %s", i.repo, ref, a.began.Sub(i.since), a)
		return
	}
	blob := i.blobs[p.rnd.IntN(len(i.blobs))]
	b := p.c.get(i.repo, "blobs", blob)
	if !b.unsure() && (b.status != http.StatusOK || digestOf(b.body) != blob) {
		p.judge.fault("pull of blob %s of %s, acknowledged %s before: %d, %d bytes", blob, i.repo, b.began.Sub(i.since), b.status, len(b.body))
	}
}
