package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// bench is one run of the program.
type bench struct {
	size     size
	only     *regexp.Regexp
	profile  string
	targets  []*target
	disk     *budget
	progress io.Writer
	started  time.Time
	report   *report
	postgres *postgres // started by the first stage that stands on it

	largeOnce large   // made when first needed: its digest costs a pass over a gigabyte
	layers    []large // of the memory scenario
}

// measure runs all stages. A target that fails is named and left out of that stage; only the end of the context ends the run.
func (b *bench) measure(ctx context.Context) (*report, error) {
	b.report = newReport(b)
	defer func() {
		if b.postgres == nil {
			return
		}
		if err := b.postgres.stop(); err != nil {
			b.report.note("PostgreSQL: %v", err)
		}
	}()
	for _, st := range allStages(b.size) {
		var kept []scenario
		for _, sc := range st.scenarios {
			if b.only.MatchString(sc.name) && (b.size.large || !sc.huge) {
				kept = append(kept, sc)
			}
		}
		if st.scenarios = kept; len(b.fitting(st)) == 0 {
			continue
		}
		b.report.scenarios = append(b.report.scenarios, kept...)
		run := b.runShared
		if st.solo {
			run = b.runSolo
		}
		if err := b.runOn(ctx, st, run); err != nil {
			return b.report, fmt.Errorf("stage %s: %w", st.name, err)
		}
	}
	return b.report, nil
}

// runOn runs a stage with what it stands on. What cannot be started is named, and its stage left out.
func (b *bench) runOn(ctx context.Context, st stage, run func(context.Context, stage, *backends) error) error {
	on, err := b.startBackends(ctx, st.below)
	if err != nil {
		b.report.note("stage %s is left out: %v", st.name, err)
		return context.Cause(ctx)
	}
	defer func() {
		if err := on.stop(ctx); err != nil {
			b.report.note("stage %s: %v", st.name, err)
		}
	}()
	return run(ctx, st, on)
}

// startTarget starts a target as the stage wants it.
func (b *bench) startTarget(ctx context.Context, st stage, t *target, on *backends) (*server, error) {
	if st.start != nil {
		return st.start(ctx, b, t, on)
	}
	return startServer(ctx, t, b.disk.dir, st.secure)
}

// fitting are the targets that have a scenario in the stage.
func (b *bench) fitting(st stage) []*target {
	var ts []*target
	for _, t := range b.targets {
		for _, sc := range st.scenarios {
			if sc.fits(t.can) {
				ts = append(ts, t)
				break
			}
		}
	}
	return ts
}

// runShared starts all targets, prepares all stores, and goes round: scenario by scenario, round by round, target by target; or
// round by round, scenario by scenario.
func (b *bench) runShared(ctx context.Context, st stage, on *backends) error {
	var servers []*server
	defer func() {
		for s, serr := range forEach(servers, (*server).stop) {
			b.report.note("%s, stage %s: %v", s.name, st.name, serr)
		}
	}()
	for _, t := range b.fitting(st) {
		s, err := b.startTarget(ctx, st, t, on)
		if err != nil {
			b.report.note("%s, stage %s: %v", t.name, st.name, err)
			continue
		}
		servers = append(servers, s)
	}
	b.say("stage %s: preparing %d stores", st.name, len(servers))
	failed := st.prepare(ctx, b, servers)
	for s, err := range failed {
		b.report.note("%s could not be prepared for stage %s: %v", s.name, st.name, err)
	}
	sample := func(sc scenario, round int) {
		for _, s := range servers {
			if failed[s] == nil && sc.fits(s.can) && ctx.Err() == nil {
				b.sample(ctx, sc, s, round)
			}
		}
	}
	if st.turns {
		for round := range b.size.rounds {
			for _, sc := range st.scenarios {
				sample(sc, round)
			}
		}
	}
	for _, sc := range st.scenarios {
		for round := range b.size.rounds {
			if !st.turns {
				sample(sc, round)
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b.say("%s", b.report.line(sc))
	}
	return nil
}

// runSolo gives each target, in each round, a process and a store of its own.
func (b *bench) runSolo(ctx context.Context, st stage, on *backends) error {
	b.say("stage %s", st.name)
	for round := range b.size.rounds {
		for _, t := range b.fitting(st) {
			if err := b.soloTarget(ctx, st, t, on, round); err != nil {
				b.report.note("%s, stage %s: %v", t.name, st.name, err)
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
	}
	for _, sc := range st.scenarios {
		b.say("%s", b.report.line(sc))
	}
	return nil
}

func (b *bench) soloTarget(ctx context.Context, st stage, t *target, on *backends, round int) (err error) {
	s, err := b.startTarget(ctx, st, t, on)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if failed := st.prepare(ctx, b, []*server{s}); failed[s] != nil {
		return failed[s]
	}
	for _, sc := range st.scenarios {
		if sc.fits(t.can) && ctx.Err() == nil {
			b.sample(ctx, sc, s, round)
		}
	}
	return nil
}

// sample runs one scenario once.
func (b *bench) sample(ctx context.Context, sc scenario, s *server, round int) {
	syscall.Sync() // what others left dirty is not this target's to write
	collect := b.startProfile(sc, s)
	p, err := sc.run(ctx, b, s, round)
	collect()
	s.trimLogs()
	if err != nil {
		b.report.note("%s, %s: %v", s.name, sc.name, err)
		return
	}
	p.Round = round
	b.report.add(sc, s.name, p)
}

// startProfile takes a CPU profile of berthd beside the scenario when asked to; the result writes it.
func (b *bench) startProfile(sc scenario, s *server) func() {
	if b.profile == "" || s.name != "berthd" {
		return func() {}
	}
	done := make(chan error, 1)
	seconds := max(1, int(b.size.phase/time.Second))
	go func() {
		resp, err := http.Get(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", s.launch.debug, seconds))
		if err != nil {
			done <- err
			return
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if err == nil {
			name := strings.ReplaceAll(sc.name, "/", "_") + ".pprof"
			err = errors.Join(os.MkdirAll(b.profile, 0o755), os.WriteFile(filepath.Join(b.profile, name), data, 0o644))
		}
		done <- err
	}()
	return func() {
		if err := <-done; err != nil {
			b.report.note("profile of %s: %v", sc.name, err)
		}
	}
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.progress, "%6.0fs %s\n", time.Since(b.started).Seconds(), fmt.Sprintf(format, args...))
}
