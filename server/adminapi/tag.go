package adminapi

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/registry"
)

// history is what the face needs of the registry for tags that were.
type history interface {
	TagHistory(ctx context.Context, name ref.Name, tag string, before time.Time, n int) ([]registry.TagEntry, error)
	TagAt(ctx context.Context, name ref.Name, tag string, at time.Time) (registry.TagEntry, error)
	TagsAt(ctx context.Context, name ref.Name, at time.Time, after string, n int) ([]registry.TagEntry, error)
	DeletedTags(ctx context.Context, name ref.Name, after string, n int) ([]registry.DeletedTag, error)
	RollbackTag(ctx context.Context, name ref.Name, tag string, to registry.Rollback) (*registry.MovedTag, error)
	RestoreTag(ctx context.Context, name ref.Name, tag string) (*registry.MovedTag, error)
}

func tagRoutes() []route {
	const repo = "repositories/" + repositoryParam + "/" + separator + "/"
	return []route{
		{id: "listTags", method: http.MethodGet, pattern: repo + "tags", needs: reader, query: []string{"at", "limit", "after"}, serve: (*call).listTags},
		{id: "listDeletedTags", method: http.MethodGet, pattern: repo + "deleted-tags", needs: writer, query: []string{"limit", "after"}, serve: (*call).listDeletedTags},
		{id: "getTag", method: http.MethodGet, pattern: repo + "tags/{tag}", needs: reader, query: []string{"at"}, serve: (*call).getTag},
		{id: "listTagHistory", method: http.MethodGet, pattern: repo + "tags/{tag}/history", needs: reader, query: []string{"limit", "after"}, serve: (*call).listTagHistory},
		{id: "rollBackTag", method: http.MethodPost, pattern: repo + "tags/{tag}/rollback", needs: writer, serve: (*call).rollBackTag},
		{id: "restoreTag", method: http.MethodPost, pattern: repo + "tags/{tag}/restore", needs: writer, serve: (*call).restoreTag},
	}
}

// tagView is an entry of a tag's history: from since on it pointed at the digest, or did not exist when there is none.
type tagView struct {
	Tag    string    `json:"tag"`
	Digest string    `json:"digest,omitempty"`
	Since  time.Time `json:"since"`
	By     string    `json:"by,omitempty"`
	From   string    `json:"from,omitempty"`
	Cause  string    `json:"cause,omitempty"`
}

func viewTag(e registry.TagEntry) tagView {
	return tagView{Tag: e.Tag, Digest: text(e.Digest), Since: e.Since.UTC(), By: e.By, From: e.From, Cause: e.Cause}
}

// text is a digest, "" for none.
func text(d oci.Digest) string {
	if d.IsZero() {
		return ""
	}
	return d.String()
}

func viewAll[T, V any](items []T, view func(T) V) []V {
	out := make([]V, len(items))
	for i, item := range items {
		out[i] = view(item)
	}
	return out
}

// byName reads the parameters of a list in the order of names and answers with a page of it.
func byName[T, V any](c *call, get func(name ref.Name, after string, n int) ([]T, error), view func(T) V, nameOf func(T) string) error {
	name, err := c.repository()
	if err != nil {
		return err
	}
	limit, err := c.limit()
	if err != nil {
		return err
	}
	found, err := get(name, c.r.URL.Query().Get("after"), limit)
	if err != nil {
		return err
	}
	next := ""
	if len(found) == limit {
		next = nameOf(found[limit-1])
	}
	return page(c, viewAll(found, view), next)
}

func (c *call) listTags() error {
	at, err := c.moment("at")
	if err != nil {
		return err
	}
	if at.IsZero() {
		at = c.h.Now()
	}
	return byName(c, func(name ref.Name, after string, n int) ([]registry.TagEntry, error) {
		return c.h.History.TagsAt(c.ctx(), name, at, after, n)
	}, viewTag, func(e registry.TagEntry) string { return e.Tag })
}

