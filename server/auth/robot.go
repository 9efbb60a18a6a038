package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

const (
	// maxOverlap is how long an old secret may hold beside a new one.
	maxOverlap = 90 * 24 * time.Hour
	// maxSecrets is how many secrets of one robot hold at once.
	maxSecrets = 8
)

// Robot is a machine account, as those who may know of it see it.
type Robot struct {
	metadb.Robot
	ProjectName string // "" when it belongs to the registry
	Secrets     []RobotSecretInfo
}

// RobotSecretInfo is what may be known of a secret.
type RobotSecretInfo struct {
	ID        int64
	Prefix    string // its first characters
	CreatedAt time.Time
	ExpiresAt time.Time // zero for never
}

// checkRobots asks for the verb on the project, or on the registry when there is none.
func (s *Service) checkRobots(ctx context.Context, read bool, project string) error {
	switch {
	case project != "" && read:
		return s.o.Access.CheckProject(ctx, identity.RobotRead, project)
	case project != "":
		return s.o.Access.CheckProject(ctx, identity.RobotWrite, project)
	case read:
		return s.o.Access.CheckSystem(ctx, identity.RobotRead)
	}
	return s.o.Access.CheckSystem(ctx, identity.RobotWrite)
}

// projectID is the number of a project that the caller was allowed to ask about; 0 for "".
func (s *Service) projectID(ctx context.Context, project string) (int64, error) {
	if project == "" {
		return 0, nil
	}
	p, err := s.o.Store.Project(ctx, project)
	if errors.Is(err, metadb.ErrNotFound) {
		return 0, fault.New(fault.NotFound, fault.NameUnknown, "project %q is not known to this registry", project)
	}
	return p.ID, err
}

// Robots lists robots of a project, or with "" those of the registry, behind the name after. It asks for robot.read there.
func (s *Service) Robots(ctx context.Context, project string, f metadb.RobotFilter, after string, limit int) ([]Robot, error) {
	if err := s.checkRobots(ctx, true, project); err != nil {
		return nil, err
	}
	id, err := s.projectID(ctx, project)
	if err != nil {
		return nil, err
	}
	f.Project = &id
	rows, err := s.o.Store.Robots(ctx, f, after, limit)
	if err != nil {
		return nil, fmt.Errorf("auth: robots: %w", err)
	}
	robots := make([]Robot, len(rows))
	for i, row := range rows {
		robots[i] = Robot{Robot: row, ProjectName: project}
	}
	return robots, nil
}

// Robot finds a robot of a project (or of the registry, with ""), with its secrets. It asks for robot.read there; the robot of
// another project is not there.
func (s *Service) Robot(ctx context.Context, project, name string) (Robot, error) {
	if err := s.checkRobots(ctx, true, project); err != nil {
		return Robot{}, err
	}
	r, err := s.robotOf(ctx, s.o.Store, project, name)
	if err != nil {
		return Robot{}, err
	}
	secrets, err := s.o.Store.RobotSecrets(ctx, r.ID)
	if err != nil {
		return Robot{}, fmt.Errorf("auth: robot %s: %w", name, err)
	}
	robot := Robot{Robot: r, ProjectName: project}
	for _, row := range secrets {
		if !past(row.ExpiresAt, s.o.Now()) {
			robot.Secrets = append(robot.Secrets, RobotSecretInfo{row.ID, row.Prefix, row.CreatedAt, row.ExpiresAt})
		}
	}
	return robot, nil
}

type robotReader interface {
	RobotByName(ctx context.Context, name string) (metadb.Robot, error)
}

// robotOf finds a robot by name that belongs to the project.
func (s *Service) robotOf(ctx context.Context, from robotReader, project, name string) (metadb.Robot, error) {
	id, err := s.projectID(ctx, project)
	if err != nil {
		return metadb.Robot{}, err
	}
	r, err := from.RobotByName(ctx, name)
	if errors.Is(err, metadb.ErrNotFound) || err == nil && r.Project != id {
		return metadb.Robot{}, absent("robot %q is not known here", name)
	}
	if err != nil {
		return metadb.Robot{}, fmt.Errorf("auth: robot %s: %w", name, err)
	}
	return r, nil
}

// NewRobot is a robot to be made. What it may do are grants, which the access room gives.
type NewRobot struct {
	Name        string // one of its own among robots and accounts
	Project     string // that it belongs to; "" for the registry
	Description string
	ExpiresAt   time.Time // of the robot; zero for never
	SecretUntil time.Time // of its first secret; zero for never
}

