package adminapi

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// robots is what the face needs of the auth room for machine accounts.
type robots interface {
	Robots(ctx context.Context, project string, f metadb.RobotFilter, after string, limit int) ([]auth.Robot, error)
	Robot(ctx context.Context, project, name string) (auth.Robot, error)
	CreateRobot(ctx context.Context, n auth.NewRobot) (robot auth.Robot, secret string, err error)
	UpdateRobot(ctx context.Context, project, name string, generation int64, c auth.RobotChange) (auth.Robot, error)
	RotateRobot(ctx context.Context, project, name string, overlap time.Duration, until time.Time) (secret string, info auth.RobotSecretInfo, err error)
	RevokeRobotSecret(ctx context.Context, project, name string, id int64) error
	DeleteRobot(ctx context.Context, project, name string, generation int64) error
}

// SecretUnknown marks the number of no secret.
const SecretUnknown fault.Reason = "SECRET_UNKNOWN"

// InRobot is the parameter of routes about a robot.
type InRobot struct {
	Robot string `path:"robot" doc:"Name of the robot."`
}

// InRobotSecret is the parameter of routes about a robot's secret.
type InRobotSecret struct {
	ID int64 `path:"id" minimum:"1" doc:"Number of the secret."`
}

// robotsOf are the operations on robots, which are the same in a project and in the registry.
type robotsOf struct {
	in, of      string // of the ids: Project or nothing; for people
	path        string
	read, write permission
}

func (h *Handler) declareRobots(f *face) {
	p := robotsOf{"Project", "a project", "projects/{project}/robots", on(onProject, identity.RobotRead), on(onProject, identity.RobotWrite)}
	declare(f, p.list(), func(ctx context.Context, q *struct {
		InProject
		RobotQuery
	}) (*listed[robotView], error) {
		return h.listRobots(ctx, q.Project, q.RobotQuery)
	})
	declare(f, p.create(), func(ctx context.Context, in *struct {
		InProject
		Body newRobot
	}) (*created[madeRobotView], error) {
		return h.createRobot(ctx, in.Project, in.Body)
	})
	declare(f, p.get(), func(ctx context.Context, in *struct {
		InProject
		InRobot
	}) (*tagged[robotView], error) {
		r, err := h.Robots.Robot(ctx, in.Project, in.Robot)
		return showTagged(viewRobot(r), r.Generation, err)
	})
	declare(f, p.update(), func(ctx context.Context, in *struct {
		InProject
		InRobot
		IfMatch
		Body robotChange
	}) (*tagged[robotView], error) {
		return h.updateRobot(ctx, in.Project, in.Robot, in.IfMatch, in.Body)
	})
	declare(f, p.remove(), func(ctx context.Context, in *struct {
		InProject
		InRobot
		IfMatchOptional
	}) (*done, error) {
		return h.deleteRobot(ctx, in.Project, in.Robot, in.IfMatchOptional)
	})
	declare(f, p.rotate(), func(ctx context.Context, in *struct {
		InProject
		InRobot
		Body *rotation
	}) (*shown[madeSecretView], error) {
		return h.rotateRobot(ctx, in.Project, in.Robot, in.Body)
	})
	declare(f, p.revoke(), func(ctx context.Context, in *struct {
		InProject
		InRobot
		InRobotSecret
	}) (*done, error) {
		return finish(h.Robots.RevokeRobotSecret(ctx, in.Project, in.Robot, in.ID))
	})

	p = robotsOf{"", "the registry", "robots", on(onRegistry, identity.RobotRead), on(onRegistry, identity.RobotWrite)}
	declare(f, p.list(), func(ctx context.Context, q *struct{ RobotQuery }) (*listed[robotView], error) {
		return h.listRobots(ctx, "", q.RobotQuery)
	})
	declare(f, p.create(), func(ctx context.Context, in *struct{ Body newRobot }) (*created[madeRobotView], error) {
		return h.createRobot(ctx, "", in.Body)
	})
	declare(f, p.get(), func(ctx context.Context, in *struct{ InRobot }) (*tagged[robotView], error) {
		r, err := h.Robots.Robot(ctx, "", in.Robot)
		return showTagged(viewRobot(r), r.Generation, err)
	})
	declare(f, p.update(), func(ctx context.Context, in *struct {
		InRobot
		IfMatch
		Body robotChange
	}) (*tagged[robotView], error) {
		return h.updateRobot(ctx, "", in.Robot, in.IfMatch, in.Body)
	})
	declare(f, p.remove(), func(ctx context.Context, in *struct {
		InRobot
		IfMatchOptional
	}) (*done, error) {
		return h.deleteRobot(ctx, "", in.Robot, in.IfMatchOptional)
	})
	declare(f, p.rotate(), func(ctx context.Context, in *struct {
		InRobot
		Body *rotation
	}) (*shown[madeSecretView], error) {
		return h.rotateRobot(ctx, "", in.Robot, in.Body)
	})
	declare(f, p.revoke(), func(ctx context.Context, in *struct {
		InRobot
		InRobotSecret
	}) (*done, error) {
		return finish(h.Robots.RevokeRobotSecret(ctx, "", in.Robot, in.ID))
	})
}

