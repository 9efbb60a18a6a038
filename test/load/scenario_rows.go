package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// prepareRows gives berthd a second process with a store of many rows beside the one with few.
func prepareRows(ctx context.Context, b *bench, servers []*server) map[*server]error {
	return forEach(servers, func(s *server) error {
		twin, err := startServer(ctx, s.target, b.disk.dir, false)
		if twin != nil {
			s.twin = twin
		}
		if err != nil {
			return err
		}
		return errors.Join(fillRows(ctx, s, b.size.fewRows), fillRows(ctx, twin, b.size.manyRows))
	})
}

// rowPage is a page from the middle of many rows.
type rowPage struct {
	name string
	path func(c *client, count int) (string, error)
}

func rowPages() []rowPage {
	return []rowPage{
		{"tags", func(_ *client, n int) (string, error) {
			return fmt.Sprintf("/v2/%s/tags/list?n=%d&last=%s", repoRowTags, pageSize, rowTag(n/2)), nil
		}},
		{"catalog", func(_ *client, n int) (string, error) {
			return fmt.Sprintf("/v2/_catalog?n=%d&last=%s", pageSize, rowRepo(n/2)), nil
		}},
		{"referrers", secondReferrersPage},
	}
}

// runRowPage reports the median time of a page out of count rows.
func runRowPage(ctx context.Context, b *bench, s *server, what rowPage, count int) (phase, error) {
	var path string
	err := s.with(func(c *client) (err error) {
		path, err = what.path(c, count)
		return err
	})
	if err != nil {
		return phase{}, err
	}
	p, err := hot(ctx, s, 1, b.size.phase/2, []request{newRequest(s.launch.addr, "GET", path, "", 200, -1)})
	p.Value = float64(p.P50) / float64(time.Millisecond)
	return p, err
}

// rowScenarios fetch the same page where there are few and where there are many rows.
func rowScenarios() []scenario {
	var scs []scenario
	for _, what := range rowPages() {
		for _, many := range []bool{false, true} {
			suffix := "10k"
			if many {
				suffix = "1M"
			}
			scs = append(scs, scenario{name: "rows-" + what.name + "-page-" + suffix, unit: "ms", lower: true, fits: has(canRows),
				about: fmt.Sprintf("a page of %d from the middle of %s rows of %s, rows written directly", pageSize, suffix, what.name),
				run: func(ctx context.Context, b *bench, s *server, _ int) (phase, error) {
					count := b.size.fewRows
					if many {
						s, count = s.twin, b.size.manyRows
					}
					return runRowPage(ctx, b, s, what, count)
				}})
		}
	}
	return scs
}

// secondReferrersPage follows the Link of the first page: what a page's key looks like is the server's business.
func secondReferrersPage(c *client, _ int) (string, error) {
	a, err := c.get("/v2/" + repoRowRefs + "/referrers/" + newEmptyIndex("subject").digest + fmt.Sprintf("?n=%d", pageSize))
	if err != nil {
		return "", err
	}
	for line := range strings.SplitSeq(string(a.header), "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		if strings.EqualFold(name, "link") {
			_, rest, _ := strings.Cut(value, "<")
			path, _, ok := strings.Cut(rest, ">")
			if ok {
				return path, nil
			}
		}
	}
	return "", errors.New("the first page of referrers has no Link to the next")
}
