package auth

import (
	"context"
	"errors"
	"fmt"

	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// caller is who a token stands for, as it is now, with what says whether that has changed.
type caller struct {
	identity.Principal
	source, stamp string
}

// Why a token stands for nobody any more.
var (
	errGone     = errors.New("auth: account or robot is gone")
	errDisabled = errors.New("auth: account or robot is disabled or has expired")
	errRevoked  = errors.New("auth: what the token was made from has ended")
)

// resolve finds the caller of a name and origin. Its rights are those of now. Errors are errGone, errDisabled, errRevoked, or
// that the database cannot be asked.
func (s *Service) resolve(ctx context.Context, name string, o origin) (caller, error) {
	switch o.kind {
	case 0:
		return s.resolveAccount(ctx, name)
	case fromToken:
		return s.resolveToken(ctx, name, o)
	case fromSecret, fromRobot:
		return s.resolveRobot(ctx, name, o.n[0], o)
	case fromIssuer, fromIssuerRobot:
		return s.resolveIssued(ctx, name, o)
	}
	return caller{}, errRevoked
}

func (s *Service) resolveAccount(ctx context.Context, name string) (caller, error) {
	owner, acc, err := s.owner(ctx, name)
	switch {
	case errors.Is(err, ErrNoAccount):
		return caller{}, errGone
	case err != nil:
		return caller{}, err
	case acc.over(s.o.Now()) || acc.MustChange:
		return caller{}, errDisabled
	}
	return caller{principal(acc, identity.ViaBasic, ""), owner.Source(), acc.Stamp}, nil
}

func (s *Service) resolveToken(ctx context.Context, name string, o origin) (caller, error) {
	s.endLeft(ctx)
	t, err := s.accessTokenByID(ctx, o.n[0])
	switch {
	case errors.Is(err, metadb.ErrNotFound), err == nil && (t.account != name || !t.holds(s.o.Now())):
		return caller{}, errRevoked
	case err != nil:
		return caller{}, err
	}
	// Not resolveAccount: a token goes on when the password changes, and when it has to.
	_, acc, err := s.owner(ctx, name)
	switch {
	case errors.Is(err, ErrNoAccount), err == nil && acc.ID != t.AccountID:
		return caller{}, errGone
	case err != nil:
		return caller{}, err
	case acc.over(s.o.Now()):
		return caller{}, errDisabled
	}
	p := principal(acc, identity.ViaToken, "")
	p.Origin = o.String()
	if p.Grants, err = t.grants.principal(); err != nil {
		return caller{}, err
	}
	return caller{p, "token", fmt.Sprintf("%d.%d", acc.ID, t.ID)}, nil
}

func (s *Service) resolveRobot(ctx context.Context, name string, id int64, o origin) (caller, error) {
	r, err := s.robot(ctx, id)
	switch {
	case errors.Is(err, metadb.ErrNotFound), err == nil && r.Name != name:
		return caller{}, errGone
	case err != nil:
		return caller{}, err
	}
	if o.kind == fromSecret {
		if _, holds := r.secret(o.n[1], s.o.Now()); !holds {
			return caller{}, errRevoked
		}
	}
	p, able := s.robotPrincipal(r, o, identity.ViaToken, "")
	if !able {
		return caller{}, errDisabled
	}
	return caller{p, "robot", fmt.Sprintf("%d.%s", r.ID, o)}, nil
}