func (p robotsOf) list() operation {
	return operation{id: "list" + p.in + "Robots", method: http.MethodGet, path: p.path, tag: "robots", needs: p.read,
		summary: "List the robots of " + p.of + ", by name", answer: "A page of robots."}
}

func (p robotsOf) create() operation {
	return operation{id: "create" + p.in + "Robot", method: http.MethodPost, path: p.path, tag: "robots", needs: p.write, once: true, secret: "secret", status: http.StatusCreated,
		summary: "Make a robot of " + p.of, text: "Its secret is said this once. What it may do are grants.", answer: "The robot and its secret."}
}

func (p robotsOf) get() operation {
	return operation{id: "get" + p.in + "Robot", method: http.MethodGet, path: p.path + "/{robot}", tag: "robots", needs: p.read,
		summary: "Show a robot of " + p.of, answer: "The robot."}
}

func (p robotsOf) update() operation {
	return operation{id: "update" + p.in + "Robot", method: http.MethodPatch, path: p.path + "/{robot}", tag: "robots", needs: p.write,
		summary: "Change a robot of " + p.of, text: "What is not said stays.", answer: "The robot as it is now."}
}

func (p robotsOf) remove() operation {
	return operation{id: "delete" + p.in + "Robot", method: http.MethodDelete, path: p.path + "/{robot}", tag: "robots", needs: p.write, status: http.StatusNoContent,
		summary: "Delete a robot of " + p.of + ", with its secrets and grants", answer: "It is gone."}
}

func (p robotsOf) rotate() operation {
	return operation{id: "rotate" + p.in + "Robot", method: http.MethodPost, path: p.path + "/{robot}/rotate", tag: "robots", needs: p.write,
		summary: "Give a robot of " + p.of + " another secret", text: "It is said this once. Those it has hold on for the overlap, or end at once.", answer: "The secret."}
}

func (p robotsOf) revoke() operation {
	return operation{id: "revoke" + p.in + "RobotSecret", method: http.MethodDelete, path: p.path + "/{robot}/secrets/{id}", tag: "robots", needs: p.write, status: http.StatusNoContent,
		object: "secret", unknown: SecretUnknown, summary: "End a secret of a robot of " + p.of, answer: "It is ended, with the tokens that were made by it."}
}

type robotView struct {
	Name         string            `json:"name"`
	Project      string            `json:"project,omitempty" doc:"Absent for the registry."`
	Description  string            `json:"description"`
	Disabled     bool              `json:"disabled"`
	ExpiresAt    *time.Time        `json:"expiresAt,omitempty"`
	CreatedAt    time.Time         `json:"createdAt"`
	CreatedBy    string            `json:"createdBy,omitempty"`
	LastUsedAt   *time.Time        `json:"lastUsedAt,omitempty" doc:"May be behind by a minute."`
	LastUsedFrom string            `json:"lastUsedFrom,omitempty" doc:"An address."`
	Secrets      []robotSecretView `json:"secrets,omitempty" doc:"That hold; not in lists."`
	Generation   int64             `json:"generation" doc:"Its ETag is this number in quotes."`
}

type robotSecretView struct {
	ID        int64      `json:"id"`
	Prefix    string     `json:"prefix" doc:"Its first characters."`
	CreatedAt time.Time  `json:"createdAt"`
	ExpiresAt *time.Time `json:"expiresAt,omitempty"`
}

func viewSecret(s auth.RobotSecretInfo) robotSecretView {
	return robotSecretView{s.ID, s.Prefix, s.CreatedAt.UTC(), stamp(s.ExpiresAt)}
}

func viewRobot(r auth.Robot) robotView {
	return robotView{
		Name: r.Name, Project: r.ProjectName, Description: r.Description, Disabled: r.Disabled, ExpiresAt: stamp(r.ExpiresAt), CreatedAt: r.CreatedAt.UTC(),
		CreatedBy: r.CreatedBy, LastUsedAt: stamp(r.LastUsedAt), LastUsedFrom: r.LastUsedFrom, Secrets: viewAll(r.Secrets, viewSecret), Generation: r.Generation,
	}
}

