package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// The repositories of a prepared store.
const (
	repoImages   = "load/images"
	repoTags     = "load/tags"
	repoManyTags = "load/many-tags"
	repoRefs     = "load/subjects"
	repoLarge    = "load/large"
	catalogRoot  = "catalog"
	seedBlobs    = 1 << 40 // seeds of other content: images use the numbers below
	seedRange    = 1<<40 + 1<<20
	seedLarge    = 1<<40 + 2<<20
	seedLayers   = 1<<40 + 3<<20
	fillWorkers  = 32
)

func imageTag(i int) string    { return fmt.Sprintf("v%04d", i) }
func listTag(i int) string     { return fmt.Sprintf("t%06d", i) }
func catalogRepo(i int) string { return fmt.Sprintf("%s/r%06d", catalogRoot, i) }

// images of the repository that is read; made anew where needed, from their numbers.
func images(n int) []image {
	imgs := make([]image, n)
	for i := range imgs {
		imgs[i] = newImage(uint64(i))
	}
	return imgs
}

func smallBlobs(n int) []content {
	blobs := make([]content, n)
	for i := range blobs {
		blobs[i] = newBlob(4<<10, seedBlobs+uint64(i))
	}
	return blobs
}

// forEach prepares servers side by side and gathers who failed.
func forEach(servers []*server, prepare func(*server) error) map[*server]error {
	failed := map[*server]error{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, s := range servers {
		wg.Go(func() {
			if err := prepare(s); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed[s] = err
			}
		})
	}
	wg.Wait()
	return failed
}

func pushImages(ctx context.Context, s *server, imgs []image) error {
	return each(ctx, s, 8, len(imgs), func(c *client, i int) error { return c.pushImage(repoImages, imageTag(i), imgs[i]) })
}

// prepareImages pushes the images that are mounted and pulled beside pushes.
func prepareImages(ctx context.Context, b *bench, servers []*server) map[*server]error {
	imgs := images(b.size.images)
	return forEach(servers, func(s *server) error { return pushImages(ctx, s, imgs) })
}

// prepareRead pushes images, small blobs and one blob for ranges, and teaches bare the answers of the first real registry.
func prepareRead(ctx context.Context, b *bench, servers []*server) map[*server]error {
	imgs, blobs, ranged := images(b.size.images), smallBlobs(b.size.blobs), newLarge(b.size.rangeBlob, seedRange)
	failed := forEach(servers, func(s *server) error {
		if s.can&canPush == 0 {
			return nil
		}
		if err := pushImages(ctx, s, imgs); err != nil {
			return err
		}
		err := each(ctx, s, 8, len(blobs), func(c *client, i int) error { return c.pushBlob(repoImages, blobs[i]) })
		if err != nil {
			return err
		}
		return s.with(func(c *client) error { return c.pushLarge(repoImages, ranged) })
	})
	var paths []string
	for i, img := range imgs {
		paths = append(paths, manifestPath(repoImages, imageTag(i)), manifestPath(repoImages, img.manifest.digest), blobPath(repoImages, img.blobs[1].digest))
	}
	for _, bl := range blobs {
		paths = append(paths, blobPath(repoImages, bl.digest))
	}
	teachBare(ctx, b, servers, failed, func(ref, bare *server) error {
		if err := copyAnswers(ctx, ref, bare, paths); err != nil {
			return err
		}
		return teachFile(ref, bare, blobPath(repoImages, ranged.digest), ranged)
	})
	return failed
}

// prepareLists brings many tags, repositories and referrers into every store, through the API or as files.
func prepareLists(ctx context.Context, b *bench, servers []*server) map[*server]error {
	z := b.size
	failed := forEach(servers, func(s *server) error {
		if s.can&canPush == 0 {
			return nil
		}
		return fillLists(ctx, s, z)
	})
	teachBare(ctx, b, servers, failed, func(ref, bare *server) error {
		paths := []string{tagsPage(z), tagsWhole(), catalogPage(z), manifestPath(repoManyTags, listTag(z.manyTags/2))}
		if ref.can&canManyTags == 0 || ref.can&canReferrers == 0 {
			return fmt.Errorf("%s has neither %d tags nor referrers that it could repeat", ref.name, z.manyTags)
		}
		paths = append(paths, referrersWhole(), referrersPage())
		for i := range z.manyTags {
			paths = append(paths, manifestPath(repoManyTags, listTag(i)))
		}
		return copyAnswers(ctx, ref, bare, paths)
	})
	return failed
}

