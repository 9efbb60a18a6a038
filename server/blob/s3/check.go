package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/blob"
)

const (
	checkWithin = time.Second
	startWithin = 10 * time.Second
)

// Check implements blob.Store: the bucket answers and takes our credentials.
func (s *Store) Check(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, checkWithin)
	defer stop()
	err := s.ask(ctx)
	if f := new(fault.Error); err == nil || errors.As(err, &f) {
		return err
	}
	return fault.New(fault.Unavailable, fault.UnavailableReason, "the blob storage does not answer; try again later").Because(errors.Join(errors.New(s.place()), err))
}

// ask looks at the bucket once. HEAD is cheap and says nothing but yes; what its no means, a list of one upload tells.
func (s *Store) ask(ctx context.Context) error {
	_, err := s.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &s.o.Bucket}, attempts(1))
	if err == nil {
		return nil
	}
	if status := errorStatus(err); status >= 300 && status < 500 {
		_, listErr := s.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{
			Bucket: &s.o.Bucket, Prefix: aws.String(s.uploadsPrefix()), MaxKeys: aws.Int32(1),
		}, attempts(1))
		if listErr != nil {
			err = listErr
		}
	}
	return s.failed("check", err)
}

// firstLook asks the bucket at the start, and says what of its settings surprises people.
func (s *Store) firstLook(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, startWithin)
	defer stop()
	if err := s.ask(ctx); err != nil {
		var f *fault.Error
		if advice := s.refusal(err); advice != "" {
			return &blob.RefusedError{Advice: "s3: " + advice + asText(err)}
		}
		if status := errorStatus(err); status >= 300 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests {
			return &blob.RefusedError{Advice: fmt.Sprintf("s3: %s refuses: check storage.s3", s.place()), Cause: err}
		}
		if ctxErr := context.Cause(ctx); ctxErr != nil && errors.As(err, &f) {
			err = errors.Join(err, ctxErr)
		}
		s.log.Warn("the bucket does not answer; pushes and pulls of large blobs fail until it does", "storage", s.place(), "err", err)
		return nil
	}
	s.surprises(ctx)
	return nil
}

// asText is what the service itself said.
func asText(err error) string {
	if code := errorCode(err); code != "" {
		return " (the service says " + code + ")"
	}
	return ""
}

// surprises looks for versions and locks. Who may not ask is told nothing.
func (s *Store) surprises(ctx context.Context) {
	v, err := s.client.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: &s.o.Bucket}, attempts(1))
	if err != nil {
		return
	}
	if v.Status != types.BucketVersioningStatusEnabled {
		return
	}
	s.log.Warn("the bucket keeps versions: deleted and finished uploads go on taking space until a lifecycle rule removes noncurrent versions (docs/operate/storage.md)", "bucket", s.o.Bucket)
	l, err := s.client.GetObjectLockConfiguration(ctx, &s3.GetObjectLockConfigurationInput{Bucket: &s.o.Bucket}, attempts(1))
	if err != nil || l.ObjectLockConfiguration == nil {
		return
	}
	s.locked = true
	if l.ObjectLockConfiguration.Rule != nil {
		s.log.Warn("the bucket locks every object for a time: what is deleted, and what uploads leave, takes space until then", "bucket", s.o.Bucket)
	}
}
