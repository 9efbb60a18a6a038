package main

import (
	"fmt"
	"strings"
)

// goal is one figure that berthd promises, most of them a ratio to another target in the same run.
type goal struct {
	scenario string
	figure   figure
	against  string  // another target; "" with other "": an absolute bound
	other    string  // another scenario of berthd
	atLeast  float64 // either this
	atMost   float64 // or this
	unit     string
}

// figure picks what a goal is about.
type figure uint8

const (
	figValue figure = iota
	figCPUPerGB
	figCPUPerOp // of comparisons only
)

// comparison is a figure of berthd in one scenario divided by the same in another. It is shown, and promises nothing.
type comparison struct {
	scenario, other string
	figure          figure
	about           string
}

// comparisons are what else docs/performance.md says of two scenarios.
func comparisons() []comparison {
	cs := []comparison{{scenario: "tag-move/w8", other: "tag-new/w8", about: "tags/s: what its history costs a tag"}, {scenario: "db-push-small/postgres", other: "db-push-small/sqlite", about: "images/s"}}
	for _, sc := range []string{"scale-get-tag", "scale-blob-16k", "scale-push-small", "scale-push-64k"} {
		many, one := fmt.Sprintf("%s/r%d", sc, replicaCount), sc+"/r1"
		cs = append(cs, comparison{many, one, figValue, "operations/s"}, comparison{many, one, figCPUPerOp, "server CPU for an operation"})
	}
	return cs
}

// compared is a comparison with what was measured.
type compared struct {
	Scenario string  `json:"scenario"`
	Other    string  `json:"other"`
	About    string  `json:"about"`
	Got      float64 `json:"got"`
}

// measure divides; ok is false when one of the two was not measured.
func (c comparison) measure(rounds func(scenario, target string) []phase) (m compared, ok bool) {
	mine, theirs := rounds(c.scenario, "berthd"), rounds(c.other, "berthd")
	m = compared{Scenario: c.scenario, Other: c.other, About: c.about}
	if c.figure == figCPUPerOp {
		mine, theirs = costs(mine), costs(theirs)
	}
	m.Got, ok = quotient(mine, theirs)
	return m, ok
}

// costs are the same rounds with the server CPU for an operation as their value.
func costs(rounds []phase) []phase {
	var out []phase
	for _, p := range rounds {
		out = append(out, phase{Round: p.Round, Value: p.cpuPerOp()})
	}
	return out
}

