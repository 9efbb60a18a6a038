// Package project owns namespaces: which projects there are, whether they are public, who is a member, and what else was
// granted or denied in them and in the registry as a whole.
//
// [Directory] is what every authorization decision and every first push passes; it asks nobody. [Service] is for those who
// manage projects: each of its methods asks the access room first. Start reading at [Directory.Lookup] or [Service.Create].
package project

import (
	"context"
	"errors"
	"maps"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/internal/legible"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/job"
	"github.com/berth-registry/berth/server/metadb"
)

// Reasons of this room.
const (
	// Taken: there is a project, role or grant of that name already.
	Taken fault.Reason = "NAME_TAKEN"
	// Changed: the object is another one than the caller has read.
	Changed fault.Reason = "CHANGED_MEANWHILE"
	// Builtin: every registry has it, and it stays as it is.
	Builtin fault.Reason = "BUILT_IN"
)

// gate is the authorization point.
type gate interface {
	CheckSignedIn(ctx context.Context) error
	CheckSystem(ctx context.Context, v identity.Verb) error
	CheckProject(ctx context.Context, v identity.Verb, project string) error
	CheckGive(ctx context.Context, grants ...metadb.Grant) error
	Projects(ctx context.Context) (scope metadb.Scope, sees func(metadb.Project) bool, err error)
}

// Options configure a Service. All are required.
type Options struct {
	DB        *metadb.DB
	Access    gate
	Directory *Directory
	Now       func() time.Time
}

// Service manages projects, their members, grants and roles. Safe for concurrent use.
//
// Changes take the generation of what the caller has read, or a negative number for any: a Conflict says that it is another
// one by now.
type Service struct {
	o         Options
	deletions *job.Queue[doomed] // and what they need; see Jobs
	contents  Contents
}

// New returns a Service.
func New(o Options) *Service { return &Service{o: o} }

// Limits of what people write about things.
const (
	MaxDescription = 4096 // bytes
	MaxLabels      = 64
	MaxLabel       = 256 // bytes of a key or value
)

// Settings are what may be changed of a project; nil stays as it is.
type Settings struct {
	Public      *bool
	Description *string
	Labels      map[string]string // replaces all of them
}

// Filter chooses projects. The zero filter chooses all that the caller sees.
type Filter struct {
	Contains string
	Public   *bool
	Order    metadb.Order // by name or created
}

// List are projects that the caller sees, behind the key after, in the filter's order.
func (s *Service) List(ctx context.Context, f Filter, after string, limit int) ([]metadb.Project, error) {
	scope, sees, err := s.o.Access.Projects(ctx)
	if err != nil {
		return nil, err
	}
	var out []metadb.Project
	for len(out) < limit {
		batch := limit - len(out)
		if sees != nil {
			batch = max(batch, 100)
		}
		page, err := s.o.DB.FindProjects(ctx, metadb.ProjectFilter{Scope: scope, Contains: f.Contains, Public: f.Public, Order: f.Order}, after, batch)
		if err != nil {
			return nil, err
		}
		for _, p := range page {
			if after = f.Order.Key(p.Name, p.ID, time.Time{}); len(out) < limit && (sees == nil || sees(p)) {
				out = append(out, p)
			}
		}
		if len(page) < batch {
			break
		}
	}
	return out, nil
}

// Get finds a project.
func (s *Service) Get(ctx context.Context, name string) (metadb.Project, error) {
	if err := s.o.Access.CheckProject(ctx, identity.ProjectRead, name); err != nil {
		return metadb.Project{}, err
	}
	return s.find(ctx, name)
}

func (s *Service) find(ctx context.Context, name string) (metadb.Project, error) {
	p, err := s.o.DB.Project(ctx, name)
	return p, unknown(err, "project %s is not known to this registry", name)
}

// unknown is the fault for a row that is not there.
func unknown(err error, format string, args ...any) error {
	switch {
	case errors.Is(err, metadb.ErrNotFound):
		return fault.New(fault.NotFound, fault.NameUnknown, format, args...)
	case errors.Is(err, metadb.ErrChanged):
		return fault.New(fault.Conflict, Changed, "it was changed by somebody else meanwhile; read it again, and repeat the change").At("If-Match").Because(err)
	}
	return err
}

