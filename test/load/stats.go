package main

import (
	"slices"
	"time"
)

// median of values: the middle one, or the mean of the two in the middle; 0 of none. The argument keeps its order.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	v := slices.Sorted(slices.Values(values))
	if mid := len(v) / 2; len(v)%2 == 0 {
		return (v[mid-1] + v[mid]) / 2
	} else {
		return v[mid]
	}
}

// quotient is mine / theirs. The targets of one round ran one after the other, so the median of the quotients of rounds is
// taken: what disturbed a whole round falls out of it. ok is false when theirs has no figures.
func quotient(mine, theirs []phase) (q float64, ok bool) {
	var qs []float64
	for _, m := range mine {
		for _, t := range theirs {
			if m.Round == t.Round && t.Value > 0 {
				qs = append(qs, m.Value/t.Value)
			}
		}
	}
	return median(qs), len(qs) > 0
}

// spread is (largest − smallest) / median: how far the rounds were apart.
func spread(values []float64) float64 {
	m := median(values)
	if m == 0 {
		return 0
	}
	return (slices.Max(values) - slices.Min(values)) / m
}

// quantile is the nearest-rank quantile q (0 … 1) of values, which it sorts; 0 of none.
func quantile(values []time.Duration, q float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	i := int(q * float64(len(values)))
	return values[min(i, len(values)-1)]
}

// medianPhase takes the median of each figure over the rounds by itself, and of memory the largest.
func medianPhase(rounds []phase) phase {
	pick := func(get func(phase) float64) float64 {
		v := make([]float64, len(rounds))
		for i, r := range rounds {
			v[i] = get(r)
		}
		return median(v)
	}
	var m phase
	m.Value = pick(func(p phase) float64 { return p.Value })
	m.Ops = int64(pick(func(p phase) float64 { return float64(p.Ops) }))
	m.Bytes = int64(pick(func(p phase) float64 { return float64(p.Bytes) }))
	m.Wall = time.Duration(pick(func(p phase) float64 { return float64(p.Wall) }))
	m.P50 = time.Duration(pick(func(p phase) float64 { return float64(p.P50) }))
	m.P95 = time.Duration(pick(func(p phase) float64 { return float64(p.P95) }))
	m.P99 = time.Duration(pick(func(p phase) float64 { return float64(p.P99) }))
	m.Own = time.Duration(pick(func(p phase) float64 { return float64(p.Own) }))
	m.Other = pick(func(p phase) float64 { return p.Other })
	for _, r := range rounds {
		m.Peak = max(m.Peak, r.Peak)
	}
	// The median of quotients, not the quotient of medians: rounds differ in how much they did.
	if m.Bytes > 0 {
		m.CPU = time.Duration(pick(phase.cpuPerGB) * float64(m.Bytes))
		m.Behind = time.Duration(pick(phase.behind) * float64(m.Bytes))
	} else {
		m.CPU = time.Duration(pick(phase.cpuPerOp) * float64(m.Ops) * float64(time.Millisecond))
		m.Behind = time.Duration(pick(phase.behind) * float64(m.Ops) * float64(time.Millisecond))
	}
	return m
}
