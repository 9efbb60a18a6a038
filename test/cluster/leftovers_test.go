package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/berth-registry/berth/internal/testkit"
)

// rows asks the database as an administrator would.
func (f *fleet) rows(query string) [][]string {
	f.t.Helper()
	db := testkit.SQL{DSN: f.postgres.DSN}
	defer db.Close()
	all, err := db.Query(query)
	if err != nil {
		f.t.Fatal(err)
	}
	return all
}

// number reads a number out of a row.
func (f *fleet) number(text string) int64 {
	f.t.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		f.t.Fatal(err)
	}
	return n
}

// count is the number that a question comes to.
func (f *fleet) count(query string) int {
	f.t.Helper()
	return int(f.number(f.rows(query)[0][0]))
}

// outbox is the events in the order of their numbers, in which those of one tag happened.
type outbox []recorded

type recorded struct {
	ID                            int64
	Kind, Repository, Digest, Tag string
}

func (f *fleet) events() outbox {
	f.t.Helper()
	var all outbox
	for _, r := range f.rows(`SELECT id, kind, repository, digest, tag FROM event ORDER BY id`) {
		all = append(all, recorded{f.number(r[0]), r[1], r[2], r[3], r[4]})
	}
	return all
}

// fact is what the endpoint is told of it; "" for what it is not.
func (e recorded) fact() string {
	switch e.Kind {
	case "tag.moved":
		return what("push", e.Repository, e.Digest, e.Tag)
	case "tag.deleted":
		return what("delete", e.Repository, "", e.Tag)
	case "manifest.deleted", "blob.deleted":
		return what("delete", e.Repository, e.Digest, "")
	case "blob.mounted":
		return what("mount", e.Repository, e.Digest, "")
	}
	return ""
}

// movesOf are the digests that a tag was moved to.
func (o outbox) movesOf(repo, tag string) (digests []string) {
	for _, e := range o {
		if e.Kind == "tag.moved" && e.Repository == repo && e.Tag == tag {
			digests = append(digests, e.Digest)
		}
	}
	return digests
}

const (
	contentPrefix = "some/prefix/docker/registry/v2/blobs/"
	parkedPrefix  = "some/prefix/berth/parked/"
	uploadPrefix  = "some/prefix/berth/uploads/"
	notesPrefix   = "some/prefix/docker/registry/v2/berth/" // the journal for a rebuild, and the like
)

// places are where content lies that is not under its digest, or was not a while ago.
func (f *fleet) places() map[string]bool {
	f.t.Helper()
	all := map[string]bool{}
	for _, r := range f.rows(`SELECT place FROM blob WHERE place <> '' UNION ALL SELECT place FROM blob_moved`) {
		all[r[0]] = true
	}
	return all
}

// staged are the keys of uploads, without the markers of what is parked.
func staged(keys []string, places map[string]bool) []string {
	return slices.DeleteFunc(below(keys, uploadPrefix), func(k string) bool {
		return places[strings.Replace(strings.TrimPrefix(k, uploadPrefix), "/multipart-", "/", 1)]
	})
}

// objects are the keys in the bucket, and multipart uploads that nobody ended.
func (f *fleet) objects() (keys, multiparts []string) {
	f.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	client := f.bucket.Client()
	pages := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: &f.name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			f.t.Fatal(err)
		}
		for _, o := range page.Contents {
			keys = append(keys, aws.ToString(o.Key))
		}
	}
	open := s3.NewListMultipartUploadsPaginator(client, &s3.ListMultipartUploadsInput{Bucket: &f.name})
	for open.HasMorePages() {
		page, err := open.NextPage(ctx)
		if err != nil {
			f.t.Fatal(err)
		}
		for _, u := range page.Uploads {
			multiparts = append(multiparts, aws.ToString(u.Key))
		}
	}
	return keys, multiparts
}

