package server

import (
	"context"

	"github.com/berth-registry/berth/server/access"
	"github.com/berth-registry/berth/server/identity"
)

// managers are who may change accounts, robots and the like: administrators.
type managers struct{ *access.Point }

// CheckSystem asks for an administrator.
func (m managers) CheckSystem(ctx context.Context, _ identity.Verb) error { return m.CheckAdmin(ctx) }

// CheckProject asks for an administrator.
func (m managers) CheckProject(ctx context.Context, _ identity.Verb, _ string) error {
	return m.CheckAdmin(ctx)
}
