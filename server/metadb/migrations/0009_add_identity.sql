-- +goose Up
-- Who may do what. Columns that are added have a default with which the version before goes on. Nothing here refers to
-- another table by a foreign key: the version before deletes accounts without knowing of what belongs to them, numbers are
-- never given twice, and the methods of Tx delete what belongs together in one transaction.

-- source is '' for an account with a password of its own, else who it was made for (an identity provider). must_change:
-- the password is to be changed before anything else.
ALTER TABLE account ADD COLUMN display_name {{text}} NOT NULL DEFAULT '';
ALTER TABLE account ADD COLUMN email {{text}} NOT NULL DEFAULT '';
ALTER TABLE account ADD COLUMN auditor BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE account ADD COLUMN source {{text}} NOT NULL DEFAULT '';
ALTER TABLE account ADD COLUMN must_change BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE account ADD COLUMN last_login_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN expires_at BIGINT NOT NULL DEFAULT 0;

CREATE TABLE account_group (
    id          {{id}},
    name        {{text}} NOT NULL UNIQUE,
    description {{text}} NOT NULL DEFAULT '',
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    generation  BIGINT NOT NULL DEFAULT 0
);

-- source says who put the account there: '' an administrator, else an identity provider, whose rows are replaced as a whole
-- whenever it says anew who is in which group.
CREATE TABLE group_member (
    group_id   BIGINT NOT NULL,
    account_id BIGINT NOT NULL,
    source     {{text}} NOT NULL DEFAULT '',
    PRIMARY KEY (group_id, account_id, source)
) {{clustered}};
CREATE INDEX group_member_account ON group_member (account_id, group_id);
CREATE INDEX group_member_source ON group_member (source, account_id) WHERE source <> '';

-- Which account an identity at a provider is.
CREATE TABLE account_link (
    provider      {{text}} NOT NULL,
    subject       {{text}} NOT NULL,
    account_id    BIGINT NOT NULL,
    login         {{text}} NOT NULL DEFAULT '',
    email         {{text}} NOT NULL DEFAULT '',
    created_at    BIGINT NOT NULL,
    last_login_at BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (provider, subject)
) {{clustered}};
CREATE INDEX account_link_account ON account_link (account_id, provider, subject);

-- Roles that administrators made; those that berth knows by itself are in package identity. verbs is a JSON list.
CREATE TABLE role (
    id          {{id}},
    name        {{text}} NOT NULL UNIQUE,
    description {{text}} NOT NULL DEFAULT '',
    verbs       {{text}} NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    generation  BIGINT NOT NULL DEFAULT 0
);

