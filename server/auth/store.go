package auth

import (
	"context"
	"time"
)

// store is what this room needs of the metadata database: DB makes one from *metadb.DB.
type store interface {
	// Account returns a local account, ErrNoAccount when there is none.
	Account(ctx context.Context, name string) (LocalAccount, error)
	// HasAdmin reports whether any local account is an administrator.
	HasAdmin(ctx context.Context) (bool, error)
	// CreateAdmin makes an administrator unless the name is taken, and reports whether it did.
	CreateAdmin(ctx context.Context, name, passwordHash string) (created bool, err error)
	// SigningKeys returns all keys, in any order.
	SigningKeys(ctx context.Context) ([]SigningKey, error)
	// AddFirstSigningKey adds the key unless there is one that is not retired.
	AddFirstSigningKey(ctx context.Context, k SigningKey) error
}

// LocalAccount is a stored account.
type LocalAccount struct {
	Name         string
	PasswordHash string // PHC string
	Admin        bool
	Disabled     bool
	Generation   int64 // grows with every change of the password, of Admin or of Disabled
}

// SigningKey is a stored key.
type SigningKey struct {
	ID        string
	Algorithm string
	Private   []byte
	CreatedAt time.Time
	RetiredAt time.Time // the zero time, or the moment from which tokens of this key are refused
}
