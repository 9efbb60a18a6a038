package main

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// databaseStage gives berthd SQLite, and a twin of it PostgreSQL; both keep content in files.
func databaseStage(z size) stage {
	return stage{name: "databases", turns: true, below: below{postgres: true}, prepare: prepareDatabases, scenarios: databaseScenarios(z),
		start: func(ctx context.Context, b *bench, t *target, on *backends) (*server, error) {
			s, err := startServer(ctx, t, b.disk.dir, false)
			if err != nil {
				return nil, err
			}
			return withTwin(s, func() (*server, error) { return startBerthd(ctx, b, t, on, 1) })
		}}
}

func prepareDatabases(ctx context.Context, b *bench, servers []*server) map[*server]error {
	imgs := images(b.size.images)
	return forEach(servers, func(s *server) error {
		return errors.Join(pushImages(ctx, s, imgs), pushImages(ctx, s.twin, imgs))
	})
}

// databaseScenarios are the same work on both.
func databaseScenarios(z size) []scenario {
	var scs []scenario
	add := func(name, unit, about string, run func(ctx context.Context, b *bench, s *server, round int) (phase, error)) {
		for _, database := range databases() {
			scs = append(scs, scenario{name: name + "/" + database, unit: unit, about: about + ", " + database, fits: has(canReplicas),
				run: func(ctx context.Context, b *bench, s *server, round int) (phase, error) {
					if database == "postgres" {
						s = s.twin
					}
					return run(ctx, b, s, round)
				}})
		}
	}
	get := func(list func(b *bench, host string) []request) func(context.Context, *bench, *server, int) (phase, error) {
		return func(ctx context.Context, b *bench, s *server, _ int) (phase, error) {
			return hot(ctx, s, 32, b.size.phase, list(b, s.launch.addr))
		}
	}
	add("db-get-tag", "req/s", "manifest GET by tag, 32 connections",
		get(manifestRequests("GET", func(_ image, i int) string { return imageTag(i) })))
	add("db-get-digest", "req/s", "manifest GET by digest, 32 connections",
		get(manifestRequests("GET", func(img image, _ int) string { return img.manifest.digest })))
	add("db-push-small", "img/s", "push of images (manifest, config, 3 layers of 16 KiB, all new), 8 at once", runPushImages("db-push-small", 8, layerSize, z.pushOps))
	return scs
}

// postgresRowsStage fetches pages where PostgreSQL has few and where it has many rows.
func postgresRowsStage(z size) stage {
	return stage{name: "rows in PostgreSQL", turns: true, below: below{postgres: true}, prepare: preparePostgresRows, scenarios: postgresRowScenarios(z),
		start: func(ctx context.Context, b *bench, t *target, on *backends) (*server, error) {
			s, err := startBerthd(ctx, b, t, on, 1)
			if err != nil {
				return nil, err
			}
			return withTwin(s, func() (*server, error) { return startBerthd(ctx, b, t, on, 1) })
		}}
}

func preparePostgresRows(ctx context.Context, b *bench, servers []*server) map[*server]error {
	return forEach(servers, func(s *server) error {
		few, many := fmt.Sprintf(s.on.postgres.dsn, s.space), fmt.Sprintf(s.on.postgres.dsn, s.twin.space)
		return errors.Join(
			fillPostgres(ctx, few, b.size.fewPostgres, io.Discard),
			fillPostgres(ctx, many, b.size.manyPostgres, io.Discard),
			s.on.postgres.exec(ctx, "CHECKPOINT"))
	})
}

// count is the rows of a kind.
func (n postgresRows) count(what string) int {
	switch what {
	case "tags":
		return n.tags
	case "catalog":
		return n.repositories
	default:
		return n.referrers
	}
}

func postgresRowScenarios(z size) []scenario {
	var scs []scenario
	for _, what := range rowPages() {
		for _, many := range []bool{false, true} {
			rows, suffix := func(z size) postgresRows { return z.fewPostgres }, "few"
			if many {
				rows, suffix = func(z size) postgresRows { return z.manyPostgres }, "many"
			}
			scs = append(scs, scenario{name: "pg-rows-" + what.name + "-page-" + suffix, unit: "ms", lower: true, fits: has(canReplicas),
				about: fmt.Sprintf("a page of %d from the middle of %d rows of %s in PostgreSQL, written directly", pageSize, rows(z).count(what.name), what.name),
				run: func(ctx context.Context, b *bench, s *server, _ int) (phase, error) {
					if many {
						s = s.twin
					}
					return runRowPage(ctx, b, s, what, rows(b.size).count(what.name))
				}})
		}
	}
	return append(scs, scenario{name: "pg-tag-get-spread/c32", unit: "req/s", fits: has(canReplicas),
		about: fmt.Sprintf("manifest GET of %d of %d tags in PostgreSQL in turn, 32 connections: most are not remembered", z.manyTags, z.manyPostgres.tags),
		run: func(ctx context.Context, b *bench, s *server, _ int) (phase, error) {
			m := newEmptyIndex("tagged")
			rs := make([]request, b.size.manyTags)
			step := max(1, b.size.manyPostgres.tags/len(rs))
			for i := range rs {
				tag := rowTag(i * step % b.size.manyPostgres.tags)
				rs[i] = newRequest(s.twin.launch.addr, "GET", manifestPath(repoRowTags, tag), acceptAll, 200, int64(len(m.data)))
			}
			return hot(ctx, s.twin, 32, b.size.phase, rs)
		}})
}
