package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/config"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/job"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/project"
)

// Operator is the accounts, robots, tokens and projects of a registry for who has access to its data: beside a running berthd,
// which takes up changes within metadb.TrustFor, or without one.
type Operator struct {
	*auth.Service
	Projects *project.Service

	close func() error
}

// OpenOperator opens the configured database, which must exist.
func OpenOperator(ctx context.Context, c *config.Config) (*Operator, error) {
	quiet := slog.New(slog.DiscardHandler)
	db, closeDB, err := openBeside(ctx, c, quiet)
	if err != nil {
		return nil, err
	}
	accounts, err := auth.New(auth.Options{
		Store: db, Access: nothing{}, TokenLifetime: c.Berth.Token.Lifetime, RefreshLifetime: c.Berth.Token.RefreshLifetime,
		MinPassword: c.Berth.Limits.PasswordMin, Now: time.Now, Log: quiet,
	})
	if err != nil {
		return nil, errors.Join(err, closeDB())
	}
	directory, err := project.NewDirectory(ctx, project.DirectoryOptions{
		DB: db, DefaultPublic: c.Berth.Projects.Default == "public", Public: c.Berth.Projects.Public,
	})
	if err != nil {
		return nil, errors.Join(err, closeDB())
	}
	projects := project.New(project.Options{DB: db, Access: nothing{}, Directory: directory, Now: time.Now})
	jobs, err := job.New(job.Options{DB: db, Now: time.Now, Log: quiet})
	if err == nil {
		err = projects.Jobs(jobs, project.Contents{}) // a running berthd does them
	}
	if err != nil {
		return nil, errors.Join(err, closeDB())
	}
	return &Operator{accounts, projects, closeDB}, nil
}

// Context is the operator's: whom the operating system lets use the data is an administrator without an account.
func (o *Operator) Context(ctx context.Context) context.Context {
	return identity.With(ctx, identity.Principal{Kind: identity.Local, Admin: true, Via: identity.ViaSocket})
}

// Close closes the database.
func (o *Operator) Close() error { return o.close() }

// ResetPassword gives a local account a new password, beside a running berthd or without one: the way back in for who has
// access to the data. An empty password is made up and returned.
func ResetPassword(ctx context.Context, c *config.Config, name, password string) (generated string, err error) {
	o, err := OpenOperator(ctx, c)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	if generated, err = o.SetPassword(o.Context(ctx), name, password, false); err != nil || name != auth.FirstAdmin {
		return generated, err
	}
	// What the first run noted is wrong from now on.
	if err := os.Remove(filepath.Join(c.Berth.Data, "first-run.txt")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return generated, fmt.Errorf("the password is changed, but the note of the first one is still there: %w", err)
	}
	return generated, nil
}

// nothing is how far a token may reach that is never issued. Who has the data may do everything else to it.
type nothing struct{}

// Narrow allows nothing.
func (nothing) Narrow(context.Context, identity.Principal, []identity.Grant) ([]identity.Grant, error) {
	return nil, nil
}

// CheckSystem allows everything.
func (nothing) CheckSystem(context.Context, identity.Verb) error { return nil }

// CheckProject allows everything.
func (nothing) CheckProject(context.Context, identity.Verb, string) error { return nil }

// CheckSignedIn allows everything.
func (nothing) CheckSignedIn(context.Context) error { return nil }

// CheckGive allows everything.
func (nothing) CheckGive(context.Context, ...metadb.Grant) error { return nil }

// CheckGiveAll allows everything.
func (nothing) CheckGiveAll(context.Context, metadb.Subject) error { return nil }

// CheckTakeAll allows everything.
func (nothing) CheckTakeAll(context.Context, metadb.Subject) error { return nil }

// CheckActAs allows everything.
func (nothing) CheckActAs(context.Context, identity.Principal) error { return nil }

// Projects are all of them.
func (nothing) Projects(context.Context) (metadb.Scope, func(metadb.Project) bool, error) {
	return metadb.Scope{All: true}, nil, nil
}
