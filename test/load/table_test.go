package main

import (
	"strings"
	"testing"
	"time"
)

func TestNumber(t *testing.T) {
	for x, want := range map[float64]string{0: "0.00", 0.01234: "0.0123", 0.5: "0.50", 12.34: "12.3", 123.4: "123", 1234: "1,234", 1234567: "1,234,567"} {
		if got := number(x); got != want {
			t.Errorf("number(%v) = %q, want %q", x, got, want)
		}
	}
}

// figures of a small run, as rounds() of a report gives them.
func figures(m map[string]float64) func(scenario, target string) []phase {
	return func(scenario, target string) []phase {
		if v, ok := m[scenario+" "+target]; ok {
			return []phase{{Value: v}}
		}
		return nil
	}
}

func TestJudge(t *testing.T) {
	for _, tc := range []struct {
		name   string
		goal   goal
		have   map[string]float64
		judged bool
		pass   bool
		wanted string
	}{
		{"ratio met", goal{scenario: "a", against: "bare", atLeast: 0.6}, map[string]float64{"a berthd": 60, "a bare": 100}, true, true, "≥ 0.6 × bare"},
		{"ratio missed", goal{scenario: "a", against: "bare", atLeast: 0.6}, map[string]float64{"a berthd": 59, "a bare": 100}, true, false, "≥ 0.6 × bare"},
		{"other target not measured", goal{scenario: "a", against: "bare", atLeast: 0.6}, map[string]float64{"a berthd": 59}, false, false, ""},
		{"berthd not measured", goal{scenario: "a", atMost: 2}, map[string]float64{"a bare": 59}, false, false, ""},
		{"bound met", goal{scenario: "a", atMost: 2, unit: "ms"}, map[string]float64{"a berthd": 2}, true, true, "≤ 2 ms"},
		{"bound missed", goal{scenario: "a", atMost: 2, unit: "ms"}, map[string]float64{"a berthd": 2.1}, true, false, "≤ 2 ms"},
		{"other scenario", goal{scenario: "a", other: "b", atMost: 1.2}, map[string]float64{"a berthd": 1.3, "b berthd": 1}, true, false, "≤ 1.2 × b"},
		{"other figure is nothing", goal{scenario: "a", other: "b", atMost: 1.2}, map[string]float64{"a berthd": 1, "b berthd": 0}, false, false, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v, ok := tc.goal.judge(figures(tc.have))
			if ok != tc.judged || v.Pass != tc.pass || v.Wanted != tc.wanted {
				t.Errorf("judge = %+v, %v; want pass %v, wanted %q, judged %v", v, ok, tc.pass, tc.wanted, tc.judged)
			}
		})
	}
}

// Every goal must name scenarios and targets that there are, and the target must be able to do the work.
func TestGoalsAreMeasurable(t *testing.T) {
	scenarios, able := map[string]scenario{}, map[string]ability{}
	for _, st := range allStages(fullSize()) {
		for _, sc := range st.scenarios {
			if _, twice := scenarios[sc.name]; twice {
				t.Errorf("scenario %s is there twice", sc.name)
			}
			scenarios[sc.name] = sc
		}
	}
	for _, k := range kinds() {
		able[k.name] = k.can
	}
	for _, c := range comparisons() {
		if scenarios[c.scenario].run == nil || scenarios[c.other].run == nil {
			t.Errorf("a comparison names the scenarios %s and %s, one of which is not there", c.scenario, c.other)
		}
	}
	for _, g := range goals() {
		sc, ok := scenarios[g.scenario]
		if !ok {
			t.Errorf("a goal names the scenario %s, which is not there", g.scenario)
			continue
		}
		if g.other != "" && scenarios[g.other].run == nil {
			t.Errorf("the goal of %s names the scenario %s, which is not there", g.scenario, g.other)
		}
		for _, target := range []string{"berthd", g.against} {
			if target != "" && !sc.fits(able[target]) {
				t.Errorf("the goal of %s needs %s, which cannot do it", g.scenario, target)
			}
		}
		if (g.atLeast > 0) == (g.atMost > 0) {
			t.Errorf("the goal of %s has no bound or two", g.scenario)
		}
	}
}

// A comparison divides round by round, and CPU by what was done with it.
func TestComparison(t *testing.T) {
	rounds := map[string][]phase{
		"a": {{Round: 0, Value: 300, Ops: 300, CPU: 3 * time.Second}, {Round: 1, Value: 20, Ops: 20, CPU: time.Second}},
		"b": {{Round: 0, Value: 100, Ops: 100, CPU: 500 * time.Millisecond}, {Round: 1, Value: 10, Ops: 10, CPU: 250 * time.Millisecond}},
	}
	of := func(scenario, _ string) []phase { return rounds[scenario] }
	for f, want := range map[figure]float64{figValue: 2.5, figCPUPerOp: 2} {
		if got, ok := (comparison{scenario: "a", other: "b", figure: f}).measure(of); !ok || got.Got != want {
			t.Errorf("figure %d: %+v, %v; want %v", f, got, ok, want)
		}
	}
	if got, ok := (comparison{scenario: "a", other: "c"}).measure(of); ok {
		t.Errorf("with what was not measured: %+v", got)
	}
}

func TestTableShowsRatiosAndVerdicts(t *testing.T) {
	r := &report{roundCount: 3, targets: []string{"berthd", "bare", "dist3"}, samples: map[string]map[string][]phase{}, say: t.Logf}
	sc := only(readScenarios(""), "blob-head/c32")[0]
	r.scenarios = []scenario{sc}
	for target, values := range map[string][]float64{"berthd": {700, 650, 100}, "bare": {1000, 1000, 1000}, "dist3": {100, 100, 90}} {
		for round, v := range values {
			r.add(sc, target, phase{Round: round, Value: v, Ops: 1, Wall: 1})
		}
	}
	var out strings.Builder
	r.print(&out)
	for _, want := range []string{"0.65 bare", "6.50", "PASS", "2 of 2 goals pass"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
}
