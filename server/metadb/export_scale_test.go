package metadb

import (
	"context"
	"database/sql"
)

// Asked is a statement with its arguments.
type Asked struct {
	Query string
	Args  []any
}

// Record has a database remember what it is asked.
func Record(db *DB) (asked func() []Asked) {
	r := &recorder{session: db.Reads.s}
	db.Reads.s = r
	return func() []Asked {
		all := r.asked
		r.asked = nil
		return all
	}
}

type recorder struct {
	session
	asked []Asked
}

func (r *recorder) query(ctx context.Context, each func(*sql.Rows) error, query string, args ...any) error {
	r.asked = append(r.asked, Asked{query, args})
	return r.session.query(ctx, each, query, args...)
}
