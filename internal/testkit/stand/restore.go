package stand

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/berth-registry/berth/internal/testkit"
)

// Command runs a command of berthd as who administers the machine of the first replica, and returns what it printed. The
// configuration is its last argument.
func (f *Fleet) Command(args ...string) (string, error) {
	cmd := exec.Command(testkit.BuildBerthd(f.t), append(args, f.configs[0])...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "BERTH") && !strings.HasPrefix(v, "REGISTRY") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(append(cmd.Env, f.env...), "BERTH_DATA="+f.Replicas[0].Data)
	if f.DSN != "" {
		cmd.Env = append(cmd.Env, "BERTH_DATABASE="+f.DSN)
	}
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("berthd %s: %w: %s%s", strings.Join(args, " "), err, out.String(), said.String())
	}
	return out.String(), nil
}

// Backup makes a snapshot while the registry serves: in a directory, or in another bucket. Two of them are kept.
func (f *Fleet) Backup() error {
	if f.target == "" && f.Shared {
		_, name := testkit.S3Bucket(f.t, testkit.VersityGW)
		f.target = "s3://" + name + "/some/where"
	} else if f.target == "" {
		f.target = filepath.Join(f.t.TempDir(), "backup")
	}
	_, err := f.Command("backup", "--keep", "2", f.target)
	return err
}

// Lose ends all replicas as a power cut would, and throws away everything that the registry has.
func (f *Fleet) Lose() error {
	for i := range f.Replicas {
		f.Kill(i)
	}
	err := f.LoseDatabase()
	for _, d := range f.Replicas {
		entries, readErr := os.ReadDir(d.Data)
		err = errors.Join(err, readErr)
		for _, e := range entries {
			err = errors.Join(err, os.RemoveAll(filepath.Join(d.Data, e.Name())))
		}
	}
	if f.Shared {
		err = errors.Join(err, f.emptyBucket())
	}
	return err
}

func (f *Fleet) emptyBucket() error {
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
			if _, err := client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &f.Name, Key: o.Key}); err != nil {
				return err
			}
		}
	}
	open := s3.NewListMultipartUploadsPaginator(client, &s3.ListMultipartUploadsInput{Bucket: &f.Name})
	for open.HasMorePages() {
		page, err := open.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, u := range page.Uploads {
			if _, err := client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &f.Name, Key: u.Key, UploadId: u.UploadId}); err != nil {
				return err
			}
		}
	}
	return nil
}

// LoseDatabase throws the database away, of a registry that does not run.
func (f *Fleet) LoseDatabase() error {
	if !f.Shared {
		files, err := filepath.Glob(f.databaseFile() + "*")
		for _, name := range files {
			err = errors.Join(err, os.Remove(name))
		}
		return err
	}
	db := testkit.SQL{DSN: f.DSN}
	defer db.Close()
	for _, statement := range []string{`DROP SCHEMA public CASCADE`, `CREATE SCHEMA public`} {
		if _, err := db.Query(statement); err != nil {
			return err
		}
	}
	return nil
}

// Restore makes the registry again from the last snapshot, in the place that was emptied, and starts it.
func (f *Fleet) Restore() error {
	f.t.Helper()
	if _, err := f.Command("restore", "--verify", f.target); err != nil {
		return err
	}
	for i := range f.Replicas {
		f.Restart(i)
	}
	return nil
}

// Stop ends all replicas in order.
func (f *Fleet) Stop() (err error) {
	for _, d := range f.Replicas {
		err = errors.Join(err, d.Stop())
	}
	return err
}

// Rebuild makes the database again from what the store has, and starts the registry.
func (f *Fleet) Rebuild() error {
	f.t.Helper()
	if _, err := f.Command("rebuild"); err != nil {
		return err
	}
	for i := range f.Replicas {
		f.Restart(i)
	}
	return nil
}
