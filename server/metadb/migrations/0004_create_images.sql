-- +goose Up
-- What people ask about images with tools of their own: see docs/reference/database.md.

-- What a scanner found in an image, which is a manifest of a repository; they go with it. report is the digest of the
-- report, '' for none.
CREATE TABLE security_scans (
    id              {{id}},
    image_id        BIGINT NOT NULL REFERENCES manifest (id) ON DELETE CASCADE,
    scan_time       BIGINT NOT NULL,
    scanner         {{text}} NOT NULL,
    scanner_version {{text}} NOT NULL DEFAULT '',
    critical        BIGINT NOT NULL DEFAULT 0,
    high            BIGINT NOT NULL DEFAULT 0,
    medium          BIGINT NOT NULL DEFAULT 0,
    low             BIGINT NOT NULL DEFAULT 0,
    unknown         BIGINT NOT NULL DEFAULT 0,
    report          {{text}} NOT NULL DEFAULT ''
);
CREATE INDEX idx_scan_time ON security_scans (image_id, scan_time DESC);

-- The index that finds an image by repository and tag is there already: the primary key of tag. It gets the name by which
-- people look for it, and pushes pay for no second one. SQLite keeps the rows in their primary key and has no name for it.
{{name_tag_index}}

-- A view, so that it is true in the same transaction as the rows below it, and costs a push nothing. A manifest without a
-- tag has one row, in which tag is NULL: a platform of an index is one, and scans name them.
CREATE VIEW images AS
SELECT m.id, p.name AS project, r.name AS repository, t.name AS tag, m.digest, m.media_type, m.artifact_type,
       m.size + COALESCE((SELECT SUM(b.size) FROM blob b
                          WHERE b.digest IN (SELECT e.child FROM edge e WHERE e.manifest_id = m.id AND e.kind IN (1, 2))), 0) AS size,
       m.pushed_at, m.pushed_by, t.updated_at AS tagged_at
FROM manifest m
JOIN repository r ON r.id = m.repo_id
JOIN project p ON p.id = r.project_id
LEFT JOIN tag t ON t.repo_id = m.repo_id AND t.digest = m.digest;
