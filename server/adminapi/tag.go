package adminapi

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/registry"
)

// history is what the face needs of the registry for tags that were.
type history interface {
	TagHistory(ctx context.Context, name ref.Name, tag string, before time.Time, n int) ([]registry.TagEntry, error)
	TagAt(ctx context.Context, name ref.Name, tag string, at time.Time) (registry.TagEntry, error)
	TagsAt(ctx context.Context, name ref.Name, at time.Time, after string, n int) ([]registry.TagEntry, error)
	ListTags(ctx context.Context, name ref.Name, o metadb.Order, after string, n int) (tags []registry.TagEntry, next string, err error)
	DeletedTags(ctx context.Context, name ref.Name, after string, n int) ([]registry.DeletedTag, error)
	RollbackTag(ctx context.Context, name ref.Name, tag string, to registry.Rollback) (*registry.MovedTag, error)
	RestoreTag(ctx context.Context, name ref.Name, tag string) (*registry.MovedTag, error)
}

// ofRepository begins the paths of what is in a repository.
const ofRepository = "repositories/{repository}/" + separator + "/"

func (h *Handler) declareTags(f *face) {
	declare(f, operation{
		id: "listTags", method: http.MethodGet, path: ofRepository + "tags", tag: "tags", needs: on(onRepository, identity.List),
		summary: "List the tags of a repository as they are, or as they were at a time", answer: "A page of entries.",
	}, h.listTags)
	declare(f, operation{
		id: "listDeletedTags", method: http.MethodGet, path: ofRepository + "deleted-tags", tag: "tags", needs: on(onRepository, identity.Push),
		summary: "List the tags that a repository had once and has no more, by name", answer: "A page of deleted tags.",
	}, h.listDeletedTags)
	declare(f, operation{
		id: "getTag", method: http.MethodGet, path: ofRepository + "tags/{tag}", tag: "tags", needs: on(onRepository, identity.List),
		summary: "Show where a tag points, or pointed at a time", text: "404 when the tag is not, or was not, there.", answer: "The entry of its history that counts then.",
	}, h.getTag)
	declare(f, operation{
		id: "listTagHistory", method: http.MethodGet, path: ofRepository + "tags/{tag}/history", tag: "tags", needs: on(onRepository, identity.List),
		summary: "List where a tag pointed, newest first", answer: "A page of entries.",
	}, h.listTagHistory)
	declare(f, operation{
		id: "rollBackTag", method: http.MethodPost, path: ofRepository + "tags/{tag}/rollback", tag: "tags", needs: on(onRepository, identity.Restore),
		summary: "Point a tag where it pointed once",
		text: "Without a digest and a time: where it pointed before it came to where it is. It is one more entry of the history, so a " +
			"rollback can be rolled back. A manifest that is in the trash comes back, with the children of an index.",
		answer: "The tag as it is now.",
	}, h.rollBackTag)
	declare(f, operation{
		id: "restoreTag", method: http.MethodPost, path: ofRepository + "tags/{tag}/restore", tag: "tags", needs: on(onRepository, identity.Restore),
		summary: "Put a deleted tag back where it pointed", text: "Its manifest comes back from the trash with it. 409 when the tag is there.",
		answer: "The tag as it is now.",
	}, h.restoreTag)
}

// tagEntryView is an entry of a tag's history: from since on it pointed at the digest, or did not exist when there is none.
type tagEntryView struct {
	Tag    string    `json:"tag"`
	Digest string    `json:"digest,omitempty" doc:"Where it pointed; absent where the tag did not exist."`
	Since  time.Time `json:"since" doc:"From then on."`
	By     string    `json:"by,omitempty" doc:"Who moved it, and from where; told to those who may push."`
	From   string    `json:"from,omitempty" doc:"Address and program."`
	Cause  string    `json:"cause,omitempty" doc:"rollback, restore and the like; absent for a push or a deletion of the tag."`
}

func viewTag(e registry.TagEntry) tagEntryView {
	return tagEntryView{Tag: e.Tag, Digest: text(e.Digest), Since: e.Since.UTC(), By: e.By, From: e.From, Cause: e.Cause}
}

type tagsQuery struct {
	InRepository
	At   string `query:"at" format:"date-time" doc:"A time; now when not said."`
	Sort string `query:"sort" enum:"name,-name,updated,-updated" default:"name" doc:"The order; with a minus it is the other way round. By updated is by when a tag came to point where it does. As tags were at a time they come by name alone."`
	PageQuery
}

func (h *Handler) listTags(ctx context.Context, q *tagsQuery) (*listed[tagEntryView], error) {
	name, err := ref.ParseName(q.Repository)
	if err != nil {
		return nil, err
	}
	var bad wrong
	at := bad.moment("at", q.At)
	if err := bad.err(); err != nil {
		return nil, err
	}
	after, err := q.key(ctx)
	if err != nil {
		return nil, err
	}
	if order := orderOf(q.Sort); order != (metadb.Order{}) {
		if !at.IsZero() {
			return nil, badField("sort", "with at the tags come by name alone; leave sort or at out")
		}
		found, next, err := h.History.ListTags(ctx, name, order, after, q.Limit)
		if err != nil {
			return nil, err
		}
		return pageUntil(ctx, viewAll(found, viewTag), next)
	}
	if at.IsZero() {
		at = h.Now()
	}
	found, err := h.History.TagsAt(ctx, name, at, after, q.Limit)
	if err != nil {
		return nil, err
	}
	return pageOf(ctx, found, q.Limit, viewTag, func(e registry.TagEntry) string { return e.Tag })
}

