package adminapi

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/project"
)

// GrantUnknown marks the number of no grant.
const GrantUnknown fault.Reason = "GRANT_UNKNOWN"

func (h *Handler) declareGrants(f *face) {
	h.declareMembers(f)
	grant := func(o operation) operation {
		o.tag, o.object, o.unknown = "grants", "grant", GrantUnknown
		return o
	}
	list := operation{method: http.MethodGet, summary: "List grants, in the order of their numbers", answer: "A page of grants."}
	create := operation{
		method: http.MethodPost, summary: "Grant or deny something", once: true, answer: "The grant.", status: http.StatusCreated,
		text: "Either `role` or `verbs`. Without a pattern it is about all of the project, or of the registry. A denial is stronger than every grant. Nobody grants what they may not do.",
	}
	get := operation{method: http.MethodGet, summary: "Show a grant", answer: "The grant."}
	update := operation{method: http.MethodPut, summary: "Replace a grant; who it is for stays", answer: "The grant as it is now."}
	remove := operation{method: http.MethodDelete, summary: "Take a grant away", answer: "It is gone.", status: http.StatusNoContent}

	at := func(o operation, id, path string, needs permission) operation {
		o.id, o.path, o.needs = id, path, needs
		return grant(o)
	}
	const inProject, everywhere = "projects/{project}/grants", "grants"
	read, write := on(onProject, identity.MemberRead), on(onProject, identity.MemberWrite)
	declare(f, at(list, "listProjectGrants", inProject, read), func(ctx context.Context, q *struct {
		InProject
		PageQuery
	}) (*listed[grantView], error) {
		return h.listGrants(ctx, q.Project, q.PageQuery)
	})
	declare(f, at(create, "createProjectGrant", inProject, write), func(ctx context.Context, in *struct {
		InProject
		Body newGrant
	}) (*created[grantView], error) {
		return h.createGrant(ctx, in.Project, in.Body)
	})
	declare(f, at(get, "getProjectGrant", inProject+"/{id}", read), func(ctx context.Context, in *struct {
		InProject
		InGrant
	}) (*tagged[grantView], error) {
		g, err := h.Projects.Grant(ctx, in.Project, in.ID)
		return showTagged(viewGrant(g), g.Generation, err)
	})
	declare(f, at(update, "updateProjectGrant", inProject+"/{id}", write), func(ctx context.Context, in *struct {
		InProject
		InGrant
		IfMatch
		Body grantChange
	}) (*tagged[grantView], error) {
		return h.updateGrant(ctx, in.Project, in.ID, in.IfMatch, in.Body)
	})
	declare(f, at(remove, "deleteProjectGrant", inProject+"/{id}", write), func(ctx context.Context, in *struct {
		InProject
		InGrant
		IfMatchOptional
	}) (*done, error) {
		return h.deleteGrant(ctx, in.Project, in.ID, in.IfMatchOptional)
	})

	read, write = on(onRegistry, identity.RoleRead), on(onRegistry, identity.RoleWrite)
	declare(f, at(list, "listGrants", everywhere, read), func(ctx context.Context, q *struct{ PageQuery }) (*listed[grantView], error) {
		return h.listGrants(ctx, "", q.PageQuery)
	})
	declare(f, at(create, "createGrant", everywhere, write), func(ctx context.Context, in *struct{ Body newGrant }) (*created[grantView], error) {
		return h.createGrant(ctx, "", in.Body)
	})
	declare(f, at(get, "getGrant", everywhere+"/{id}", read), func(ctx context.Context, in *struct{ InGrant }) (*tagged[grantView], error) {
		g, err := h.Projects.Grant(ctx, "", in.ID)
		return showTagged(viewGrant(g), g.Generation, err)
	})
	declare(f, at(update, "updateGrant", everywhere+"/{id}", write), func(ctx context.Context, in *struct {
		InGrant
		IfMatch
		Body grantChange
	}) (*tagged[grantView], error) {
		return h.updateGrant(ctx, "", in.ID, in.IfMatch, in.Body)
	})
	declare(f, at(remove, "deleteGrant", everywhere+"/{id}", write), func(ctx context.Context, in *struct {
		InGrant
		IfMatchOptional
	}) (*done, error) {
		return h.deleteGrant(ctx, "", in.ID, in.IfMatchOptional)
	})
}

// InGrant is the parameter of routes about a grant.
type InGrant struct {
	ID int64 `path:"id" minimum:"1" doc:"Number of the grant."`
}

