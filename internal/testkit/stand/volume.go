package stand

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/berth-registry/berth/internal/testkit"
)

// Volume is what a registry takes up.
type Volume struct {
	Content map[string]int64 // files or objects that hold content, of blobs and of uploads: name → bytes
	Notes   map[string]int64 // the small objects beside them, from which a database can be made again
	Pending int              // multipart uploads of the bucket that nobody has ended

	Database int64 // bytes of the database: of its file, or what PostgreSQL says
	Free     int64 // of them, pages that hold nothing and are used next (SQLite)
	Inline   int64 // bytes of content in the database
}

// Bytes is the content in the store.
func (v Volume) Bytes() (n int64) {
	for _, size := range v.Content {
		n += size
	}
	return n
}

func (v Volume) String() string {
	return fmt.Sprintf("%d files of content with %d bytes, %d notes, database %d bytes (%d of them free, %d of small content)",
		len(v.Content), v.Bytes(), len(v.Notes), v.Database, v.Free, v.Inline)
}

// Weigh looks at the store and the database from outside, while berthd runs.
func (f *Fleet) Weigh() Volume {
	f.t.Helper()
	v := Volume{Content: map[string]int64{}, Notes: map[string]int64{}}
	var err error
	if f.Shared {
		err = errors.Join(f.weighBucket(&v), f.weighPostgres(&v))
	} else {
		err = errors.Join(f.weighFiles(&v), f.weighSQLite(&v))
	}
	if err != nil {
		f.t.Fatalf("weigh the store: %v", err)
	}
	return v
}

func (f *Fleet) weighFiles(v *Volume) error {
	root := f.Replicas[0].Data
	for name, into := range map[string]map[string]int64{"blobs": v.Content, "uploads": v.Content, "berth": v.Notes} {
		err := filepath.WalkDir(filepath.Join(root, name), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || err == nil && d.IsDir() {
				return nil // gone meanwhile
			}
			if err != nil {
				return err
			}
			info, err := d.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil {
				into[strings.TrimPrefix(path, root)] = info.Size()
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// weighBucket lists it. What does not look like a note is content: a place that nobody knows must not be overlooked.
func (f *Fleet) weighBucket(v *Volume) error {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	client := f.Bucket.Client()
	pages := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: &f.Name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, o := range page.Contents {
			key := aws.ToString(o.Key)
			into := v.Content
			if strings.Contains(key, "berth/") && !strings.Contains(key, "berth/uploads/") && !strings.Contains(key, "berth/parked/") {
				into = v.Notes
			}
			into[key] = aws.ToInt64(o.Size)
		}
	}
	open := s3.NewListMultipartUploadsPaginator(client, &s3.ListMultipartUploadsInput{Bucket: &f.Name})
	for open.HasMorePages() {
		page, err := open.NextPage(ctx)
		if err != nil {
			return err
		}
		v.Pending += len(page.Uploads)
	}
	return nil
}

func (f *Fleet) weighPostgres(v *Volume) error {
	rows, err := f.Rows(`SELECT pg_database_size(current_database()), COALESCE(SUM(length(bytes)), 0) FROM blob_content`)
	if err != nil {
		return err
	}
	return scan(rows[0], &v.Database, &v.Inline)
}

func (f *Fleet) weighSQLite(v *Volume) error {
	for _, suffix := range []string{"", "-wal"} {
		info, err := os.Stat(f.databaseFile() + suffix)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil {
			v.Database += info.Size()
		}
	}
	rows, err := f.Rows(`SELECT f.freelist_count * p.page_size, (SELECT COALESCE(SUM(length(bytes)), 0) FROM blob_content)
		FROM pragma_freelist_count f, pragma_page_size p`)
	if err != nil {
		return err
	}
	return scan(rows[0], &v.Free, &v.Inline)
}

// Rows asks the database as an administrator would, beside berthd.
func (f *Fleet) Rows(query string) ([][]string, error) {
	if !f.Shared {
		return testkit.SQLite(f.databaseFile(), query)
	}
	db := testkit.SQL{DSN: f.DSN}
	defer db.Close()
	return db.Query(query)
}

func (f *Fleet) databaseFile() string { return filepath.Join(f.Replicas[0].Data, "berth.db") }

func scan(row []string, into ...any) error {
	_, err := fmt.Sscan(strings.Join(row, " "), into...)
	return err
}
