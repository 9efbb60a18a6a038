package blueprint

import (
	"context"
	"encoding/json"

	"github.com/berth-registry/berth/server/metadb"
)

// issuerKind is the kind of the providers that documents have.
const issuerKind = "issuer"

// rows are what the registry has, by name; grants by their key.
type rows struct {
	roles    map[string]metadb.Role
	groups   map[string]metadb.Group
	users    map[string]metadb.Account
	projects map[string]metadb.Project
	robots   map[string]metadb.Robot
	grants   map[string]metadb.Grant
	issuers  map[string]metadb.IdentityProvider
}

// each reads a list page by page. next is the key behind which the list goes on.
func each[T any, K any](first K, read func(after K) ([]T, error), next func(T) K, visit func(T) error) error {
	for after := first; ; {
		list, err := read(after)
		if err != nil {
			return err
		}
		for _, row := range list {
			if err := visit(row); err != nil {
				return err
			}
			after = next(row)
		}
		if len(list) < page {
			return nil
		}
	}
}

// read reads the whole configuration.
func (st *state) read(ctx context.Context, tx *metadb.Tx) error {
	*st = state{
		map[string]Role{}, map[string]Group{}, map[string]User{}, map[string]Project{}, map[string]Robot{}, map[string]Grant{}, map[string]Issuer{},
		rows{
			map[string]metadb.Role{}, map[string]metadb.Group{}, map[string]metadb.Account{}, map[string]metadb.Project{}, map[string]metadb.Robot{},
			map[string]metadb.Grant{}, map[string]metadb.IdentityProvider{},
		},
	}
	for _, part := range []func(context.Context, *metadb.Tx) error{st.readRoles, st.readUsers, st.readGroups, st.readProjects, st.readRobots, st.readGrants, st.readIssuers} {
		if err := part(ctx, tx); err != nil {
			return err
		}
	}
	return nil
}

func (st *state) readRoles(ctx context.Context, tx *metadb.Tx) error {
	return each("", func(after string) ([]metadb.Role, error) { return tx.Roles(ctx, after, page) }, func(r metadb.Role) string { return r.Name }, func(r metadb.Role) error {
		st.rows.roles[r.Name], st.roles[r.Name] = r, Role{r.Name, r.Description, r.Verbs}
		return nil
	})
}

func (st *state) readUsers(ctx context.Context, tx *metadb.Tx) error {
	return each("", func(after string) ([]metadb.Account, error) { return tx.Accounts(ctx, after, page) }, func(a metadb.Account) string { return a.Name }, func(a metadb.Account) error {
		st.rows.users[a.Name] = a
		st.users[a.Name] = User{a.Name, a.DisplayName, a.Email, a.Source, a.Admin, a.Auditor, a.Disabled, moment(a.ExpiresAt)}
		return nil
	})
}

func (st *state) readGroups(ctx context.Context, tx *metadb.Tx) error {
	return each("", func(after string) ([]metadb.Group, error) { return tx.Groups(ctx, metadb.GroupFilter{}, after, page) }, func(g metadb.Group) string { return g.Name }, func(g metadb.Group) error {
		one := Group{Name: g.Name, Description: g.Description}
		err := each(metadb.GroupMember{}, func(after metadb.GroupMember) ([]metadb.GroupMember, error) {
			return tx.GroupMembers(ctx, g.ID, after, page)
		}, func(m metadb.GroupMember) metadb.GroupMember { return m }, func(m metadb.GroupMember) error {
			if m.Source == "" {
				one.Members = append(one.Members, m.Account)
			}
			return nil
		})
		st.rows.groups[g.Name], st.groups[g.Name] = g, one
		return err
	})
}

func (st *state) readProjects(ctx context.Context, tx *metadb.Tx) error {
	all := metadb.ProjectFilter{Scope: metadb.Scope{All: true}}
	return each("", func(after string) ([]metadb.Project, error) { return tx.FindProjects(ctx, all, after, page) }, func(p metadb.Project) string { return p.Name }, func(p metadb.Project) error {
		one := Project{Name: p.Name, Public: p.Public, Description: p.Description}
		if len(p.Labels) > 0 {
			one.Labels = p.Labels
		}
		st.rows.projects[p.Name], st.projects[p.Name] = p, one
		return nil
	})
}

func (st *state) readRobots(ctx context.Context, tx *metadb.Tx) error {
	projects := map[int64]string{}
	for name, p := range st.rows.projects {
		projects[p.ID] = name
	}
	return each("", func(after string) ([]metadb.Robot, error) { return tx.Robots(ctx, metadb.RobotFilter{}, after, page) }, func(r metadb.Robot) string { return r.Name }, func(r metadb.Robot) error {
		st.rows.robots[r.Name] = r
		st.robots[r.Name] = Robot{r.Name, projects[r.Project], r.Description, r.Disabled, moment(r.ExpiresAt)}
		return nil
	})
}

func (st *state) readGrants(ctx context.Context, tx *metadb.Tx) error {
	names := map[metadb.Subject]string{}
	for name, a := range st.rows.users {
		names[metadb.Subject{Kind: metadb.AccountSubject, ID: a.ID}] = name
	}
	for name, g := range st.rows.groups {
		names[metadb.Subject{Kind: metadb.GroupSubject, ID: g.ID}] = name
	}
	for name, r := range st.rows.robots {
		names[metadb.Subject{Kind: metadb.RobotSubject, ID: r.ID}] = name
	}
	projects := map[int64]string{}
	for name, p := range st.rows.projects {
		projects[p.ID] = name
	}
	return each(0, func(after int64) ([]metadb.Grant, error) { return tx.Grants(ctx, metadb.GrantFilter{}, after, page) }, func(g metadb.Grant) int64 { return g.ID }, func(g metadb.Grant) error {
		one := Grant{
			Subject: Subject{g.Subject.Kind.String(), names[g.Subject]}, Project: projects[g.Project], Pattern: g.Pattern, Role: g.Role, Deny: g.Deny,
			From: moment(g.From), Until: moment(g.Until),
		}
		if len(g.Verbs) > 0 {
			one.Verbs = g.Verbs
		}
		st.rows.grants[one.key()], st.grants[one.key()] = g, one
		return nil
	})
}

func (st *state) readIssuers(ctx context.Context, tx *metadb.Tx) error {
	return each("", func(after string) ([]metadb.IdentityProvider, error) {
		return tx.IdentityProviders(ctx, issuerKind, after, page)
	}, func(p metadb.IdentityProvider) string { return p.Name }, func(p metadb.IdentityProvider) error {
		st.rows.issuers[p.Name], st.issuers[p.Name] = p, Issuer{p.Name, p.Enabled, compact(json.RawMessage(p.Config))}
		return nil
	})
}
