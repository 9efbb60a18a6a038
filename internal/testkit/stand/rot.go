package stand

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/berth-registry/berth/internal/testkit"
)

// Rot changes a byte of stored content behind the registry's back, or takes all of it away: of a file, of an object, or of a
// row of the database, wherever the registry reads it from. done is false when there is nothing to change, or when the content
// is about to be moved in its bucket. Nobody may push, delete or collect it at the same time.
func (f *Fleet) Rot(digest string, right []byte, gone bool) (done bool) {
	f.t.Helper()
	row, err := f.stored(digest)
	if err != nil {
		f.t.Fatalf("rot %s: %v", digest, err)
	}
	wrong := bytes.Clone(right)
	wrong[len(wrong)/2] ^= 1
	switch {
	case row == nil || row.moving:
		return false
	case row.inline && gone:
		return f.behind(`DELETE FROM blob_content WHERE digest = $1`, digest) == 1
	case row.inline:
		return f.behind(`UPDATE blob_content SET bytes = $2 WHERE digest = $1`, digest, wrong) == 1
	case f.Shared:
		err = f.rotObject(digest, wrong, gone)
	case gone:
		err = os.Remove(f.file(digest))
	default:
		err = os.WriteFile(f.file(digest), wrong, 0o600)
	}
	if err != nil {
		f.t.Fatalf("rot %s: %v", digest, err)
	}
	return true
}

// Small is the content that the database has of a digest; nil when it has none.
func (f *Fleet) Small(digest string) ([]byte, error) {
	text := `hex(bytes)`
	if f.Shared {
		text = `encode(bytes, 'hex')`
	}
	rows, err := f.Rows(`SELECT ` + text + ` FROM blob_content WHERE digest = '` + digest + `'`)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return hex.DecodeString(rows[0][0])
}

// place is where content is.
type place struct {
	inline bool // in the database
	moving bool // in a bucket, and not yet under its digest, or still elsewhere, too
}

// stored is where the registry reads live content from, nil when it has none. A small blob may have its row a moment after
// its answer.
func (f *Fleet) stored(digest string) (*place, error) {
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		rows, err := f.Rows(`SELECT CASE WHEN inline THEN 1 ELSE 0 END, CASE WHEN place <> '' OR EXISTS (SELECT 1 FROM blob_moved m WHERE m.digest = b.digest) THEN 1 ELSE 0 END
			FROM blob b WHERE state = 0 AND digest = '` + digest + `'`)
		if err != nil {
			return nil, err
		}
		if len(rows) > 0 {
			return &place{rows[0][0] == "1", rows[0][1] == "1"}, nil
		}
		if time.Since(began) > time.Second {
			return nil, nil
		}
	}
}

func (f *Fleet) behind(statement string, args ...any) int64 {
	f.t.Helper()
	return testkit.Behind(f.t, f.DSN, f.databaseFile(), statement, args...)
}

func (f *Fleet) file(digest string) string {
	digits := digest[len("sha256:"):]
	return filepath.Join(f.Replicas[0].Data, "blobs", "sha256", digits[:2], digits)
}

// rotObject finds the object that is named by its digest. Uploads that nobody has ended may have the same bytes.
func (f *Fleet) rotObject(digest string, wrong []byte, gone bool) error {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	client := f.Bucket.Client()
	for key := range f.Weigh().Content {
		if !strings.Contains(key, digest[len("sha256:"):]) {
			continue
		}
		var err error
		if gone {
			_, err = client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &f.Name, Key: &key})
		} else {
			_, err = client.PutObject(ctx, &s3.PutObjectInput{Bucket: &f.Name, Key: &key, Body: bytes.NewReader(wrong)})
		}
		return err
	}
	return errors.New("no object of the bucket has its name")
}
