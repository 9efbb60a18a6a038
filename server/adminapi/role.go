package adminapi

import (
	"context"
	"net/http"
	"net/url"

	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/project"
)

// InRole is the parameter of routes about a role.
type InRole struct {
	Role string `path:"role" doc:"Name of the role."`
}

func (h *Handler) declareRoles(f *face) {
	declare(f, operation{
		id: "listRoles", method: http.MethodGet, path: "roles", tag: "roles", needs: permission{Scope: signedIn},
		summary: "List the roles: first those that every registry has, then those that were made, by name", answer: "A page of roles.",
	}, h.listRoles)
	declare(f, operation{
		id: "createRole", method: http.MethodPost, path: "roles", tag: "roles", needs: on(onRegistry, identity.RoleWrite), once: true,
		summary: "Make a role of verbs", answer: "The role.", status: http.StatusCreated,
	}, h.createRole)
	declare(f, operation{
		id: "getRole", method: http.MethodGet, path: "roles/{role}", tag: "roles", needs: permission{Scope: signedIn},
		summary: "Show a role", answer: "The role.",
	}, func(ctx context.Context, in *struct{ InRole }) (*tagged[roleView], error) {
		r, err := h.Projects.Role(ctx, in.Role)
		return showTagged(viewRole(r), r.Generation, err)
	})
	declare(f, operation{
		id: "updateRole", method: http.MethodPut, path: "roles/{role}", tag: "roles", needs: on(onRegistry, identity.RoleWrite),
		summary: "Replace description and verbs of a role", text: "Whoever has the role has the new verbs from then on.", answer: "The role as it is now.",
	}, h.updateRole)
	declare(f, operation{
		id: "deleteRole", method: http.MethodDelete, path: "roles/{role}", tag: "roles", needs: on(onRegistry, identity.RoleWrite),
		summary: "Delete a role, and every grant of it", answer: "It is gone.", status: http.StatusNoContent,
	}, h.deleteRole)
}

type roleView struct {
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Verbs       []string `json:"verbs"`
	Builtin     bool     `json:"builtin" doc:"Every registry has it; it cannot be changed."`
	Generation  int64    `json:"generation" doc:"Its ETag is this number in quotes."`
}

func viewRole(r project.Role) roleView {
	return roleView{r.Name, r.Description, words(r.Verbs), r.Builtin, r.Generation}
}

func (h *Handler) listRoles(ctx context.Context, q *struct{ PageQuery }) (*listed[roleView], error) {
	after, err := q.key(ctx)
	if err != nil {
		return nil, err
	}
	builtin, made, err := h.Projects.Roles(ctx, after, q.Limit)
	if err != nil {
		return nil, err
	}
	next := ""
	if len(made) == q.Limit {
		next = made[q.Limit-1].Name
	}
	views := viewAll(made, viewRole)
	if after == "" { // they are few, and come with the first page, whatever its size
		views = append(viewAll(builtin, viewRole), views...)
	}
	return pageUntil(ctx, views, next)
}

// newRole is the body of createRole, roleChange that of updateRole.
type newRole struct {
	Name        string   `json:"name" minLength:"1" maxLength:"128"`
	Description string   `json:"description,omitempty"`
	Verbs       []string `json:"verbs" minItems:"1" maxItems:"64"`
}

type roleChange struct {
	Description string   `json:"description,omitempty"`
	Verbs       []string `json:"verbs" minItems:"1" maxItems:"64"`
}

type createRoleInput struct{ Body newRole }

func (h *Handler) createRole(ctx context.Context, in *createRoleInput) (*created[roleView], error) {
	r, err := h.Projects.CreateRole(ctx, project.Role{Name: in.Body.Name, Description: in.Body.Description, Verbs: verbsOf(in.Body.Verbs)})
	if err != nil {
		return nil, err
	}
	return &created[roleView]{etag(r.Generation), h.location(root + "roles/" + url.PathEscape(r.Name)), viewRole(r)}, nil
}

type updateRoleInput struct {
	InRole
	IfMatch
	Body roleChange
}

func (h *Handler) updateRole(ctx context.Context, in *updateRoleInput) (*tagged[roleView], error) {
	generation, err := in.generation()
	if err != nil {
		return nil, err
	}
	r, err := h.Projects.UpdateRole(ctx, project.Role{Name: in.Role, Description: in.Body.Description, Verbs: verbsOf(in.Body.Verbs)}, generation)
	return showTagged(viewRole(r), r.Generation, err)
}

type deleteRoleInput struct {
	InRole
	IfMatchOptional
}

func (h *Handler) deleteRole(ctx context.Context, in *deleteRoleInput) (*done, error) {
	generation, err := in.generation()
	if err != nil {
		return nil, err
	}
	return finish(h.Projects.DeleteRole(ctx, in.Role, generation))
}
