package blueprint

import (
	"context"
	"maps"
	"reflect"
	"slices"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// writer makes a registry what a document says, in a transaction.
type writer struct {
	ctx     context.Context //nolint:containedctx // it lives as long as the transaction
	tx      *metadb.Tx
	have    *state
	want    *state
	prune   bool
	by      identity.Principal
	trust   func(ctx context.Context, before, config []byte) error
	changes []Change
}

// all does everything. What goes goes first, so that its names are free; what others refer to is made before them, and goes
// after them.
func (w *writer) all() error {
	for _, step := range []func() error{
		w.lessGrants, w.lessRobots, w.lessGroups, w.lessUsers, w.lessRoles, w.lessProjects, w.lessIssuers,
		w.roles, w.users, w.groups, w.projects, w.robots, w.grants, w.issuers, w.administrator,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) note(action, kind, name string) {
	w.changes = append(w.changes, Change{action, kind, name})
}

// put makes what is missing and changes what is otherwise, in the order of names.
func put[T any](w *writer, kind string, have, want map[string]T, name func(T) string, create, update func(T) error) error {
	for _, key := range slices.Sorted(maps.Keys(want)) {
		one := want[key]
		was, there := have[key]
		switch {
		case !there:
			if err := create(one); err != nil {
				return err
			}
			w.note("create", kind, name(one))
		case !reflect.DeepEqual(was, one):
			if err := update(one); err != nil {
				return err
			}
			w.note("update", kind, name(one))
		}
	}
	return nil
}

// less deletes what the document does not have.
func less[T any](w *writer, kind string, have, want map[string]T, name func(T) string, remove func(T) error) error {
	if !w.prune {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(have)) {
		if _, stays := want[key]; stays {
			continue
		}
		if err := remove(have[key]); err != nil {
			return err
		}
		w.note("delete", kind, name(have[key]))
	}
	return nil
}

// stays reports whether there is one of the name when all is done.
func stays[T any](w *writer, have, want map[string]T, name string) bool {
	_, had := have[name]
	_, wanted := want[name]
	return wanted || had && !w.prune
}

// whatever is the generation of an update in whose transaction the row was read.
const whatever = -1

func (w *writer) roles() error {
	return put(w, "role", w.have.roles, w.want.roles, func(r Role) string { return r.Name }, func(r Role) error {
		_, err := w.tx.CreateRole(metadb.Role{Name: r.Name, Description: r.Description, Verbs: r.Verbs})
		return err
	}, func(r Role) error {
		_, err := w.tx.UpdateRole(metadb.Role{Name: r.Name, Description: r.Description, Verbs: r.Verbs}, whatever)
		return err
	})
}

func (w *writer) users() error {
	set := func(a *metadb.Account, u User) {
		a.Name, a.DisplayName, a.Email, a.Source, a.Admin, a.Auditor, a.Disabled = u.Name, u.DisplayName, u.Email, u.Source, u.Admin, u.Auditor, u.Disabled
		a.ExpiresAt = parseMoment(u.ExpiresAt)
	}
	return put(w, "user", w.have.users, w.want.users, func(u User) string { return u.Name }, func(u User) error {
		var a metadb.Account
		set(&a, u)
		a, err := w.tx.CreateAccount(a)
		w.have.rows.users[u.Name] = a
		return err
	}, func(u User) error {
		a := w.have.rows.users[u.Name]
		set(&a, u)
		if a.Source != "" { // somebody else proves it from now on
			a.PasswordHash, a.MustChange = "", false
		}
		if u.Disabled {
			if _, err := w.tx.DeleteSessions(metadb.SessionFilter{Account: a.ID}); err != nil {
				return err
			}
		}
		_, err := w.tx.UpdateAccount(a, whatever)
		return err
	})
}

func (w *writer) groups() error {
	for _, g := range sorted(w.want.groups) {
		for _, name := range g.Members {
			if !stays(w, w.have.users, w.want.users, name) {
				return invalid("group %q has the member %q, who has no account", g.Name, name).At("groups")
			}
		}
	}
	members := func(g Group, id int64, before []string) error {
		for _, name := range g.Members {
			a := w.have.rows.users[name]
			if !slices.Contains(before, name) {
				if err := w.tx.PutGroupMember(id, a.ID, ""); err != nil {
					return err
				}
			}
		}
		for _, name := range before {
			if !slices.Contains(g.Members, name) {
				if _, err := w.tx.DeleteGroupMember(id, w.have.rows.users[name].ID, ""); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return put(w, "group", w.have.groups, w.want.groups, func(g Group) string { return g.Name }, func(g Group) error {
		row, err := w.tx.CreateGroup(metadb.Group{Name: g.Name, Description: g.Description})
		if err != nil {
			return err
		}
		w.have.rows.groups[g.Name] = row
		return members(g, row.ID, nil)
	}, func(g Group) error {
		row := w.have.rows.groups[g.Name]
		if row.Description != g.Description {
			row.Description = g.Description
			if _, err := w.tx.UpdateGroup(row, whatever); err != nil {
				return err
			}
		}
		return members(g, row.ID, w.have.groups[g.Name].Members)
	})
}

func (w *writer) projects() error {
	return put(w, "project", w.have.projects, w.want.projects, func(p Project) string { return p.Name }, func(p Project) error {
		row, err := w.tx.CreateProject(metadb.Project{Name: p.Name, Public: p.Public, Description: p.Description, Labels: p.Labels, CreatedBy: w.by.String()})
		w.have.rows.projects[p.Name] = row
		return err
	}, func(p Project) error {
		row := w.have.rows.projects[p.Name]
		row.Public, row.Description, row.Labels = p.Public, p.Description, p.Labels
		_, err := w.tx.UpdateProject(row, whatever)
		return err
	})
}

// project is the number of a project, 0 for the registry.
func (w *writer) project(what, name string) (int64, error) {
	if name == "" {
		return 0, nil
	}
	p := w.have.rows.projects[name]
	if !stays(w, w.have.projects, w.want.projects, name) {
		return 0, invalid("%s is in project %q, which is not there", what, name).At("projects")
	}
	return p.ID, nil
}

func (w *writer) robots() error {
	for _, r := range sorted(w.want.robots) {
		if _, err := w.project("robot "+r.Name, r.Project); err != nil {
			return err
		}
	}
	return put(w, "robot", w.have.robots, w.want.robots, func(r Robot) string { return r.Name }, func(r Robot) error {
		in, err := w.project("robot "+r.Name, r.Project)
		if err != nil {
			return err
		}
		row, err := w.tx.CreateRobot(metadb.Robot{
			Name: r.Name, Project: in, Description: r.Description, Disabled: r.Disabled, ExpiresAt: parseMoment(r.ExpiresAt), CreatedBy: w.by.String(),
		})
		w.have.rows.robots[r.Name] = row
		return err
	}, func(r Robot) error {
		row := w.have.rows.robots[r.Name]
		if was := w.have.robots[r.Name].Project; was != r.Project {
			return fault.New(fault.Conflict, fault.UnsupportedReason, "robot %q belongs to project %q and cannot go to %q; delete it first", r.Name, was, r.Project).At("robots")
		}
		row.Description, row.Disabled, row.ExpiresAt = r.Description, r.Disabled, parseMoment(r.ExpiresAt)
		_, err := w.tx.UpdateRobot(row, whatever)
		return err
	})
}

// subject finds who a grant is for.
func (w *writer) subject(s Subject) (out metadb.Subject, ok bool) {
	ok = true
	switch s.Kind {
	case "user":
		out = metadb.Subject{Kind: metadb.AccountSubject, ID: w.have.rows.users[s.Name].ID}
		ok = stays(w, w.have.users, w.want.users, s.Name)
	case "group":
		out = metadb.Subject{Kind: metadb.GroupSubject, ID: w.have.rows.groups[s.Name].ID}
		ok = stays(w, w.have.groups, w.want.groups, s.Name)
	case "robot":
		out = metadb.Subject{Kind: metadb.RobotSubject, ID: w.have.rows.robots[s.Name].ID}
		ok = stays(w, w.have.robots, w.want.robots, s.Name)
	case "signed-in":
		out.Kind = metadb.SignedInSubject
	case "everyone":
		out.Kind = metadb.EveryoneSubject
	default:
		ok = false
	}
	return out, ok
}

// refers finds what a grant is about, which has to be there when all is done.
func (w *writer) refers(g Grant) (to metadb.Subject, in int64, err error) {
	to, ok := w.subject(g.Subject)
	if !ok {
		return to, 0, invalid("grant (%s) is for %s %q, which is not there", g, g.Subject.Kind, g.Subject.Name).At("grants")
	}
	if in, err = w.project("grant ("+g.String()+")", g.Project); err != nil {
		return to, 0, err
	}
	if _, builtin := identity.BuiltinRole(g.Role); g.Role != "" && !builtin && !stays(w, w.have.roles, w.want.roles, g.Role) {
		return to, 0, invalid("grant (%s) has role %q, which is not there", g, g.Role).At("grants")
	}
	return to, in, nil
}

func (w *writer) grants() error {
	for _, g := range sorted(w.want.grants) {
		if _, _, err := w.refers(g); err != nil {
			return err
		}
	}
	return put(w, "grant", w.have.grants, w.want.grants, Grant.String, func(g Grant) error {
		to, in, err := w.refers(g)
		if err != nil {
			return err
		}
		_, err = w.tx.CreateGrant(metadb.Grant{
			Subject: to, Project: in, Pattern: g.Pattern, Role: g.Role, Verbs: g.Verbs, Deny: g.Deny, From: parseMoment(g.From), Until: parseMoment(g.Until), CreatedBy: w.by.String(),
		})
		return err
	}, func(g Grant) error {
		row := w.have.rows.grants[g.key()]
		row.From, row.Until = parseMoment(g.From), parseMoment(g.Until)
		_, err := w.tx.UpdateGrant(row, whatever)
		return err
	})
}

func (w *writer) issuers() error {
	return put(w, "issuer", w.have.issuers, w.want.issuers, func(i Issuer) string { return i.Name }, func(i Issuer) error {
		if err := w.trust(w.ctx, nil, i.Config); err != nil {
			return err
		}
		_, err := w.tx.CreateIdentityProvider(metadb.IdentityProvider{Name: i.Name, Kind: issuerKind, Enabled: i.Enabled, Config: string(i.Config)})
		return err
	}, func(i Issuer) error {
		row := w.have.rows.issuers[i.Name]
		if err := w.trust(w.ctx, []byte(row.Config), i.Config); err != nil {
			return err
		}
		row.Enabled, row.Config = i.Enabled, string(i.Config)
		_, err := w.tx.UpdateIdentityProvider(row, whatever)
		return err
	})
}

func (w *writer) lessGrants() error {
	return less(w, "grant", w.have.grants, w.want.grants, Grant.String, func(g Grant) error { return w.tx.DeleteGrant(w.have.rows.grants[g.key()].ID) })
}

func (w *writer) lessRobots() error {
	return less(w, "robot", w.have.robots, w.want.robots, func(r Robot) string { return r.Name }, func(r Robot) error { return w.tx.DeleteRobot(w.have.rows.robots[r.Name].ID) })
}

func (w *writer) lessGroups() error {
	return less(w, "group", w.have.groups, w.want.groups, func(g Group) string { return g.Name }, func(g Group) error { return w.tx.DeleteGroup(w.have.rows.groups[g.Name].ID) })
}

func (w *writer) lessUsers() error {
	return less(w, "user", w.have.users, w.want.users, func(u User) string { return u.Name }, func(u User) error {
		if w.by.Kind == identity.User && w.by.Name == u.Name {
			return fault.New(fault.Conflict, fault.UnsupportedReason, "user %q is who applies the document, and is not in it; add it, or apply it as another administrator", u.Name).At("users")
		}
		_, err := w.tx.DeleteAccount(u.Name)
		return err
	})
}

func (w *writer) lessRoles() error {
	return less(w, "role", w.have.roles, w.want.roles, func(r Role) string { return r.Name }, func(r Role) error {
		_, err := w.tx.DeleteRole(r.Name)
		return err
	})
}

// lessProjects: those that cannot be deleted because they have images are a Conflict, which names them.
func (w *writer) lessProjects() error {
	return less(w, "project", w.have.projects, w.want.projects, func(p Project) string { return p.Name }, func(p Project) error {
		err := w.tx.DeleteProject(w.have.rows.projects[p.Name].ID)
		if fault.Is(err, fault.Conflict) {
			return fault.New(fault.Conflict, fault.UnsupportedReason, "project %s is not in the document and is not empty; delete its images first, or add it", p.Name).At("projects").Because(err)
		}
		return err
	})
}

func (w *writer) lessIssuers() error {
	return less(w, "issuer", w.have.issuers, w.want.issuers, func(i Issuer) string { return i.Name }, func(i Issuer) error {
		_, err := w.tx.DeleteIdentityProvider(i.Name)
		return err
	})
}

// administrator wants one to be left who can log in.
func (w *writer) administrator() error {
	yes, no := true, false
	left, err := w.tx.FindAccounts(w.ctx, metadb.AccountFilter{Admin: &yes, Disabled: &no}, "", page)
	if err != nil {
		return err
	}
	for _, a := range left {
		if a.ExpiresAt.IsZero() && (a.PasswordHash != "" || a.Source != "") {
			return nil
		}
	}
	return fault.New(fault.Conflict, fault.UnsupportedReason, "the document leaves no administrator who can log in; keep one").At("users")
}