// goals are the promises of docs/performance.md.
func goals() []goal {
	var gs []goal
	for _, sc := range []string{"manifest-get-tag/c32", "manifest-get-digest/c32", "manifest-head-tag/c32", "manifest-head-digest/c32",
		"blob-head/c32", "blob-get-4k/c32", "blob-get-16k/c32", "tag-get-many/c32"} {
		gs = append(gs, goal{scenario: sc, against: "bare", atLeast: 0.60}, goal{scenario: sc, against: "dist3", atLeast: 6})
	}
	gs = append(gs, goal{scenario: "range-1m/c32", against: "bare", atLeast: 0.80})
	for _, sc := range []string{"push-small/w1", "push-small/w8"} {
		gs = append(gs, goal{scenario: sc, against: "bare+sync", atLeast: 1}, goal{scenario: sc, against: "dist3", atLeast: 5})
	}
	for _, make := range makesOfObjects() {
		for _, sc := range []string{"s3-push-docker", "s3-push-known", "s3-pull-proxied", "s3-pull-redirect"} {
			gs = append(gs, goal{scenario: sc + "/" + make, against: "raw", atLeast: 0.85}, goal{scenario: sc + "-5g/" + make, against: "raw", atLeast: 0.85})
		}
		for _, sc := range []string{"s3-memory-docker", "s3-memory-known"} {
			gs = append(gs, goal{scenario: sc + "/" + make, atMost: 32, unit: "MiB"})
		}
		gs = append(gs, goal{scenario: "gc-objects/" + make, atLeast: 5_000, unit: "objects/s"})
	}
	for _, sc := range []string{"db-get-tag", "db-get-digest"} {
		gs = append(gs, goal{scenario: sc + "/postgres", other: sc + "/sqlite", atLeast: 0.80})
	}
	gs = append(gs, goal{scenario: "rights-bearer", other: "rights-anonymous", atLeast: 0.90}, goal{scenario: "rights-basic", other: "rights-anonymous", atLeast: 0.80})
	gs = append(gs, goal{scenario: "token-basic", atMost: 5, unit: "ms"}, goal{scenario: "token-anonymous", atMost: 5, unit: "ms"})
	for _, l := range apiLists() {
		for _, database := range databases() {
			gs = append(gs, goal{scenario: l.name + "/" + database, atMost: 100, unit: "ms"})
		}
	}
	for _, what := range rowPages() {
		name := "pg-rows-" + what.name + "-page-"
		gs = append(gs, goal{scenario: name + "many", other: name + "few", atMost: 1.2}, goal{scenario: name + "many", atMost: 2, unit: "ms"})
	}
	return append(gs,
		goal{scenario: "gc-offline", against: "dist3", atLeast: 1},
		goal{scenario: "gc-preview", atMost: 10, unit: "s"},
		goal{scenario: "gc-decide", atLeast: 100_000, unit: "blobs/s"},
		goal{scenario: "gc-files", atLeast: 10_000, unit: "files/s"},
		goal{scenario: "gc-beside-pulls", atLeast: 0.90, unit: "×"},
		goal{scenario: "gc-beside-pushes", atLeast: 0.90, unit: "×"},
		goal{scenario: "push-large", against: "bare+sync", atLeast: 0.90},
		goal{scenario: "push-large", figure: figCPUPerGB, atMost: 2.2, unit: "s/GB"},
		goal{scenario: "pull-large", against: "nginx", atLeast: 0.90},
		goal{scenario: "pull-large", figure: figCPUPerGB, atMost: 0.35, unit: "s/GB"},
		goal{scenario: "mount/w8", against: "bare+sync", atLeast: 0.60},
		goal{scenario: "mixed/w8", against: "bare+sync", atLeast: 0.80},
		// Two runs of one and the same work differ by some percent; below 0.9 the number of tags has a say.
		goal{scenario: "tag-put-many/w8", other: "tag-put-empty/w8", atLeast: 0.90},
		goal{scenario: "tags-page", atMost: 2, unit: "ms"},
		goal{scenario: "catalog-page", atMost: 2, unit: "ms"},
		goal{scenario: "referrers-page", atMost: 2, unit: "ms"},
		goal{scenario: "rows-tags-page-1M", other: "rows-tags-page-10k", atMost: 1.2},
		goal{scenario: "rows-catalog-page-1M", other: "rows-catalog-page-10k", atMost: 1.2},
		goal{scenario: "rows-referrers-page-1M", other: "rows-referrers-page-10k", atMost: 1.2},
		goal{scenario: "rows-tags-page-1M", atMost: 2, unit: "ms"},
		goal{scenario: "rows-catalog-page-1M", atMost: 2, unit: "ms"},
		goal{scenario: "rows-referrers-page-1M", atMost: 2, unit: "ms"},
		goal{scenario: "ready-full", atMost: 300, unit: "ms"},
		// The start itself is some 100 ms of CPU; more than that again is work that goes on behind.
		goal{scenario: "work-after-ready-full", atMost: 300, unit: "ms CPU"},
		goal{scenario: "idle-rss-empty", atMost: 60, unit: "MiB"},
		goal{scenario: "idle-rss-full", atMost: 60, unit: "MiB"},
		goal{scenario: "peak-rss-64", atMost: 200, unit: "MiB"},
	)
}

// verdict is a goal with what was measured.
type verdict struct {
	Scenario string  `json:"scenario"`
	Wanted   string  `json:"wanted"`
	Got      float64 `json:"got"`
	Pass     bool    `json:"pass"`
}

// judge compares a goal with the figures; ok is false when one of its figures was not measured.
func (g goal) judge(rounds func(scenario, target string) []phase) (v verdict, ok bool) {
	mine := rounds(g.scenario, "berthd")
	if len(mine) == 0 {
		return v, false
	}
	var got float64
	var of string
	switch {
	case g.against != "":
		got, ok = quotient(mine, rounds(g.scenario, g.against))
		of = " × " + g.against
	case g.other != "":
		got, ok = quotient(mine, rounds(g.other, "berthd"))
		of = " × " + g.other
	case g.figure == figCPUPerGB:
		got, ok, of = medianPhase(mine).cpuPerGB(), true, " "+g.unit
	default:
		got, ok, of = medianPhase(mine).Value, true, " "+g.unit
	}
	if !ok {
		return v, false
	}
	v = verdict{Scenario: g.scenario, Got: got}
	if g.atLeast > 0 {
		v.Wanted, v.Pass = fmt.Sprintf("≥ %.4g%s", g.atLeast, of), got >= g.atLeast
	} else {
		v.Wanted, v.Pass = fmt.Sprintf("≤ %.4g%s", g.atMost, of), got <= g.atMost
	}
	return v, true
}

// ceilingOf names the target that a scenario's figure is held against in the table: the one of its first ratio goal, else the
// built-in ceiling that can do the work.
func ceilingOf(sc scenario) string {
	plain := strings.TrimSuffix(sc.name, "/tls")
	for _, g := range goals() {
		if g.scenario == plain && g.against != "" && g.against != "dist3" {
			return g.against
		}
	}
	for _, name := range []string{"bare", "bare+sync"} {
		for _, k := range kinds() {
			if k.name == name && sc.fits(k.can) {
				return name
			}
		}
	}
	return ""
}
