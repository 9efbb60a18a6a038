package auth

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/berth-registry/berth/fault"
)

// directories remembers how long it takes the directories to say that they do not know a name. Whoever has a wrong password
// for a name of ours waits as long, so that the clock does not tell names of ours from others.
type directories struct {
	took  atomic.Int64 // nanoseconds, smoothed; 0 without directories
	sleep func(ctx context.Context, d time.Duration) error
}

func (d *directories) learn(took time.Duration) {
	before := d.took.Load()
	if before == 0 {
		before = int64(took)
	}
	d.took.Store((3*before + int64(min(took, 2*time.Second))) / 4)
}

func (d *directories) wait(ctx context.Context) {
	if t := time.Duration(d.took.Load()); t > 0 {
		_ = d.sleep(ctx, t) // a caller that went away learns nothing
	}
}

// askDirectories asks the directories about a name that nobody here has, in the order of their configuration. The first that
// knows it decides. It answers with the account, or with ErrPassword or ErrNoAccount.
func (s *Service) askDirectories(ctx context.Context, name, password string) (Provider, Account, error) {
	var away error
	began, asked := s.o.Now(), false
	for _, idp := range *s.idps.Load() {
		if idp.Directory == nil {
			continue
		}
		asked = true
		x, err := idp.Directory.Login(ctx, name, password)
		s.heard.note(ctx, idp.Name, err, s.o.Now())
		switch {
		case err == nil:
			acc, err := s.entered(ctx, idp, x)
			return s.local, acc, err
		case errors.Is(err, ErrPassword):
			return nil, Account{}, ErrPassword
		case !errors.Is(err, ErrNoAccount):
			away = errors.Join(away, s.driverError(ctx, idp, err))
		}
	}
	if away != nil { // it may have known the name
		return nil, Account{}, away
	}
	if asked {
		s.directories.learn(s.o.Now().Sub(began))
	}
	return nil, Account{}, ErrNoAccount
}

// linkedLogin asks the directories that an account is linked to, each by the name it knows the account by. It answers with the
// account, or with ErrPassword when none is linked or all say no.
func (s *Service) linkedLogin(ctx context.Context, known Account, password string) (Account, error) {
	links, err := s.o.Store.LinksOf(ctx, known.ID)
	if err != nil {
		return Account{}, fmt.Errorf("auth: links of %s: %w", known.Name, err)
	}
	var away error
	for _, l := range links {
		idp, ok := s.idp(l.Provider)
		if !ok || idp.Directory == nil {
			continue
		}
		login := l.Login
		if login == "" { // linked by an administrator, and never used
			login = known.Name
		}
		x, err := idp.Directory.Login(ctx, login, password)
		s.heard.note(ctx, idp.Name, err, s.o.Now())
		switch {
		case err == nil && x.Subject != l.Subject: // the name is somebody else's there by now
		case err == nil:
			return s.entered(ctx, idp, x)
		case errors.Is(err, ErrPassword), errors.Is(err, ErrNoAccount):
		default:
			away = errors.Join(away, s.driverError(ctx, idp, err))
		}
	}
	if away != nil {
		return Account{}, away
	}
	return Account{}, ErrPassword
}

// entered is the account of who has proved a directory's password just now.
func (s *Service) entered(ctx context.Context, idp IdentityProvider, x External) (Account, error) {
	x.Provider = idp.Name
	row, err := s.accept(ctx, idp, x)
	if fault.Is(err, fault.Denied) { // podman shows the text of 401 alone
		err = fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "%s", fault.Of(err).Message).Because(err)
	}
	if err != nil {
		return Account{}, err
	}
	owner, acc, err := s.owner(ctx, row.Name)
	if err == nil && (owner != Provider(s.local) || acc.ID != row.ID) {
		err = ErrNoAccount
	}
	return acc, err
}
