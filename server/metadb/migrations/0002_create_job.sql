-- +goose Up
-- Work that is done in the background, see job.go. state: 0 scheduled (not due yet), 1 queued, 2 running, 3 succeeded,
-- 4 dead, 5 cancelled. turn is the place in the queue of a kind, given when a job becomes due so that projects alternate.
CREATE TABLE job (
    id           {{id}},
    kind         {{text}} NOT NULL,
    dedupe       {{text}} NOT NULL DEFAULT '',
    project      {{text}} NOT NULL DEFAULT '',
    priority     SMALLINT NOT NULL DEFAULT 0,
    args         {{text}} NOT NULL,
    state        SMALLINT NOT NULL DEFAULT 0,
    turn         BIGINT NOT NULL DEFAULT 0,
    run_at       BIGINT NOT NULL,
    attempt      BIGINT NOT NULL DEFAULT 0,
    max_attempts BIGINT NOT NULL,
    worker       {{text}} NOT NULL DEFAULT '',
    token        BIGINT NOT NULL DEFAULT 0,
    lease_until  BIGINT NOT NULL DEFAULT 0,
    cancel       BOOLEAN NOT NULL DEFAULT FALSE,
    again        BOOLEAN NOT NULL DEFAULT FALSE,
    done         BIGINT NOT NULL DEFAULT 0,
    total        BIGINT NOT NULL DEFAULT 0,
    note         {{text}} NOT NULL DEFAULT '',
    position     {{text}} NOT NULL DEFAULT '',
    error        {{text}} NOT NULL DEFAULT '',
    created_at   BIGINT NOT NULL,
    started_at   BIGINT NOT NULL DEFAULT 0,
    ended_at     BIGINT NOT NULL DEFAULT 0
);
-- One job of a kind and key that is not finished.
CREATE UNIQUE INDEX job_dedupe ON job (kind, dedupe) WHERE dedupe <> '' AND state <= 2;
-- What workers look at all the time; none has an entry for a job that is finished.
CREATE INDEX job_queued ON job (kind, priority, turn, id) WHERE state = 1;
CREATE INDEX job_turn ON job (kind, priority, project, turn) WHERE state = 1;
CREATE INDEX job_scheduled ON job (run_at, id) WHERE state = 0;
CREATE INDEX job_running ON job (lease_until, kind) WHERE state = 2;
-- What people and the trimming look at.
CREATE INDEX job_ended ON job (state, ended_at, id) WHERE state >= 3;
CREATE INDEX job_state ON job (state, id);
CREATE INDEX job_kind ON job (kind, id);
CREATE INDEX job_project ON job (project, id);

-- When a schedule is due next; one row for all replicas.
CREATE TABLE job_schedule (
    name    {{text}} NOT NULL PRIMARY KEY,
    spec    {{text}} NOT NULL,
    next_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL DEFAULT 0
);

-- Who of the replicas does what only one may do, see lease.go. Rows stay, so that tokens only grow.
CREATE TABLE lease (
    name       {{text}} NOT NULL PRIMARY KEY,
    holder     {{text}} NOT NULL,
    token      BIGINT NOT NULL,
    held_until BIGINT NOT NULL
);
