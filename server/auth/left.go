package auth

import (
	"context"
	"errors"
	"fmt"

	"github.com/berth-registry/berth/server/metadb"
)

// leaver is a Provider that says which names it knew and lost: the tokens and sessions of such an account end, so that whoever
// gets the name next does not have them.
type leaver interface {
	// Left calls end with the names that were lost since the last call of end that succeeded.
	Left(end func(names []string) error) error
}

// endLeft ends what belongs to accounts that a provider has lost, before a token or session is looked up. What fails is tried
// again with the next request.
func (s *Service) endLeft(ctx context.Context) {
	for _, p := range s.o.Providers {
		l, ok := p.(leaver)
		if !ok {
			continue
		}
		_, _ = p.Account(ctx, "") // so that it looks at its source; nobody has that name
		if err := l.Left(func(names []string) error { return s.endOf(ctx, p.Source(), names) }); err != nil {
			s.o.Log.WarnContext(ctx, "tokens of accounts that left their source could not be ended", "source", p.Source(), "error", err)
		}
	}
}

// endAbsent does the same for accounts that were lost while berthd did not look.
func (s *Service) endAbsent(ctx context.Context) error {
	for _, p := range s.o.Providers {
		if _, ok := p.(leaver); !ok {
			continue
		}
		source := p.Source()
		for after := ""; ; {
			page, err := s.o.Store.FindAccounts(ctx, metadb.AccountFilter{Source: &source}, after, flushRows)
			if err != nil {
				return fmt.Errorf("auth: accounts of %s: %w", source, err)
			}
			var gone []string
			for _, a := range page {
				after = a.Name
				if _, err := p.Account(ctx, a.Name); errors.Is(err, ErrNoAccount) {
					gone = append(gone, a.Name)
				}
			}
			if err := s.endOf(ctx, source, gone); err != nil {
				return err
			}
			if len(page) < flushRows {
				break
			}
		}
	}
	return nil
}

// endOf revokes the personal access tokens of accounts of a source, and ends their sessions.
func (s *Service) endOf(ctx context.Context, source string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	err := s.o.Store.Update(ctx, func(tx *metadb.Tx) error {
		for _, name := range names {
			a, err := tx.Account(ctx, name)
			if errors.Is(err, metadb.ErrNotFound) || err == nil && a.Source != source {
				continue
			}
			if err != nil {
				return err
			}
			if _, err := tx.DeleteSessions(metadb.SessionFilter{Account: a.ID}); err != nil {
				return err
			}
			if err := revokeAll(ctx, tx, a.ID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("auth: end tokens of %d accounts of %s: %w", len(names), source, err)
	}
	return nil
}

func revokeAll(ctx context.Context, tx *metadb.Tx, account int64) error {
	for after := int64(0); ; {
		tokens, err := tx.AccessTokens(ctx, account, after, flushRows)
		if err != nil {
			return err
		}
		for _, t := range tokens {
			after = t.ID
			if !t.RevokedAt.IsZero() {
				continue
			}
			if err := tx.RevokeAccessToken(t.ID); err != nil {
				return err
			}
		}
		if len(tokens) < flushRows {
			return nil
		}
	}
}
