package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// The lists of the management API, where there are many of a thing. Some are of an account that is a member of one project in
// ten and sees no other: all are private.

const (
	apiRepositories = 10 // in each project
	apiMemberOf     = 10 // one project in so many
	apiMember       = "member"
	apiPattern      = "pattern" // an account that sees a hundredth of the repositories, by a pattern of their names
)

// databases are what a berthd may keep its rows in.
func databases() []string { return []string{"sqlite", "postgres"} }

// apiList is a list as somebody reads it, page by page.
type apiList struct {
	name, path, about string
	caller            string // "" is the administrator
}

func apiLists() []apiList {
	return []apiList{
		{"api-projects", "projects", "all projects, as an administrator", ""},
		{"api-repositories", "repositories", "all repositories, as an administrator", ""},
		{"api-projects-member", "projects", "the projects of a member of one in ten", apiMember},
		{"api-repositories-member", "repositories", "the repositories of a member of one project in ten", apiMember},
		{"api-repositories-find", "repositories?contains=12%2FR0007", "repositories by a part of their name, which a thousandth of them have, as an administrator", ""},
		{"api-repositories-none", "repositories?contains=nowhere", "repositories by a part of a name that none has, as an administrator", ""},
		{"api-repositories-find-member", "repositories?contains=R0007", "repositories by a part of their name, of a member of one project in ten", apiMember},
		{"api-repositories-none-member", "repositories?contains=nowhere", "repositories by a part of a name that none has, as a member of one project in ten", apiMember},
		{"api-repositories-pattern", "repositories", "the repositories of an account that sees the last hundredth of them by a pattern", apiPattern},
	}
}

// apiStage gives berthd SQLite, and a twin of it PostgreSQL, with the same rows.
func apiStage(z size) stage {
	env := []string{"BERTH_ADMIN_PASSWORD=" + rightsAdmin, "REGISTRY_AUTH_USERS=none"}
	var scs []scenario
	for _, l := range apiLists() {
		for _, database := range databases() {
			scs = append(scs, scenario{name: l.name + "/" + database, unit: "ms", lower: true, fits: has(canReplicas),
				about: fmt.Sprintf("95th percentile of a page of 100: %s, of %d projects with %d repositories each, %s", l.about, z.apiProjects, apiRepositories, database),
				run: func(ctx context.Context, b *bench, s *server, _ int) (phase, error) {
					if database == "postgres" {
						s = s.twin
					}
					return runAPIList(ctx, b, s, l)
				}})
		}
	}
	return stage{name: "lists of the API", turns: true, below: below{postgres: true}, prepare: prepareAPI, scenarios: scs,
		start: func(ctx context.Context, b *bench, t *target, on *backends) (*server, error) {
			s, err := startServerWith(ctx, t, b.disk.dir, false, env)
			if err != nil {
				return nil, err
			}
			return withTwin(s, func() (*server, error) { return startBerthd(ctx, b, t, on, 1, env...) })
		}}
}

// runAPIList reads the pages of a list in turn, all that there are or the first thousand of them, and reports the 95th percentile.
func runAPIList(ctx context.Context, b *bench, s *server, l apiList) (phase, error) {
	authorization := basicAuth("admin", rightsAdmin)
	if l.caller != "" {
		authorization = basicAuth(l.caller, rightsReader)
	}
	var rs []request
	err := s.with(func(c *client) error {
		for path := "/api/v1/" + l.path; path != "" && len(rs) < 1000; {
			a, err := c.call("GET", path, nil, "Authorization", authorization)
			if err != nil {
				return err
			}
			var page struct {
				Items []json.RawMessage
				Next  string
			}
			if err := json.Unmarshal(a.body, &page); err != nil || a.status != 200 {
				return fmt.Errorf("GET %s: status %d: %.300s", path, a.status, a.body)
			}
			rs = append(rs, newRequest(s.launch.addr, "GET", path, "", 200, -1, "Authorization", authorization))
			path = ""
			if page.Next != "" {
				joint := "?"
				if l.path != "projects" && l.path != "repositories" {
					joint = "&"
				}
				path = "/api/v1/" + l.path + joint + "after=" + page.Next
			}
		}
		return nil
	})
	if err != nil {
		return phase{}, err
	}
	p, err := hot(ctx, s, 1, b.size.phase, rs)
	p.Value = float64(p.P95) / float64(time.Millisecond)
	return p, err
}

