-- +goose Up
-- Signatures in the form of containers/image ("simple signing"), which are no content of the registry: podman and skopeo keep
-- them beside an image, see signature.go. A row belongs to a manifest of the repository, living or in the trash, and goes when
-- that is deleted for good. Not clustered: its content may be large.
CREATE TABLE image_signature (
    repo_id    BIGINT NOT NULL,
    digest     {{text}} NOT NULL,
    name       {{text}} NOT NULL,
    content    {{bytes}} NOT NULL,
    created_at BIGINT NOT NULL,
    created_by {{text}} NOT NULL DEFAULT '',
    PRIMARY KEY (repo_id, digest, name)
);