// Create makes a project. Without a word about it, it is public as the configuration says. Who makes it rules it.
func (s *Service) Create(ctx context.Context, name string, set Settings) (p metadb.Project, err error) {
	if err := s.o.Access.CheckSystem(ctx, identity.ProjectCreate); err != nil {
		return p, err
	}
	if n, err := ref.ParseName(name); err != nil || strings.Contains(n.String(), "/") {
		return p, fault.New(fault.Invalid, fault.NameInvalid, "project name %.100q is invalid; use lowercase letters and digits, joined by one of . _ __ -", name).At("name")
	}
	if err := set.check(); err != nil {
		return p, err
	}
	who := identity.From(ctx)
	p = metadb.Project{Name: name, Public: s.o.Directory.o.DefaultPublic || s.o.Directory.publicByName(name), CreatedBy: who.String()}
	set.apply(&p)
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		made, err := tx.CreateProject(p)
		if err != nil {
			return err
		}
		if err := rule(tx, who, made.ID); err != nil {
			return err
		}
		p = made
		return nil
	})
	if fault.Is(err, fault.Conflict) {
		return metadb.Project{}, fault.New(fault.Conflict, Taken, "project %s is there already", name).At("name").Because(err)
	}
	return p, err
}

// Update changes settings of a project.
func (s *Service) Update(ctx context.Context, name string, set Settings, generation int64) (p metadb.Project, err error) {
	if err := s.o.Access.CheckProject(ctx, identity.ProjectUpdate, name); err != nil {
		return p, err
	}
	if err := set.check(); err != nil {
		return p, err
	}
	if err := s.mayShow(ctx, name, set); err != nil {
		return p, err
	}
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		now, err := tx.Project(ctx, name)
		if err != nil {
			return err
		}
		set.apply(&now)
		from := generation
		if from < 0 {
			from = now.Generation
		}
		p, err = tx.UpdateProject(now, from)
		return err
	})
	return p, unknown(err, "project %s is not known to this registry", name)
}

// mayShow: to make a project public is to give everyone what is in it.
func (s *Service) mayShow(ctx context.Context, name string, set Settings) error {
	if set.Public == nil || !*set.Public {
		return nil
	}
	p, err := s.find(ctx, name)
	if err != nil || p.Public {
		return err
	}
	return s.o.Access.CheckGive(ctx, metadb.Grant{
		Subject: metadb.Subject{Kind: metadb.EveryoneSubject}, Project: p.ID, Verbs: []string{string(identity.Pull), string(identity.List)},
	})
}

// Delete removes a project that is empty; one that has manifests, or some that can be restored, is a Conflict. A project that is
// made under its name later has nothing of it: no member, no robot, and no token reaches it that was made before.
func (s *Service) Delete(ctx context.Context, name string, generation int64) error {
	if err := s.o.Access.CheckProject(ctx, identity.ProjectDelete, name); err != nil {
		return err
	}
	if err := notDefault(name); err != nil {
		return err
	}
	err := s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		p, err := tx.Project(ctx, name)
		if err != nil {
			return err
		}
		if generation >= 0 && p.Generation != generation {
			return metadb.ErrChanged
		}
		return tx.DeleteProject(p.ID)
	})
	return unknown(err, "project %s is not known to this registry", name)
}

func notDefault(name string) error {
	if name == ref.DefaultProject {
		return fault.New(fault.Conflict, Builtin, "project %s cannot be deleted: it owns the repositories whose names have one part", name).At("project")
	}
	return nil
}

// label is what a key of a label looks like.
var label = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9._/-]*[a-zA-Z0-9])?$`)

func (set Settings) check() error {
	if d := set.Description; d != nil {
		if err := checkDescription(*d); err != nil {
			return err
		}
	}
	if len(set.Labels) > MaxLabels {
		return fault.New(fault.Invalid, fault.Unknown, "%d labels are too many; at most %d are kept", len(set.Labels), MaxLabels).At("labels")
	}
	for k, v := range set.Labels {
		if len(k) > MaxLabel || len(v) > MaxLabel || !label.MatchString(k) || legible.Trouble(v, false) != "" {
			return fault.New(fault.Invalid, fault.Unknown, "label %.60q is invalid; keys are letters and digits, joined by any of . _ / -, and keys and values have at most %d bytes, without control characters", k, MaxLabel).At("labels")
		}
	}
	return nil
}

func checkDescription(d string) error {
	if len(d) > MaxDescription || !utf8.ValidString(d) {
		return fault.New(fault.Invalid, fault.Unknown, "description has %d bytes; at most %d of UTF-8 are kept", len(d), MaxDescription).At("description")
	}
	if why := legible.Trouble(d, true); why != "" {
		return fault.New(fault.Invalid, fault.Unknown, "description %s", why).At("description")
	}
	return nil
}

func (set Settings) apply(p *metadb.Project) {
	if set.Public != nil {
		p.Public = *set.Public
	}
	if set.Description != nil {
		p.Description = *set.Description
	}
	if set.Labels != nil {
		p.Labels = maps.Clone(set.Labels)
	}
}