-- Who may do what where, or may not. subject_kind: 1 account, 2 group, 3 robot, 4 every account, 5 everybody
-- (subject_id is 0 for the last two). project_id 0 is the whole registry. pattern is '' for the whole of the project or
-- registry. A grant has the verbs of a role, by its name, or those of the JSON list verbs.
CREATE TABLE access_grant (
    id           {{id}},
    subject_kind SMALLINT NOT NULL,
    subject_id   BIGINT NOT NULL DEFAULT 0,
    project_id   BIGINT NOT NULL DEFAULT 0,
    pattern      {{text}} NOT NULL DEFAULT '',
    role         {{text}} NOT NULL DEFAULT '',
    verbs        {{text}} NOT NULL DEFAULT '[]',
    deny         BOOLEAN NOT NULL DEFAULT FALSE,
    valid_from   BIGINT NOT NULL DEFAULT 0,
    valid_until  BIGINT NOT NULL DEFAULT 0,
    created_at   BIGINT NOT NULL,
    created_by   {{text}} NOT NULL DEFAULT '',
    updated_at   BIGINT NOT NULL,
    generation   BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX access_grant_once ON access_grant (subject_kind, subject_id, project_id, pattern, role, verbs, deny);
CREATE INDEX access_grant_project ON access_grant (project_id, id);
CREATE INDEX access_grant_role ON access_grant (role, id);

-- labels is a JSON object of texts.
ALTER TABLE project ADD COLUMN description {{text}} NOT NULL DEFAULT '';
ALTER TABLE project ADD COLUMN labels {{text}} NOT NULL DEFAULT '{}';
ALTER TABLE project ADD COLUMN created_by {{text}} NOT NULL DEFAULT '';
ALTER TABLE project ADD COLUMN updated_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE project ADD COLUMN generation BIGINT NOT NULL DEFAULT 0;

-- Machine accounts. A name is one of a robot or of an account, never of both. project_id 0 belongs to the registry.
CREATE TABLE robot (
    id             {{id}},
    name           {{text}} NOT NULL UNIQUE,
    project_id     BIGINT NOT NULL DEFAULT 0,
    description    {{text}} NOT NULL DEFAULT '',
    disabled       BOOLEAN NOT NULL DEFAULT FALSE,
    expires_at     BIGINT NOT NULL DEFAULT 0,
    created_at     BIGINT NOT NULL,
    created_by     {{text}} NOT NULL DEFAULT '',
    updated_at     BIGINT NOT NULL,
    generation     BIGINT NOT NULL DEFAULT 0,
    last_used_at   BIGINT NOT NULL DEFAULT 0,
    last_used_from {{text}} NOT NULL DEFAULT ''
);
CREATE INDEX robot_project ON robot (project_id, name);

-- hash is of a secret of 256 random bits, prefix its first characters, for people. Several hold at once while a secret is
-- being replaced.
CREATE TABLE robot_secret (
    id         {{id}},
    robot_id   BIGINT NOT NULL,
    hash       {{text}} NOT NULL UNIQUE,
    prefix     {{text}} NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX robot_secret_robot ON robot_secret (robot_id, id);
CREATE INDEX robot_secret_expires ON robot_secret (expires_at, id) WHERE expires_at > 0;

-- Personal access tokens. grants is a JSON list of what the token is narrowed to, or '' for no narrowing.
CREATE TABLE access_token (
    id             {{id}},
    account_id     BIGINT NOT NULL,
    name           {{text}} NOT NULL,
    hash           {{text}} NOT NULL UNIQUE,
    prefix         {{text}} NOT NULL,
    grants         {{text}} NOT NULL DEFAULT '',
    created_at     BIGINT NOT NULL,
    expires_at     BIGINT NOT NULL DEFAULT 0,
    revoked_at     BIGINT NOT NULL DEFAULT 0,
    last_used_at   BIGINT NOT NULL DEFAULT 0,
    last_used_from {{text}} NOT NULL DEFAULT ''
);
CREATE INDEX access_token_account ON access_token (account_id, id);
CREATE INDEX access_token_expires ON access_token (expires_at, id) WHERE expires_at > 0;
CREATE INDEX access_token_revoked ON access_token (revoked_at, id) WHERE revoked_at > 0;

-- Sessions of browsers. hash is of the cookie's secret; sid is what the provider calls the session.
CREATE TABLE login_session (
    id         {{id}},
    hash       {{text}} NOT NULL UNIQUE,
    account_id BIGINT NOT NULL,
    via        {{text}} NOT NULL,
    provider   {{text}} NOT NULL DEFAULT '',
    subject    {{text}} NOT NULL DEFAULT '',
    sid        {{text}} NOT NULL DEFAULT '',
    csrf       {{text}} NOT NULL,
    addr       {{text}} NOT NULL DEFAULT '',
    user_agent {{text}} NOT NULL DEFAULT '',
    created_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX login_session_account ON login_session (account_id, id);
CREATE INDEX login_session_provider ON login_session (provider, subject, sid) WHERE provider <> '';
CREATE INDEX login_session_expires ON login_session (expires_at, id);
CREATE INDEX login_session_seen ON login_session (seen_at, id);

-- Identity providers and issuers of tokens that are exchanged. config is JSON; what is secret in it is sealed by its owner.
CREATE TABLE identity_provider (
    id         {{id}},
    name       {{text}} NOT NULL UNIQUE,
    kind       {{text}} NOT NULL,
    enabled    BOOLEAN NOT NULL,
    config     {{text}} NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    generation BIGINT NOT NULL DEFAULT 0
);

-- Answers to requests that named a key, so that the same request again is answered and not done again. status 0: being done.
CREATE TABLE idempotency (
    key          {{text}} NOT NULL,
    principal    {{text}} NOT NULL,
    route        {{text}} NOT NULL,
    request_hash {{text}} NOT NULL,
    status       BIGINT NOT NULL DEFAULT 0,
    header       {{text}} NOT NULL DEFAULT '',
    body         {{bytes}},
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL,
    PRIMARY KEY (principal, key)
) {{clustered}};
CREATE INDEX idempotency_expires ON idempotency (expires_at, principal, key);

-- Failed logins, for all replicas and for who unlocks. subject is an account's name.
CREATE TABLE login_failure (
    subject    {{text}} NOT NULL PRIMARY KEY,
    failures   BIGINT NOT NULL,
    last_at    BIGINT NOT NULL,
    held_until BIGINT NOT NULL DEFAULT 0
) {{clustered}};
CREATE INDEX login_failure_last ON login_failure (last_at, subject);
