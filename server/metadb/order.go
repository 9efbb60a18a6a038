package metadb

import (
	"strconv"
	"strings"
	"time"

	"github.com/berth-registry/berth/fault"
)

// By is what a list is ordered by. There are only those that an index carries, so that a page costs what is on it.
type By uint8

// What lists are ordered by.
const (
	ByName    By = iota
	ByCreated    // when a row was made, which is the order of its number
	ByUsed       // when it was used last; those that never were come first
	ByMoved      // when a tag came to point where it does
)

// Order is the order of a list. The zero Order is by name, upward by bytes.
type Order struct {
	By   By
	Down bool
}

// Key is the place of a row in the order, behind which the next page begins: of its name, number and time, what the order is by.
func (o Order) Key(name string, id int64, at time.Time) string {
	switch o.By {
	case ByCreated:
		return strconv.FormatInt(id, 10)
	case ByUsed:
		return strconv.FormatInt(toMicros(at), 10) + " " + strconv.FormatInt(id, 10)
	case ByMoved:
		return strconv.FormatInt(toMicros(at), 10) + " " + name
	}
	return name
}

// ordered are the columns of a list that it may be ordered by.
type ordered struct{ name, id, at string }

// behind adds the condition that rows lie behind a key of Order.Key, "" for the beginning, and returns the text of ORDER BY. A
// key that is none of this order is Invalid.
func (w *where) behind(o Order, after string, c ordered) (order string, err error) {
	direction, sign := "", ">"
	if o.Down {
		direction, sign = " DESC", "<"
	}
	var columns []string
	var values []any
	at, rest, two := strings.Cut(after, " ")
	switch o.By {
	case ByName:
		columns, values = []string{c.name}, []any{after}
	case ByCreated:
		columns, values = []string{c.id}, []any{number(after, &err)}
	case ByUsed:
		columns, values = []string{c.at, c.id}, []any{number(at, &err), number(rest, &err)}
	case ByMoved:
		if columns, values = []string{c.at, c.name}, []any{number(at, &err), rest}; !two {
			err = strconv.ErrSyntax
		}
	}
	if o == (Order{}) || after != "" { // "" is before every name
		if err != nil {
			f := fault.New(fault.Invalid, fault.Unknown, "%.100q is no place in this list", after)
			f.Field = "after"
			return "", f
		}
		places := strings.Repeat(", ?", len(columns))[2:]
		w.and(`(`+strings.Join(columns, ", ")+`) `+sign+` (`+places+`)`, values...)
	}
	return strings.Join(columns, direction+", ") + direction, nil
}

func number(text string, err *error) int64 {
	n, bad := strconv.ParseInt(text, 10, 64)
	if bad != nil {
		*err = bad
	}
	return n
}
