package adminapi

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/project"
)

// projects is what the face needs of the project room.
type projects interface {
	List(ctx context.Context, f project.Filter, after string, limit int) ([]metadb.Project, error)
	Get(ctx context.Context, name string) (metadb.Project, error)
	Create(ctx context.Context, name string, set project.Settings) (metadb.Project, error)
	Update(ctx context.Context, name string, set project.Settings, generation int64) (metadb.Project, error)
	Delete(ctx context.Context, name string, generation int64) error
	DeleteWithContent(ctx context.Context, name string, generation int64) (jobID int64, err error)

	Grants(ctx context.Context, project string, f project.GrantFilter, after int64, limit int) ([]project.Grant, error)
	Grant(ctx context.Context, project string, id int64) (project.Grant, error)
	CreateGrant(ctx context.Context, g project.Grant) (project.Grant, error)
	UpdateGrant(ctx context.Context, g project.Grant, generation int64) (project.Grant, error)
	DeleteGrant(ctx context.Context, project string, id, generation int64) error

	Roles(ctx context.Context, after string, limit int) (builtin, made []project.Role, err error)
	Role(ctx context.Context, name string) (project.Role, error)
	CreateRole(ctx context.Context, r project.Role) (project.Role, error)
	UpdateRole(ctx context.Context, r project.Role, generation int64) (project.Role, error)
	DeleteRole(ctx context.Context, name string, generation int64) error
}

// InProject is the parameter of routes about a project.
type InProject struct {
	Project string `path:"project" doc:"Name of the project."`
}

func (h *Handler) declareProjects(f *face) {
	declare(f, operation{
		id: "listProjects", method: http.MethodGet, path: "projects", tag: "projects", needs: on(onVisible, identity.ProjectRead),
		summary: "List the projects that the caller may see", answer: "A page of projects.",
	}, h.listProjects)
	declare(f, operation{
		id: "createProject", method: http.MethodPost, path: "projects", tag: "projects", needs: on(onRegistry, identity.ProjectCreate), once: true,
		summary: "Make a project", text: "Who makes it is its administrator.", answer: "The project.", status: http.StatusCreated,
	}, h.createProject)
	declare(f, operation{
		id: "getProject", method: http.MethodGet, path: "projects/{project}", tag: "projects", needs: on(onProject, identity.ProjectRead),
		summary: "Show a project", answer: "The project.",
	}, func(ctx context.Context, in *struct{ InProject }) (*tagged[projectView], error) {
		p, err := h.Projects.Get(ctx, in.Project)
		return showTagged(viewProject(p), p.Generation, err)
	})
	declare(f, operation{
		id: "updateProject", method: http.MethodPatch, path: "projects/{project}", tag: "projects", needs: on(onProject, identity.ProjectUpdate),
		summary: "Change settings of a project", text: "What is not said stays.", answer: "The project as it is now.",
	}, h.updateProject)
	declare(f, operation{
		id: "deleteProject", method: http.MethodDelete, path: "projects/{project}", tag: "projects", needs: on(onProject, identity.ProjectDelete),
		summary: "Delete a project", text: "409 while it has repositories with manifests, or with some that can be restored. Members, grants and robots go with it. " +
			"With `force=true` a job deletes what is in it first, for good: nothing of it can be brought back from the trash.",
		answer: "It is gone.", status: http.StatusNoContent, later: true,
	}, h.deleteProject)
}

type projectView struct {
	Name        string            `json:"name"`
	Public      bool              `json:"public" doc:"Everybody may see and pull what is in it."`
	Description string            `json:"description"`
	Labels      map[string]string `json:"labels"`
	CreatedAt   time.Time         `json:"createdAt"`
	CreatedBy   string            `json:"createdBy,omitempty"`
	UpdatedAt   *time.Time        `json:"updatedAt,omitempty"`
	Generation  int64             `json:"generation" doc:"Its ETag is this number in quotes."`
}

