package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/berth-registry/berth/internal/testkit/machine"
)

const repoGarbage = "garbage/app"

// garbageStages have a running berthd collect what was written into its store as rows and files: half a million pushes would
// take an hour. Half of the blobs are needed by a manifest, and all are due to be looked at.
func garbageStages(z size) []stage {
	start := func(ctx context.Context, b *bench, t *target, _ *backends) (*server, error) {
		return startServerWith(ctx, t, b.disk.dir, false, []string{"BERTH_GC_INTERVAL=24h", "BERTH_JOURNAL=false"})
	}
	filled := func(rows, files int) func(ctx context.Context, b *bench, servers []*server) map[*server]error {
		return func(ctx context.Context, b *bench, servers []*server) map[*server]error {
			return forEach(servers, func(s *server) error {
				return errors.Join(pushImages(ctx, s, images(b.size.images)), fillGarbage(ctx, s, rows, files))
			})
		}
	}
	beside := func(what string, workers int, op func(ctx context.Context, b *bench, s *server, workers int, name string, round int) (phase, error)) scenario {
		name := "gc-beside-" + what
		return scenario{name: name, unit: "×", fits: has(canRows), about: fmt.Sprintf("%s while files are collected at full speed, divided by the same before it, %d at once", what, workers),
			run: func(ctx context.Context, b *bench, s *server, round int) (phase, error) {
				alone, err := op(ctx, b, s, workers, name+"/alone", round)
				if err != nil {
					return phase{}, err
				}
				run := startGC(ctx, s, "run")
				p, err := op(ctx, b, s, workers, name, round)
				if run.over() && err == nil {
					err = errors.New("collection was over first: nothing was measured")
				}
				_, _ = run.wait() // most of it is not this scenario's
				p.Value /= alone.Value
				return p, err
			}}
	}
	return []stage{
		{name: "garbage rows", solo: true, start: start, prepare: filled(z.garbageRows, 0), scenarios: []scenario{
			{name: "gc-preview", unit: "s", lower: true, fits: has(canRows), run: runPreview,
				about: fmt.Sprintf("preview of the collection of %d blobs, half of them garbage", z.garbageRows)},
			{name: "gc-decide", unit: "blobs/s", fits: has(canRows), run: runGC(z.garbageRows),
				about: fmt.Sprintf("collection of %d blobs, half of them garbage, all in the database", z.garbageRows)},
		}},
		{name: "garbage files", solo: true, start: start, prepare: filled(0, z.garbageFiles), scenarios: []scenario{
			{name: "gc-files", unit: "files/s", fits: has(canRows), run: runGC(z.garbageFiles), about: fmt.Sprintf("collection of %d small files", z.garbageFiles)},
		}},
		{name: "pulls beside collection", solo: true, start: start, prepare: filled(0, z.garbageFiles), scenarios: []scenario{
			beside("pulls", 8, func(ctx context.Context, b *bench, s *server, workers int, _ string, _ int) (phase, error) {
				return hot(ctx, s, workers, b.size.phase, layerRequests("GET", b, s.launch.addr))
			})}},
		{name: "pushes beside collection", solo: true, start: start, prepare: filled(0, z.garbageFiles), scenarios: []scenario{
			beside("pushes", 8, func(ctx context.Context, b *bench, s *server, workers int, name string, round int) (phase, error) {
				return runPushImages(name, workers, layerSize, 0)(ctx, b, s, round)
			})}},
	}
}

// garbageDigest spreads numbers over all digests, as content does. kind keeps the blobs of the parts apart.
func garbageDigest(kind, i int) string {
	return fmt.Sprintf("sha256:%08x%08x%048x", uint32(i)*2654435761, kind, i)
}

// The same in SQL, for n.i, and the kinds of blobs.
const (
	garbageDigestSQL = `'sha256:' || printf('%%08x%%08x%%048x', (i * 2654435761) & 4294967295, %d, i)`
	kindNeeded       = 1
	kindRow          = 2
	kindFile         = 3
)

// fillGarbage stops a berthd, writes rows blobs into its database, half of them needed, and files that nothing needs into its
// store, and starts it again.
func fillGarbage(ctx context.Context, s *server, rows, files int) error {
	if err := s.with(func(c *client) error { return c.pushImage(repoGarbage, "needs", newImage(1<<50)) }); err != nil {
		return err
	}
	if err := s.proc.stop(); err != nil {
		return err
	}
	data := filepath.Join(s.launch.dir, "data")
	for i := range files {
		hex := strings.TrimPrefix(garbageDigest(kindFile, i), "sha256:")
		dir := filepath.Join(data, "blobs", "sha256", hex[:2])
		if i < 1024 {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
		}
		err := os.WriteFile(filepath.Join(dir, hex), []byte{0}, 0o600)
		if errors.Is(err, os.ErrNotExist) {
			err = errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, hex), []byte{0}, 0o600))
		}
		if err != nil {
			return err
		}
	}
	if err := insertGarbage(ctx, filepath.Join(data, "berth.db"), rows, files); err != nil {
		return fmt.Errorf("write rows: %w", err)
	}
	return s.start(ctx)
}

