package main

import (
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, tc := range []struct {
		name   string
		values []float64
		want   float64
	}{
		{"none", nil, 0},
		{"one", []float64{7}, 7},
		{"odd, unsorted", []float64{9, 1, 5}, 5},
		{"even", []float64{4, 1, 3, 2}, 2.5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := median(tc.values); got != tc.want {
				t.Errorf("median(%v) = %v, want %v", tc.values, got, tc.want)
			}
		})
	}
	unsorted := []float64{3, 1, 2}
	median(unsorted)
	if unsorted[0] != 3 {
		t.Errorf("median changed its argument to %v", unsorted)
	}
}

// The second round was slow for both: their quotient is as good as any. Rounds that one of them lacks have no say.
func TestQuotient(t *testing.T) {
	mine := []phase{{Round: 0, Value: 60}, {Round: 1, Value: 7}, {Round: 3, Value: 1}, {Round: 4, Value: 66}}
	theirs := []phase{{Round: 0, Value: 100}, {Round: 1, Value: 10}, {Round: 2, Value: 1}, {Round: 4, Value: 100}}
	if got, ok := quotient(mine, theirs); !ok || got != 0.66 {
		t.Errorf("quotient = %v, %v; want 0.66", got, ok)
	}
	for _, none := range [][]phase{nil, {{Value: 0}}} {
		if got, ok := quotient(mine, none); ok {
			t.Errorf("quotient by %v = %v, want none", none, got)
		}
	}
}

func TestSpread(t *testing.T) {
	if got := spread([]float64{80, 100, 120}); got != 0.4 {
		t.Errorf("spread = %v, want 0.4", got)
	}
	if got := spread(nil); got != 0 {
		t.Errorf("spread of nothing = %v, want 0", got)
	}
}

func TestQuantile(t *testing.T) {
	var values []time.Duration
	for i := 100; i >= 1; i-- {
		values = append(values, time.Duration(i))
	}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 51, 0.99: 100, 1: 100} {
		if got := quantile(values, q); got != want {
			t.Errorf("quantile(%v) = %v, want %v", q, got, want)
		}
	}
	if got := quantile(nil, 0.5); got != 0 {
		t.Errorf("quantile of nothing = %v, want 0", got)
	}
}

// One bad round must not move a figure, whichever figure it is; of memory the worst round counts.
func TestMedianPhase(t *testing.T) {
	rounds := []phase{
		{Value: 100, Ops: 1000, CPU: time.Second, Peak: 10},
		{Value: 10, Ops: 100, CPU: 5 * time.Second, Peak: 99},
		{Value: 110, Ops: 1100, CPU: 1100 * time.Millisecond, Peak: 11},
	}
	got := medianPhase(rounds)
	if got.Value != 100 || got.Ops != 1000 || got.Peak != 99 {
		t.Errorf("medianPhase = value %v, ops %v, peak %v; want 100, 1000, 99", got.Value, got.Ops, got.Peak)
	}
	if c := got.cpuPerOp(); c < 0.999 || c > 1.001 {
		t.Errorf("CPU for each operation = %v ms, want 1", c)
	}
	bytes := medianPhase([]phase{{Bytes: 2e9, CPU: 3 * time.Second}, {Bytes: 2e9, CPU: 5 * time.Second}, {Bytes: 2e9, CPU: 4 * time.Second}})
	if c := bytes.cpuPerGB(); c < 1.999 || c > 2.001 {
		t.Errorf("CPU for each GB = %v s, want 2", c)
	}
}

func TestParseStatCPU(t *testing.T) {
	got, err := parseStatCPU("42 (a (b) c) S 1 42 42 0 -1 4194560 100 0 0 0 200 50 40 10 20 0 9 0 100 0 0")
	if err != nil || got != 3*time.Second {
		t.Errorf("parseStatCPU = %v, %v; want 3s", got, err)
	}
	if _, err := parseStatCPU("42 (x) S 1"); err == nil {
		t.Error("a short line was accepted")
	}
}
