package metadb

import (
	"context"
	"database/sql"
	"time"

	"github.com/berth-registry/berth/fault"
)

// Group is a named set of accounts.
type Group struct {
	ID          int64
	Name        string
	Description string
	CreatedAt   time.Time
	UpdatedAt   time.Time
	Generation  int64
}

const groupColumns = `id, name, description, created_at, updated_at, generation`

func scanGroup(rows *sql.Rows, g *Group) error {
	return rows.Scan(&g.ID, &g.Name, &g.Description, micros{&g.CreatedAt}, micros{&g.UpdatedAt}, &g.Generation)
}

// Group finds a group by number, or ErrNotFound.
func (r *Reads) Group(ctx context.Context, id int64) (Group, error) {
	return one(ctx, r.s, scanGroup, `SELECT `+groupColumns+` FROM account_group WHERE id = $1`, id)
}

// GroupByName finds a group by name, or ErrNotFound.
func (r *Reads) GroupByName(ctx context.Context, name string) (Group, error) {
	return one(ctx, r.s, scanGroup, `SELECT `+groupColumns+` FROM account_group WHERE name = $1`, name)
}

// GroupFilter chooses groups. The zero filter chooses all.
type GroupFilter struct {
	Contains string // in the name, in any case
	Account  int64  // that this account is in; 0 for no matter
	Order    Order  // by name or created
}

// Groups are groups that the filter chooses, behind the key after, in the filter's order.
func (r *Reads) Groups(ctx context.Context, f GroupFilter, after string, limit int) ([]Group, error) {
	var w where
	order, err := w.behind(f.Order, after, ordered{name: `name`, id: `id`})
	if err != nil {
		return nil, err
	}
	w.contains(`LOWER(name)`, f.Contains)
	if f.Account != 0 {
		w.and(`id IN (SELECT group_id FROM group_member WHERE account_id = ?)`, f.Account)
	}
	query, args := w.page(`SELECT `+groupColumns+` FROM account_group`, order, limit)
	return many(ctx, r.s, scanGroup, query, args...)
}

// GroupsOf are the numbers of the groups that an account is in, ascending, each once.
func (r *Reads) GroupsOf(ctx context.Context, accountID int64) ([]int64, error) {
	return many(ctx, r.s, column[int64], `SELECT DISTINCT group_id FROM group_member WHERE account_id = $1 ORDER BY group_id`, accountID)
}

// GroupMember is an account in a group.
type GroupMember struct {
	AccountID int64
	Account   string // its name
	Source    string // "" when an administrator put it there, else the identity provider that says so
}

// GroupMembers are members behind (name of the account, source), in that order.
func (r *Reads) GroupMembers(ctx context.Context, groupID int64, after GroupMember, limit int) ([]GroupMember, error) {
	return many(ctx, r.s, func(rows *sql.Rows, m *GroupMember) error { return rows.Scan(&m.AccountID, &m.Account, &m.Source) },
		`SELECT a.id, a.name, m.source FROM group_member m JOIN account a ON a.id = m.account_id
		WHERE m.group_id = $1 AND (a.name > $2 OR a.name = $2 AND m.source > $3) ORDER BY a.name, m.source LIMIT $4`, groupID, after.Account, after.Source, limit)
}

// CreateGroup makes a group and returns it; a name that is in use is a Conflict.
func (tx *Tx) CreateGroup(g Group) (Group, error) {
	return one(tx.ctx, tx.s, scanGroup, `INSERT INTO account_group (name, description, created_at, updated_at, generation) VALUES ($1, $2, $3, $3, $3) RETURNING `+groupColumns,
		g.Name, g.Description, toMicros(tx.now))
}

// UpdateGroup changes name and description of the group with g's ID; generation and errors are as of UpdateAccount.
func (tx *Tx) UpdateGroup(g Group, generation int64) (Group, error) {
	got, err := one(tx.ctx, tx.s, scanGroup, `UPDATE account_group SET name = $3, description = $4, updated_at = $5, generation = generation + 1
		WHERE id = $1 AND (CAST($2 AS BIGINT) < 0 OR generation = $2) RETURNING `+groupColumns, g.ID, generation, g.Name, g.Description, toMicros(tx.now))
	return got, tx.whyNot(err, func() error { _, err := tx.Group(tx.ctx, g.ID); return err })
}

