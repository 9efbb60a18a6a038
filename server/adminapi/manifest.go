package adminapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/registry"
)

func (h *Handler) declareManifests(f *face) {
	declare(f, operation{
		id: "listManifests", method: http.MethodGet, path: ofRepository + "manifests", tag: "manifests", needs: on(onRepository, identity.List),
		summary: "List the manifests of a repository, by digest", answer: "A page of manifests.",
	}, h.listManifests)
	declare(f, operation{
		id: "getManifest", method: http.MethodGet, path: ofRepository + "manifests/{digest}", tag: "manifests", needs: on(onRepository, identity.Pull),
		summary: "Show a manifest with its content", text: "It asks for `list`, too: the tags that point at it are shown.", answer: "The manifest.",
	}, h.getManifest)
	declare(f, operation{
		id: "deleteManifest", method: http.MethodDelete, path: ofRepository + "manifests/{digest}", tag: "manifests", needs: on(onRepository, identity.Delete),
		summary: "Delete a manifest and all tags that point at it", text: "It can be brought back from the trash for a while.", answer: "What was deleted.",
	}, h.deleteManifest)
	declare(f, operation{
		id: "listReferrers", method: http.MethodGet, path: ofRepository + "manifests/{digest}/referrers", tag: "manifests", needs: on(onRepository, identity.Pull),
		summary: "List the manifests that refer to one: signatures, inventories and the like", answer: "A page of descriptors.",
	}, h.listReferrers)
	declare(f, operation{
		id: "putTag", method: http.MethodPut, path: ofRepository + "tags/{tag}", tag: "tags", needs: on(onRepository, identity.Push),
		summary: "Point a tag, new or not, at a manifest of the repository", answer: "The tag as it is now.",
	}, h.putTag)
	declare(f, operation{
		id: "deleteTag", method: http.MethodDelete, path: ofRepository + "tags/{tag}", tag: "tags", needs: on(onRepository, identity.Delete),
		summary: "Delete a tag", text: "The manifest that it points at stays. The tag can be restored.", answer: "What was deleted.",
	}, h.deleteTag)
}

type manifestView struct {
	Digest       string    `json:"digest"`
	MediaType    string    `json:"mediaType"`
	ArtifactType string    `json:"artifactType,omitempty"`
	Size         int64     `json:"size" doc:"Bytes of the manifest, without what it names."`
	Subject      string    `json:"subject,omitempty" doc:"The manifest that it refers to."`
	Tags         []string  `json:"tags" doc:"That point at it."`
	PushedAt     time.Time `json:"pushedAt"`
	PushedBy     string    `json:"pushedBy,omitempty"`
}

func viewManifest(m registry.ListedManifest) manifestView {
	return manifestView{
		Digest: text(m.Digest), MediaType: m.MediaType, ArtifactType: m.ArtifactType, Size: m.Size, Subject: text(m.Subject), Tags: list(m.Tags),
		PushedAt: m.PushedAt.UTC(), PushedBy: m.PushedBy,
	}
}

// digest is the key of a list by digests, zero for the beginning.
func (q PageQuery) digest(ctx context.Context) (oci.Digest, error) {
	key, err := q.key(ctx)
	if err != nil || key == "" {
		return oci.Digest{}, err
	}
	d, err := oci.ParseDigest(key)
	if err != nil {
		return d, badCursor(q.After)
	}
	return d, nil
}

type manifestsQuery struct {
	InRepository
	PageQuery
}

func (h *Handler) listManifests(ctx context.Context, q *manifestsQuery) (*listed[manifestView], error) {
	name, err := ref.ParseName(q.Repository)
	if err != nil {
		return nil, err
	}
	after, err := q.digest(ctx)
	if err != nil {
		return nil, err
	}
	found, err := h.Repositories.Manifests(ctx, name, after, q.Limit)
	if err != nil {
		return nil, err
	}
	return pageOf(ctx, found, q.Limit, viewManifest, func(m registry.ListedManifest) string { return text(m.Digest) })
}

