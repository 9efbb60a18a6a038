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
	"github.com/berth-registry/berth/server/metadb"
)

// Operator is the accounts, robots and tokens of a registry for who has access to its data: beside a running berthd, which
// takes up changes within auth.MaxStale, or without one.
type Operator struct {
	*auth.Service
	db *metadb.DB
}

// OpenOperator opens the configured database, which must exist.
func OpenOperator(ctx context.Context, c *config.Config) (*Operator, error) {
	quiet := slog.New(slog.DiscardHandler)
	path := filepath.Join(c.Berth.Data, "berth.db")
	url := c.Berth.Database.URL.Reveal()
	if url == "" && !exists(path) {
		return nil, errors.New("there is no database in " + c.Berth.Data + "; name the data directory with --data")
	}
	db, err := metadb.Open(ctx, metadb.Options{URL: url, Path: path, MaxOpen: 2, Log: quiet, Now: time.Now})
	if err != nil {
		return nil, err
	}
	accounts, err := auth.New(auth.Options{
		Store: db, Access: nothing{}, TokenLifetime: c.Berth.Token.Lifetime, RefreshLifetime: c.Berth.Token.RefreshLifetime,
		MinPassword: c.Berth.Limits.PasswordMin, Now: time.Now, Log: quiet,
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &Operator{accounts, db}, nil
}

// Context is the operator's: whom the operating system lets use the data is an administrator without an account.
func (o *Operator) Context(ctx context.Context) context.Context {
	return identity.With(ctx, identity.Principal{Kind: identity.Local, Admin: true, Via: identity.ViaSocket})
}

// Close closes the database.
func (o *Operator) Close() error { return o.db.Close() }

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
