package metadb

import (
	"context"
	"strconv"
	"strings"
)

// CopyByPages is Copy with pages of so many rows.
func CopyByPages(ctx context.Context, o CopyOptions, rows int) ([]CopiedTable, error) {
	o.pageRows = rows
	return Copy(ctx, o)
}

// TableColumns are the tables that are copied, in the order in which they are, with their columns.
func TableColumns(ctx context.Context, o Options) (tables []string, columns map[string][]string, cursors map[string][2]string, err error) {
	s, err := openSide(ctx, o)
	if err != nil {
		return nil, nil, nil, err
	}
	defer s.close()
	all, err := s.describe(ctx)
	columns = map[string][]string{}
	for _, t := range all {
		tables = append(tables, t.name)
		columns[t.name] = names(t.columns)
	}
	return tables, columns, cursorColumns(), err
}

// FillEmpty gives every table that is empty a row of made-up values, for tables whose rows no test makes otherwise.
func FillEmpty(ctx context.Context, o Options) (filled []string, err error) {
	s, err := openSide(ctx, o)
	if err != nil {
		return nil, err
	}
	defer s.close()
	all, err := s.describe(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range all {
		if n, err := s.count(ctx, &t); err != nil || n > 0 {
			if err != nil {
				return nil, err
			}
			continue
		}
		var values []any
		var marks []string
		for i, c := range t.columns {
			values = append(values, map[columnKind]any{textColumn: "text é", bytesColumn: []byte{0, 255}, intColumn: int64(7), boolColumn: true}[c.kind])
			marks = append(marks, "$"+strconv.Itoa(i+1))
		}
		if err := s.exec(ctx, "INSERT INTO "+quote(t.name)+" ("+list(names(t.columns))+") VALUES ("+strings.Join(marks, ", ")+")", values...); err != nil {
			return nil, err
		}
		filled = append(filled, t.name)
	}
	return filled, nil
}
