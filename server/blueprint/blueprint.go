// Package blueprint is the configuration of a registry as one document: projects, roles, groups, accounts, robots, grants and
// trusted issuers, without anything that is secret. Export reads it, Apply makes the registry what a document says, in one
// transaction, and Plan says beforehand what that would change.
//
// Passwords and secrets of robots are in no document: accounts and robots that Apply makes have none, and are given one
// afterwards. What is written in the configuration file of berthd is not part of it either.
//
// Start reading at Service.Apply; objects.go is what a document has, kind by kind.
package blueprint

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// Version is the version of documents that this berthd reads and writes.
const Version = 1

// Document is the configuration of a registry. Lists are in the order of names.
type Document struct {
	Version  int       `json:"version" minimum:"1" maximum:"1" doc:"Of the form of the document: 1."`
	Roles    []Role    `json:"roles,omitempty" doc:"Those that were made."`
	Groups   []Group   `json:"groups,omitempty"`
	Users    []User    `json:"users,omitempty" doc:"Accounts, without passwords."`
	Projects []Project `json:"projects,omitempty"`
	Robots   []Robot   `json:"robots,omitempty" doc:"Without secrets."`
	Grants   []Grant   `json:"grants,omitempty" doc:"Members of projects are among them."`
	Issuers  []Issuer  `json:"issuers,omitempty" doc:"Whose tokens are exchanged for ours."`
}

// Change is one thing that Apply does.
type Change struct {
	Action string `json:"action" enum:"create,update,delete"`
	Kind   string `json:"kind" enum:"role,group,user,project,robot,grant,issuer"`
	Name   string `json:"name" doc:"Of the object; of a grant, who it is for and what it says."`
}

// gate is the authorization point.
type gate interface {
	CheckAdmin(ctx context.Context) error
	CheckSystem(ctx context.Context, v identity.Verb) error
}

// Options configure a Service. All are required.
type Options struct {
	DB     *metadb.DB
	Access gate
	// CheckIssuer says what is wrong with the configuration of an issuer, as JSON.
	CheckIssuer func(config []byte) error
	// TrustIssuer refuses what the caller may not put in the place of a configuration; nil is none.
	TrustIssuer func(ctx context.Context, before, config []byte) error
}

// Service reads and writes configurations. Safe for concurrent use.
type Service struct{ o Options }

// New returns a Service.
func New(o Options) *Service { return &Service{o} }

// page is how many rows are read at a time.
const page = 500

// errPlanned ends the transaction of a plan: nothing of it stays.
var errPlanned = errors.New("blueprint: planned")

// Export is the configuration as it is. It asks for export.
func (s *Service) Export(ctx context.Context) (d Document, err error) {
	if err := s.o.Access.CheckSystem(ctx, identity.Export); err != nil {
		return d, err
	}
	// In a transaction, so that it is the configuration of one moment.
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		var have state
		if err := have.read(ctx, tx); err != nil {
			return err
		}
		d = have.document()
		return errPlanned
	})
	if !errors.Is(err, errPlanned) {
		return Document{}, fmt.Errorf("blueprint: export: %w", err)
	}
	return d, nil
}

// Ask is what to do with a document.
type Ask struct {
	DryRun bool // say what would change, and change nothing
	Prune  bool // delete what the document does not have
}

// Apply makes the registry what the document says, as a whole or not at all, and says what has changed, in the order in which
// it was done. Without Prune, what the document does not name stays. It asks for an administrator, who stays one: an
// administrator is left, and the caller is not deleted.
//
// A project that is to be deleted has to be empty. What the document names and nobody has, such as the subject of a grant, is
// Invalid.
func (s *Service) Apply(ctx context.Context, d Document, ask Ask) (changes []Change, err error) {
	if err := s.o.Access.CheckAdmin(ctx); err != nil {
		return nil, err
	}
	want, err := s.stateOf(d)
	if err != nil {
		return nil, err
	}
	err = s.o.DB.Update(ctx, func(tx *metadb.Tx) error {
		var have state
		if err := have.read(ctx, tx); err != nil {
			return err
		}
		w := &writer{ctx: ctx, tx: tx, trust: s.o.TrustIssuer, have: &have, want: want, prune: ask.Prune, by: identity.From(ctx)}
		if err := w.all(); err != nil {
			return err
		}
		changes = w.changes
		if ask.DryRun {
			return errPlanned
		}
		return nil
	})
	if err != nil && !(ask.DryRun && errors.Is(err, errPlanned)) {
		return nil, fmt.Errorf("blueprint: apply: %w", err)
	}
	return changes, nil
}

// invalid is what is wrong with a document.
func invalid(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, fault.UnsupportedReason, format, args...)
}

// moment is a time as documents have it, "" for none.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// parseMoment reads one; what it cannot read was refused by state.
func parseMoment(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return t
}

// canonical writes a time as Export does.
func canonical(what string, text *string) error {
	if *text == "" {
		return nil
	}
	t, err := time.Parse(time.RFC3339Nano, *text)
	if err != nil {
		return invalid("%s: %.60q is not a time such as 2026-01-31T09:00:00Z", what, *text)
	}
	*text = moment(t.Truncate(time.Microsecond)) // as the database keeps it
	return nil
}
