// Package metadb is a room of a fixture.
package metadb

import _ "modernc.org/sqlite"
