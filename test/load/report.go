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
	quick     bool
	rounds    int
	targets   []string
	scenarios []scenario // in the order in which they were first measured
	samples   map[string]map[string][]phase
	notes     []string
	say       func(format string, args ...any)
}

func newReport(b *bench) *report {
	r := &report{quick: b.size.rounds == 1, rounds: b.size.rounds, samples: map[string]map[string][]phase{}, say: b.say}
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
		r.scenarios = append(r.scenarios, sc)
	}
	r.samples[sc.name][target] = append(r.samples[sc.name][target], p)
}

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
		if v, ok := g.judge(r.value); ok {
			vs = append(vs, v)
		}
	}
	return vs
}

type jsonReport struct {
	Time      time.Time                     `json:"time"`
	CPUs      int                           `json:"cpus"`
	Rounds    int                           `json:"rounds"`
	Targets   []string                      `json:"targets"`
	Scenarios []jsonScenario                `json:"scenarios"`
	Samples   map[string]map[string][]phase `json:"samples"` // scenario → target → rounds
	Verdicts  []verdict                     `json:"verdicts"`
	Notes     []string                      `json:"notes,omitempty"`
}

type jsonScenario struct {
	Name  string `json:"name"`
	Unit  string `json:"unit"`
	About string `json:"about"`
}

func (r *report) writeJSON(path string) error {
	j := jsonReport{Time: time.Now().UTC().Truncate(time.Second), CPUs: runtime.NumCPU(), Rounds: r.rounds, Targets: r.targets, Samples: r.samples,
		Verdicts: r.verdicts(), Notes: r.notes}
	for _, sc := range r.scenarios {
		j.Scenarios = append(j.Scenarios, jsonScenario{sc.name, sc.unit, sc.about})
	}
	data, err := json.MarshalIndent(j, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
