-- +goose Up
-- What was, and what may go. Columns that are added have a default with which the version before goes on.

-- place says where the bytes of a blob lie in the store: '' under its digest, else the driver's own name for it, see
-- blob.Parker. stored says of an inline blob that the store may have its bytes, too. state 2 is damaged: the bytes are not
-- what the digest says, nobody is told that the blob is there, and a push of it makes it live again. lease_until is 0 for
-- a blob that something needs; else it is when collection looks at the blob, or may take over a claim. See gc.go.
ALTER TABLE blob ADD COLUMN place {{text}} NOT NULL DEFAULT '';
ALTER TABLE blob ADD COLUMN stored BOOLEAN NOT NULL DEFAULT TRUE;

-- Places that no blob row names any more, deleted when nobody can read from them.
CREATE TABLE blob_moved (
    place  {{text}} NOT NULL PRIMARY KEY,
    digest {{text}} NOT NULL,
    due_at BIGINT NOT NULL
) {{clustered}};
CREATE INDEX blob_moved_due ON blob_moved (due_at, place);

-- What was found wrong with a blob; the row goes when the blob is repaired or collected.
CREATE TABLE damage (
    digest   {{text}} NOT NULL PRIMARY KEY,
    size     BIGINT NOT NULL,
    found_at BIGINT NOT NULL,
    found_by {{text}} NOT NULL,
    detail   {{text}} NOT NULL
) {{clustered}};

-- While a row's time has not come, collection deletes nothing: a backup is being made.
CREATE TABLE gc_hold (
    name       {{text}} NOT NULL PRIMARY KEY,
    held_until BIGINT NOT NULL
) {{clustered}};

-- The journal of tags, see history.go. Row by row it says from when on a tag pointed at a digest ('' is a deletion), who
-- did it and from where. The last entry of a tag that exists is the tag's own row, so that the first push of a tag writes
-- nothing here; it comes here when the tag moves on.
ALTER TABLE tag ADD COLUMN since BIGINT NOT NULL DEFAULT 0;
ALTER TABLE tag ADD COLUMN moved_by {{text}} NOT NULL DEFAULT '';
ALTER TABLE tag ADD COLUMN source {{text}} NOT NULL DEFAULT '';
CREATE TABLE tag_history (
    repo_id  BIGINT NOT NULL,
    name     {{text}} NOT NULL,
    since    BIGINT NOT NULL,
    digest   {{text}} NOT NULL,
    moved_by {{text}} NOT NULL,
    source   {{text}} NOT NULL,
    PRIMARY KEY (repo_id, name, since)
) {{clustered}};
CREATE INDEX tag_history_digest ON tag_history (repo_id, digest);

-- Manifests that were deleted and can be brought back, see trash.go. id is the one that the manifest had: its edges stay,
-- and keep what it needs. tags are those that went with it, a JSON list.
CREATE TABLE trash (
    id            BIGINT NOT NULL PRIMARY KEY,
    repo_id       BIGINT NOT NULL,
    digest        {{text}} NOT NULL,
    media_type    {{text}} NOT NULL,
    artifact_type {{text}} NOT NULL,
    size          BIGINT NOT NULL,
    subject       {{text}} NOT NULL,
    descriptor    {{text}} NOT NULL,
    pushed_at     BIGINT NOT NULL,
    pushed_by     {{text}} NOT NULL,
    tags          {{text}} NOT NULL,
    deleted_at    BIGINT NOT NULL,
    deleted_by    {{text}} NOT NULL,
    source        {{text}} NOT NULL,
    cause         {{text}} NOT NULL,
    hold_until    BIGINT NOT NULL
);
CREATE UNIQUE INDEX trash_manifest ON trash (repo_id, digest);
CREATE INDEX trash_digest ON trash (digest, repo_id);
CREATE INDEX trash_due ON trash (hold_until, id);
CREATE INDEX trash_deleted ON trash (repo_id, deleted_at, id);
