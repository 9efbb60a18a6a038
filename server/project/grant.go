package project

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// Grant says who may, or may not, do what where.
type Grant struct {
	ID          int64
	SubjectKind metadb.SubjectKind
	Subject     string // name of the account, group or robot; "" for the kinds without one
	Project     string // "" is the registry as a whole
	Pattern     string // of repositories; "" is all of the project or registry
	Role        string // either its verbs, or
	Verbs       []identity.Verb
	Deny        bool
	From, Until time.Time // when it holds; zero is always
	CreatedAt   time.Time
	CreatedBy   string
	Generation  int64
}

// Member reports whether the grant makes a member of a project.
func (g Grant) Member() bool {
	return g.Project != "" && g.Pattern == "" && !g.Deny && g.Role != ""
}

// GrantFilter chooses grants of a project, or of the registry.
type GrantFilter struct {
	Members bool // only those that make members
}

// Grants are grants in a project, or those of the registry as a whole with project "", behind the number after, in the order
// of their numbers.
func (s *Service) Grants(ctx context.Context, project string, f GrantFilter, after int64, limit int) ([]Grant, error) {
	id, err := s.mayReadGrants(ctx, project)
	if err != nil {
		return nil, err
	}
	rows, err := s.o.DB.Grants(ctx, metadb.GrantFilter{Project: &id, Members: f.Members}, after, limit)
	if err != nil {
		return nil, err
	}
	out := make([]Grant, 0, len(rows))
	names := map[metadb.Subject]string{}
	for _, row := range rows {
		g, err := s.named(ctx, row, project, names)
		if err != nil {
			return nil, err
		}
		out = append(out, g)
	}
	return out, nil
}

// Grant finds a grant of a project, or of the registry with project "". One of another project is not there. Who may change
// grants may see the one to change.
func (s *Service) Grant(ctx context.Context, project string, id int64) (Grant, error) {
	owner, err := s.mayReadGrants(ctx, project)
	if err != nil && project != "" && s.o.Access.CheckProject(ctx, identity.MemberWrite, project) == nil {
		var p metadb.Project
		p, err = s.find(ctx, project)
		owner = p.ID
	}
	if err != nil {
		return Grant{}, err
	}
	row, err := s.o.DB.Grant(ctx, id)
	if err == nil && row.Project != owner {
		err = metadb.ErrNotFound
	}
	if err != nil {
		return Grant{}, unknownGrant(err, id)
	}
	return s.named(ctx, row, project, nil)
}

func unknownGrant(err error, id int64) error {
	return unknown(err, "grant %d is not known here", id)
}

func (s *Service) mayReadGrants(ctx context.Context, project string) (id int64, err error) {
	if project == "" {
		return 0, s.o.Access.CheckSystem(ctx, identity.RoleRead)
	}
	if err := s.o.Access.CheckProject(ctx, identity.MemberRead, project); err != nil {
		return 0, err
	}
	p, err := s.find(ctx, project)
	return p.ID, err
}

// CreateGrant makes a grant in g.Project, or in the registry as a whole. Who makes it must itself be allowed all that it gives.
func (s *Service) CreateGrant(ctx context.Context, g Grant) (Grant, error) {
	if err := s.mayWriteGrants(ctx, g.Project); err != nil {
		return Grant{}, err
	}
	row, err := s.row(ctx, g)
	if err != nil {
		return Grant{}, err
	}
	if err := s.mayGive(ctx, row); err != nil {
		return Grant{}, err
	}
	row.CreatedBy = identity.From(ctx).String()
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		if err := present(ctx, tx, row); err != nil {
			return err
		}
		made, err := tx.CreateGrant(row)
		if err == nil {
			row = made
		}
		return err
	})
	if fault.Is(err, fault.Conflict) {
		return Grant{}, fault.New(fault.Conflict, Taken, "%s %s has this grant already", g.SubjectKind, g.Subject).At("subject").Because(err)
	}
	if err != nil {
		return Grant{}, err
	}
	return s.named(ctx, row, g.Project, nil)
}

// present looks, in the transaction that grants, that subject and project are still there.
func present(ctx context.Context, tx *metadb.Tx, g metadb.Grant) (err error) {
	switch g.Subject.Kind {
	case metadb.AccountSubject:
		_, err = tx.AccountByID(ctx, g.Subject.ID)
	case metadb.GroupSubject:
		_, err = tx.Group(ctx, g.Subject.ID)
	case metadb.RobotSubject:
		_, err = tx.Robot(ctx, g.Subject.ID)
	}
	if err == nil && g.Project != 0 {
		_, err = tx.ProjectByID(ctx, g.Project)
	}
	return unknown(err, "what the grant is about was deleted meanwhile")
}

