package server

import (
	"log/slog"
	"time"

	"github.com/berth-registry/berth/server/blob/s3"
	"github.com/berth-registry/berth/server/config"
)

// s3Options hands the settings of storage.s3 to the driver. It has no name for the multipart copy sizes, which follow the
// size of the parts.
func s3Options(c *config.S3, log *slog.Logger, now func() time.Time) s3.Options {
	return s3.Options{
		AccessKey: c.AccessKey.Reveal(), SecretKey: c.SecretKey.Reveal(), SessionToken: c.SessionToken.Reveal(),
		Region: c.Region, Endpoint: c.RegionEndpoint, RedirectEndpoint: c.RedirectEndpoint, Bucket: c.Bucket, RootDirectory: c.RootDirectory,
		PathStyle: c.ForcePathStyle, Accelerate: c.Accelerate, DualStack: c.UseDualStack, FIPS: c.UseFIPSEndpoint,
		Insecure: !c.Secure, SkipVerify: c.SkipVerify, Encrypt: c.Encrypt, KeyID: c.KeyID,
		StorageClass: c.StorageClass, ObjectACL: c.ObjectACL, UserAgent: c.UserAgent, LogLevel: c.LogLevel,
		ChunkSize: int64(c.ChunkSize), CopyConcurrency: c.MultipartCopyMaxConcurrency, Log: log, Now: now,
	}
}
