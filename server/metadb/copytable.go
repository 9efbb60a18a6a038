package metadb

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
)

// copyTable is a table as Copy finds it in the schema, so that one which a later migration adds is copied without a word
// here.
type copyTable struct {
	name     string
	columns  []copyColumn // by name
	key      []string     // of the primary key, in its order
	needs    []string     // tables that its foreign keys refer to, sorted
	identity string       // the column whose numbers the database gives; "" for none
	only     string       // which of its rows are copied: an SQL condition
}

// copyColumn is a column of a table.
type copyColumn struct {
	name string
	kind columnKind
	null bool
}

// columnKind is what both databases can hold in a column. Other types do not appear in migrations.
type columnKind uint8

const (
	textColumn columnKind = iota + 1
	bytesColumn
	intColumn
	boolColumn
)

func columnKinds() map[string]columnKind {
	return map[string]columnKind{
		"TEXT": textColumn, "BLOB": bytesColumn, "BYTEA": bytesColumn, "BOOLEAN": boolColumn,
		"BIGINT": intColumn, "INTEGER": intColumn, "SMALLINT": intColumn,
	}
}

// ownTables belong to the database they are in, not to what is stored in it.
func ownTables() []string { return []string{"goose_db_version", copyMark} }

// notCopied are rows that belong to their database: a condition on the others, by table.
func notCopied() map[string]string {
	return map[string]string{"setting": "name <> '" + intakeSetting + "'"}
}

// describe reads the tables of a database, each behind those that it refers to.
func (s *copySide) describe(ctx context.Context) ([]copyTable, error) {
	text := sqliteTables
	if s.postgres {
		text = postgresTables
	}
	byName := map[string]*copyTable{}
	err := s.rows(ctx, func(rows *sql.Rows) error {
		var table, column, kind string
		var null, identity bool
		var key int
		if err := rows.Scan(&table, &column, &kind, &null, &key, &identity); err != nil || slices.Contains(ownTables(), table) {
			return err
		}
		t := byName[table]
		if t == nil {
			t = &copyTable{name: table, only: "TRUE"}
			if only, ok := notCopied()[table]; ok {
				t.only = only
			}
			byName[table] = t
		}
		return t.add(copyColumn{column, columnKinds()[strings.ToUpper(kind)], null}, kind, key, identity)
	}, text)
	if err != nil {
		return nil, err
	}
	text = sqliteReferences
	if s.postgres {
		text = postgresReferences
	}
	err = s.rows(ctx, func(rows *sql.Rows) error {
		var table, needs string
		if err := rows.Scan(&table, &needs); err != nil {
			return err
		}
		if t := byName[table]; t != nil && !slices.Contains(t.needs, needs) {
			t.needs = append(t.needs, needs)
			slices.Sort(t.needs)
		}
		return nil
	}, text)
	if err != nil {
		return nil, err
	}
	return inOrder(byName)
}

// add takes a column in. key is its place in the primary key, from 1, or 0.
func (t *copyTable) add(c copyColumn, kind string, key int, identity bool) error {
	if c.kind == 0 {
		return fmt.Errorf("metadb: column %s of table %s has type %s, which cannot be copied", c.name, t.name, kind)
	}
	t.columns = append(t.columns, c)
	if key > 0 {
		t.key = append(t.key, make([]string, max(key-len(t.key), 0))...)
		t.key[key-1] = c.name
	}
	if identity {
		t.identity = c.name
	}
	return nil
}

// inOrder sorts tables by name, but each behind those that it needs.
func inOrder(byName map[string]*copyTable) (all []copyTable, err error) {
	var names []string
	for name, t := range byName {
		if len(t.key) == 0 || slices.Contains(t.key, "") {
			return nil, fmt.Errorf("metadb: table %s has no primary key, so it cannot be copied", name)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	done := map[string]bool{}
	for len(all) < len(names) {
		before := len(all)
		for _, name := range names {
			t := byName[name]
			ready := !slices.ContainsFunc(t.needs, func(n string) bool { return n != name && !done[n] })
			if !done[name] && ready {
				done[name] = true
				all = append(all, *t)
			}
		}
		if len(all) == before {
			return nil, fmt.Errorf("metadb: tables refer to each other in a circle")
		}
	}
	return all, nil
}

// merge is the tables of a source and a target, which have to be the same, in an order that suits both: what refers to what
// is not always said to both. The columns of a key may come in another order in an old database.
func merge(a, b []copyTable) ([]copyTable, error) {
	byName := map[string]*copyTable{}
	for _, t := range a {
		byName[t.name] = &t
	}
	for _, y := range b {
		x := byName[y.name]
		if x == nil || len(a) != len(b) {
			return nil, fmt.Errorf("metadb: source and target have different tables, such as %s", y.name)
		}
		if !slices.Equal(x.columns, y.columns) || !slices.Equal(slices.Sorted(slices.Values(x.key)), slices.Sorted(slices.Values(y.key))) || x.identity != y.identity {
			return nil, fmt.Errorf("metadb: table %s differs between source and target", x.name)
		}
		x.key, x.needs = y.key, append(x.needs, y.needs...)
	}
	return inOrder(byName)
}

// Table, column, type, whether it may be null, place in the primary key, whether the database numbers it. An unlogged
// table of PostgreSQL has no meaning beyond its server, and may be missing on the other side.
const (
	sqliteTables = `SELECT m.name, c.name, c.type, c."notnull" = 0 AND c.pk = 0, c.pk, c.pk = 1 AND c.type = 'INTEGER'
		FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite\_%' ESCAPE '\'
		ORDER BY m.name, c.name`
	postgresTables = `SELECT c.table_name::text, c.column_name::text, c.data_type::text, c.is_nullable = 'YES', COALESCE(k.place, 0)::int, c.is_identity = 'YES'
		FROM information_schema.columns c
		JOIN information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name AND t.table_type = 'BASE TABLE'
		JOIN pg_class r ON r.oid = format('%I.%I', c.table_schema, c.table_name)::regclass AND r.relpersistence = 'p'
		LEFT JOIN (SELECT i.indrelid, a.attname, array_position(i.indkey::int2[], a.attnum) + 1 AS place
			FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) WHERE i.indisprimary) k
			ON k.indrelid = r.oid AND k.attname = c.column_name
		WHERE c.table_schema = current_schema() ORDER BY c.table_name COLLATE "C", c.column_name COLLATE "C"`
	sqliteReferences = `SELECT m.name, f."table" FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) f
		WHERE m.type = 'table' ORDER BY 1, 2`
	postgresReferences = `SELECT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint
		WHERE contype = 'f' AND connamespace = current_schema()::regnamespace ORDER BY 1, 2`
)
