package metadb_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/berth-registry/berth/server/metadb"
)

// The version before runs on the schema after: replicas are replaced one by one, and a new version can be taken back. A
// migration therefore only adds. Three tests hold it to that, of which two need no history: what migrations may say, and
// what 0.1.0 said to its schema (testdata/before). The third, test/upgrade, runs the berthd before.

// schema is what earlier migrations made.
type schema map[string]bool

var (
	comments   = regexp.MustCompile(`(?m)--.*$`)
	space      = regexp.MustCompile(`\s+`)
	createdTab = regexp.MustCompile(`^CREATE (?:UNLOGGED )?TABLE (?:IF NOT EXISTS )?(\w+)`)
	createdIdx = regexp.MustCompile(`^CREATE (UNIQUE )?INDEX (CONCURRENTLY )?(?:IF NOT EXISTS )?(\w+) ON (\w+)`)
	added      = regexp.MustCompile(`^ALTER TABLE (\w+) ADD COLUMN (.*)$`)
	anyTable   = regexp.MustCompile(`^CREATE (OR REPLACE )?(VIEW|FUNCTION) |^ALTER INDEX \w+ RENAME TO \w+$|^DROP INDEX CONCURRENTLY IF EXISTS |^DROP INDEX IF EXISTS |^ANALYZE|^(DELETE FROM|INSERT INTO) SQLITE_STAT1|^SELECT 1$`)
	strict     = regexp.MustCompile(`\b(UNIQUE|PRIMARY KEY|REFERENCES|CHECK|GENERATED)\b`)
)

// statements are those of a migration that was given a database's words, in one line each and upper case.
func statements(text string) (all []string) {
	for s := range strings.SplitSeq(comments.ReplaceAllString(text, ""), ";") {
		if s = strings.TrimSpace(space.ReplaceAllString(s, " ")); s != "" {
			all = append(all, strings.ToUpper(s))
		}
	}
	return all
}

// judge says what in a statement would trouble the version before, or those who use the tables meanwhile; "" for nothing.
// before are the tables of earlier migrations, and now those of the same.
func judge(s string, before, now schema, postgres bool) string {
	if m := createdTab.FindStringSubmatch(s); m != nil {
		now[m[1]] = true
		return ""
	}
	if m := createdIdx.FindStringSubmatch(s); m != nil {
		switch table := m[4]; {
		case now[table]:
			return ""
		case m[1] != "":
			return "the version before does not keep a new unique index"
		case postgres && m[2] == "":
			return "an index of a table that may be large stops its writers; make it with {{create_index}} in a file of its own with {{without_transaction}}"
		}
		return ""
	}
	if m := added.FindStringSubmatch(s); m != nil {
		switch rest := m[2]; {
		case now[m[1]]:
			return ""
		case strings.Contains(rest, "NOT NULL") && !strings.Contains(rest, "DEFAULT"):
			return "the version before writes rows without the new column; give it a default"
		case strict.MatchString(rest):
			return "the version before does not keep a new constraint"
		case regexp.MustCompile(`DEFAULT \(?\w+\(`).MatchString(rest):
			return "a computed default rewrites the table while it is locked"
		}
		return ""
	}
	if anyTable.MatchString(s) {
		return ""
	}
	for table := range now {
		if regexp.MustCompile(`^(ALTER TABLE|INSERT INTO|UPDATE|DELETE FROM|CREATE TRIGGER \w+ .*ON) ` + table + `\b`).MatchString(s) {
			return ""
		}
	}
	return "it is not known to leave the version before in working order"
}

// TestExpandOnly: migrations only add.
func TestExpandOnly(t *testing.T) {
	files := metadb.MigrationFiles()
	names, err := fs.Glob(files, "*.sql")
	if err != nil || len(names) < 2 {
		t.Fatalf("%v, %v", names, err)
	}
	before := schema{}
	for i, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			t.Fatal(err)
		}
		now := schema{}
		sqlite, postgres := metadb.Render(string(text))
		for n, rendered := range []string{sqlite, postgres} {
			if metadb.Unrendered(comments.ReplaceAllString(rendered, "")) {
				t.Errorf("%s has a word that no dialect knows", name)
			}
			for _, s := range statements(rendered) {
				if why := judge(s, before, now, n == 1); why != "" && i > 0 {
					t.Errorf("%s: %s\n\t%s", name, why, s)
				}
			}
		}
		for table := range now {
			before[table] = true
		}
	}
}

