// Package sqlite3 stands in for the cgo driver of that name, by which go.podman.io/image keeps its memory of where blobs
// lie (blob-info-cache-v1.sqlite): with it the tool, which is built without cgo, shares that file with skopeo and podman.
//
// It registers the pure Go driver of modernc.org under the name of the other, translates the options that the library
// writes behind the path, and refuses any that it does not know. Times are stored as the other stores them. The module go.mod names it in a
// replace line.
package sqlite3

import (
	"database/sql"
	"database/sql/driver"
	"fmt"
	"net/url"
	"strings"

	"modernc.org/sqlite"
)

func init() { sql.Register("sqlite3", translated{&sqlite.Driver{}}) }

// translated is the pure Go driver, for names as the other driver takes them.
type translated struct{ d *sqlite.Driver }

// Open opens a file that is named as the library names it: PATH?OPTIONS.
func (t translated) Open(name string) (driver.Conn, error) {
	translation, err := translate(name)
	if err != nil {
		return nil, err
	}
	return t.d.Open(translation)
}

// translate makes a name of modernc.org/sqlite of one of go-sqlite3.
func translate(name string) (string, error) {
	path, query, _ := strings.Cut(name, "?")
	given, err := url.ParseQuery(query)
	if err != nil {
		return "", fmt.Errorf("sqlite3: options of %s: %w", path, err)
	}
	// What go-sqlite3 does unasked: it waits five seconds for who has the file, and writes times so.
	out := url.Values{"_pragma": {"busy_timeout(5000)"}, "_time_format": {"sqlite"}}
	for key, values := range given {
		value := values[len(values)-1]
		switch key {
		case "_loc": // times are compared with each other only, and have their zone
		case "_sync":
			out.Add("_pragma", "synchronous("+value+")")
		case "_foreign_keys":
			out.Add("_pragma", "foreign_keys("+value+")")
		case "_txlock":
			out.Set("_txlock", value)
		default:
			return "", fmt.Errorf("sqlite3: the option %s is not known", key)
		}
	}
	return path + "?" + out.Encode(), nil
}