// subjectView is who a grant is for.
type subjectView struct {
	Kind string `json:"kind" enum:"user,group,robot,signed-in,everyone" doc:"signed-in is every account, and no robot; everyone is also who has not logged in."`
	Name string `json:"name,omitempty" maxLength:"255" doc:"Of the user, group or robot."`
}

type grantView struct {
	ID         int64       `json:"id"`
	Subject    subjectView `json:"subject"`
	Project    string      `json:"project,omitempty" doc:"Absent for the registry as a whole."`
	Pattern    string      `json:"pattern,omitempty" doc:"Of repositories; absent for all."`
	Role       string      `json:"role,omitempty"`
	Verbs      []string    `json:"verbs" doc:"Those that were granted by name; empty with a role."`
	Deny       bool        `json:"deny"`
	From       *time.Time  `json:"from,omitempty" doc:"It holds from then on."`
	Until      *time.Time  `json:"until,omitempty" doc:"It holds until then."`
	CreatedAt  time.Time   `json:"createdAt"`
	CreatedBy  string      `json:"createdBy,omitempty"`
	Generation int64       `json:"generation" doc:"Its ETag is this number in quotes."`
}

func viewGrant(g project.Grant) grantView {
	return grantView{
		ID: g.ID, Subject: subjectView{g.SubjectKind.String(), g.Subject}, Project: g.Project, Pattern: g.Pattern, Role: g.Role, Verbs: words(g.Verbs),
		Deny: g.Deny, From: stamp(g.From), Until: stamp(g.Until), CreatedAt: g.CreatedAt.UTC(), CreatedBy: g.CreatedBy, Generation: g.Generation,
	}
}

func subjectKind(word string) metadb.SubjectKind {
	for _, k := range []metadb.SubjectKind{metadb.AccountSubject, metadb.GroupSubject, metadb.RobotSubject, metadb.SignedInSubject, metadb.EveryoneSubject} {
		if k.String() == word {
			return k
		}
	}
	return 0
}

// grantChange is the body of updateGrant: all that a grant says besides who it is for.
type grantChange struct {
	Pattern string   `json:"pattern,omitempty" maxLength:"512" doc:"Of repositories, such as team/app-*; all when not said."`
	Role    string   `json:"role,omitempty" maxLength:"128"`
	Verbs   []string `json:"verbs,omitempty" maxItems:"64"`
	Deny    bool     `json:"deny,omitempty" doc:"It takes away."`
	From    string   `json:"from,omitempty" format:"date-time"`
	Until   string   `json:"until,omitempty" format:"date-time"`
}

func (b grantChange) grant(name string) (g project.Grant, err error) {
	var bad wrong
	g.Project, g.Pattern, g.Role, g.Verbs, g.Deny = name, b.Pattern, b.Role, verbsOf(b.Verbs), b.Deny
	g.From, g.Until = bad.moment("from", b.From), bad.moment("until", b.Until)
	return g, bad.err()
}

// newGrant is the body of createGrant.
type newGrant struct {
	Subject subjectView `json:"subject"`
	Pattern string      `json:"pattern,omitempty" maxLength:"512" doc:"Of repositories, such as team/app-*; all when not said."`
	Role    string      `json:"role,omitempty" maxLength:"128"`
	Verbs   []string    `json:"verbs,omitempty" maxItems:"64"`
	Deny    bool        `json:"deny,omitempty" doc:"It takes away."`
	From    string      `json:"from,omitempty" format:"date-time"`
	Until   string      `json:"until,omitempty" format:"date-time"`
}

func (h *Handler) listGrants(ctx context.Context, name string, q PageQuery) (*listed[grantView], error) {
	return h.grants(ctx, name, q, false)
}

func (h *Handler) grants(ctx context.Context, name string, q PageQuery, members bool) (*listed[grantView], error) {
	after, err := q.number(ctx)
	if err != nil {
		return nil, err
	}
	found, err := h.Projects.Grants(ctx, name, project.GrantFilter{Members: members}, after, q.Limit)
	if err != nil {
		return nil, err
	}
	return pageOf(ctx, found, q.Limit, viewGrant, func(g project.Grant) string { return strconv.FormatInt(g.ID, 10) })
}

