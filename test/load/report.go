package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"time"
)

// report gathers the figures of a run.
type report struct {
	quick      bool
	roundCount int
	targets    []string
	scenarios  []scenario // that were asked for, in order
	samples    map[string]map[string][]phase
	notes      []string
	say        func(format string, args ...any)
}

func newReport(b *bench) *report {
	r := &report{quick: b.size.rounds == 1, roundCount: b.size.rounds, samples: map[string]map[string][]phase{}, say: b.say}
	for _, t := range b.targets {
		r.targets = append(r.targets, t.name)
	}
	return r
}

// note keeps what went wrong, and says it at once.
func (r *report) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.notes = append(r.notes, text)
	r.say("! %s", text)
}

func (r *report) add(sc scenario, target string, p phase) {
	if r.samples[sc.name] == nil {
		r.samples[sc.name] = map[string][]phase{}
	}
	r.samples[sc.name][target] = append(r.samples[sc.name][target], p)
}

// rounds are all figures of a scenario on a target.
func (r *report) rounds(scenario, target string) []phase { return r.samples[scenario][target] }

// value is the median of a scenario on a target, if it was measured.
func (r *report) value(scenario, target string) (phase, bool) {
	rounds := r.samples[scenario][target]
	if len(rounds) == 0 {
		return phase{}, false
	}
	return medianPhase(rounds), true
}

// verdicts judges every goal that could be measured.
func (r *report) verdicts() []verdict {
	var vs []verdict
	for _, g := range goals() {
		if v, ok := g.judge(r.rounds); ok {
			vs = append(vs, v)
		}
	}
	return vs
}

// compared divides every pair of scenarios that was measured.
func (r *report) compared() []compared {
	var all []compared
	for _, c := range comparisons() {
		if m, ok := c.measure(r.rounds); ok {
			all = append(all, m)
		}
	}
	return all
}

// measured are the scenarios that have a figure.
func (r *report) measured() []scenario {
	var scs []scenario
	for _, sc := range r.scenarios {
		if len(r.samples[sc.name]) > 0 {
			scs = append(scs, sc)
		}
	}
	return scs
}

type jsonReport struct {
	Time      time.Time                     `json:"time"`
	CPUs      int                           `json:"cpus"`
	Rounds    int                           `json:"rounds"`
	Targets   []string                      `json:"targets"`
	Scenarios []jsonScenario                `json:"scenarios"`
	Samples   map[string]map[string][]phase `json:"samples"` // scenario → target → rounds
	Verdicts  []verdict                     `json:"verdicts"`
	Compared  []compared                    `json:"compared,omitempty"`
	Notes     []string                      `json:"notes,omitempty"`
}

type jsonScenario struct {
	Name  string `json:"name"`
	Unit  string `json:"unit"`
	About string `json:"about"`
}

func (r *report) writeJSON(path string) error {
	j := jsonReport{Time: time.Now().UTC().Truncate(time.Second), CPUs: runtime.NumCPU(), Rounds: r.roundCount, Targets: r.targets, Samples: r.samples,
		Verdicts: r.verdicts(), Compared: r.compared(), Notes: r.notes}
	for _, sc := range r.measured() {
		j.Scenarios = append(j.Scenarios, jsonScenario{sc.name, sc.unit, sc.about})
	}
	data, err := json.MarshalIndent(j, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
