package metadb_test

import (
	"database/sql"
	"strings"
	"testing"
)

// explain is a plan as lines; width is the number of columns, of which the last is the line.
func explain(t testing.TB, db *sql.DB, query string, width int, args ...any) string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	var lines []string
	for rows.Next() {
		columns := make([]any, width)
		var line string
		for i := range columns {
			columns[i] = new(any)
		}
		columns[width-1] = &line
		if err := rows.Scan(columns...); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}