// DeleteGroup removes a group with its grants and memberships, or says ErrNotFound.
func (tx *Tx) DeleteGroup(id int64) error {
	if err := tx.membersChanged(`SELECT a.name FROM group_member m JOIN account a ON a.id = m.account_id WHERE m.group_id = $1`, id); err != nil {
		return err
	}
	n, err := tx.exec(`DELETE FROM account_group WHERE id = $1`, id)
	if err != nil {
		return err
	}
	if n == 0 {
		return ErrNotFound
	}
	if _, err := tx.exec(`DELETE FROM group_member WHERE group_id = $1`, id); err != nil {
		return err
	}
	return tx.deleteGrantsOf(Subject{GroupSubject, id})
}

// membersChanged announces the accounts whose names a query finds.
func (tx *Tx) membersChanged(query string, args ...any) error {
	names, err := many(tx.ctx, tx.s, column[string], query, args...)
	for _, name := range names {
		tx.changed(AccountChanged, 0, name)
	}
	return err
}

// PutGroupMember puts an account into a group on behalf of a source; saying it again changes nothing. ErrNotFound when there
// is no such group or account.
func (tx *Tx) PutGroupMember(groupID, accountID int64, source string) error {
	if _, err := tx.Group(tx.ctx, groupID); err != nil {
		return err
	}
	a, err := tx.AccountByID(tx.ctx, accountID)
	if err != nil {
		return err
	}
	tx.changed(AccountChanged, 0, a.Name)
	_, err = tx.exec(`INSERT INTO group_member (group_id, account_id, source) VALUES ($1, $2, $3) ON CONFLICT (group_id, account_id, source) DO NOTHING`,
		groupID, accountID, source)
	return err
}

// DeleteGroupMember takes out of a group what a source put there; existed says whether it had.
func (tx *Tx) DeleteGroupMember(groupID, accountID int64, source string) (existed bool, err error) {
	if err := tx.membersChanged(`SELECT name FROM account WHERE id = $1`, accountID); err != nil {
		return false, err
	}
	n, err := tx.exec(`DELETE FROM group_member WHERE group_id = $1 AND account_id = $2 AND source = $3`, groupID, accountID, source)
	return n == 1, err
}

// maxGroups bounds what a provider may say at once.
const maxGroups = 10_000

// SetGroupsOf makes groups what a source says of an account: those it says no more are gone in the same transaction, and those
// that do not exist are made. changed says whether anything was.
func (tx *Tx) SetGroupsOf(accountID int64, source string, groups []string) (changed bool, err error) {
	if len(groups) > maxGroups {
		return false, fault.New(fault.TooLarge, fault.Unknown, "%s says that an account is in %d groups; at most %d are taken", source, len(groups), maxGroups)
	}
	a, err := tx.AccountByID(tx.ctx, accountID)
	if err != nil {
		return false, err
	}
	wanted := map[int64]bool{}
	for _, name := range groups {
		if _, err := tx.exec(`INSERT INTO account_group (name, created_at, updated_at, generation) VALUES ($1, $2, $2, $2) ON CONFLICT (name) DO NOTHING`, name, toMicros(tx.now)); err != nil {
			return false, err
		}
		g, err := tx.GroupByName(tx.ctx, name)
		if err != nil {
			return false, err
		}
		wanted[g.ID] = true
	}
	have, err := many(tx.ctx, tx.s, column[int64], `SELECT group_id FROM group_member WHERE account_id = $1 AND source = $2`, accountID, source)
	if err != nil {
		return false, err
	}
	for _, id := range have {
		if wanted[id] {
			delete(wanted, id)
			continue
		}
		changed = true
		if _, err := tx.exec(`DELETE FROM group_member WHERE group_id = $1 AND account_id = $2 AND source = $3`, id, accountID, source); err != nil {
			return false, err
		}
	}
	for id := range wanted {
		changed = true
		if _, err := tx.exec(`INSERT INTO group_member (group_id, account_id, source) VALUES ($1, $2, $3) ON CONFLICT (group_id, account_id, source) DO NOTHING`,
			id, accountID, source); err != nil {
			return false, err
		}
	}
	if changed {
		tx.changed(AccountChanged, 0, a.Name)
	}
	return changed, nil
}
