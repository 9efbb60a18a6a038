package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

const kindObject = 4

// objectGarbageStages have a berthd on PostgreSQL and a bucket collect objects that nothing needs. raw is what the S3 server
// does with the same objects when they are listed and deleted, a thousand for each request.
func objectGarbageStages(z size) []stage {
	var sts []stage
	for _, make := range makesOfObjects() {
		sts = append(sts, stage{name: "garbage in a bucket of " + make, below: below{postgres: true, objects: make}, solo: true, prepare: prepareNothing,
			start: func(ctx context.Context, b *bench, t *target, on *backends) (*server, error) {
				if t.can&canPush == 0 {
					return startRaw(ctx, b, t, on)
				}
				return startBerthd(ctx, b, t, on, 1, "BERTH_GC_INTERVAL=24h", "BERTH_JOURNAL=false")
			},
			scenarios: []scenario{{name: "gc-objects/" + make, unit: "objects/s", fits: has(canObjects), run: runGCObjects,
				about: fmt.Sprintf("collection of %d small objects", z.garbageObjects)}},
		})
	}
	return sts
}

// runGCObjects writes objects and their rows, and times how long they take to go. That the bucket is empty is part of it.
func runGCObjects(ctx context.Context, b *bench, s *server, round int) (p phase, err error) {
	n := b.size.garbageObjects
	store := s.store()
	if err := each(ctx, s, 16, n, func(_ *client, i int) error { return store.putSmall(ctx, s.space, objectKey(i)) }); err != nil {
		return p, err
	}
	collect := func() (time.Duration, error) {
		began := time.Now()
		err := store.empty(ctx, s.space)
		return time.Since(began), err
	}
	if s.objects == nil {
		if err := s.with(func(c *client) error { return c.pushImage(repoGarbage, "needs", newImage(1<<50+uint64(round))) }); err != nil {
			return p, err
		}
		if err := insertObjectGarbage(ctx, fmt.Sprintf(s.on.postgres.dsn, s.space), n); err != nil {
			return p, fmt.Errorf("write rows: %w", err)
		}
		collect = func() (time.Duration, error) { return startGC(ctx, s, "run").wait() }
	}
	m, err := startMeter(s)
	if err != nil {
		return p, err
	}
	took, err := collect()
	if err != nil {
		return p, err
	}
	p.Ops = int64(n)
	if err := m.stop(&p); err != nil {
		return p, err
	}
	p.Value = float64(n) / took.Seconds()
	left, err := store.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &s.space, Prefix: aws.String(objectPrefix)})
	for i := 0; err == nil && i < len(left.Contents); i++ {
		if *left.Contents[i].Key == objectKey(0) || *left.Contents[i].Key == objectKey(n-1) || len(left.Contents) > 100 {
			err = errors.New("objects are left: nothing was measured")
		}
	}
	return p, err
}

const objectPrefix = "docker/registry/v2/blobs/sha256/"

func objectKey(i int) string {
	hex := strings.TrimPrefix(garbageDigest(kindObject, i), "sha256:")
	return objectPrefix + hex[:2] + "/" + hex + "/data"
}

func (o *objects) putSmall(ctx context.Context, bucket, key string) error {
	_, err := o.client.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader([]byte{0})})
	return err
}

// insertObjectGarbage writes the rows of objects that a repository had and nothing needs any more.
func insertObjectGarbage(ctx context.Context, dsn string, n int) (err error) {
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		return errors.New("the DSN cannot be parsed") // err has the password
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	digest := fmt.Sprintf(`'sha256:' || lpad(to_hex((i * 2654435761) & 4294967295), 8, '0') || lpad(to_hex(%d), 8, '0') || lpad(to_hex(i), 48, '0')`, kindObject)
	numbers := fmt.Sprintf(` FROM generate_series(0::bigint, %d::bigint - 1) i`, n)
	for _, insert := range []string{
		`INSERT INTO blob (digest, size, inline, stored, created_at, lease_until) SELECT ` + digest + `, 1, FALSE, TRUE, 1, 1` + numbers,
		`INSERT INTO repo_blob (repo_id, digest, created_at) SELECT r.id, ` + digest + `, 1` + numbers + `, repository r WHERE r.name = '` + repoGarbage + `'`,
		`ANALYZE blob, repo_blob`,
	} {
		if _, err := db.ExecContext(ctx, insert); err != nil {
			return fmt.Errorf("%.40s…: %w", insert, err)
		}
	}
	return nil
}