// UpdateGrant changes pattern, role, verbs, denial and times of the grant with g's ID; who and where stay.
func (s *Service) UpdateGrant(ctx context.Context, g Grant, generation int64) (Grant, error) {
	if err := s.mayWriteGrants(ctx, g.Project); err != nil {
		return Grant{}, err
	}
	before, err := s.ofProject(ctx, g.Project, g.ID)
	if err != nil {
		return Grant{}, err
	}
	g.SubjectKind, g.Subject = before.Subject.Kind, ""
	row, err := s.shape(ctx, g)
	if err != nil {
		return Grant{}, err
	}
	row.ID, row.Subject = g.ID, before.Subject
	if err := s.mayTake(ctx, before); err != nil {
		return Grant{}, err
	}
	if err := s.mayGive(ctx, row); err != nil {
		return Grant{}, err
	}
	if generation < 0 {
		generation = before.Generation // it was decided about that one
	}
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		made, err := tx.UpdateGrant(row, generation)
		if err == nil {
			row = made
		}
		return err
	})
	if err != nil {
		return Grant{}, unknownGrant(err, g.ID)
	}
	return s.named(ctx, row, g.Project, nil)
}

// DeleteGrant removes a grant of a project, or of the registry with project "". One of another project is not there.
func (s *Service) DeleteGrant(ctx context.Context, project string, id, generation int64) error {
	if err := s.mayWriteGrants(ctx, project); err != nil {
		return err
	}
	row, err := s.ofProject(ctx, project, id)
	if err != nil {
		return err
	}
	if generation >= 0 && row.Generation != generation {
		return unknown(metadb.ErrChanged, "")
	}
	if err := s.mayTake(ctx, row); err != nil {
		return err
	}
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		now, err := tx.Grant(ctx, id)
		if err == nil && now.Generation != row.Generation { // what was decided about was another one
			err = metadb.ErrChanged
		}
		if err != nil {
			return err
		}
		return tx.DeleteGrant(id)
	})
	return unknownGrant(err, id)
}

// mayWriteGrants asks for the right to write grants of a project, or of the registry with "".
func (s *Service) mayWriteGrants(ctx context.Context, project string) error {
	if project == "" {
		return s.o.Access.CheckSystem(ctx, identity.RoleWrite)
	}
	return s.o.Access.CheckProject(ctx, identity.MemberWrite, project)
}

// mayGive: nobody gives what they may not do. A denial gives nothing.
func (s *Service) mayGive(ctx context.Context, row metadb.Grant) error {
	if row.Deny {
		return nil
	}
	return s.o.Access.CheckGive(ctx, row)
}

// mayTake: who takes a denial away gives what it denied.
func (s *Service) mayTake(ctx context.Context, row metadb.Grant) error {
	if !row.Deny {
		return nil
	}
	return s.o.Access.CheckGive(ctx, row)
}

func fromText(list []string) (out []identity.Verb) {
	for _, v := range list {
		out = append(out, identity.Verb(v))
	}
	return out
}

func (s *Service) ofProject(ctx context.Context, project string, id int64) (metadb.Grant, error) {
	var owner int64
	if project != "" {
		p, err := s.find(ctx, project)
		if err != nil {
			return metadb.Grant{}, err
		}
		owner = p.ID
	}
	row, err := s.o.DB.Grant(ctx, id)
	if err == nil && row.Project != owner {
		err = metadb.ErrNotFound
	}
	return row, unknownGrant(err, id)
}

// row checks a grant and makes its row.
func (s *Service) row(ctx context.Context, g Grant) (metadb.Grant, error) {
	row, err := s.shape(ctx, g)
	if err != nil {
		return row, err
	}
	row.Subject, err = s.subject(ctx, g)
	return row, err
}

