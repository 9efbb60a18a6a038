package metadb

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/berth-registry/berth/oci"
)

// keep is DB.KeepBlob for SQLite.
func (l *lite) keep(ctx context.Context, repoID int64, b Blob, content []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if l.beside {
		return keepByUpdate(ctx, l, repoID, b, content)
	}
	if err := l.openIntake(ctx); err != nil {
		return err
	}
	kept, err := l.intake.keep(&intakeEntry{
		repoID: repoID, digest: b.Digest.String(), at: toMicros(l.intake.now()), lease: toMicros(b.LeaseUntil), content: content,
	}, Mark{})
	if kept || err != nil {
		return err
	}
	return keepByUpdate(ctx, l, repoID, b, content)
}

// keepLink is DB.KeepLink for SQLite.
func (l *lite) keepLink(ctx context.Context, repoID int64, d oci.Digest, lease time.Time, since Mark) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if l.beside {
		return linkByUpdate(ctx, l, repoID, d, lease)
	}
	if err := l.openIntake(ctx); err != nil {
		return err
	}
	kept, err := l.intake.keep(&intakeEntry{
		repoID: repoID, digest: d.String(), at: toMicros(l.intake.now()), lease: toMicros(lease), link: true,
	}, since)
	if kept || err != nil {
		return err
	}
	return linkByUpdate(ctx, l, repoID, d, lease)
}

func (l *lite) mark() Mark { return l.intake.mark() }

// openIntake begins a log: the database names it before it has an entry.
func (l *lite) openIntake(ctx context.Context) error {
	k := l.intake
	if k.open.Load() {
		return nil
	}
	k.opening.Lock()
	defer k.opening.Unlock()
	if k.open.Load() {
		return nil
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	k.salt = binary.LittleEndian.Uint64(random[:])
	err := l.update(ctx, false, func(tx *Tx) error { return tx.PutSetting(intakeSetting, intakeMark(k.salt, 0)) })
	if err == nil {
		k.open.Store(true)
	}
	return err
}

// recoverIntake makes the rows of what a process that did not close the database had acknowledged.
func (l *lite) recoverIntake(ctx context.Context) error {
	text, err := one(ctx, l, column[string], `SELECT value FROM setting WHERE name = $1`, intakeSetting)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return l.d.fail(err)
	}
	salt, upto, ok := parseIntakeMark(text)
	if !ok {
		return fmt.Errorf("metadb: setting %s of the database is damaged: %q", intakeSetting, text)
	}
	es, err := readIntake(l.path+"-intake", salt, upto)
	if err != nil {
		return fmt.Errorf("metadb: read the log of small blobs: %w", err)
	}
	if len(es) > 0 {
		err = l.update(ctx, false, func(tx *Tx) error {
			if err := makeRows(ctx, tx.s, es); err != nil {
				return err
			}
			return tx.PutSetting(intakeSetting, intakeMark(salt, es[len(es)-1].number))
		})
		if err != nil {
			return err
		}
		l.log.Info("small blobs recovered after an unclean stop", "blobs", len(es))
	}
	return removeFiles(intakePaths(l.path + "-intake")...)
}

// settle makes rows before a statement outside a transaction that could miss them.
func (l *lite) settle(ctx context.Context, query string, args []any) error {
	if l.intake.waits.Load() == 0 || !strings.Contains(query, "blob") || !l.intake.concerns(args) {
		return nil
	}
	return l.update(ctx, true, func(*Tx) error { return nil })
}

// settleLoop makes the rows of what nobody else's transaction makes, soon.
func (l *lite) settleLoop() {
	for {
		select {
		case <-l.quit:
			return
		case <-l.intake.first:
		}
		select {
		case <-l.quit:
			return
		case <-time.After(intakeDelay):
		}
		if l.intake.waits.Load() == 0 {
			continue
		}
		if err := l.settleAll(); err != nil {
			l.log.Warn("rows of small blobs could not be made; it will be tried again", "err", err)
			l.intake.again()
		}
	}
}

// settleAll makes all rows, durably.
func (l *lite) settleAll() error {
	if !l.intake.open.Load() {
		return nil
	}
	return l.update(context.Background(), false, func(*Tx) error { return nil })
}
