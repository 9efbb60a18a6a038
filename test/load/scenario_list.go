package main

import (
	"context"
	"fmt"
	"time"
)

const pageSize = 100

func tagsPage(z size) string {
	return fmt.Sprintf("/v2/%s/tags/list?n=%d&last=%s", repoTags, pageSize, listTag(z.tags/2))
}
func tagsWhole() string { return "/v2/" + repoTags + "/tags/list" }
func catalogPage(z size) string {
	return fmt.Sprintf("/v2/_catalog?n=%d&last=%s", pageSize, catalogRepo(z.repos/2))
}
func referrersWhole() string {
	return "/v2/" + repoRefs + "/referrers/" + newEmptyIndex("subject").digest
}
func referrersPage() string { return referrersWhole() + fmt.Sprintf("?n=%d", pageSize) }

// listScenarios read and write where there are many of a thing.
func listScenarios(z size) []scenario {
	return []scenario{
		{name: "tag-get-many/c32", unit: "req/s", fits: has(canPull), run: runTagGet(func(size) []int { return nil }),
			about: fmt.Sprintf("manifest GET of one tag out of %d, 32 connections (dist3, reg2: out of %d)", z.manyTags, z.tags)},
		{name: "tag-get-spread/c32", unit: "req/s", fits: has(canPull | canManyTags), run: runTagGet(spreadTags),
			about: fmt.Sprintf("manifest GET of all of %d tags in turn, 32 connections", z.manyTags)},
		{name: "tag-put-empty/w8", unit: "req/s", fits: has(canPush | canManyTags), run: runTagPut(""),
			about: "PUT of a tag in an empty repository, moved between two manifests, 8 at once"},
		{name: "tag-put-many/w8", unit: "req/s", fits: has(canPush | canManyTags), run: runTagPut(repoManyTags),
			about: fmt.Sprintf("the same in a repository of %d tags", z.manyTags)},
		{name: "tags-page", unit: "ms", lower: true, fits: has(canTags), run: runPage(tagsPage),
			about: fmt.Sprintf("a page of %d tags out of %d", pageSize, z.tags)},
		{name: "tags-whole", unit: "ms", lower: true, fits: has(canTags), run: runPage(func(size) string { return tagsWhole() }),
			about: fmt.Sprintf("tags/list without n, of %d tags", z.tags)},
		{name: "catalog-page", unit: "ms", lower: true, fits: has(canCatalog), run: runPage(catalogPage),
			about: fmt.Sprintf("a page of %d repositories out of %d", pageSize, z.repos)},
		{name: "referrers-page", unit: "ms", lower: true, fits: has(canReferrers), run: runPage(func(size) string { return referrersPage() }),
			about: fmt.Sprintf("a page of %d referrers out of %d", pageSize, z.referrers)},
		{name: "referrers-whole", unit: "ms", lower: true, fits: has(canReferrers), run: runPage(func(size) string { return referrersWhole() }),
			about: fmt.Sprintf("referrers without n, of %d", z.referrers)},
	}
}

// runPage reports the median time of one request, one after the other on one connection.
func runPage(path func(size) string) func(context.Context, *bench, *server, int) (phase, error) {
	return func(ctx context.Context, b *bench, s *server, _ int) (phase, error) {
		p, err := hot(ctx, s, 1, b.size.phase/2, []request{newRequest(s.launch.addr, "GET", path(b.size), "", 200, -1)})
		p.Value = float64(p.P50) / float64(time.Millisecond)
		return p, err
	}
}

func spreadTags(z size) []int {
	is := make([]int, z.manyTags)
	for i := range is {
		is[i] = i
	}
	return is
}

func runTagGet(which func(size) []int) func(context.Context, *bench, *server, int) (phase, error) {
	return func(ctx context.Context, b *bench, s *server, _ int) (phase, error) {
		tags := which(b.size)
		if len(tags) == 0 {
			tags = []int{b.size.manyTags / 2}
			if s.can&canManyTags == 0 {
				tags = []int{b.size.tags / 2}
			}
		}
		m := newEmptyIndex("tagged")
		rs := make([]request, len(tags))
		for i, t := range tags {
			rs[i] = newRequest(s.launch.addr, "GET", manifestPath(repoManyTags, listTag(t)), acceptAll, 200, int64(len(m.data)))
		}
		return hot(ctx, s, 32, b.size.phase, rs)
	}
}

// runTagPut moves one tag of each worker between two manifests, so that no PUT is one that changes nothing. With repo "" each
// round has a repository of its own.
func runTagPut(repo string) func(context.Context, *bench, *server, int) (phase, error) {
	return func(ctx context.Context, b *bench, s *server, round int) (phase, error) {
		const workers = 8
		repo := repo
		if repo == "" {
			repo = fmt.Sprintf("load/few-tags-%d", round)
		}
		two := [2]content{newEmptyIndex("tagged"), newEmptyIndex("moved")}
		if err := s.with(func(c *client) error { return c.putManifest(repo, "moving", typeIndex, two[1]) }); err != nil {
			return phase{}, err
		}
		turn := make([]int, workers)
		return drive(ctx, s, load{workers: workers, limit: b.size.phase}, func(c *client, w int, _ int64) error {
			turn[w]++
			return c.putManifest(repo, listTag(w+1), typeIndex, two[turn[w]%2])
		})
	}
}
