package main

import "context"

// scenario is one named piece of work.
type scenario struct {
	name  string
	unit  string // of phase.Value: what the table shows
	about string
	lower bool // a smaller value is the better one
	huge  bool // only with -large
	fits  func(ability) bool
	run   func(ctx context.Context, b *bench, s *server, round int) (phase, error)
}

func has(a ability) func(ability) bool   { return func(k ability) bool { return k&a == a } }
func anyOf(a ability) func(ability) bool { return func(k ability) bool { return k&a != 0 } }

// stage is a set of scenarios that share stores.
type stage struct {
	name   string
	secure bool // over TLS
	// solo starts each target anew for each round, one after the other, and removes its store: for scenarios that write so
	// much that the stores could not stand beside each other.
	solo bool
	// turns goes round scenario by scenario inside a round, for scenarios that are compared with each other.
	turns     bool
	below     below
	start     func(ctx context.Context, b *bench, t *target, on *backends) (*server, error) // nil: a store of its own
	prepare   func(ctx context.Context, b *bench, servers []*server) map[*server]error
	scenarios []scenario
}

// allStages is everything there is to measure, in order.
func allStages(z size) []stage {
	sts := []stage{
		{name: "start", prepare: prepareNothing, scenarios: startScenarios("empty")},
		{name: "push", prepare: prepareImages, scenarios: pushScenarios(z, "")},
		{name: "read", prepare: prepareRead, scenarios: readScenarios("")},
		{name: "lists", prepare: prepareLists, scenarios: append(listScenarios(z), startScenarios("full")...)},
		{name: "large", solo: true, prepare: prepareLarge, scenarios: largeScenarios("")},
		{name: "memory", solo: true, prepare: prepareNothing, scenarios: memoryScenarios()},
		{name: "push over TLS", secure: true, prepare: prepareImages, scenarios: only(pushScenarios(z, "/tls"), "push-small/w8/tls")},
		{name: "read over TLS", secure: true, prepare: prepareRead, scenarios: only(readScenarios("/tls"), "manifest-get-tag/c32/tls", "manifest-head-digest/c32/tls", "blob-get-16k/c32/tls", "range-1m/c32/tls")},
		{name: "large over TLS", secure: true, solo: true, prepare: prepareLarge, scenarios: largeScenarios("/tls")},
		{name: "rows", prepare: prepareRows, scenarios: rowScenarios()},
		collectStage(),
	}
	sts = append(sts, garbageStages(z)...)
	sts = append(sts, objectGarbageStages(z)...)
	sts = append(sts, objectStages()...)
	return append(sts, databaseStage(z), rightsStage(), apiStage(z), replicasStage(z), postgresRowsStage(z))
}

// only keeps the named scenarios.
func only(all []scenario, names ...string) []scenario {
	var kept []scenario
	for _, sc := range all {
		for _, n := range names {
			if sc.name == n {
				kept = append(kept, sc)
			}
		}
	}
	return kept
}

func prepareNothing(context.Context, *bench, []*server) map[*server]error { return nil }