type deletedTagView struct {
	Tag       string    `json:"tag"`
	Digest    string    `json:"digest"`
	DeletedAt time.Time `json:"deletedAt"`
	By        string    `json:"by,omitempty"`
	From      string    `json:"from,omitempty"`
	Cause     string    `json:"cause,omitempty"`
}

func (c *call) listDeletedTags() error {
	return byName(c, func(name ref.Name, after string, n int) ([]registry.DeletedTag, error) {
		return c.h.History.DeletedTags(c.ctx(), name, after, n)
	}, func(t registry.DeletedTag) deletedTagView {
		return deletedTagView{Tag: t.Tag, Digest: text(t.Digest), DeletedAt: t.DeletedAt.UTC(), By: t.By, From: t.From, Cause: t.Cause}
	}, func(t registry.DeletedTag) string { return t.Tag })
}

func (c *call) getTag() error {
	name, err := c.repository()
	if err != nil {
		return err
	}
	at, err := c.moment("at")
	if err != nil {
		return err
	}
	var e registry.TagEntry
	if at.IsZero() {
		e, err = c.newest(name, c.params[1])
	} else {
		e, err = c.h.History.TagAt(c.ctx(), name, c.params[1], at)
	}
	if err != nil {
		return err
	}
	return c.ok(viewTag(e))
}

// newest is the tag as it is.
func (c *call) newest(name ref.Name, tag string) (registry.TagEntry, error) {
	found, err := c.h.History.TagHistory(c.ctx(), name, tag, time.Time{}, 1)
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

func (c *call) listTagHistory() error {
	name, err := c.repository()
	if err != nil {
		return err
	}
	limit, err := c.limit()
	if err != nil {
		return err
	}
	micros, err := c.after()
	if err != nil {
		return err
	}
	before := time.Time{}
	if micros > 0 {
		before = time.UnixMicro(micros)
	}
	found, err := c.h.History.TagHistory(c.ctx(), name, c.params[1], before, limit)
	if err != nil {
		return err
	}
	next := ""
	if len(found) == limit {
		next = strconv.FormatInt(found[limit-1].Since.UnixMicro(), 10)
	}
	return page(c, viewAll(found, viewTag), next)
}

// rollback is the body of rollBackTag.
type rollback struct {
	Digest string `json:"digest"`
	At     string `json:"at"`
	Expect string `json:"expect"`
}

func (c *call) rollBackTag() error {
	name, err := c.repository()
	if err != nil {
		return err
	}
	var b rollback
	if err := c.body(&b); err != nil {
		return err
	}
	var to registry.Rollback
	if to.At, err = parseMoment("at", b.At); err != nil {
		return err
	}
	if to.Digest, err = digestField("digest", b.Digest); err != nil {
		return err
	}
	if to.Expect, err = digestField("expect", b.Expect); err != nil {
		return err
	}
	return c.moved(c.h.History.RollbackTag(c.ctx(), name, c.params[1], to))
}

func digestField(name, text string) (oci.Digest, error) {
	if text == "" {
		return oci.Digest{}, nil
	}
	d, err := oci.ParseDigest(text)
	if err != nil {
		return d, badField(name, "member %q expects a digest such as sha256:9f86…, got %.100q", name, text)
	}
	return d, nil
}

func (c *call) restoreTag() error {
	name, err := c.repository()
	if err != nil {
		return err
	}
	if err := c.body(&struct{}{}); err != nil {
		return err
	}
	return c.moved(c.h.History.RestoreTag(c.ctx(), name, c.params[1]))
}

type movedView struct {
	Tag      string `json:"tag"`
	Digest   string `json:"digest"`
	Before   string `json:"before,omitempty"`
	Restored bool   `json:"restored"`
}

func (c *call) moved(m *registry.MovedTag, err error) error {
	if err != nil {
		return err
	}
	return c.ok(movedView{Tag: m.Tag, Digest: text(m.Digest), Before: text(m.Before), Restored: m.Restored})
}