// CreateRobot makes a robot and its first secret, which is returned this once: only its hash is kept. It asks for robot.write
// on the project or registry.
func (s *Service) CreateRobot(ctx context.Context, n NewRobot) (robot Robot, secret string, err error) {
	if err := s.checkRobots(ctx, false, n.Project); err != nil {
		return Robot{}, "", err
	}
	if err := cmp.Or(checkName(n.Name), checkText("description", &n.Description, true)); err != nil {
		return Robot{}, "", err
	}
	for _, end := range []time.Time{n.ExpiresAt, n.SecretUntil} {
		if err := s.checkEnd(end); err != nil {
			return Robot{}, "", err
		}
	}
	if owner, err := s.foreignOwner(ctx, n.Name); err != nil {
		return Robot{}, "", unavailableError(err)
	} else if owner != "" {
		return Robot{}, "", taken(fault.New(fault.Conflict, NameTaken, "name of the %s accounts", owner), n.Name)
	}
	project, err := s.projectID(ctx, n.Project)
	if err != nil {
		return Robot{}, "", err
	}
	secret, hash, shown := newSecret(RobotSecret)
	err = s.o.Store.Update(ctx, func(tx *metadb.Tx) error {
		if err := lookalike(ctx, tx, n.Name); err != nil {
			return err
		}
		row, err := tx.CreateRobot(metadb.Robot{
			Name: n.Name, Project: project, Description: n.Description, ExpiresAt: n.ExpiresAt, CreatedBy: identity.From(ctx).String(),
		})
		if err != nil {
			return err
		}
		kept, err := tx.CreateRobotSecret(metadb.RobotSecret{RobotID: row.ID, Hash: hash, Prefix: shown, ExpiresAt: n.SecretUntil})
		if err != nil {
			return err
		}
		if row, err = tx.Robot(ctx, row.ID); err != nil {
			return err
		}
		robot = Robot{row, n.Project, []RobotSecretInfo{{kept.ID, kept.Prefix, kept.CreatedAt, kept.ExpiresAt}}}
		return nil
	})
	if err != nil {
		return Robot{}, "", fmt.Errorf("auth: make robot %s: %w", n.Name, taken(err, n.Name))
	}
	return robot, secret, nil
}

// RobotChange is what to change of a robot; nil is to be left.
type RobotChange struct {
	Description *string
	Disabled    *bool
	ExpiresAt   *time.Time // to the zero time: never
}

// UpdateRobot changes a robot that still has the generation; a negative one is any. It asks for robot.write.
func (s *Service) UpdateRobot(ctx context.Context, project, name string, generation int64, c RobotChange) (robot Robot, err error) {
	if err := checkText("description", c.Description, true); err != nil {
		return Robot{}, errors.Join(s.checkRobots(ctx, false, project), err)
	}
	if c.ExpiresAt != nil {
		if err := s.checkEnd(*c.ExpiresAt); err != nil {
			return Robot{}, errors.Join(s.checkRobots(ctx, false, project), err)
		}
	}
	err = s.changeRobot(ctx, project, name, func(tx *metadb.Tx, r metadb.Robot) error {
		set(&r.Description, c.Description)
		set(&r.Disabled, c.Disabled)
		set(&r.ExpiresAt, c.ExpiresAt)
		r, err := tx.UpdateRobot(r, generation)
		robot = Robot{Robot: r, ProjectName: project}
		return err
	})
	return robot, err
}

// changeRobot asks for robot.write and changes a robot in one transaction.
func (s *Service) changeRobot(ctx context.Context, project, name string, change func(tx *metadb.Tx, r metadb.Robot) error) error {
	if err := s.checkRobots(ctx, false, project); err != nil {
		return err
	}
	err := s.o.Store.Update(ctx, func(tx *metadb.Tx) error {
		r, err := s.robotOf(ctx, tx, project, name)
		if err != nil {
			return err
		}
		return change(tx, r)
	})
	if err != nil {
		return fmt.Errorf("auth: change robot %s: %w", name, changed(err, "robot", name))
	}
	return nil
}

