package adminapi

import (
	"context"
	"net/http"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/registry"
)

// repositories is what the face needs of the registry for what it holds now.
type repositories interface {
	Repositories(ctx context.Context, contains string, o metadb.Order, after string, n int) ([]metadb.Repository, error)
	Repository(ctx context.Context, name ref.Name) (metadb.Repository, error)
	EmptyRepository(ctx context.Context, name ref.Name) (*registry.Emptied, error)
	Manifests(ctx context.Context, name ref.Name, after oci.Digest, n int) ([]registry.ListedManifest, error)
	ManifestRow(ctx context.Context, name ref.Name, d oci.Digest) (registry.ListedManifest, error)
	Manifest(ctx context.Context, name ref.Name, r ref.Reference) (*registry.Manifest, error)
	DeleteManifest(ctx context.Context, name ref.Name, r ref.Reference) (*registry.Deleted, error)
	Referrers(ctx context.Context, name ref.Name, q registry.ReferrersQuery) (*registry.Referrers, error)
	Retag(ctx context.Context, name ref.Name, tag string, d, expect oci.Digest) (*registry.MovedTag, error)
}

func (h *Handler) declareRepositories(f *face) {
	declare(f, operation{
		id: "listRepositories", method: http.MethodGet, path: "repositories", tag: "repositories", needs: on(onVisible, identity.Catalog),
		summary: "List or find the repositories that the caller may see", answer: "A page of repositories.",
	}, h.listRepositories)
	declare(f, operation{
		id: "getRepository", method: http.MethodGet, path: "repositories/{repository}", tag: "repositories", needs: on(onRepository, identity.List),
		summary: "Show a repository", answer: "The repository.",
	}, h.getRepository)
	declare(f, operation{
		id: "deleteRepository", method: http.MethodDelete, path: "repositories/{repository}", tag: "repositories", needs: on(onRepository, identity.Delete),
		summary: "Delete all manifests and tags of a repository",
		text:    "They go to the trash, from which they can be brought back for a while. A repository without manifests is in no list.",
		answer:  "What was deleted.",
	}, h.deleteRepository)
	h.declareManifests(f)
}

type repositoryView struct {
	Name      string    `json:"name"`
	Project   string    `json:"project"`
	Public    bool      `json:"public" doc:"Its project is: everybody may see and pull it."`
	CreatedAt time.Time `json:"createdAt"`
}

func viewRepository(r metadb.Repository) repositoryView {
	return repositoryView{Name: r.Name, Project: r.Project, Public: r.Public, CreatedAt: r.CreatedAt.UTC()}
}

type repositoriesQuery struct {
	Contains string `query:"contains" maxLength:"255" doc:"Only repositories with this text in their name, in any case."`
	ByNameQuery
	PageQuery
}

func (h *Handler) listRepositories(ctx context.Context, q *repositoriesQuery) (*listed[repositoryView], error) {
	after, err := q.key(ctx)
	if err != nil {
		return nil, err
	}
	order := orderOf(q.Sort)
	found, err := h.Repositories.Repositories(ctx, q.Contains, order, after, q.Limit)
	if err != nil {
		return nil, err
	}
	return pageOf(ctx, found, q.Limit, viewRepository, func(r metadb.Repository) string { return order.Key(r.Name, r.ID, time.Time{}) })
}

func (h *Handler) getRepository(ctx context.Context, in *struct{ InRepository }) (*shown[repositoryView], error) {
	name, err := ref.ParseName(in.Repository)
	if err != nil {
		return nil, err
	}
	r, err := h.Repositories.Repository(ctx, name)
	if err != nil {
		return nil, err
	}
	return show(viewRepository(r))
}

type emptiedView struct {
	Manifests   int     `json:"manifests" doc:"That were deleted."`
	Tags        int     `json:"tags" doc:"That pointed at them."`
	HoldSeconds float64 `json:"holdSeconds" doc:"How long they can be brought back from the trash; 0 when they cannot."`
}

func (h *Handler) deleteRepository(ctx context.Context, in *struct{ InRepository }) (*shown[emptiedView], error) {
	name, err := ref.ParseName(in.Repository)
	if err != nil {
		return nil, err
	}
	gone, err := h.Repositories.EmptyRepository(ctx, name)
	if err != nil {
		return nil, err
	}
	return show(emptiedView{gone.Manifests, gone.Tags, gone.Hold.Seconds()})
}
