package auth

import (
	"context"
	"errors"

	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/recall"
)

// store is what this room needs of the metadata database. *metadb.DB has it.
type store interface {
	Account(ctx context.Context, name string) (metadb.Account, error)
	AccountByID(ctx context.Context, id int64) (metadb.Account, error)
	Accounts(ctx context.Context, after string, limit int) ([]metadb.Account, error)
	FindAccounts(ctx context.Context, f metadb.AccountFilter, after string, limit int) ([]metadb.Account, error)
	LoginFailure(ctx context.Context, subject string) (metadb.LoginFailure, error)
	LinksOf(ctx context.Context, accountID int64) ([]metadb.Link, error)

	Group(ctx context.Context, id int64) (metadb.Group, error)
	GroupByName(ctx context.Context, name string) (metadb.Group, error)
	Groups(ctx context.Context, f metadb.GroupFilter, after string, limit int) ([]metadb.Group, error)
	GroupsOf(ctx context.Context, accountID int64) ([]int64, error)
	GroupMembers(ctx context.Context, groupID int64, after metadb.GroupMember, limit int) ([]metadb.GroupMember, error)

	Project(ctx context.Context, name string) (metadb.Project, error)
	Robot(ctx context.Context, id int64) (metadb.Robot, error)
	RobotByName(ctx context.Context, name string) (metadb.Robot, error)
	Robots(ctx context.Context, f metadb.RobotFilter, after string, limit int) ([]metadb.Robot, error)
	RobotSecretByHash(ctx context.Context, hash string) (metadb.RobotSecret, error)
	RobotSecrets(ctx context.Context, robotID int64) ([]metadb.RobotSecret, error)

	AccessToken(ctx context.Context, id int64) (metadb.AccessToken, error)
	AccessTokenByHash(ctx context.Context, hash string) (metadb.AccessToken, error)
	AccessTokens(ctx context.Context, account, after int64, limit int) ([]metadb.AccessToken, error)

	LoginSession(ctx context.Context, id int64) (metadb.LoginSession, error)
	LoginSessionByHash(ctx context.Context, hash string) (metadb.LoginSession, error)
	LoginSessions(ctx context.Context, account, after int64, limit int) ([]metadb.LoginSession, error)

	IdentityProvider(ctx context.Context, name string) (metadb.IdentityProvider, error)
	IdentityProviders(ctx context.Context, kind, after string, limit int) ([]metadb.IdentityProvider, error)

	SigningKeys(ctx context.Context) ([]metadb.SigningKey, error)
	Update(ctx context.Context, fn func(tx *metadb.Tx) error) error
	WatchAll(forget func(metadb.Change))
	Trust() func() recall.Trust
}

// hasAdmin reports whether any local account is an administrator. The usual one is looked up first, so that a start
// does not read the others.
func hasAdmin(ctx context.Context, s store) (bool, error) {
	a, err := s.Account(ctx, FirstAdmin)
	if err != nil && !errors.Is(err, metadb.ErrNotFound) {
		return false, err
	}
	if err == nil && a.Admin {
		return true, nil
	}
	const page = 500
	for after := ""; ; {
		list, err := s.Accounts(ctx, after, page)
		if err != nil {
			return false, err
		}
		for _, a := range list {
			if a.Admin {
				return true, nil
			}
			after = a.Name
		}
		if len(list) < page {
			return false, nil
		}
	}
}

// createAdmin makes an administrator unless the name is taken, and reports whether it did. Of two replicas that try at
// once one succeeds: PutAccount would change the other's account, so the name is looked up in the same transaction,
// and who loses a race that the look-up did not see has raised the generation of an account nobody has used yet.
func createAdmin(ctx context.Context, s store, name, hash string) (created bool, err error) {
	err = s.Update(ctx, func(tx *metadb.Tx) error {
		created = false
		_, err := tx.Account(ctx, name)
		if !errors.Is(err, metadb.ErrNotFound) {
			return err // nil: taken
		}
		a, err := tx.PutAccount(metadb.Account{Name: name, PasswordHash: hash, Admin: true})
		created = err == nil && a.Generation == a.CreatedAt.UnixMicro()
		if err == nil && !created {
			return errTaken // roll back: the other replica's password stays
		}
		return err
	})
	if errors.Is(err, errTaken) {
		return false, nil
	}
	return created, err
}

var errTaken = errors.New("auth: the account was made by another replica meanwhile")

// addFirstKey adds the key unless there is one that signs.
func addFirstKey(ctx context.Context, s store, k metadb.SigningKey) error {
	return s.Update(ctx, func(tx *metadb.Tx) error {
		keys, err := tx.SigningKeys(ctx)
		if err != nil {
			return err
		}
		for _, k := range keys {
			if k.RetiredAt.IsZero() && k.Algorithm == algEdDSA {
				return nil
			}
		}
		return tx.AddSigningKey(k)
	})
}
