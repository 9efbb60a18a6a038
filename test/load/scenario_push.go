package main

import (
	"context"
	"fmt"
	"hash/fnv"
)

const mixedPullsOfTen = 8

// pushSeed separates the content of scenarios and rounds: no blob is ever pushed twice into a store.
func pushSeed(name string, round int) uint64 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return 1<<62 | uint64(h.Sum32())<<28 | uint64(round)<<24
}

// pushScenarios push small images, mount them, and mix pushes with pulls.
func pushScenarios(z size, suffix string) []scenario {
	var scs []scenario
	for _, workers := range []int{1, 8} {
		name := fmt.Sprintf("push-small/w%d%s", workers, suffix)
		scs = append(scs, scenario{name: name, unit: "img/s", fits: has(canPush),
			about: fmt.Sprintf("push of images (manifest, config, 3 layers of 16 KiB, all new), %d at once", workers),
			run:   runPushImages(name, workers, layerSize, z.pushOps)})
	}
	return append(scs,
		scenario{name: "tag-new/w8" + suffix, unit: "tags/s", fits: has(canPush), run: runTags("tag-new"+suffix, false),
			about: "PUT of a manifest that is there by tags that are new, 8 at once"},
		scenario{name: "tag-move/w8" + suffix, unit: "tags/s", fits: has(canPush), run: runTags("tag-move"+suffix, true),
			about: "PUT of manifests that are there by tags that pointed at others: what moved comes into the history, 8 at once"},
		scenario{name: "mount/w8" + suffix, unit: "img/s", fits: has(canMount), run: runMount,
			about: "mount of all blobs of an image into another repository and its manifest, 8 at once"},
		scenario{name: "mixed/w8" + suffix, unit: "img/s", fits: has(canPush), run: runMixed,
			about: "8 workers: 80 % pulls of whole images (manifest, config, 3 layers), 20 % pushes"})
}

// runPushImages pushes images that are all new.
func runPushImages(name string, workers, layer int, maxOps int64) func(context.Context, *bench, *server, int) (phase, error) {
	return func(ctx context.Context, b *bench, s *server, round int) (phase, error) {
		seed := pushSeed(name, round)
		return drive(ctx, s, load{workers: workers, limit: b.size.phase, maxOps: maxOps}, func(c *client, w int, n int64) error {
			return c.pushImage(fmt.Sprintf("load/push-%d", w), fmt.Sprintf("%x", seed+uint64(n)), newImageOf(seed+uint64(n), layer))
		})
	}
}

func runMount(ctx context.Context, b *bench, s *server, round int) (phase, error) {
	imgs := images(b.size.images)
	return drive(ctx, s, load{workers: 8, limit: b.size.phase, maxOps: 2 * b.size.pushOps}, func(c *client, _ int, n int64) error {
		i := int(n) % len(imgs)
		repo := fmt.Sprintf("load/mount-%d-%d", round, int(n)/len(imgs))
		for _, bl := range imgs[i].blobs {
			if err := c.mount(repo, repoImages, bl.digest); err != nil {
				return err
			}
		}
		return c.putManifest(repo, imageTag(i), typeManifest, imgs[i].manifest)
	})
}

func runMixed(ctx context.Context, b *bench, s *server, round int) (phase, error) {
	imgs := images(b.size.images)
	pulls := make([][]request, len(imgs))
	for i, img := range imgs {
		pulls[i] = append(pulls[i], newRequest(s.launch.addr, "GET", manifestPath(repoImages, imageTag(i)), acceptAll, 200, int64(len(img.manifest.data))))
		for _, bl := range img.blobs {
			pulls[i] = append(pulls[i], newRequest(s.launch.addr, "GET", blobPath(repoImages, bl.digest), "", 200, int64(len(bl.data))))
		}
	}
	seed := pushSeed("mixed", round)
	return drive(ctx, s, load{workers: 8, limit: b.size.phase, maxOps: 5 * b.size.pushOps}, func(c *client, w int, n int64) error {
		dice := mix(uint64(n))
		if dice%10 >= mixedPullsOfTen {
			return c.pushImage(fmt.Sprintf("load/push-%d", w), fmt.Sprintf("%x", seed+uint64(n)), newImage(seed+uint64(n)))
		}
		list := pulls[dice/10%uint64(len(pulls))]
		for i := range list {
			if err := c.run(&list[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// runTags points tags at manifests that are there: new ones, or few that go round.
func runTags(name string, move bool) func(context.Context, *bench, *server, int) (phase, error) {
	return func(ctx context.Context, b *bench, s *server, round int) (phase, error) {
		imgs := images(b.size.images)
		return drive(ctx, s, load{workers: 8, limit: b.size.phase}, func(c *client, w int, n int64) error {
			tag := fmt.Sprintf("%s-%d-%d", name, round, n)
			if move {
				tag = fmt.Sprintf("%s-%d", name, w)
			}
			return c.putManifest(repoImages, tag, typeManifest, imgs[int(n)%len(imgs)].manifest)
		})
	}
}
