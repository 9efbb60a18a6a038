package law

import (
	"slices"
	"strings"
)

// checkImports applies the import law: arrows point down, engines do not know their neighbours, drivers are chosen in the
// assembly only, the two programs do not meet, and what is for tests stays in tests.
func checkImports(t *Tree, p *Package, report reporter) {
	from := locate(p.Path)
	if from.part == unknown {
		report(p.Files[0].Package, "plan", "package %s has no place in the house; give it one in internal/law/plan.go", p.Path)
		return
	}
	for _, f := range p.Files {
		for _, spec := range f.Imports {
			to, ours := t.within(spec)
			if !ours {
				if importPath(spec) == "testing" && !f.Test() && from.part != suite && from.part != kit && from.part != whole {
					report(spec.Pos(), "imports", "package %s imports testing outside of its tests", p.Path)
				}
				continue
			}
			if why := refuse(p.Path, from, to, f.Test()); why != "" {
				report(spec.Pos(), "imports", "%s imports %s: %s", p.Path, to, why)
			}
		}
	}
}

// refuse says why a package may not import another, "" when it may.
func refuse(from string, a place, to string, test bool) string {
	b := locate(to)
	if b.part == unknown {
		return to + " has no place in the house"
	}
	if from == to || test && under(to, from) { // external tests, and the suites and drivers of one's own room
		return ""
	}
	switch {
	case under(from, "cli", "cmd/berth") && under(to, "server"), under(from, "server", "cmd/berthd") && under(to, "cli"):
		return "the two programs meet only over HTTP"
	case to == "internal/law", b.part == whole:
		return to + " is for nobody to import"
	case b.part == kit && !test && a.part != suite && a.part != kit && a.part != whole:
		return to + " is for tests"
	case a.part == whole:
		if b.storey > verbs {
			return "whole-product tests see the product from outside"
		}
		return ""
	case b.part == suite && !test && a.part != suite:
		return "a suite is for tests"
	case b.part == driver && !test && from != "server" && !under(from, "cmd") && !sameDriver(from, to):
		return "drivers are chosen by server.go and by programs only"
	}
	return refuseStorey(from, a, to, b, test)
}

func refuseStorey(from string, a place, to string, b place, test bool) string {
	if a.room == to && a.room != "" { // a driver or suite and the room above it
		return ""
	}
	switch {
	case a.part == kit, b.part == kit:
		return ""
	case b.storey < a.storey:
		return ""
	case b.storey > a.storey:
		return "arrows point down only"
	case a.storey == verbs, a.storey == assembly && under(from, "cli"):
		return "" // one family
	case sameDriver(from, to):
		return ""
	}
	room := from
	if a.room != "" {
		room = a.room
	}
	if slices.Contains(sideways()[room], to) {
		return ""
	}
	if test && b.storey == a.storey { // a test wires its room with real neighbours
		return ""
	}
	if a.storey == engines {
		return "an engine does not import its neighbours; declare what it needs, and let server.go supply it"
	}
	return "rooms of one storey do not import each other"
}

// sameDriver reports whether two packages are parts of one driver: server/blob/s3 and server/blob/s3/sign.
func sameDriver(from, to string) bool {
	driverOf := func(p string) string {
		parts := strings.SplitN(p, "/", 4)
		if len(parts) < 3 {
			return p
		}
		return strings.Join(parts[:3], "/")
	}
	return strings.HasPrefix(from, "server/") && driverOf(from) == driverOf(to)
}
