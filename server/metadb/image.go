package metadb

import (
	"context"
	"database/sql"
	"math"
	"time"

	"github.com/berth-registry/berth/oci"
)

// SecurityScan is what a scanner found in an image at a time. Tools of others read the table, too: it is
// security_scans, and its images are the view of that name.
type SecurityScan struct {
	ID             int64
	ImageID        int64 // see Reads.ImageID
	At             time.Time
	Scanner        string
	ScannerVersion string
	// How many vulnerabilities there are of each severity.
	Critical, High, Medium, Low, Unknown int64
	Report                               oci.Digest // zero for none
}

const scanColumns = `id, image_id, scan_time, scanner, scanner_version, critical, high, medium, low, unknown, report`

func scanSecurityScan(rows *sql.Rows, s *SecurityScan) error {
	return rows.Scan(&s.ID, &s.ImageID, micros{&s.At}, &s.Scanner, &s.ScannerVersion,
		&s.Critical, &s.High, &s.Medium, &s.Low, &s.Unknown, digest{&s.Report})
}

// ImageID is the number of a manifest of the repository, by which scans name it, or ErrNotFound.
func (r *Reads) ImageID(ctx context.Context, repoID int64, d oci.Digest) (int64, error) {
	return one(ctx, r.s, column[int64], `SELECT id FROM manifest WHERE repo_id = $1 AND digest = $2`, repoID, d.String())
}

// SecurityScans are up to limit scans of an image, newest first, behind the scan after; the zero SecurityScan begins at
// the newest. The cost depends on the page only.
func (r *Reads) SecurityScans(ctx context.Context, imageID int64, after SecurityScan, limit int) ([]SecurityScan, error) {
	at, id := toMicros(after.At), after.ID
	if after.ID == 0 {
		at = math.MaxInt64
	}
	return many(ctx, r.s, scanSecurityScan, `SELECT `+scanColumns+` FROM security_scans
		WHERE image_id = $1 AND scan_time <= $2 AND (scan_time < $2 OR id < $3) ORDER BY scan_time DESC, id DESC LIMIT $4`, imageID, at, id, limit)
}

// PutSecurityScan records a scan, without a time one of now, and returns its number. A Conflict says that the image is
// gone. The scans of an image go with it.
func (tx *Tx) PutSecurityScan(s SecurityScan) (int64, error) {
	if s.At.IsZero() {
		s.At = tx.now
	}
	return one(tx.ctx, tx.s, column[int64], `INSERT INTO security_scans
		(image_id, scan_time, scanner, scanner_version, critical, high, medium, low, unknown, report)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING id`,
		s.ImageID, toMicros(s.At), s.Scanner, s.ScannerVersion, s.Critical, s.High, s.Medium, s.Low, s.Unknown, s.Report.String())
}