type wholeManifestView struct {
	Digest       string          `json:"digest"`
	MediaType    string          `json:"mediaType"`
	ArtifactType string          `json:"artifactType,omitempty"`
	Size         int64           `json:"size" doc:"Bytes of the manifest, without what it names."`
	Subject      string          `json:"subject,omitempty" doc:"The manifest that it refers to."`
	Tags         []string        `json:"tags" doc:"That point at it."`
	PushedAt     time.Time       `json:"pushedAt"`
	PushedBy     string          `json:"pushedBy,omitempty"`
	Content      json.RawMessage `json:"content" doc:"The manifest as an object. Its bytes, which the digest is of, are at /v2/."`
}

func (h *Handler) getManifest(ctx context.Context, in *struct{ InManifest }) (*shown[wholeManifestView], error) {
	name, d, err := in.parse()
	if err != nil {
		return nil, err
	}
	row, err := h.Repositories.ManifestRow(ctx, name, d)
	if err != nil {
		return nil, err
	}
	m, err := h.Repositories.Manifest(ctx, name, ref.Reference{Digest: d})
	if err != nil {
		return nil, err
	}
	v := viewManifest(row)
	return show(wholeManifestView{
		v.Digest, v.MediaType, v.ArtifactType, v.Size, v.Subject, v.Tags, v.PushedAt, v.PushedBy, json.RawMessage(m.Body),
	})
}

type deletedView struct {
	Tags        []string `json:"tags"`
	HoldSeconds float64  `json:"holdSeconds" doc:"How long the manifest can be brought back from the trash; 0 for a tag alone, or when it cannot."`
}

func (h *Handler) deleteManifest(ctx context.Context, in *struct{ InManifest }) (*shown[deletedView], error) {
	name, d, err := in.parse()
	if err != nil {
		return nil, err
	}
	return h.deleted(ctx, name, ref.Reference{Digest: d})
}

func (h *Handler) deleteTag(ctx context.Context, in *struct{ InTag }) (*shown[deletedView], error) {
	name, err := ref.ParseName(in.Repository)
	if err != nil {
		return nil, err
	}
	tag, err := ref.ParseTag(in.Tag)
	if err != nil {
		return nil, err
	}
	return h.deleted(ctx, name, ref.Reference{Tag: tag})
}

func (h *Handler) deleted(ctx context.Context, name ref.Name, r ref.Reference) (*shown[deletedView], error) {
	gone, err := h.Repositories.DeleteManifest(ctx, name, r)
	if err != nil {
		return nil, err
	}
	return show(deletedView{list(gone.Tags), gone.Hold.Seconds()})
}

type referrersQuery struct {
	InManifest
	ArtifactType string `query:"artifactType" doc:"Only manifests of this type."`
	PageQuery
}

// descriptorView is an entry of the list of referrers.
type descriptorView struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

func (h *Handler) listReferrers(ctx context.Context, q *referrersQuery) (*listed[descriptorView], error) {
	name, d, err := q.parse()
	if err != nil {
		return nil, err
	}
	after, err := q.PageQuery.digest(ctx)
	if err != nil {
		return nil, err
	}
	page, err := h.Repositories.Referrers(ctx, name, registry.ReferrersQuery{Subject: d, ArtifactType: q.ArtifactType, After: after, Limit: q.Limit})
	if err != nil {
		return nil, err
	}
	var items []descriptorView
	if err := json.Unmarshal([]byte("["+string(page.Descriptors)+"]"), &items); err != nil {
		return nil, err
	}
	return pageUntil(ctx, items, text(page.Next))
}

// pointing is the body of putTag.
type pointing struct {
	Digest string `json:"digest" format:"digest" minLength:"1" doc:"A manifest of the repository."`
	Expect string `json:"expect,omitempty" format:"digest" doc:"Where the tag has to point now; 409 when it does not."`
}

type putTagInput struct {
	InTag
	Body pointing
}

func (h *Handler) putTag(ctx context.Context, in *putTagInput) (*shown[movedTagView], error) {
	name, err := ref.ParseName(in.Repository)
	if err != nil {
		return nil, err
	}
	var bad wrong
	d, expect := bad.digest("digest", in.Body.Digest), bad.digest("expect", in.Body.Expect)
	if err := bad.err(); err != nil {
		return nil, err
	}
	return moved(h.Repositories.Retag(ctx, name, in.Tag, d, expect))
}
