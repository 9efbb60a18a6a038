// Package metadb is a room of a fixture.
package metadb

import (
	x0 "database/sql"
	x1 "github.com/jackc/pgx/v5/stdlib"
)