// abandon lets the uploads that clients left open count as abandoned, and proves that nothing is left of them, or of
// anything that was interrupted: neither rows nor objects nor multipart uploads, and that replicas did not sweep side by
// side.
func (c *crowd) abandon(f *fleet) {
	f.t.Helper()
	open := f.count(`SELECT count(*) FROM upload`)
	before, _ := f.objects()
	left := len(staged(before, f.places()))
	if open == 0 || left == 0 {
		f.t.Errorf("%d uploads are open, with %d objects: nothing was left to be swept", open, left)
	}
	for i, d := range f.replicas {
		f.configure(i, 2*time.Second, time.Second)
		d.Restart(f.t)
	}
	var rest, multiparts []string
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(500 * time.Millisecond) {
		var keys []string
		keys, multiparts = f.objects()
		rest = staged(keys, f.places())
		if len(rest)+len(multiparts) == 0 && f.count(`SELECT count(*) FROM upload`) == 0 {
			break
		}
		if time.Now().After(deadline) {
			f.judge.fault("60 s after they were abandoned, %d uploads are left, %d objects below %s (%.300q), %d multipart uploads (%.300q)",
				f.count(`SELECT count(*) FROM upload`), len(rest), uploadPrefix, rest, len(multiparts), multiparts)
			return
		}
	}
	f.t.Logf("swept: %d uploads, %d objects of them and of what was interrupted", open, left)
	f.verifyContent()
	f.verifyJobs()
}

func below(keys []string, prefix string) []string {
	return slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return !strings.HasPrefix(k, prefix) })
}

// verifyContent holds the bucket against the rows: each object of content has one, and each row its object.
func (f *fleet) verifyContent() {
	f.t.Helper()
	places := f.places()
	keys, _ := f.objects()
	for now := f.places(); !maps.Equal(places, now); now = f.places() { // something was moved meanwhile
		places = now
		keys, _ = f.objects()
	}
	keys = slices.DeleteFunc(keys, func(k string) bool {
		return strings.HasPrefix(k, notesPrefix) || strings.HasPrefix(k, uploadPrefix) && len(staged([]string{k}, places)) == 0
	})
	known := map[string]bool{}
	for _, b := range f.rows(`SELECT digest, state, place FROM blob WHERE NOT inline`) {
		alg, hex, _ := strings.Cut(b[0], ":")
		key := contentPrefix + alg + "/" + hex[:2] + "/" + hex + "/data"
		if b[2] != "" { // a move that is not noted yet may have left bytes under the digest as well
			keys = slices.DeleteFunc(keys, func(k string) bool { return k == key })
			key = parkedPrefix + b[2]
		}
		known[key] = true
		if b[1] != "0" {
			f.judge.fault("blob %s is claimed for deletion, and nobody deletes it", b[0])
		}
	}
	for _, r := range f.rows(`SELECT place FROM blob_moved`) {
		keys = slices.DeleteFunc(keys, func(k string) bool { return k == parkedPrefix+r[0] })
	}
	found := 0
	for _, k := range keys {
		if !known[k] {
			f.judge.fault("object %s has no row", k)
		}
		if known[k] {
			found++
			delete(known, k)
		}
	}
	for k := range known {
		f.judge.fault("a row says that there is %s", k)
	}
	f.t.Logf("bucket: %d objects, and as many rows", found)
}

// verifyJobs proves that sweeps did not run side by side, and that none is stuck.
func (f *fleet) verifyJobs() {
	f.t.Helper()
	runs := f.rows(`SELECT id, state, worker, started_at, ended_at FROM job WHERE kind = 'upload.sweep' AND state >= 3 ORDER BY started_at`)
	workers := map[string]int{}
	dead := 0
	for i, r := range runs {
		workers[r[2]]++
		if r[1] == "4" {
			dead++
		}
		if i == 0 {
			continue
		}
		if over := f.number(runs[i-1][4]) - f.number(r[3]); over > 0 {
			f.judge.fault("sweep %s began %s before sweep %s had ended", r[0], time.Duration(over)*time.Microsecond, runs[i-1][0])
		}
	}
	if len(runs) < 5 {
		f.judge.fault("%d sweeps have run, with one every two seconds", len(runs))
	}
	if old := f.count(fmt.Sprintf(`SELECT count(*) FROM job WHERE state = 2 AND started_at < %d`, time.Now().Add(-time.Minute).UnixMicro())); old > 0 {
		f.judge.fault("%d jobs have been running for more than a minute", old)
	}
	f.t.Logf("%d sweeps (%d given up while something was away), one after the other, by %d processes", len(runs), dead, len(workers))
}

// deliveredWithin is how long nothing may come while something is missing: nobody delivers for as long as the lease of a
// replica that was killed still holds.
const deliveredWithin = 45 * time.Second