func (h *Handler) createGrant(ctx context.Context, name string, b newGrant) (*created[grantView], error) {
	g, err := grantChange{b.Pattern, b.Role, b.Verbs, b.Deny, b.From, b.Until}.grant(name)
	if err != nil {
		return nil, err
	}
	g.SubjectKind, g.Subject = subjectKind(b.Subject.Kind), b.Subject.Name
	made, err := h.Projects.CreateGrant(ctx, g)
	if err != nil {
		return nil, err
	}
	at := root + "grants/"
	if name != "" {
		at = root + "projects/" + name + "/grants/"
	}
	return &created[grantView]{etag(made.Generation), h.location(at + strconv.FormatInt(made.ID, 10)), viewGrant(made)}, nil
}

func (h *Handler) updateGrant(ctx context.Context, name string, id int64, match IfMatch, b grantChange) (*tagged[grantView], error) {
	generation, err := match.generation()
	if err != nil {
		return nil, err
	}
	g, err := b.grant(name)
	if err != nil {
		return nil, err
	}
	g.ID = id
	now, err := h.Projects.UpdateGrant(ctx, g, generation)
	return showTagged(viewGrant(now), now.Generation, err)
}

func (h *Handler) deleteGrant(ctx context.Context, name string, id int64, match IfMatchOptional) (*done, error) {
	generation, err := match.generation()
	if err != nil {
		return nil, err
	}
	return finish(h.Projects.DeleteGrant(ctx, name, id, generation))
}

func (h *Handler) declareMembers(f *face) {
	member := func(o operation) operation {
		o.tag, o.object, o.unknown = "members", "member", GrantUnknown
		return o
	}
	const path = "projects/{project}/members"
	declare(f, member(operation{
		id: "listMembers", method: http.MethodGet, path: path, needs: on(onProject, identity.MemberRead),
		summary: "List the members of a project", text: "A member is a grant of a role on all of the project.", answer: "A page of members.",
	}), func(ctx context.Context, q *struct {
		InProject
		PageQuery
	}) (*listed[grantView], error) {
		return h.grants(ctx, q.Project, q.PageQuery, true)
	})
	declare(f, member(operation{
		id: "addMember", method: http.MethodPost, path: path, needs: on(onProject, identity.MemberWrite), once: true,
		summary: "Add a member to a project", answer: "The member.", status: http.StatusCreated,
	}), func(ctx context.Context, in *struct {
		InProject
		Body newMember
	}) (*created[grantView], error) {
		return h.createGrant(ctx, in.Project, newGrant{Subject: in.Body.Subject, Role: in.Body.Role, Until: in.Body.Until})
	})
	declare(f, member(operation{
		id: "updateMember", method: http.MethodPut, path: path + "/{id}", needs: on(onProject, identity.MemberWrite),
		summary: "Give a member another role", answer: "The member as it is now.",
	}), func(ctx context.Context, in *struct {
		InProject
		InGrant
		IfMatch
		Body memberChange
	}) (*tagged[grantView], error) {
		before, err := h.memberOf(ctx, in.Project, in.ID)
		if err != nil {
			return nil, err
		}
		// It begins when it did: a body of members cannot say that.
		return h.updateGrant(ctx, in.Project, in.ID, in.IfMatch, grantChange{Role: in.Body.Role, From: since(before.From), Until: in.Body.Until})
	})
	declare(f, member(operation{
		id: "removeMember", method: http.MethodDelete, path: path + "/{id}", needs: on(onProject, identity.MemberWrite),
		summary: "Remove a member from a project", answer: "It is gone.", status: http.StatusNoContent,
	}), func(ctx context.Context, in *struct {
		InProject
		InGrant
		IfMatchOptional
	}) (*done, error) {
		if _, err := h.memberOf(ctx, in.Project, in.ID); err != nil {
			return nil, err
		}
		return h.deleteGrant(ctx, in.Project, in.ID, in.IfMatchOptional)
	})
}

// memberOf finds a member; other grants of the project are none.
func (h *Handler) memberOf(ctx context.Context, name string, id int64) (project.Grant, error) {
	g, err := h.Projects.Grant(ctx, name, id)
	if err == nil && !g.Member() {
		err = fault.New(fault.NotFound, GrantUnknown, "member %d is not there", id)
	}
	return g, err
}

// since is a time as bodies say it; "" for none.
func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// newMember is the body of addMember, memberChange that of updateMember.
type newMember struct {
	Subject subjectView `json:"subject"`
	Role    string      `json:"role" minLength:"1" maxLength:"128" doc:"limited-guest, guest, developer, maintainer, admin, or one that was made."`
	Until   string      `json:"until,omitempty" format:"date-time"`
}

type memberChange struct {
	Role  string `json:"role" minLength:"1" maxLength:"128"`
	Until string `json:"until,omitempty" format:"date-time"`
}