// shape is all of a grant but its subject.
func (s *Service) shape(ctx context.Context, g Grant) (row metadb.Grant, err error) {
	row = metadb.Grant{Role: g.Role, Deny: g.Deny, From: g.From, Until: g.Until}
	if (g.Role == "") == (len(g.Verbs) == 0) {
		return row, fault.New(fault.Invalid, fault.Unknown, "a grant has either a role or verbs").At("role")
	}
	if g.Role == "" {
		if err := checkVerbs(g.Verbs); err != nil {
			return row, err
		}
		for _, v := range slices.Sorted(slices.Values(g.Verbs)) {
			row.Verbs = append(row.Verbs, string(v))
			if g.Project != "" && identity.LevelOf(v) == identity.OfRegistry {
				return row, fault.New(fault.Invalid, fault.Unknown, "verb %s is about the registry as a whole; it cannot be granted in a project", v).At("verbs")
			}
		}
	} else if _, err := s.role(ctx, g.Role); err != nil {
		return row, err
	}
	if !g.Until.IsZero() && !g.Until.After(s.o.Now()) {
		return row, fault.New(fault.Invalid, fault.Unknown, "the grant ends at %s, which is over", g.Until.UTC().Format(time.RFC3339)).At("until")
	}
	if !g.Until.IsZero() && !g.From.IsZero() && !g.Until.After(g.From) {
		return row, fault.New(fault.Invalid, fault.Unknown, "the grant ends before it begins").At("until")
	}
	if g.Project != "" {
		p, err := s.find(ctx, g.Project)
		if err != nil {
			return row, err
		}
		row.Project = p.ID
	}
	if g.Pattern != "" {
		pattern, err := ref.ParsePattern(g.Pattern)
		if err != nil {
			return row, fault.Of(err).At("pattern")
		}
		if g.Project != "" && !pattern.Covers(g.Project) {
			return row, fault.New(fault.Invalid, fault.NameInvalid, "pattern %q reaches beyond project %s; begin it with %s/", g.Pattern, g.Project, g.Project).At("pattern")
		}
		if row.Pattern = pattern.String(); row.Pattern == "**" || g.Project != "" && g.Project != ref.DefaultProject && row.Pattern == g.Project+"/**" {
			row.Pattern = "" // all of it, said in one way
		}
	}
	return row, nil
}

// subject finds who a grant is for.
func (s *Service) subject(ctx context.Context, g Grant) (out metadb.Subject, err error) {
	out.Kind = g.SubjectKind
	switch g.SubjectKind {
	case metadb.AccountSubject:
		var a metadb.Account
		a, err = s.o.DB.Account(ctx, g.Subject)
		out.ID = a.ID
	case metadb.GroupSubject:
		var group metadb.Group
		group, err = s.o.DB.GroupByName(ctx, g.Subject)
		out.ID = group.ID
	case metadb.RobotSubject:
		var r metadb.Robot
		r, err = s.o.DB.RobotByName(ctx, g.Subject)
		out.ID = r.ID
		if err == nil && r.Project != 0 && !s.robotBelongs(ctx, r, g.Project) {
			err = metadb.ErrNotFound // what is in another project is not told here
		}
	case metadb.SignedInSubject, metadb.EveryoneSubject:
		if g.Subject != "" {
			err = fault.New(fault.Invalid, fault.Unknown, "a grant to %s names nobody else", g.SubjectKind).At("subject.name")
		}
	default:
		err = fault.New(fault.Invalid, fault.Unknown, "a grant needs a user, a group, a robot, signed-in or everyone").At("subject.kind")
	}
	if errors.Is(err, metadb.ErrNotFound) {
		return out, fault.New(fault.NotFound, fault.NameUnknown, "%s %s is not known to this registry", g.SubjectKind, g.Subject).At("subject.name")
	}
	return out, err
}

// robotBelongs reports whether a project's robot is to be used in that project.
func (s *Service) robotBelongs(ctx context.Context, r metadb.Robot, project string) bool {
	p, err := s.o.DB.Project(ctx, project)
	return err == nil && p.ID == r.Project
}

// named is a grant with the names of what its row has numbers of. A subject that is gone has none.
func (s *Service) named(ctx context.Context, row metadb.Grant, project string, known map[metadb.Subject]string) (Grant, error) {
	g := Grant{
		ID: row.ID, SubjectKind: row.Subject.Kind, Project: project, Pattern: row.Pattern, Role: row.Role, Verbs: fromText(row.Verbs), Deny: row.Deny,
		From: row.From, Until: row.Until, CreatedAt: row.CreatedAt, CreatedBy: row.CreatedBy, Generation: row.Generation,
	}
	if name, ok := known[row.Subject]; ok {
		g.Subject = name
		return g, nil
	}
	var err error
	switch row.Subject.Kind {
	case metadb.AccountSubject:
		var a metadb.Account
		a, err = s.o.DB.AccountByID(ctx, row.Subject.ID)
		g.Subject = a.Name
	case metadb.GroupSubject:
		var group metadb.Group
		group, err = s.o.DB.Group(ctx, row.Subject.ID)
		g.Subject = group.Name
	case metadb.RobotSubject:
		var r metadb.Robot
		r, err = s.o.DB.Robot(ctx, row.Subject.ID)
		g.Subject = r.Name
	}
	if err != nil && !errors.Is(err, metadb.ErrNotFound) {
		return g, err
	}
	if known != nil {
		known[row.Subject] = g.Subject
	}
	return g, nil
}