type deletedTagView struct {
	Tag       string    `json:"tag"`
	Digest    string    `json:"digest" doc:"Where it pointed."`
	DeletedAt time.Time `json:"deletedAt"`
	By        string    `json:"by,omitempty"`
	From      string    `json:"from,omitempty"`
	Cause     string    `json:"cause,omitempty"`
}

type deletedTagsQuery struct {
	InRepository
	PageQuery
}

func (h *Handler) listDeletedTags(ctx context.Context, q *deletedTagsQuery) (*listed[deletedTagView], error) {
	name, err := ref.ParseName(q.Repository)
	if err != nil {
		return nil, err
	}
	after, err := q.key(ctx)
	if err != nil {
		return nil, err
	}
	found, err := h.History.DeletedTags(ctx, name, after, q.Limit)
	if err != nil {
		return nil, err
	}
	return pageOf(ctx, found, q.Limit, func(t registry.DeletedTag) deletedTagView {
		return deletedTagView{Tag: t.Tag, Digest: text(t.Digest), DeletedAt: t.DeletedAt.UTC(), By: t.By, From: t.From, Cause: t.Cause}
	}, func(t registry.DeletedTag) string { return t.Tag })
}

type tagQuery struct {
	InTag
	At string `query:"at" format:"date-time" doc:"A time; now when not said."`
}

func (h *Handler) getTag(ctx context.Context, q *tagQuery) (*shown[tagEntryView], error) {
	name, err := ref.ParseName(q.Repository)
	if err != nil {
		return nil, err
	}
	var bad wrong
	at := bad.moment("at", q.At)
	if err := bad.err(); err != nil {
		return nil, err
	}
	var e registry.TagEntry
	if at.IsZero() {
		e, err = h.newest(ctx, name, q.Tag)
	} else {
		e, err = h.History.TagAt(ctx, name, q.Tag, at)
	}
	if err != nil {
		return nil, err
	}
	return show(viewTag(e))
}

// newest is the tag as it is.
func (h *Handler) newest(ctx context.Context, name ref.Name, tag string) (registry.TagEntry, error) {
	found, err := h.History.TagHistory(ctx, name, tag, time.Time{}, 1)
	switch {
	case err != nil:
		return registry.TagEntry{}, err
	case len(found) == 0:
		return registry.TagEntry{}, fault.New(fault.NotFound, fault.ManifestUnknown, "tag %.128s of %s is not there", tag, name)
	case found[0].Digest.IsZero():
		return registry.TagEntry{}, fault.New(fault.NotFound, fault.ManifestUnknown, "tag %s of %s was deleted at %s", tag, name, found[0].Since.UTC().Format(time.RFC3339))
	}
	return found[0], nil
}

type tagHistoryQuery struct {
	InTag
	PageQuery
}

func (h *Handler) listTagHistory(ctx context.Context, q *tagHistoryQuery) (*listed[tagEntryView], error) {
	name, err := ref.ParseName(q.Repository)
	if err != nil {
		return nil, err
	}
	micros, err := q.number(ctx)
	if err != nil {
		return nil, err
	}
	before := time.Time{}
	if micros > 0 {
		before = time.UnixMicro(micros)
	}
	found, err := h.History.TagHistory(ctx, name, q.Tag, before, q.Limit)
	if err != nil {
		return nil, err
	}
	return pageOf(ctx, found, q.Limit, viewTag, func(e registry.TagEntry) string { return strconv.FormatInt(e.Since.UnixMicro(), 10) })
}

// rollback is the body of rollBackTag.
type rollback struct {
	Digest string `json:"digest,omitempty" format:"digest" doc:"A manifest of the repository or of its trash."`
	At     string `json:"at,omitempty" format:"date-time" doc:"Where the tag pointed at that time."`
	Expect string `json:"expect,omitempty" format:"digest" doc:"Where the tag has to point now; 409 when it does not."`
}

type rollBackInput struct {
	InTag
	Body *rollback
}

func (h *Handler) rollBackTag(ctx context.Context, in *rollBackInput) (*shown[movedTagView], error) {
	name, err := ref.ParseName(in.Repository)
	if err != nil {
		return nil, err
	}
	var to registry.Rollback
	if b := in.Body; b != nil {
		var bad wrong
		to = registry.Rollback{At: bad.moment("at", b.At), Digest: bad.digest("digest", b.Digest), Expect: bad.digest("expect", b.Expect)}
		if err := bad.err(); err != nil {
			return nil, err
		}
	}
	return moved(h.History.RollbackTag(ctx, name, in.Tag, to))
}

// nothing is the body of what needs none.
type nothing struct{}

type restoreTagInput struct {
	InTag
	Body *nothing
}

func (h *Handler) restoreTag(ctx context.Context, in *restoreTagInput) (*shown[movedTagView], error) {
	name, err := ref.ParseName(in.Repository)
	if err != nil {
		return nil, err
	}
	return moved(h.History.RestoreTag(ctx, name, in.Tag))
}

type movedTagView struct {
	Tag      string `json:"tag"`
	Digest   string `json:"digest"`
	Before   string `json:"before,omitempty" doc:"Where it pointed; absent when it was not there."`
	Restored bool   `json:"restored" doc:"The manifest came back from the trash."`
}

func moved(m *registry.MovedTag, err error) (*shown[movedTagView], error) {
	if err != nil {
		return nil, err
	}
	return show(movedTagView{Tag: m.Tag, Digest: text(m.Digest), Before: text(m.Before), Restored: m.Restored})
}
