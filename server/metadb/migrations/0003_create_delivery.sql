-- +goose Up
-- How far each endpoint of notifications has got in the outbox, and who delivers to it; see delivery.go. (epoch, event)
-- is the cursor: the last event that the endpoint has, or that is in delivery_parked. fence is counted up by whoever takes
-- the endpoint over, and every change names it, so that a holder that has lost its lease changes nothing any more. The
-- row '' is the turn to trim the outbox.
CREATE TABLE delivery (
    endpoint     {{text}} NOT NULL PRIMARY KEY,
    epoch        BIGINT NOT NULL,
    event        BIGINT NOT NULL,
    holder       {{text}} NOT NULL DEFAULT '',
    fence        BIGINT NOT NULL DEFAULT 0,
    lease_until  BIGINT NOT NULL DEFAULT 0,
    delivered_at BIGINT NOT NULL DEFAULT 0,
    failed_at    BIGINT NOT NULL DEFAULT 0,
    failure      {{text}} NOT NULL DEFAULT '',
    lost         BIGINT NOT NULL DEFAULT 0
);

-- Events that an endpoint would not take, and those of the same repository behind them, in the order of seq. They carry
-- all that is to be sent, so that the outbox need not be kept for them. dead ones were given up and wait for a person.
CREATE TABLE delivery_parked (
    seq        {{id}},
    endpoint   {{text}} NOT NULL REFERENCES delivery (endpoint) ON DELETE CASCADE,
    event_id   {{text}} NOT NULL,
    repository {{text}} NOT NULL,
    body       {{text}} NOT NULL,
    since      BIGINT NOT NULL,
    attempts   BIGINT NOT NULL,
    next_at    BIGINT NOT NULL,
    failure    {{text}} NOT NULL,
    dead       BOOLEAN NOT NULL,
    UNIQUE (endpoint, event_id)
);
CREATE INDEX delivery_parked_lane ON delivery_parked (endpoint, dead, repository, seq);