// RobotQuery are the parameters of lists of robots.
type RobotQuery struct {
	Contains string `query:"contains" maxLength:"255" doc:"Only robots with this text in their name, in any case."`
	Sort     string `query:"sort" enum:"name,-name,created,-created,lastUsed,-lastUsed" default:"name" doc:"The order; with a minus it is the other way round. By lastUsed those that never were come first."`
	PageQuery
}

func (h *Handler) listRobots(ctx context.Context, project string, q RobotQuery) (*listed[robotView], error) {
	after, err := q.key(ctx)
	if err != nil {
		return nil, err
	}
	order := orderOf(q.Sort)
	found, err := h.Robots.Robots(ctx, project, metadb.RobotFilter{Contains: q.Contains, Order: order}, after, q.Limit)
	if err != nil {
		return nil, err
	}
	return pageOf(ctx, found, q.Limit, viewRobot, func(r auth.Robot) string { return order.Key(r.Name, r.ID, r.LastUsedAt) })
}

// newRobot is the body of createRobot.
type newRobot struct {
	Name            string `json:"name" minLength:"1" maxLength:"128"`
	Description     string `json:"description,omitempty" maxLength:"4096"`
	ExpiresAt       string `json:"expiresAt,omitempty" format:"date-time"`
	SecretExpiresAt string `json:"secretExpiresAt,omitempty" format:"date-time" doc:"Of its first secret."`
}

type madeRobotView struct {
	Robot  robotView `json:"robot"`
	Secret string    `json:"secret,omitempty" doc:"Said this once: the password of a login with the robot's name."`
}

func (h *Handler) createRobot(ctx context.Context, project string, b newRobot) (*created[madeRobotView], error) {
	var bad wrong
	n := auth.NewRobot{Name: b.Name, Project: project, Description: b.Description, ExpiresAt: bad.moment("expiresAt", b.ExpiresAt), SecretUntil: bad.moment("secretExpiresAt", b.SecretExpiresAt)}
	if err := bad.err(); err != nil {
		return nil, err
	}
	r, secret, err := h.Robots.CreateRobot(ctx, n)
	if err != nil {
		return nil, err
	}
	at := root + "robots/"
	if project != "" {
		at = root + "projects/" + project + "/robots/"
	}
	return &created[madeRobotView]{etag(r.Generation), h.location(at + url.PathEscape(r.Name)), madeRobotView{viewRobot(r), secret}}, nil
}

// robotChange is the body of updateRobot.
type robotChange struct {
	Description *string `json:"description,omitempty" maxLength:"4096"`
	Disabled    *bool   `json:"disabled,omitempty"`
	ExpiresAt   *string `json:"expiresAt,omitempty" doc:"A time, or never."`
}

func (h *Handler) updateRobot(ctx context.Context, project, name string, match IfMatch, b robotChange) (*tagged[robotView], error) {
	generation, err := match.generation()
	if err != nil {
		return nil, err
	}
	var bad wrong
	c := auth.RobotChange{Description: b.Description, Disabled: b.Disabled, ExpiresAt: bad.end("expiresAt", b.ExpiresAt)}
	if err := bad.err(); err != nil {
		return nil, err
	}
	r, err := h.Robots.UpdateRobot(ctx, project, name, generation, c)
	return showTagged(viewRobot(r), r.Generation, err)
}

// rotation is the body of rotateRobot.
type rotation struct {
	OverlapSeconds int64  `json:"overlapSeconds,omitempty" minimum:"0" maximum:"7776000" doc:"How long the secrets that it has hold on; 0 ends them at once."`
	ExpiresAt      string `json:"expiresAt,omitempty" format:"date-time" doc:"Of the new secret."`
}

type madeSecretView struct {
	ID        int64      `json:"id"`
	Prefix    string     `json:"prefix"`
	Secret    string     `json:"secret" doc:"Said this once."`
	CreatedAt time.Time  `json:"createdAt"`
	ExpiresAt *time.Time `json:"expiresAt,omitempty"`
}

func (h *Handler) rotateRobot(ctx context.Context, project, name string, b *rotation) (*shown[madeSecretView], error) {
	if b == nil {
		b = &rotation{}
	}
	var bad wrong
	until := bad.moment("expiresAt", b.ExpiresAt)
	if err := bad.err(); err != nil {
		return nil, err
	}
	secret, s, err := h.Robots.RotateRobot(ctx, project, name, time.Duration(b.OverlapSeconds)*time.Second, until)
	if err != nil {
		return nil, err
	}
	return show(madeSecretView{s.ID, s.Prefix, secret, s.CreatedAt.UTC(), stamp(s.ExpiresAt)})
}

func (h *Handler) deleteRobot(ctx context.Context, project, name string, match IfMatchOptional) (*done, error) {
	generation, err := match.generation()
	if err != nil {
		return nil, err
	}
	return finish(h.Robots.DeleteRobot(ctx, project, name, generation))
}
