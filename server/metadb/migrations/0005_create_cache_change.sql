-- +goose Up
-- What caches of other replicas have to forget; see signal.go. PostgreSQL only: a SQLite database has one process.
-- UNLOGGED, because it has no meaning beyond the life of the server process: whoever reconnects forgets everything.
{{cache_change}}
