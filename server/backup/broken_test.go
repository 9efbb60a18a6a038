package backup_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/fs"
	"github.com/berth-registry/berth/server/metadb"
)

func now() time.Time { return time.Now() }

var errBroken = errors.New("the store broke")

// failing is a store whose commits fail from one on.
type failing struct {
	*fs.Store
	left int32
}

func (f *failing) Commit(ctx context.Context, id string, s blob.State, d oci.Digest) error {
	if atomic.AddInt32(&f.left, -1) < 0 {
		return errBroken
	}
	return f.Store.Commit(ctx, id, s, d)
}

// stopping is a store whose first commit waits to be told.
type stopping struct {
	*fs.Store
	once         sync.Once
	reached, go_ chan struct{}
}

func (s *stopping) Commit(ctx context.Context, id string, state blob.State, d oci.Digest) error {
	s.once.Do(func() {
		close(s.reached)
		<-s.go_
	})
	return s.Store.Commit(ctx, id, state, d)
}

// blobtestReplace puts other bytes where d's were, as a disk may.
func blobtestReplace(s blob.Store, d oci.Digest, content []byte) error {
	w, err := s.Upload(context.Background(), "replace", blob.State{})
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write(content); err != nil {
		return err
	}
	state, err := w.Suspend(context.Background())
	if err != nil {
		return err
	}
	return s.Commit(context.Background(), "replace", state, d)
}

func rewrite(s *fs.Store, id, from, to string) error {
	ctx := context.Background()
	text, err := s.Note(ctx, "backup/"+id+".json")
	if err != nil {
		return err
	}
	if !bytes.Contains(text, []byte(from)) {
		return errors.New("record has no " + from)
	}
	return s.PutNote(ctx, "backup/"+id+".json", bytes.Replace(text, []byte(from), []byte(to), 1))
}

// reseal changes a record and keeps it whole.
func reseal(s *fs.Store, id string, change func(map[string]any)) error {
	ctx := context.Background()
	text, err := s.Note(ctx, "backup/"+id+".json")
	if err != nil {
		return err
	}
	var sealed struct {
		Record map[string]any `json:"record"`
		Digest string         `json:"digest"`
	}
	if err := json.Unmarshal(text, &sealed); err != nil {
		return err
	}
	change(sealed.Record)
	record, err := json.Marshal(sealed.Record)
	if err != nil {
		return err
	}
	sealed.Digest = oci.FromBytes(oci.SHA256, record).String()
	if text, err = json.Marshal(sealed); err != nil {
		return err
	}
	return s.PutNote(ctx, "backup/"+id+".json", text)
}

func putTag(tx *metadb.Tx, repo int64, tag string, d oci.Digest) error {
	_, err := tx.PutTag(repo, tag, d, metadb.Origin{})
	return err
}