func insertGarbage(ctx context.Context, file string, rows, files int) (err error) {
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=synchronous(off)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	const sample = `(SELECT m.id, m.repo_id FROM manifest m JOIN repository r ON r.id = m.repo_id WHERE r.name = '` + repoGarbage + `' LIMIT 1) m`
	blobs := func(kind int, inline, stored string) string {
		return `INSERT INTO blob (digest, size, inline, stored, created_at, lease_until) %s SELECT ` + fmt.Sprintf(garbageDigestSQL, kind) + `, 1, ` + inline + `, ` + stored + `, 1, 1 FROM n`
	}
	links := func(kind int) string {
		return `INSERT INTO repo_blob (repo_id, digest, created_at) %s SELECT m.repo_id, ` + fmt.Sprintf(garbageDigestSQL, kind) + `, 1 FROM n, ` + sample
	}
	contents := func(kind int) string {
		return `INSERT INTO blob_content (digest, bytes) %s SELECT ` + fmt.Sprintf(garbageDigestSQL, kind) + `, x'00' FROM n`
	}
	edges := `INSERT INTO edge (manifest_id, child, kind, repo_id) %s SELECT m.id, ` + fmt.Sprintf(garbageDigestSQL, kindNeeded) + `, 2, m.repo_id FROM n, ` + sample
	for _, part := range []struct {
		count   int
		inserts []string
	}{
		{rows / 2, []string{blobs(kindNeeded, "TRUE", "FALSE"), contents(kindNeeded), links(kindNeeded), edges}},
		{rows / 2, []string{blobs(kindRow, "TRUE", "FALSE"), contents(kindRow), links(kindRow)}},
		{files, []string{blobs(kindFile, "FALSE", "TRUE"), links(kindFile)}},
	} {
		for _, insert := range part.inserts {
			for from := 0; from < part.count; from += rowBatch {
				q := strings.Replace(insert, "%s", `WITH RECURSIVE n(i) AS (SELECT $1 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $2)`, 1)
				if _, err := db.ExecContext(ctx, q, from, min(from+rowBatch, part.count)); err != nil {
					return fmt.Errorf("%.60s…: %w", insert, err)
				}
				if _, err := db.ExecContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// gcCommand is a "berthd gc …" that speaks to the server through its socket.
type gcCommand struct {
	done chan struct{}
	took time.Duration
	out  []byte
	err  error
}

func startGC(ctx context.Context, s *server, verb string) *gcCommand {
	g := &gcCommand{done: make(chan struct{})}
	cmd := exec.CommandContext(ctx, s.launch.binary, "gc", verb, "--data", filepath.Join(s.launch.dir, "data"))
	cmd.Env = machine.CleanEnv()
	go func() {
		began := time.Now()
		g.out, g.err = cmd.CombinedOutput()
		g.took = time.Since(began)
		close(g.done)
	}()
	return g
}

func (g *gcCommand) over() bool {
	select {
	case <-g.done:
		return true
	default:
		return false
	}
}

func (g *gcCommand) wait() (time.Duration, error) {
	<-g.done
	if g.err != nil {
		return g.took, fmt.Errorf("berthd gc: %w: %.500s", g.err, g.out)
	}
	return g.took, nil
}

func runPreview(ctx context.Context, _ *bench, s *server, _ int) (phase, error) {
	took, err := startGC(ctx, s, "preview").wait()
	return phase{Ops: 1, Value: took.Seconds()}, err
}

// runGC collects count blobs, and proves that none of those that are garbage is left.
func runGC(count int) func(ctx context.Context, b *bench, s *server, _ int) (phase, error) {
	return func(ctx context.Context, _ *bench, s *server, _ int) (phase, error) {
		m, err := startMeter(s)
		if err != nil {
			return phase{}, err
		}
		took, err := startGC(ctx, s, "run").wait()
		if err != nil {
			return phase{}, err
		}
		p := phase{Ops: int64(count)}
		if err := m.stop(&p); err != nil {
			return p, err
		}
		p.Value = float64(count) / took.Seconds()
		for _, kind := range []int{kindRow, kindFile} {
			err := s.with(func(c *client) error {
				a, err := c.call("GET", blobPath(repoGarbage, garbageDigest(kind, 0)), nil)
				if err == nil && a.status != 404 {
					err = fmt.Errorf("garbage is answered with status %d after its collection", a.status)
				}
				return err
			})
			if err != nil {
				return p, err
			}
		}
		return p, nil
	}
}
