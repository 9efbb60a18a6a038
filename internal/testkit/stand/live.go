package stand

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// InlineBytes is berth.limits.inline_bytes: larger content is in the store.
const InlineBytes = 32 << 10

// Live is the content that a registry needs: digest → bytes.
type Live struct {
	Large, Small map[string]int64 // in the store, and small enough for the database; manifests are small
	Manifests    int              // rows: a manifest counts in each repository
}

// NewLive needs nothing.
func NewLive() Live { return Live{Large: map[string]int64{}, Small: map[string]int64{}} }

// Add adds the content of a digest.
func (l *Live) Add(digest string, size int64) {
	if size > InlineBytes {
		l.Large[digest] = size
	} else {
		l.Small[digest] = size
	}
}

func sum(sizes map[string]int64) (n int64) {
	for _, size := range sizes {
		n += size
	}
	return n
}

func (l Live) String() string {
	return fmt.Sprintf("%d blobs with %d bytes in the store, %d with %d bytes in the database", len(l.Large), sum(l.Large), len(l.Small), sum(l.Small))
}

// AwaitNoGarbage waits until the store and the database have what is live and nothing else, and says what they weigh then,
// and after how long. wrong is what is not so in the end.
func (f *Fleet) AwaitNoGarbage(l Live, within time.Duration) (v Volume, took time.Duration, wrong string) {
	f.t.Helper()
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		v = f.Weigh()
		took = time.Since(began)
		if wrong = f.excess(v, l); wrong == "" {
			return v, took, ""
		}
		if took > within {
			f.left = fmt.Sprintf("%s\n%s\nlive: %s\n%s", wrong, v, l, f.leftovers(v, l))
			return v, took, f.left
		}
	}
}

// excess says what is wrong with what the registry weighs. A small blob that was not known to be small may be in the store,
// and so are the places from which blobs were moved, for an hour.
func (f *Fleet) excess(v Volume, l Live) string {
	rows, err := f.Rows(`SELECT (SELECT COUNT(*) FROM blob), (SELECT COUNT(*) FROM upload), (SELECT COUNT(*) FROM manifest), (SELECT COUNT(*) FROM trash),
		(SELECT COUNT(*) FROM edge WHERE manifest_id NOT IN (SELECT id FROM manifest)),
		(SELECT COUNT(*) FROM repo_blob rb WHERE NOT EXISTS (SELECT 1 FROM edge e WHERE e.child = rb.digest AND e.repo_id = rb.repo_id)),
		(SELECT COALESCE(SUM(size), 0) FROM blob WHERE stored AND size <= ` + fmt.Sprint(InlineBytes) + `)`)
	if err != nil {
		return err.Error()
	}
	var inStore int64 // small content that came without saying so
	if err := scan(rows[0][6:], &inStore); err != nil {
		return err.Error()
	}
	want := []string{fmt.Sprint(len(l.Large) + len(l.Small)), "0", fmt.Sprint(l.Manifests), "0", "0", "0"}
	moved, err := f.moved(v)
	if err != nil {
		return err.Error()
	}
	has, needed := v.Bytes()-moved, sum(l.Large)
	small := sum(l.Small)
	switch {
	case has < needed:
		return fmt.Sprintf("the store has %d bytes, and %d are live: something was lost", has, needed)
	case has > needed+inStore:
		return fmt.Sprintf("the store has %d bytes, and %d are live", has, needed)
	case v.Pending > 0:
		return fmt.Sprintf("%d multipart uploads are open", v.Pending)
	case v.Inline > small || v.Inline < small-inStore:
		return fmt.Sprintf("the database has %d bytes of content, and %d small ones are live", v.Inline, small)
	case !slices.Equal(rows[0][:6], want):
		return fmt.Sprintf("rows of blobs, uploads, manifests, trash, stray edges and stray links are %q and should be %q", rows[0][:6], want)
	}
	return ""
}

// moved is how many bytes are at places that blobs have left and that the database knows.
func (f *Fleet) moved(v Volume) (n int64, err error) {
	if !f.Shared {
		return 0, nil // files are renamed
	}
	rows, err := f.Rows(`SELECT place FROM blob_moved`)
	for _, r := range rows {
		for name, size := range v.Content {
			if strings.HasSuffix(name, "/parked/"+r[0]) {
				n += size
			}
		}
	}
	return n, err
}

// leftovers names some of what is there and should not be, and what is queued.
func (f *Fleet) leftovers(v Volume, l Live) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(v.Content)) {
		known := false
		for d := range l.Large {
			known = known || strings.Contains(name, d[len("sha256:"):])
		}
		if !known && b.Len() < 1500 {
			fmt.Fprintf(&b, "left: %s, %d bytes\n", name, v.Content[name])
		}
	}
	rows, err := f.Rows(`SELECT digest, state, lease_until, inline, stored FROM blob ORDER BY digest`)
	for _, r := range rows {
		if l.Large[r[0]] == 0 && l.Small[r[0]] == 0 && b.Len() < 4000 {
			fmt.Fprintf(&b, "row: %s, state %s, looked at in %s, inline %s, stored %s\n", r[0], r[1], in(r[2]), r[3], r[4])
		}
	}
	stray, err2 := f.Rows(`SELECT r.name, rb.digest, rb.created_at, b.lease_until, b.state FROM repo_blob rb JOIN repository r ON r.id = rb.repo_id JOIN blob b ON b.digest = rb.digest
		WHERE NOT EXISTS (SELECT 1 FROM edge e WHERE e.child = rb.digest AND e.repo_id = rb.repo_id) ORDER BY rb.created_at LIMIT 20`)
	for _, r := range stray {
		fmt.Fprintf(&b, "link that nothing needs: %s has %s since %s, looked at in %s, state %s\n", r[0], r[1], in(r[2]), in(r[3]), r[4])
	}
	if err := errors.Join(err, err2); err != nil {
		fmt.Fprintln(&b, err)
	}
	return b.String()
}

// in is a time of the database from now on.
func in(micros string) string {
	var n int64
	if _, err := fmt.Sscan(micros, &n); err != nil || n == 0 {
		return "never"
	}
	return time.Until(time.UnixMicro(n)).Round(time.Millisecond).String()
}