// verifyNotifications proves that the endpoint was told all that was acknowledged, and all that the outbox has, each
// repository's in its order.
func (c *crowd) verifyNotifications(f *fleet) {
	f.t.Helper()
	events := f.events()
	want := map[string]bool{}
	for _, e := range events {
		if fact := e.fact(); fact != "" {
			want[fact] = true
		}
	}
	acked := 0
	for _, w := range c.writers {
		for _, fact := range w.expected {
			if acked++; !want[string(fact)] {
				f.judge.fault("%s was acknowledged and is not in the outbox", fact)
			}
		}
	}
	missing := f.sink.missing(want)
	for deadline := time.Now().Add(deliveredWithin); len(missing) > 0 && time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		before := len(missing)
		if missing = f.sink.missing(want); len(missing) < before {
			deadline = time.Now().Add(deliveredWithin)
		}
	}
	if len(missing) > 0 {
		f.judge.fault("%d notifications are missing, and nothing has come for %s, such as %q; %s", len(missing), deliveredWithin, missing[0], f.delivery(missing))
	}
	first, again := f.sink.list()
	f.t.Logf("notifications: %d facts told, %d of those that were acknowledged to writers, %d missing; %d told again, %d refused by the endpoint on purpose",
		len(first), acked, len(missing), again, f.sink.failed)
	f.verifyOrder(first, events)
	if left := f.count(`SELECT count(*) FROM delivery_parked`); left > 0 {
		f.judge.fault("%d notifications are still set aside", left)
	}
}

// delivery says for a failure's report how far the endpoint is: whether it is slow, or whether something was left out.
func (f *fleet) delivery(missing []string) string {
	at := f.rows(`SELECT epoch, event, fence, holder, failure FROM delivery WHERE endpoint = 'sink'`)
	passed := 0
	for _, r := range f.rows(`SELECT e.id, e.kind, e.repository, e.digest, e.tag, e.epoch FROM event e, delivery d
		WHERE d.endpoint = 'sink' AND (e.epoch, e.id) <= (d.epoch, d.event)`) {
		if slices.Contains(missing, recorded{f.number(r[0]), r[1], r[2], r[3], r[4]}.fact()) {
			if passed++; passed <= 3 {
				f.t.Logf("left out: %q", r)
			}
		}
	}
	return fmt.Sprintf("%d of them were passed, %d are set aside; the place is %+v", passed, f.count(`SELECT count(*) FROM delivery_parked`), at)
}

// verifyOrder holds the order in which facts came against that of the outbox: facts about one tag, and the deletion of a
// manifest with the pushes of it. (Others of a repository are of transactions that did not wait for each other.)
func (f *fleet) verifyOrder(first []told, events outbox) {
	numbers := map[int64]bool{}
	for _, e := range events {
		numbers[e.ID] = true
	}
	last := map[string]int64{}
	after := func(n told, number int64, key string) {
		if number < last[key] {
			f.judge.fault("%s (event %d) was told after event %d about %s", n.what(), number, last[key], key)
		}
	}
	for _, n := range first {
		number, err := numberOf(n.ID)
		if err != nil || !numbers[number] {
			f.judge.fault("%s was told with the id %s, which is not of an event in the outbox: %v", n.what(), n.ID, err)
		}
		if n.Target.Tag != "" {
			key := n.Target.Repository + ":" + n.Target.Tag
			after(n, number, key)
			last[key] = number
		}
		if n.Target.Digest == "" {
			continue
		}
		pushed, gone := "push of "+n.Target.Repository+"@"+n.Target.Digest, "delete of "+n.Target.Repository+"@"+n.Target.Digest
		after(n, number, gone)
		if n.Action == "delete" {
			after(n, number, pushed)
			last[gone] = number
		} else {
			last[pushed] = max(last[pushed], number)
		}
	}
}

// numberOf is the number in the outbox that the last groups of an event's id are.
func numberOf(id string) (int64, error) {
	parts := strings.Split(id, "-")
	n, err := strconv.ParseUint(strings.Join(parts[max(0, len(parts)-2):], ""), 16, 64)
	return int64(n & (1<<62 - 1)), err //nolint:gosec // of 62 bits
}

// missing are facts that the endpoint was not told.
func (s *sink) missing(want map[string]bool) (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := map[string]bool{}
	for _, n := range s.first {
		got[n.what()] = true
	}
	for w := range want {
		if !got[w] {
			all = append(all, w)
		}
	}
	return all
}