func fillLists(ctx context.Context, s *server, z size) error {
	m := newEmptyIndex("tagged")
	many := z.manyTags
	if s.can&canManyTags == 0 {
		many = z.tags // see canManyTags: their cost does not depend on the number
	}
	err := s.with(func(c *client) error {
		for _, repo := range []string{repoTags, repoManyTags} {
			if err := c.putManifest(repo, listTag(0), typeIndex, m); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if s.seed != nil {
		for repo, n := range map[string]int{repoTags: z.tags, repoManyTags: many} {
			if err := s.seed(s, seeding{repo: repo, manifest: m, tags: numbered(n, listTag)}); err != nil {
				return err
			}
		}
		return s.seed(s, seeding{repos: numbered(z.repos, catalogRepo)})
	}
	for repo, n := range map[string]int{repoTags: z.tags, repoManyTags: many} {
		if err := each(ctx, s, fillWorkers, n, func(c *client, i int) error { return c.putManifest(repo, listTag(i), typeIndex, m) }); err != nil {
			return err
		}
	}
	err = each(ctx, s, fillWorkers, z.repos, func(c *client, i int) error { return c.putManifest(catalogRepo(i), "v1", typeIndex, m) })
	if err != nil || s.can&canReferrers == 0 {
		return err
	}
	return fillReferrers(ctx, s, z.referrers)
}

func numbered(n int, name func(int) string) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = name(i)
	}
	return names
}

func fillReferrers(ctx context.Context, s *server, n int) error {
	subject := newEmptyIndex("subject")
	err := s.with(func(c *client) error {
		if err := c.pushBlob(repoRefs, newContent([]byte("{}"))); err != nil {
			return err
		}
		return c.putManifest(repoRefs, "subject", typeIndex, subject)
	})
	if err != nil {
		return err
	}
	return each(ctx, s, 8, n, func(c *client, i int) error {
		r := newReferrer(subject, i)
		return c.putManifest(repoRefs, r.digest, typeManifest, r)
	})
}

// prepareLarge puts the large file in place for the targets that only serve it; the others get it by push.
func prepareLarge(_ context.Context, b *bench, servers []*server) map[*server]error {
	l := b.large()
	return forEach(servers, func(s *server) error {
		switch {
		case s.can&canPush != 0:
			return nil
		case s.name == "nginx":
			return writeLarge(filepath.Join(s.launch.dir, "html", blobPath(repoLarge, l.digest)), l)
		default:
			return teachFile(nil, s, blobPath(repoLarge, l.digest), l)
		}
	})
}

// large is the blob of the large stages.
func (b *bench) large() large {
	if b.largeOnce.size == 0 {
		b.largeOnce = newLarge(b.size.largeBlob, seedLarge)
	}
	return b.largeOnce
}

func writeLarge(path string, l large) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := l.writeTo(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// teachBare runs teach for the bare server with the first registry that was prepared as the one whose answers count.
func teachBare(_ context.Context, b *bench, servers []*server, failed map[*server]error, teach func(ref, bare *server) error) {
	var ref, bare *server
	for _, s := range servers {
		switch {
		case s.name == "bare":
			bare = s
		case ref == nil && s.can&canPush != 0 && s.can&canPull != 0 && failed[s] == nil:
			ref = s
		}
	}
	if bare == nil {
		return
	}
	if ref == nil {
		failed[bare] = fmt.Errorf("there is no registry whose answers it could repeat")
		return
	}
	if err := teach(ref, bare); err != nil {
		failed[bare] = err
		return
	}
	b.say("bare repeats the answers of %s", ref.name)
}

// copyAnswers reads paths from ref and teaches bare the same bytes and headers.
func copyAnswers(ctx context.Context, ref, bare *server, paths []string) error {
	const readers = 8
	sources := make(chan *client, readers)
	for range readers {
		sources <- ref.client()
	}
	defer func() {
		for range readers {
			(<-sources).close()
		}
	}()
	return each(ctx, bare, readers, len(paths), func(c *client, i int) error {
		from := <-sources
		defer func() { sources <- from }()
		a, err := from.get(paths[i])
		if err != nil {
			return err
		}
		return teachAnswer(c, paths[i], answerHeaders(a.header), a.body)
	})
}

func teachAnswer(c *client, path string, headers []string, body []byte) error {
	a, err := c.call("PUT", path, body, headers...)
	if err == nil && a.status != 201 {
		err = fmt.Errorf("teach bare %s: status %d", path, a.status)
	}
	return err
}

// teachFile lets bare serve l from a file at path, with the headers of ref when there is one.
func teachFile(ref, bare *server, path string, l large) error {
	file := filepath.Join(bare.launch.dir, strings.TrimPrefix(l.digest, "sha256:"))
	if err := writeLarge(file, l); err != nil {
		return err
	}
	headers := []string{fileHeader, file}
	if ref != nil {
		err := ref.with(func(c *client) error {
			a, err := c.call("HEAD", path, nil)
			if err == nil && a.status != 200 {
				err = fmt.Errorf("HEAD %s: status %d", path, a.status)
			}
			headers = append(headers, answerHeaders(a.header)...)
			return err
		})
		if err != nil {
			return err
		}
	}
	return bare.with(func(c *client) error { return teachAnswer(c, path, headers, nil) })
}

// answerHeaders turns an answer's headers into the ones that teach bare; what net/http sets by itself is left to it.
func answerHeaders(head []byte) []string {
	var headers []string
	_, lines, _ := strings.Cut(string(head), "\r\n")
	for line := range strings.SplitSeq(lines, "\r\n") {
		name, value, ok := strings.Cut(line, ":")
		switch strings.ToLower(name) {
		case "date", "content-length", "connection", "transfer-encoding", "accept-ranges":
			continue
		}
		if ok {
			headers = append(headers, answerPrefix+name, strings.TrimSpace(value))
		}
	}
	return headers
}

func manifestPath(repo, reference string) string { return "/v2/" + repo + "/manifests/" + reference }
func blobPath(repo, digest string) string        { return "/v2/" + repo + "/blobs/" + digest }