// RotateRobot gives a robot another secret, returned this once, which holds until the time or, zero, for ever. The secrets it
// has hold on for the overlap, so that machines can be given the new one in turn; none: they end at once, with every token
// that was made by them. It asks for robot.write, and for all that the robot may do: who has the secret may do it, too.
func (s *Service) RotateRobot(ctx context.Context, project, name string, overlap time.Duration, until time.Time) (secret string, info RobotSecretInfo, err error) {
	if err := s.checkRobots(ctx, false, project); err != nil {
		return "", info, err
	}
	if overlap < 0 || overlap > maxOverlap {
		return "", info, fault.New(fault.Invalid, fault.UnsupportedReason, "overlap of %s is not between none and %s", overlap, maxOverlap).At("overlapSeconds")
	}
	if err := s.checkEnd(until); err != nil {
		return "", info, err
	}
	r, err := s.robotOf(ctx, s.o.Store, project, name)
	if err == nil {
		err = s.o.Access.CheckActAs(ctx, identity.Principal{Kind: identity.Robot, ID: r.ID, Name: r.Name})
	}
	if err != nil {
		return "", info, err
	}
	secret, hash, shown := newSecret(RobotSecret)
	err = s.changeRobot(ctx, project, name, func(tx *metadb.Tx, r metadb.Robot) error {
		have, err := tx.RobotSecrets(ctx, r.ID)
		if err != nil {
			return err
		}
		holding := 0
		for _, h := range have {
			switch {
			case overlap == 0 || past(h.ExpiresAt, tx.Now()):
				if err := tx.DeleteRobotSecret(r.ID, h.ID); err != nil {
					return err
				}
			default:
				holding++
			}
		}
		if holding >= maxSecrets {
			return fault.New(fault.Conflict, fault.UnsupportedReason, "robot %q has %d secrets that hold; end some of them first", name, holding)
		}
		row, err := tx.CreateRobotSecret(metadb.RobotSecret{RobotID: r.ID, Hash: hash, Prefix: shown, ExpiresAt: until})
		if err != nil {
			return err
		}
		info = RobotSecretInfo{row.ID, row.Prefix, row.CreatedAt, row.ExpiresAt}
		return tx.ExpireRobotSecrets(r.ID, row.ID, tx.Now().Add(overlap))
	})
	if err != nil {
		return "", RobotSecretInfo{}, err
	}
	return secret, info, nil
}

// RevokeRobotSecret ends one secret of a robot at once, with the tokens that were made by it. It asks for robot.write.
func (s *Service) RevokeRobotSecret(ctx context.Context, project, name string, id int64) error {
	return s.changeRobot(ctx, project, name, func(tx *metadb.Tx, r metadb.Robot) error {
		if err := tx.DeleteRobotSecret(r.ID, id); errors.Is(err, metadb.ErrNotFound) {
			return absent("robot %q has no secret %d", name, id)
		} else if err != nil {
			return err
		}
		return nil
	})
}

// DeleteRobot removes a robot that still has the generation, a negative one is any, with its secrets and grants. It asks for robot.write.
func (s *Service) DeleteRobot(ctx context.Context, project, name string, generation int64) error {
	return s.changeRobot(ctx, project, name, func(tx *metadb.Tx, r metadb.Robot) error {
		if generation >= 0 && r.Generation != generation {
			return metadb.ErrChanged
		}
		return tx.DeleteRobot(r.ID)
	})
}

// robotPrincipal is the caller that a robot is now; wrong() when it is disabled, over or gone.
func (s *Service) robotPrincipal(r *robotState, o origin, via, addr string) (identity.Principal, bool) {
	if r.Disabled || past(r.ExpiresAt, s.o.Now()) {
		return identity.Principal{}, false
	}
	return identity.Principal{Kind: identity.Robot, ID: r.ID, Name: r.Name, Via: via, Addr: addr, Origin: o.String()}, true
}

// robotLogin proves a robot's secret. name is what the client gave as the user; machines that are given a secret alone may
// write "robot" or "<token>" there.
func (s *Service) robotLogin(ctx context.Context, name, secret, via, addr string) (identity.Principal, error) {
	if !isSecret(RobotSecret, secret) {
		return identity.Principal{}, wrongSecret()
	}
	robotID, id, err := s.robotBySecret(ctx, secret)
	if err != nil {
		return identity.Principal{}, secretError(err)
	}
	r, err := s.robot(ctx, robotID)
	if err != nil {
		return identity.Principal{}, secretError(err)
	}
	if !r.has(id) { // it is younger than what is remembered of the robot
		s.robots.kept.Drop(robotID)
		if r, err = s.robot(ctx, robotID); err != nil {
			return identity.Principal{}, secretError(err)
		}
	}
	if _, holds := r.secret(id, s.o.Now()); !holds || name != "" && name != r.Name && name != "robot" && name != "<token>" {
		return identity.Principal{}, wrongSecret()
	}
	p, able := s.robotPrincipal(r, originOf(fromSecret, r.ID, id), via, addr)
	if !able {
		return identity.Principal{}, fault.New(fault.Unauthenticated, fault.UnauthorizedReason,
			"robot %s is disabled or has expired; ask who manages it", r.Name)
	}
	s.used.robot(r.ID, addr)
	return p, nil
}

func wrongSecret() error {
	return fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "the secret is not one of this registry, or has ended; ask for a new one")
}

// secretError is the refusal of a secret that is not there, or that the database cannot be asked.
func secretError(err error) error {
	if errors.Is(err, metadb.ErrNotFound) {
		return wrongSecret()
	}
	return unavailableError(err)
}
