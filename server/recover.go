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

// ResetPassword gives a local account a new password, beside a running berthd or without one: the way back in for who has
// access to the data. An empty password is made up and returned.
func ResetPassword(ctx context.Context, c *config.Config, name, password string) (generated string, err error) {
	quiet := slog.New(slog.DiscardHandler)
	path := filepath.Join(c.Berth.Data, "berth.db")
	url := c.Berth.Database.URL.Reveal()
	if url == "" && !exists(path) {
		return "", errors.New("there is no database in " + c.Berth.Data + "; name the data directory with --data")
	}
	db, err := metadb.Open(ctx, metadb.Options{URL: url, Path: path, MaxOpen: 2, Log: quiet, Now: time.Now})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	accounts, err := auth.New(auth.Options{Store: db, Access: nothing{}, Now: time.Now, Log: quiet})
	if err != nil {
		return "", err
	}
	ctx = identity.With(ctx, identity.Principal{Kind: identity.Local, Admin: true, Via: identity.ViaSocket})
	if generated, err = accounts.SetPassword(ctx, name, password, false); err != nil || name != auth.FirstAdmin {
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

// CheckSystem allows everything.
func (nothing) CheckSystem(context.Context, identity.Verb) error { return nil }

// CheckProject allows everything.
func (nothing) CheckProject(context.Context, identity.Verb, string) error { return nil }

// Narrow allows nothing.
func (nothing) Narrow(context.Context, identity.Principal, []identity.Grant) ([]identity.Grant, error) {
	return nil, nil
}
