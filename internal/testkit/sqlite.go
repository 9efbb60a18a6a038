package testkit

import (
	"database/sql"
	"errors"
	"fmt"

	_ "modernc.org/sqlite" // the driver that berthd itself uses
)

// SQLite asks a database file a question beside the berthd that has it open, and changes nothing. Rows are text, NULL is "".
func SQLite(file, query string, args ...any) (all [][]string, err error) {
	db, err := sql.Open("sqlite", "file:"+file+"?mode=ro&_pragma=busy_timeout(10000)")
	if err != nil {
		return nil, fmt.Errorf("testkit: open %s: %w", file, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rows, err := db.Query(query, args...)
	if err != nil {
		return nil, fmt.Errorf("testkit: %s: %w", query, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		texts, into := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range texts {
			into[i] = &texts[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		row := make([]string, len(columns))
		for i, text := range texts {
			row[i] = text.String
		}
		all = append(all, row)
	}
	return all, rows.Err()
}
