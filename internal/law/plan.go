package law

import (
	"path"
	"strings"
)

// part is what a package is in the house.
type part uint8

const (
	unknown part = iota
	room
	driver // a room's implementation of its own contract: server/blob/fs
	suite  // a contract as a test suite: server/blob/blobtest
	kit    // for tests only: internal/testkit, internal/law
	whole  // whole-product tests and benchmarks, which see the product from outside: test/…
)

// storeys of the house; a room imports only from storeys below its own.
const (
	nouns     = iota // what everything is about, and tools without meaning
	verbs            // image/…: usable by both programs
	ground           // config, identity, telemetry
	machinery        // event, blob, metadb, job, httpd
	engines          // the product's rules
	faces            // what speaks to the outside
	assembly         // server.go; the tool
	programs         // cmd/…
)

// place is where a package stands.
type place struct {
	part   part
	storey int
	room   string // of a driver or suite: the room whose contract it is about
}

// serverRooms are the rooms of the daemon. A new room gets its line here first.
func serverRooms() map[string]int {
	return map[string]int{
		"config": ground, "identity": ground, "telemetry": ground, "recall": ground,
		"event": machinery, "blob": machinery, "metadb": machinery, "job": machinery, "httpd": machinery,
		"registry": engines, "project": engines, "auth": engines, "access": engines, "audit": engines, "quota": engines,
		"retention": engines, "gc": engines, "backup": engines, "blueprint": engines, "tier": engines, "proxy": engines, "replication": engines, "scan": engines, "scrub": engines, "system": engines,
		"trust": engines, "webhook": engines, "peer": engines, "insight": engines, "migrate": engines,
		"distapi": faces, "adminapi": faces, "harborapi": faces, "console": faces,
	}
}

// sideways are the imports that are allowed between rooms of one storey.
func sideways() map[string][]string {
	return map[string][]string{
		"oci": {"fault"}, "oci/ref": {"oci", "fault"},
		"server/telemetry": {"server/config"},
		"server/metadb":    {"server/event"},
		"server/job":       {"server/event", "server/metadb"},
	}
}

// locate finds the place of a package by its path in the module.
func locate(p string) place {
	switch {
	case under(p, "internal/testkit", "internal/law"):
		return place{part: kit}
	case under(p, "test"):
		return place{part: whole, storey: programs}
	case p == "oci", p == "oci/ref", p == "fault", p == "api", under(p, "internal"):
		return place{part: room, storey: nouns}
	case under(p, "image") && p != "image":
		return place{part: room, storey: verbs}
	case p == "server", under(p, "cli"), p == "web":
		return place{part: room, storey: assembly}
	case under(p, "cmd") && p != "cmd":
		return place{part: room, storey: programs}
	}
	rest, ok := strings.CutPrefix(p, "server/")
	if !ok {
		return place{}
	}
	name, below, deep := strings.Cut(rest, "/")
	storey, ok := serverRooms()[name]
	switch {
	case !ok:
		return place{}
	case !deep:
		return place{part: room, storey: storey}
	case strings.HasSuffix(path.Base(below), "test"):
		return place{part: suite, storey: storey, room: "server/" + name}
	}
	return place{part: driver, storey: storey, room: "server/" + name}
}
