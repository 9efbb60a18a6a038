package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/berth-registry/berth/server/config"
	"github.com/berth-registry/berth/server/metadb"
)

// TestExpiredAnswersAreForgotten leaves more expired answers than one transaction removes, and one that holds, to the queue
// of a berthd whose hourly run is due: that run removes the expired ones and nothing else.
func TestExpiredAnswersAreForgotten(t *testing.T) {
	loaded, err := config.Load(config.LoadOptions{Search: []string{}, Fallback: []string{}, Env: []string{
		"BERTH_DATA=" + filepath.Join(t.TempDir(), "data"), "BERTH_ADMIN_PASSWORD=harbour-Wall-7-lantern", "BERTH_ADDR=127.0.0.1:0", "BERTH_LOG_LEVEL=error",
	}})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	s, err := New(t.Context(), Options{Config: loaded, Stderr: &log, Getenv: func(string) string { return "" }, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	past := time.Now().Add(-time.Minute)
	err = s.db.Update(t.Context(), func(tx *metadb.Tx) error {
		for i := range forgetBatch + 1 {
			if _, _, err := tx.BeginIdempotency(metadb.Idempotency{Key: fmt.Sprint(i), Principal: "ci", Route: "createRobot", RequestHash: "h", ExpiresAt: past}); err != nil {
				return err
			}
		}
		if _, _, err := tx.BeginIdempotency(metadb.Idempotency{Key: "held", Principal: "ci", Route: "createRobot", RequestHash: "h", ExpiresAt: time.Now().Add(time.Hour)}); err != nil {
			return err
		}
		_, err := tx.EnsureSchedule("idempotency.trim", "@hourly", past)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.jobs.Run(ctx) }()
	last := fmt.Sprint(forgetBatch)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		_, first := s.db.Idempotency(t.Context(), "ci", "0")
		_, second := s.db.Idempotency(t.Context(), "ci", last)
		if errors.Is(first, metadb.ErrNotFound) && errors.Is(second, metadb.ErrNotFound) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("expired answers are still there: %v, %v\n%s", first, second, log.String())
		}
	}
	stop()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := s.db.Idempotency(t.Context(), "ci", "held"); err != nil {
		t.Errorf("an answer that has not expired: %v", err)
	}
}
