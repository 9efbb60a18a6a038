package adminapi

import (
	"context"
	"net/http"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/registry"
)

// trash is what the face needs of the registry for manifests that were deleted.
type trash interface {
	Trash(ctx context.Context, name ref.Name, q registry.TrashQuery) ([]registry.Trashed, error)
	RestoreManifest(ctx context.Context, name ref.Name, r registry.RestoreManifest) (*registry.Restored, error)
	PurgeTrash(ctx context.Context, name ref.Name, d oci.Digest) (purged int, err error)
}

func (h *Handler) declareTrash(f *face) {
	const trash = ofRepository + "trash"
	declare(f, operation{
		id: "listAllTrash", method: http.MethodGet, path: "trash", tag: "trash", needs: on(onRegistry, identity.TrashRead),
		summary: "List the trash of all repositories, in the order in which it is purged", answer: "A page of the trash.",
	}, func(ctx context.Context, q *struct{ PageQuery }) (*listed[trashedView], error) {
		return h.trash(ctx, ref.Name{}, q.PageQuery)
	})
	declare(f, operation{
		id: "listTrash", method: http.MethodGet, path: trash, tag: "trash", needs: on(onRepository, identity.Delete),
		summary: "List the trash of a repository, the last deleted first", answer: "A page of the trash.",
	}, h.listTrash)
	declare(f, operation{
		id: "emptyTrash", method: http.MethodDelete, path: trash, tag: "trash", needs: on(onRepository, identity.Purge),
		summary: "Delete all that is in the trash of a repository for good", answer: purgeAnswer,
	}, func(ctx context.Context, in *struct{ InRepository }) (*shown[purgedView], error) {
		return h.purge(ctx, in.Repository, oci.Digest{})
	})
	declare(f, operation{
		id: "restoreManifest", method: http.MethodPost, path: trash + "/{digest}/restore", tag: "trash", needs: on(onRepository, identity.Restore),
		summary: "Bring a manifest back, with the children of an index, and with its tags when asked",
		text:    "What was pushed again meanwhile is no failure.", answer: "What came back.",
	}, h.restoreManifest)
	declare(f, operation{
		id: "purgeManifest", method: http.MethodDelete, path: trash + "/{digest}", tag: "trash", needs: on(onRepository, identity.Purge),
		summary: "Delete a manifest of the trash for good", answer: purgeAnswer,
	}, h.purgeManifest)
}

const purgeAnswer = "How many manifests were deleted. Collection frees their space in its time."

// InManifest are the parameters of routes about a manifest.
type InManifest struct {
	InRepository
	Digest string `path:"digest" format:"digest" doc:"sha256: or sha512: with the hexadecimal digest."`
}

// parse reads them.
func (in InManifest) parse() (ref.Name, oci.Digest, error) {
	name, err := ref.ParseName(in.Repository)
	if err != nil {
		return name, oci.Digest{}, err
	}
	d, err := digestOfPath(in.Digest)
	return name, d, err
}

type trashedView struct {
	Repository string    `json:"repository"`
	Digest     string    `json:"digest"`
	MediaType  string    `json:"mediaType"`
	Size       int64     `json:"size" doc:"Bytes of the manifest, without what it names."`
	Tags       []string  `json:"tags"`
	PushedAt   time.Time `json:"pushedAt"`
	PushedBy   string    `json:"pushedBy,omitempty"`
	DeletedAt  time.Time `json:"deletedAt"`
	DeletedBy  string    `json:"deletedBy,omitempty"`
	From       string    `json:"from,omitempty" doc:"Address and program."`
	Cause      string    `json:"cause,omitempty" doc:"Absent when it was asked for."`
	HoldUntil  time.Time `json:"holdUntil" doc:"When it is purged."`
}

func viewTrashed(t registry.Trashed) trashedView {
	return trashedView{
		Repository: t.Repository, Digest: text(t.Digest), MediaType: t.MediaType, Size: t.Size, Tags: list(t.Tags), PushedAt: t.PushedAt.UTC(), PushedBy: t.PushedBy,
		DeletedAt: t.DeletedAt.UTC(), DeletedBy: t.DeletedBy, From: t.From, Cause: t.Cause, HoldUntil: t.HoldUntil.UTC(),
	}
}

type trashQuery struct {
	InRepository
	PageQuery
}

func (h *Handler) listTrash(ctx context.Context, q *trashQuery) (*listed[trashedView], error) {
	name, err := ref.ParseName(q.Repository)
	if err != nil {
		return nil, err
	}
	return h.trash(ctx, name, q.PageQuery)
}

func (h *Handler) trash(ctx context.Context, name ref.Name, q PageQuery) (*listed[trashedView], error) {
	after, err := q.key(ctx)
	if err != nil {
		return nil, err
	}
	found, err := h.Trash.Trash(ctx, name, registry.TrashQuery{After: after, Limit: q.Limit})
	if err != nil {
		return nil, err
	}
	return pageOf(ctx, found, q.Limit, viewTrashed, func(t registry.Trashed) string { return t.Next })
}

// restoration is the body of restoreManifest.
type restoration struct {
	Tags  bool `json:"tags,omitempty" doc:"Its tags come back, too, where they are free."`
	Force bool `json:"force,omitempty" doc:"Tags that point elsewhere by now are moved."`
}

type restoreInput struct {
	InManifest
	Body *restoration
}

type restoredView struct {
	Digest   string            `json:"digest"`
	Restored bool              `json:"restored" doc:"false: it was there already."`
	Children []string          `json:"children" doc:"Manifests of the index that came back with it."`
	Tags     []string          `json:"tags" doc:"Those that point at it again."`
	Taken    map[string]string `json:"taken" doc:"Tags that stayed where they are, with the digest that they point at."`
}

func (h *Handler) restoreManifest(ctx context.Context, in *restoreInput) (*shown[restoredView], error) {
	name, d, err := in.parse()
	if err != nil {
		return nil, err
	}
	ask := registry.RestoreManifest{Digest: d}
	if b := in.Body; b != nil {
		ask.Tags, ask.Force = b.Tags, b.Force
	}
	out, err := h.Trash.RestoreManifest(ctx, name, ask)
	if err != nil {
		return nil, err
	}
	v := restoredView{Digest: text(out.Digest), Restored: out.Manifest, Children: viewAll(out.Children, text), Tags: list(out.Tags), Taken: out.Taken}
	if v.Taken == nil {
		v.Taken = map[string]string{}
	}
	return show(v)
}

func (h *Handler) purgeManifest(ctx context.Context, in *struct{ InManifest }) (*shown[purgedView], error) {
	d, err := digestOfPath(in.Digest)
	if err != nil {
		return nil, err
	}
	return h.purge(ctx, in.Repository, d)
}

// purge purges one manifest, or all for the zero digest.
func (h *Handler) purge(ctx context.Context, repository string, d oci.Digest) (*shown[purgedView], error) {
	name, err := ref.ParseName(repository)
	if err != nil {
		return nil, err
	}
	n, err := h.Trash.PurgeTrash(ctx, name, d)
	if err != nil {
		return nil, err
	}
	return show(purgedView{Purged: n})
}

type purgedView struct {
	Purged int `json:"purged"`
}
