package adminapi

import (
	"strings"

	"github.com/berth-registry/berth/server/metadb"
)

// The orders of lists: what a parameter sort may say is the list of words in its declaration, and a word is one of these. A
// minus in front of it is the other way round.

// ByNameQuery is the order of lists by name or age.
type ByNameQuery struct {
	Sort string `query:"sort" enum:"name,-name,created,-created" default:"name" doc:"The order; with a minus it is the other way round."`
}

// orderOf is the order that a word of a parameter sort names.
func orderOf(sort string) metadb.Order {
	word, down := strings.CutPrefix(sort, "-")
	o := metadb.Order{Down: down}
	switch word {
	case "created":
		o.By = metadb.ByCreated
	case "lastUsed":
		o.By = metadb.ByUsed
	case "updated":
		o.By = metadb.ByMoved
	}
	return o
}