func prepareAPI(ctx context.Context, b *bench, servers []*server) map[*server]error {
	return forEach(servers, func(s *server) error {
		for _, one := range []*server{s, s.twin} {
			err := one.with(func(c *client) error {
				return errors.Join(
					manage(c, "POST", "users", map[string]any{"name": apiMember, "password": rightsReader}, 201),
					manage(c, "POST", "users", map[string]any{"name": apiPattern, "password": rightsReader}, 201),
					manage(c, "POST", "grants", map[string]any{"subject": map[string]any{"kind": "user", "name": apiPattern}, "pattern": fmt.Sprintf("p%04d*/**", b.size.apiProjects/100-1), "role": "guest"}, 201))
			})
			if err != nil {
				return err
			}
		}
		if err := s.proc.stop(); err != nil {
			return err
		}
		err := apiRows(ctx, "sqlite", "file:"+filepath.Join(s.launch.dir, "data", "berth.db")+"?_pragma=synchronous(off)", b.size.apiProjects)
		if err != nil {
			return err
		}
		return errors.Join(s.start(ctx),
			apiRows(ctx, "pgx", fmt.Sprintf(s.twin.on.postgres.dsn, s.twin.space), b.size.apiProjects),
			s.twin.on.postgres.exec(ctx, "CHECKPOINT"))
	})
}

// apiRows writes count projects, repositories in them, and the memberships of apiMember. A berthd on PostgreSQL that runs
// meanwhile has not asked for any of them yet.
func apiRows(ctx context.Context, driver, dsn string, count int) (err error) {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return errors.New("the DSN cannot be parsed") // err has the password
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	padded := func(letter string, digits int) string {
		if driver == "sqlite" {
			return fmt.Sprintf("printf('%s%%0%dd', i)", letter, digits)
		}
		return fmt.Sprintf("'%s' || lpad(i::text, %d, '0')", letter, digits)
	}
	numbers, tidy := `WITH RECURSIVE n(i) AS (SELECT $1 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $2) `, `PRAGMA wal_checkpoint(TRUNCATE)`
	if driver == "pgx" {
		numbers, tidy = `WITH n(i) AS (SELECT generate_series($1::bigint, $2::bigint - 1)) `, `VACUUM (ANALYZE) project, repository, access_grant`
	}
	for _, insert := range []struct {
		query string
		count int
	}{
		{`INSERT INTO project (name, public, description, created_at, created_by) ` + numbers + `SELECT ` + padded("p", 6) + `, FALSE, 'one of many', 1, 'admin' FROM n`, count},
		{`INSERT INTO repository (project_id, name, listed, created_at) ` + numbers + `SELECT p.id, p.name || '/' || ` + padded("r", 4) + `, TRUE, 1 FROM n, project p WHERE p.created_by = 'admin' AND p.description = 'one of many'`, apiRepositories},
		{`INSERT INTO access_grant (subject_kind, subject_id, project_id, role, created_at, updated_at) ` + numbers + `SELECT 1, a.id, p.id, 'developer', 1, 1 FROM n, project p, account a WHERE p.name = ` + padded("p", 5) + ` || '0' AND a.name = '` + apiMember + `'`, count / apiMemberOf},
	} {
		if _, err := db.ExecContext(ctx, insert.query, 0, insert.count); err != nil {
			return fmt.Errorf("%.60s…: %w", insert.query, err)
		}
	}
	_, err = db.ExecContext(ctx, tidy)
	return err
}
