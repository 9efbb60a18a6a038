package metadb

import (
	"context"
	"errors"
)

// Trim does what happens by itself over some minutes: it marks now, calls meanwhile, and removes the changes from before
// the mark.
func Trim(ctx context.Context, db *DB, meanwhile func()) error {
	s := db.backend.(*cluster).signals
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	t := trimmer{}
	v, err := s.look(ctx, conn, view{})
	if err == nil {
		err = t.do(ctx, conn, v)
	}
	meanwhile()
	for range trimAfter {
		if err == nil {
			at := v.at.Add(trimEvery)
			v, err = s.look(ctx, conn, v)
			v.at = at
		}
		if err == nil {
			err = t.do(ctx, conn, v)
		}
	}
	return errors.Join(err, conn.Close(ctx))
}