func viewProject(p metadb.Project) projectView {
	v := projectView{
		Name: p.Name, Public: p.Public, Description: p.Description, Labels: p.Labels, CreatedAt: p.CreatedAt.UTC(), CreatedBy: p.CreatedBy,
		UpdatedAt: stamp(p.UpdatedAt), Generation: p.Generation,
	}
	if v.Labels == nil {
		v.Labels = map[string]string{}
	}
	return v
}

type projectsQuery struct {
	Contains string `query:"contains" maxLength:"255" doc:"Only projects with this text in their name, in any case."`
	Public   string `query:"public" enum:"true,false" doc:"Only public, or only private ones."`
	ByNameQuery
	PageQuery
}

func (h *Handler) listProjects(ctx context.Context, q *projectsQuery) (*listed[projectView], error) {
	after, err := q.key(ctx)
	if err != nil {
		return nil, err
	}
	order := orderOf(q.Sort)
	found, err := h.Projects.List(ctx, project.Filter{Contains: q.Contains, Public: optional(q.Public), Order: order}, after, q.Limit)
	if err != nil {
		return nil, err
	}
	return pageOf(ctx, found, q.Limit, viewProject, func(p metadb.Project) string { return order.Key(p.Name, p.ID, time.Time{}) })
}

// newProject is the body of createProject.
type newProject struct {
	Name        string            `json:"name" minLength:"1" maxLength:"128"`
	Public      *bool             `json:"public,omitempty" doc:"As berth.projects.default says when it is not said."`
	Description *string           `json:"description,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
}

type createProjectInput struct{ Body newProject }

func (h *Handler) createProject(ctx context.Context, in *createProjectInput) (*created[projectView], error) {
	b := in.Body
	p, err := h.Projects.Create(ctx, b.Name, project.Settings{Public: b.Public, Description: b.Description, Labels: b.Labels})
	if err != nil {
		return nil, err
	}
	return &created[projectView]{etag(p.Generation), h.location(root + "projects/" + url.PathEscape(p.Name)), viewProject(p)}, nil
}

// projectSettings is the body of updateProject.
type projectSettings struct {
	Public      *bool              `json:"public,omitempty"`
	Description *string            `json:"description,omitempty"`
	Labels      *map[string]string `json:"labels,omitempty" doc:"All of them: those that are not named go."`
}

type updateProjectInput struct {
	InProject
	IfMatch
	Body projectSettings
}

func (h *Handler) updateProject(ctx context.Context, in *updateProjectInput) (*tagged[projectView], error) {
	generation, err := in.generation()
	if err != nil {
		return nil, err
	}
	set := project.Settings{Public: in.Body.Public, Description: in.Body.Description}
	if in.Body.Labels != nil {
		if set.Labels = *in.Body.Labels; set.Labels == nil {
			set.Labels = map[string]string{}
		}
	}
	p, err := h.Projects.Update(ctx, in.Project, set, generation)
	return showTagged(viewProject(p), p.Generation, err)
}

type deleteProjectInput struct {
	InProject
	IfMatchOptional
	Force bool `query:"force" doc:"Delete also what is in it, for good."`
}

// doneOrAccepted is an answer of what is done, or of the job that does it.
type doneOrAccepted struct {
	Status   int
	Location string `header:"Location" doc:"Where the job is."`
	Body     *jobView
}

func (h *Handler) deleteProject(ctx context.Context, in *deleteProjectInput) (*doneOrAccepted, error) {
	generation, err := in.generation()
	if err != nil {
		return nil, err
	}
	if !in.Force {
		if err := h.Projects.Delete(ctx, in.Project, generation); err != nil {
			return nil, err
		}
		return &doneOrAccepted{Status: http.StatusNoContent}, nil
	}
	id, err := h.Projects.DeleteWithContent(ctx, in.Project, generation)
	a, err := h.started(ctx, id, err)
	if err != nil {
		return nil, err
	}
	return &doneOrAccepted{http.StatusAccepted, a.Location, &a.Body}, nil
}
