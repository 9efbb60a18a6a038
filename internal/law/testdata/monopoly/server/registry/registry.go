// Package registry is a room of a fixture.
package registry

import (
	x0 "database/sql"           // want "monopoly of server/metadb"
	x3 "flag"                   // want "monopoly"
	x4 "github.com/spf13/cobra" // want "monopoly"
	x1 "modernc.org/sqlite/lib" // want "monopoly"
	x2 "net/http"               // want "monopoly"
)
