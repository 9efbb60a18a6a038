package metadb

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// where gathers the conditions of a list and their values. Conditions are constants of this room, in which each ? stands
// for the next value; what callers ask for only ever becomes a value.
type where struct {
	text strings.Builder
	args []any
}

// and adds a condition.
func (w *where) and(condition string, values ...any) {
	if w.text.Len() > 0 {
		w.text.WriteString(" AND ")
	}
	parts := strings.Split(condition, "?")
	w.text.WriteString(parts[0])
	for i, part := range parts[1:] {
		w.args = append(w.args, values[i])
		w.text.WriteString("$" + strconv.Itoa(len(w.args)) + part)
	}
}

// contains adds that one of the columns contains the text, in any case; "" adds nothing. columns is an expression of lower-case text.
func (w *where) contains(column, text string) {
	if text != "" {
		w.and(column+` LIKE ? ESCAPE '\'`, "%"+escapeLike(strings.ToLower(text))+"%")
	}
}

// page is the statement of a page: the columns, FROM, all conditions, the order and the limit.
func (w *where) page(selects, order string, limit int) (string, []any) {
	w.args = append(w.args, limit)
	if w.text.Len() > 0 {
		selects += " WHERE " + w.text.String()
	}
	return selects + " ORDER BY " + order + " LIMIT $" + strconv.Itoa(len(w.args)), w.args
}

func escapeLike(text string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(text)
}

// jsonText scans and writes a column that holds JSON.
type jsonText struct{ v any }

// Scan implements sql.Scanner. An empty text leaves the value as it is.
func (s jsonText) Scan(v any) error {
	text, err := scanText(v)
	if err != nil || text == "" {
		return err
	}
	if err := json.Unmarshal([]byte(text), s.v); err != nil {
		return fmt.Errorf("column is not the JSON that this version writes: %w", err)
	}
	return nil
}

// toJSON is the column value of v, which is plain data and always has one.
func toJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("metadb: %T has no JSON: %v", v, err))
	}
	return string(text)
}
