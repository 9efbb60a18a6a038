package adminapi

import (
	"context"
	"net/http"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/registry"
)

// trash is what the face needs of the registry for manifests that were deleted.
type trash interface {
	Trash(ctx context.Context, name ref.Name, q registry.TrashQuery) ([]registry.Trashed, error)
	RestoreManifest(ctx context.Context, name ref.Name, r registry.RestoreManifest) (*registry.Restored, error)
	PurgeTrash(ctx context.Context, name ref.Name, d oci.Digest) (purged int, err error)
}

func trashRoutes() []route {
	const repo = "repositories/" + repositoryParam + "/" + separator + "/trash"
	return []route{
		{id: "listAllTrash", method: http.MethodGet, pattern: "trash", needs: administrator, query: []string{"limit", "after"}, serve: (*call).listAllTrash},
		{id: "listTrash", method: http.MethodGet, pattern: repo, needs: deleter, query: []string{"limit", "after"}, serve: (*call).listTrash},
		{id: "emptyTrash", method: http.MethodDelete, pattern: repo, needs: administrator, serve: (*call).emptyTrash},
		{id: "restoreManifest", method: http.MethodPost, pattern: repo + "/{digest}/restore", needs: writer, serve: (*call).restoreManifest},
		{id: "purgeManifest", method: http.MethodDelete, pattern: repo + "/{digest}", needs: administrator, serve: (*call).purgeManifest},
	}
}

type trashedView struct {
	Repository string    `json:"repository"`
	Digest     string    `json:"digest"`
	MediaType  string    `json:"mediaType"`
	Size       int64     `json:"size"`
	Tags       []string  `json:"tags"`
	PushedAt   time.Time `json:"pushedAt"`
	PushedBy   string    `json:"pushedBy,omitempty"`
	DeletedAt  time.Time `json:"deletedAt"`
	DeletedBy  string    `json:"deletedBy,omitempty"`
	From       string    `json:"from,omitempty"`
	Cause      string    `json:"cause,omitempty"`
	HoldUntil  time.Time `json:"holdUntil"`
}

func viewTrashed(t registry.Trashed) trashedView {
	tags := t.Tags
	if tags == nil {
		tags = []string{}
	}
	return trashedView{
		Repository: t.Repository, Digest: text(t.Digest), MediaType: t.MediaType, Size: t.Size, Tags: tags, PushedAt: t.PushedAt.UTC(), PushedBy: t.PushedBy,
		DeletedAt: t.DeletedAt.UTC(), DeletedBy: t.DeletedBy, From: t.From, Cause: t.Cause, HoldUntil: t.HoldUntil.UTC(),
	}
}

func (c *call) listAllTrash() error { return c.trash(ref.Name{}) }

func (c *call) listTrash() error {
	name, err := c.repository()
	if err != nil {
		return err
	}
	return c.trash(name)
}

func (c *call) trash(name ref.Name) error {
	limit, err := c.limit()
	if err != nil {
		return err
	}
	found, err := c.h.Trash.Trash(c.ctx(), name, registry.TrashQuery{After: c.r.URL.Query().Get("after"), Limit: limit})
	if err != nil {
		return err
	}
	next := ""
	if len(found) == limit {
		next = found[limit-1].Next
	}
	return page(c, viewAll(found, viewTrashed), next)
}

// restoration is the body of restoreManifest.
type restoration struct {
	Tags  bool `json:"tags"`
	Force bool `json:"force"`
}

type restoredView struct {
	Digest   string            `json:"digest"`
	Restored bool              `json:"restored"`
	Children []string          `json:"children"`
	Tags     []string          `json:"tags"`
	Taken    map[string]string `json:"taken"`
}

func (c *call) restoreManifest() error {
	name, err := c.repository()
	if err != nil {
		return err
	}
	d, err := c.digest(1)
	if err != nil {
		return err
	}
	var b restoration
	if err := c.body(&b); err != nil {
		return err
	}
	out, err := c.h.Trash.RestoreManifest(c.ctx(), name, registry.RestoreManifest{Digest: d, Tags: b.Tags, Force: b.Force})
	if err != nil {
		return err
	}
	v := restoredView{Digest: text(out.Digest), Restored: out.Manifest, Children: viewAll(out.Children, text), Tags: out.Tags, Taken: out.Taken}
	if v.Tags == nil {
		v.Tags = []string{}
	}
	if v.Taken == nil {
		v.Taken = map[string]string{}
	}
	return c.ok(v)
}

func (c *call) purgeManifest() error {
	d, err := c.digest(1)
	if err != nil {
		return err
	}
	return c.purge(d)
}

func (c *call) emptyTrash() error { return c.purge(oci.Digest{}) }

func (c *call) purge(d oci.Digest) error {
	name, err := c.repository()
	if err != nil {
		return err
	}
	n, err := c.h.Trash.PurgeTrash(c.ctx(), name, d)
	if err != nil {
		return err
	}
	return c.ok(purgedView{Purged: n})
}

type purgedView struct {
	Purged int `json:"purged"`
}
