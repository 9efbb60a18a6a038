{{without_transaction}}
-- +goose Up
-- Blobs whose bytes are at a place of their own, for those who move them under their digest and for who has to know
-- whether a place is in use. All others have no entry.
{{drop_index}} blob_place;
{{create_index}} blob_place ON blob (place) WHERE place <> '';
