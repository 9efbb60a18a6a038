-- +goose Up
-- One text for both databases. {{…}} are the few words in which they differ, see dialect.go. Times are microseconds
-- since 1970 UTC, 0 is never; digests are text; '' is "none". Text sorts by bytes everywhere, so that keyset pages are
-- the same on both.

CREATE TABLE setting (
    name  {{text}} NOT NULL PRIMARY KEY,
    value {{text}} NOT NULL
) {{clustered}};

CREATE TABLE signing_key (
    id         {{text}} NOT NULL PRIMARY KEY,
    algorithm  {{text}} NOT NULL,
    private    {{bytes}} NOT NULL,
    created_at BIGINT NOT NULL,
    retired_at BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE account (
    id            {{id}},
    name          {{text}} NOT NULL UNIQUE,
    password_hash {{text}} NOT NULL,
    admin         BOOLEAN NOT NULL,
    disabled      BOOLEAN NOT NULL,
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL,
    generation    BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE project (
    id         {{id}},
    name       {{text}} NOT NULL UNIQUE,
    public     BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE repository (
    id         {{id}},
    project_id BIGINT NOT NULL REFERENCES project (id),
    name       {{text}} NOT NULL UNIQUE,
    listed     BOOLEAN NOT NULL DEFAULT FALSE,
    created_at BIGINT NOT NULL
);
CREATE INDEX repository_project ON repository (project_id, name);
CREATE INDEX repository_listed ON repository (name) WHERE listed;

-- Every content object of the registry, manifests included. state: 0 live, 1 claimed for deletion.
CREATE TABLE blob (
    digest      {{text}} NOT NULL PRIMARY KEY,
    size        BIGINT NOT NULL,
    inline      BOOLEAN NOT NULL,
    state       SMALLINT NOT NULL DEFAULT 0,
    created_at  BIGINT NOT NULL,
    lease_until BIGINT NOT NULL DEFAULT 0
) {{clustered}};

-- Bytes of inline blobs. Not clustered: SQLite keeps large rows better beside a small index.
CREATE TABLE blob_content (
    digest {{text}} NOT NULL PRIMARY KEY {{of_blob}},
    bytes  {{bytes}} NOT NULL
);

-- Which repository may see which blob. The digest comes first, so that one tree serves the questions "does this repository
-- have it" and "who has it": digests fall anywhere, and each tree of them costs every push a page.
CREATE TABLE repo_blob (
    repo_id    BIGINT NOT NULL {{of_repository}},
    digest     {{text}} NOT NULL {{of_blob}},
    created_at BIGINT NOT NULL,
    PRIMARY KEY (digest, repo_id)
) {{clustered}};

-- descriptor is the JSON object of the referrers answer; only manifests with a subject have one.
CREATE TABLE manifest (
    id            {{id}},
    repo_id       BIGINT NOT NULL REFERENCES repository (id),
    digest        {{text}} NOT NULL REFERENCES blob (digest),
    media_type    {{text}} NOT NULL,
    artifact_type {{text}} NOT NULL DEFAULT '',
    size          BIGINT NOT NULL,
    subject       {{text}} NOT NULL DEFAULT '',
    descriptor    {{text}} NOT NULL DEFAULT '',
    pushed_at     BIGINT NOT NULL,
    pushed_by     {{text}} NOT NULL DEFAULT '',
    UNIQUE (repo_id, digest)
);
CREATE INDEX manifest_digest ON manifest (digest, repo_id);
CREATE INDEX manifest_subject ON manifest (repo_id, subject, digest) WHERE subject <> '';
CREATE INDEX manifest_subject_type ON manifest (repo_id, subject, artifact_type, digest) WHERE subject <> '';

-- What a manifest refers to. kind: 1 config, 2 layer, 3 manifest, 4 subject. The child need not exist (a subject may
-- come later, a foreign layer never comes), so it references nothing. The parent is a number, not a digest, so that the
-- edges of one push lie side by side: with digests each would dirty a page of its own. PutManifest and DeleteManifest
-- keep parents true; a foreign key would look each one up.
CREATE TABLE edge (
    manifest_id BIGINT NOT NULL,
    child       {{text}} NOT NULL,
    kind        SMALLINT NOT NULL,
    repo_id     BIGINT NOT NULL,
    PRIMARY KEY (manifest_id, child, kind)
) {{clustered}};
CREATE INDEX edge_child ON edge (child, repo_id, manifest_id);

CREATE TABLE tag (
    repo_id    BIGINT NOT NULL,
    name       {{text}} NOT NULL,
    digest     {{text}} NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (repo_id, name),
    FOREIGN KEY (repo_id, digest) REFERENCES manifest (repo_id, digest)
) {{clustered}};
CREATE INDEX tag_digest ON tag (repo_id, digest);
CREATE INDEX tag_updated ON tag (repo_id, updated_at, name);

-- Uploads in progress. committing names the digest whose bytes may be in the store although no blob row says so.
CREATE TABLE upload (
    id           {{text}} NOT NULL PRIMARY KEY,
    repository   {{text}} NOT NULL,
    principal    {{text}} NOT NULL,
    algorithm    {{text}} NOT NULL,
    started_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    received     BIGINT NOT NULL DEFAULT 0,
    hash_state   {{bytes}},
    driver_state {{bytes}},
    committing   {{text}} NOT NULL DEFAULT ''
);
CREATE INDEX upload_updated ON upload (updated_at);
CREATE INDEX upload_committing ON upload (committing) WHERE committing <> '';

-- The transactional outbox. epoch orders events of concurrent transactions by what a reader can have seen, see event.go.
CREATE TABLE event (
    id         {{id}},
    epoch      BIGINT NOT NULL DEFAULT {{epoch}},
    at         BIGINT NOT NULL,
    kind       {{text}} NOT NULL,
    repository {{text}} NOT NULL,
    digest     {{text}} NOT NULL,
    tag        {{text}} NOT NULL,
    principal  {{text}} NOT NULL,
    payload    {{text}} NOT NULL
);
{{event_index}}

-- SQLite's planner knows nothing of the shape of tables it has not analyzed, and takes a repository's whole list of tags
-- for ten rows. These are the shapes.
{{shapes}}
