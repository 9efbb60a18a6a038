package collect

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/berth-registry/berth/internal/testkit/stand"
)

// client is one client, with its dice. Each request goes to whichever replica.
type client struct {
	*race
	id     int
	rnd    *rand.Rand
	deaths int64
	waits  bool // and asks again when it is told to
}

func newClientOf(r *race, id int) *client {
	return &client{race: r, id: id, rnd: rand.New(rand.NewPCG(r.seed, uint64(id)))}
}

// any is a client of whichever replica.
func (c *client) any() *stand.Client {
	c.deaths = c.race.deaths.Load()
	return c.fleet.Client(c.rnd.IntN(len(c.fleet.Replicas)))
}

// want is nil for one of these statuses.
func (c *client) want(what string, a stand.Answer, statuses ...int) error {
	if a.Status == 0 {
		return silence{fmt.Sprintf("%s: %s", what, a), c.deaths}
	}
	for _, s := range statuses {
		if a.Status == s {
			return nil
		}
	}
	return fmt.Errorf("%s: answer %s (after %s); want %d", what, a, a.Ended.Sub(a.Began).Round(time.Millisecond), statuses)
}

// someBlobs are a few different ones of the pool.
func (c *client) someBlobs(n int) (all []stand.Blob) {
	for _, i := range c.rnd.Perm(len(c.pool))[:n] {
		all = append(all, c.pool[i])
	}
	return all
}

func (c *client) repo(kind string) string { return fmt.Sprintf("race/%s%d", kind, c.id) }

// pause waits for a while that may end where collection takes what was deleted.
func (c *client) pause() {
	switch c.rnd.IntN(4) {
	case 0:
		time.Sleep(grace + time.Duration(c.rnd.IntN(400)-100)*time.Millisecond)
	case 1:
		time.Sleep(time.Duration(c.rnd.IntN(int(grace/2/time.Millisecond))) * time.Millisecond)
	}
}

// push pushes a blob in one of the ways.
func (c *client) push(repo string, b stand.Blob) error {
	data := b.Bytes()
	if c.waits || c.rnd.IntN(2) == 0 {
		a := c.any().PushAtOnce(repo, b.Digest, data)
		// berthd itself waits for 20 s before it says so, and a claim that ends may be taken by another replica first.
		for began := time.Now(); c.waits && a.Status == http.StatusServiceUnavailable && a.Header.Get("Retry-After") != "" && time.Since(began) < time.Minute; {
			c.told.Add(1)
			time.Sleep(time.Second)
			a = c.any().PushAtOnce(repo, b.Digest, data)
		}
		return c.want("push of "+b.Digest+" to "+repo, a, http.StatusCreated)
	}
	a := c.any().Begin(repo)
	if err := c.want("begin an upload in "+repo, a, http.StatusAccepted); err != nil {
		return err
	}
	location, half := a.Header.Get("Location"), len(data)/2
	if c.rnd.IntN(2) == 0 {
		if a = c.any().Patch(location, 0, data[:half]); c.want("", a, http.StatusAccepted) != nil {
			return c.want("first half of "+b.Digest+" to "+repo, a, http.StatusAccepted)
		}
		location, data = a.Header.Get("Location"), data[half:]
	}
	return c.want("end of the upload of "+b.Digest+" to "+repo, c.any().Finish(location, b.Digest, data), http.StatusCreated)
}

// ensure asks for a blob and pushes it only when it is not there.
func (c *client) ensure(repo string, b stand.Blob) error {
	a := c.any().Head(repo, "blobs", b.Digest)
	if err := c.want("HEAD of "+b.Digest+" in "+repo, a, http.StatusOK, http.StatusNotFound); err != nil {
		return err
	}
	if a.Status == http.StatusOK {
		c.skips.Add(1)
		return nil
	}
	return c.push(repo, b)
}

// put pushes a manifest whose blobs were all answered for since began. A refusal for want of a blob is a fault when it came before what was
// said of the first blob can have ended; later, as on a machine that is too slow, it is none, and done is false.
func (c *client) put(repo, ref string, m stand.Manifest, began time.Time) (done bool, err error) {
	if ref == "" {
		ref = m.Digest
	}
	a := c.any().PutManifest(repo, ref, m)
	if a.Status == http.StatusNotFound && time.Since(began) > promised {
		return false, nil
	}
	if err := c.want(fmt.Sprintf("manifest %s to %s, all of whose blobs were answered for", m.Digest, repo), a, http.StatusCreated); err != nil {
		return false, err
	}
	c.pushes.Add(1)
	return true, nil
}