// TestJudge: the judge of migrations finds what it is for.
func TestJudge(t *testing.T) {
	for s, bad := range map[string]bool{
		"ALTER TABLE tag DROP COLUMN digest":                                             true,
		"ALTER TABLE tag RENAME COLUMN digest TO d":                                      true,
		"ALTER TABLE tag RENAME TO tags":                                                 true,
		"DROP TABLE tag":                                                                 true,
		"ALTER TABLE tag ALTER COLUMN name TYPE VARCHAR(10)":                             true,
		"ALTER TABLE tag ALTER COLUMN name SET NOT NULL":                                 true,
		"ALTER TABLE tag ADD CONSTRAINT c CHECK (name <> '')":                            true,
		"ALTER TABLE tag ADD COLUMN x BIGINT NOT NULL":                                   true,
		"ALTER TABLE tag ADD COLUMN x BIGINT NOT NULL DEFAULT 0 UNIQUE":                  true,
		"ALTER TABLE tag ADD COLUMN x BIGINT DEFAULT random()":                           true,
		"ALTER TABLE tag ADD COLUMN x BIGINT NOT NULL DEFAULT 0":                         false,
		"ALTER TABLE tag ADD COLUMN x TEXT":                                              false,
		"CREATE UNIQUE INDEX i ON tag (name)":                                            true,
		"CREATE INDEX i ON tag (name)":                                                   true,
		"CREATE INDEX CONCURRENTLY i ON tag (name)":                                      false,
		"CREATE TABLE n (id BIGINT); CREATE INDEX i ON n (id)":                           false,
		"CREATE TABLE n (id BIGINT);\n-- a comment; DROP TABLE tag\nUPDATE n SET id = 1": false,
		"UPDATE tag SET updated_at = 0":                                                  true,
		"CREATE TRIGGER x BEFORE INSERT ON tag EXECUTE FUNCTION f()":                     true,
	} {
		before, now, why := schema{"TAG": true}, schema{}, ""
		for _, one := range statements(s) {
			why += judge(one, before, now, true)
		}
		if (why != "") != bad {
			t.Errorf("%s: judged %q", s, why)
		}
	}
}

// recorded are the statements of a file of testdata/before.
func recorded(t *testing.T, name string) (all []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "before", name))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if s := strings.TrimSuffix(strings.TrimSpace(line), ";"); s != "" && !strings.HasPrefix(s, "--") {
			all = append(all, s)
		}
	}
	return all
}

// TestVersionBefore: what 0.1.0 says to its database is understood by today's schema, and what it writes is taken.
func TestVersionBefore(t *testing.T) {
	onBoth(t, func(t *testing.T, o metadb.Options) {
		if err := open(t, o).Close(); err != nil {
			t.Fatal(err)
		}
		db := raw(t, o)
		all := recorded(t, "statements.sql")
		for _, s := range all {
			stmt, err := db.PrepareContext(t.Context(), s)
			if err != nil {
				t.Errorf("%v\n\t%s", err, s)
				continue
			}
			if err := stmt.Close(); err != nil { //nolint:sqlclosecheck // one at a time
				t.Error(err)
			}
		}
		for _, s := range recorded(t, "writes.sql") {
			r, err := db.ExecContext(t.Context(), s)
			if err != nil {
				t.Fatalf("%v\n\t%s", err, s)
			}
			if n, err := r.RowsAffected(); err != nil || n == 0 {
				t.Errorf("changed nothing: %s", s)
			}
		}
		// Every table that 0.1.0 wrote is written here.
		for _, s := range all {
			if m := regexp.MustCompile(`^INSERT INTO (\w+)`).FindStringSubmatch(s); m != nil &&
				!slices.ContainsFunc(recorded(t, "writes.sql"), func(w string) bool { return strings.HasPrefix(w, fmt.Sprintf("INSERT INTO %s ", m[1])) }) {
				t.Errorf("writes.sql does not write table %s", m[1])
			}
		}
	})
}
