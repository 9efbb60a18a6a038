package metadb

import "context"

// Setting is the value under a name, or ErrNotFound.
func (r *Reads) Setting(ctx context.Context, name string) (string, error) {
	return one(ctx, r.s, column[string], `SELECT value FROM setting WHERE name = $1`, name)
}

const putSetting = `INSERT INTO setting (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`

// PutSetting sets the value under a name.
func (tx *Tx) PutSetting(name, value string) error {
	_, err := tx.exec(putSetting, name, value)
	return err
}

// EnsureSetting returns the value under the name, which is the given one when there was none: of several processes that
// start together, all get the same.
func (tx *Tx) EnsureSetting(name, value string) (string, error) {
	if _, err := tx.exec(`INSERT INTO setting (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`, name, value); err != nil {
		return "", err
	}
	return tx.Setting(tx.ctx, name)
}