// remove deletes a manifest that may be there.
func (c *client) remove(repo string, m stand.Manifest) error {
	a := c.any().Delete(repo, "manifests", m.Digest)
	if err := c.want("delete of manifest "+m.Digest+" in "+repo, a, http.StatusAccepted, http.StatusNotFound); err != nil {
		return err
	}
	c.deletes.Add(1)
	return nil
}

// skip is a client that asks first, as docker does: it pushes an image, deletes it some time later, and comes back.
func (c *client) skip() error {
	repo := c.repo("skip")
	blobs := c.someBlobs(3)
	m := stand.NewImage("skip", nil, blobs...)
	began := time.Now()
	for _, b := range blobs {
		if err := c.ensure(repo, b); err != nil {
			return err
		}
	}
	if c.waits && time.Since(began) > promised/2 {
		return nil // it was told to wait for longer than what it was told before is worth
	}
	if done, err := c.put(repo, "latest", m, began); !done {
		return err
	}
	c.pause()
	return c.remove(repo, m)
}

// mountImage takes blobs from a repository whose images come and go.
func (c *client) mountImage() error {
	from, repo := "race/shared", c.repo("mount")
	if c.rnd.IntN(2) == 0 {
		from = "race/skip0"
	}
	blobs := c.someBlobs(3)
	began := time.Now()
	for _, b := range blobs {
		a := c.any().Mount(repo, b.Digest, from)
		if err := c.want("mount of "+b.Digest+" from "+from, a, http.StatusCreated, http.StatusAccepted); err != nil {
			return err
		}
		if a.Status == http.StatusCreated {
			c.mounts.Add(1)
			continue
		}
		done := c.any().Finish(a.Header.Get("Location"), b.Digest, b.Bytes())
		if err := c.want("push of "+b.Digest+" in place of a mount", done, http.StatusCreated); err != nil {
			return err
		}
	}
	m := stand.NewImage("mount", nil, blobs...)
	if done, err := c.put(repo, "latest", m, began); !done {
		return err
	}
	c.pause()
	return c.remove(repo, m)
}

// again pushes what was deleted a moment ago, at the moment when collection comes for it.
func (c *client) again() error {
	repo := c.repo("again")
	blobs := []stand.Blob{c.pool[c.id%poolSize], c.pool[(c.id*7+3)%poolSize], c.pool[(c.id*3+2)%poolSize]}
	m := stand.NewImage("again", nil, blobs...)
	began := time.Now()
	for _, b := range blobs {
		if err := c.push(repo, b); err != nil {
			return err
		}
	}
	if c.waits && time.Since(began) > promised/2 {
		return nil
	}
	if done, err := c.put(repo, "latest", m, began); !done {
		return err
	}
	if err := c.remove(repo, m); err != nil {
		return err
	}
	if c.rnd.IntN(2) == 0 {
		b := blobs[c.rnd.IntN(len(blobs))]
		if err := c.want("delete of blob "+b.Digest, c.any().Delete(repo, "blobs", b.Digest), http.StatusAccepted, http.StatusNotFound); err != nil {
			return err
		}
	}
	if c.rnd.IntN(2) == 0 {
		time.Sleep(grace + time.Duration(c.rnd.IntN(300))*time.Millisecond)
	}
	return nil
}

const sharedTags = 6

// shared are the images that several clients push and delete in one repository.
func (c *client) shared(i int) (stand.Manifest, []stand.Blob) {
	blobs := []stand.Blob{c.pool[i], c.pool[i+5], c.pool[i+12]}
	return stand.NewImage(fmt.Sprint("shared ", i), nil, blobs...), blobs
}

// shareAndPush pushes one of them: blobs that another client's image needs are skipped, although that is deleted meanwhile.
func (c *client) shareAndPush() error {
	i := c.rnd.IntN(sharedTags)
	m, blobs := c.shared(i)
	began := time.Now()
	for _, b := range blobs {
		if err := c.ensure("race/shared", b); err != nil {
			return err
		}
	}
	if c.rnd.IntN(3) == 0 {
		time.Sleep(time.Duration(c.rnd.IntN(int(grace/2/time.Millisecond))) * time.Millisecond)
	}
	_, err := c.put("race/shared", fmt.Sprint("s", i), m, began)
	return err
}

// shareAndDelete deletes what others push.
func (c *client) shareAndDelete() error {
	m, _ := c.shared(c.rnd.IntN(sharedTags))
	time.Sleep(time.Duration(c.rnd.IntN(100)) * time.Millisecond)
	return c.remove("race/shared", m)
}

