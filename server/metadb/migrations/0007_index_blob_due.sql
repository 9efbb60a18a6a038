{{without_transaction}}
-- +goose Up
-- What collection has to look at, in the order in which it is due. Blobs that something needs have no entry.
{{drop_index}} blob_due;
{{create_index}} blob_due ON blob (lease_until, digest) WHERE lease_until > 0;