// pushSlowly pushes a blob over more than one grace, and its manifest after nearly another.
func (c *client) pushSlowly() error {
	repo := c.repo("slow")
	blobs := c.someBlobs(2)
	blobs[0] = stand.NewBlob(c.newSeed(), 60_000)
	if c.rnd.IntN(3) == 0 {
		blobs[0] = c.pool[c.rnd.IntN(len(c.pool))]
	}
	began, err := c.trickle(repo, blobs[0], grace+time.Duration(c.rnd.IntN(1500))*time.Millisecond)
	if err != nil {
		return err
	}
	c.slow.Add(1)
	if err := c.ensure(repo, blobs[1]); err != nil {
		return err
	}
	// Until shortly before what was said about the first blob is worth nothing any more.
	time.Sleep(promised - 300*time.Millisecond - time.Since(began))
	m := stand.NewImage("slow", nil, blobs...)
	if time.Since(began) > promised-100*time.Millisecond {
		return nil // the machine was too slow to say anything
	}
	if done, err := c.put(repo, "latest", m, began); !done {
		return err
	}
	return c.remove(repo, m)
}

// promised is for how long an answer about a blob holds at least.
const promised = grace

// trickle sends a blob in one request, a little at a time. What is promised of it is promised after the moment last.
func (c *client) trickle(repo string, b stand.Blob, length time.Duration) (last time.Time, err error) {
	to := c.any()
	a := to.Begin(repo)
	if err := c.want("begin a slow upload", a, http.StatusAccepted); err != nil {
		return last, err
	}
	target, err := stand.Finishing(a.Header.Get("Location"), b.Digest)
	if err != nil {
		return last, err
	}
	body, feed := io.Pipe()
	sent := make(chan time.Time, 1)
	go func() {
		data := b.Bytes()
		const pieces = 20
		for i := range pieces {
			if _, err := feed.Write(data[len(data)*i/pieces : len(data)*(i+1)/pieces]); err != nil {
				return
			}
			time.Sleep(length / pieces)
		}
		sent <- time.Now()
		_ = feed.Close()
	}()
	a = to.Stream(context.Background(), http.MethodPut, target, stand.Octets(), body, int64(b.Size))
	_ = body.CloseWithError(io.ErrClosedPipe) // the feeder ends, also when the answer came early
	if err := c.want("slow upload of "+b.Digest, a, http.StatusCreated); err != nil {
		return last, err
	}
	return <-sent, nil
}

// keep pushes images that stay, of content of their own and of the pool, with a referrer, and moves a tag over them.
func (c *client) keep() error {
	const images = 24
	c.mu.Lock()
	n := len(c.kept)
	c.mu.Unlock()
	if n >= 2*images {
		time.Sleep(50 * time.Millisecond)
		return nil
	}
	repo := fmt.Sprintf("race/keep%d", c.rnd.IntN(3))
	blobs := append([]stand.Blob{stand.NewBlob(c.newSeed(), 2_000), stand.NewBlob(c.newSeed(), keptBytes/images)}, c.someBlobs(2)...)
	m := stand.NewImage(fmt.Sprint("keep ", n), nil, blobs...)
	signature := stand.NewImage(fmt.Sprint("signature ", n), &m, blobs[0])
	began := time.Now()
	for _, b := range blobs {
		if err := c.ensure(repo, b); err != nil {
			return err
		}
	}
	for ref, m := range map[string]stand.Manifest{"latest": m, "": signature} {
		if done, err := c.put(repo, ref, m, began); !done {
			return err
		}
		c.race.keep(repo, m)
	}
	return nil
}

// abandon begins uploads and leaves them.
func (c *client) abandon() error {
	b := stand.NewBlob(c.newSeed(), 100_000)
	a := c.any().Begin(c.repo("abandon"))
	if err := c.want("begin an upload", a, http.StatusAccepted); err != nil {
		return err
	}
	a = c.any().Patch(a.Header.Get("Location"), 0, b.Bytes()[:70_000])
	if err := c.want("first part of an upload", a, http.StatusAccepted); err != nil {
		return err
	}
	c.mu.Lock()
	c.open = append(c.open, a.Header.Get("Location"))
	c.mu.Unlock()
	time.Sleep(300 * time.Millisecond)
	// A blob without an image is garbage, too.
	return c.push(c.repo("abandon"), stand.NewBlob(c.newSeed(), 80_000))
}
