package adminapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/berth-registry/berth/internal/legible"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// groups is what the face needs of the auth room for groups.
type groups interface {
	Groups(ctx context.Context, f metadb.GroupFilter, after string, limit int) ([]metadb.Group, error)
	Group(ctx context.Context, name string) (metadb.Group, error)
	CreateGroup(ctx context.Context, name, description string) (metadb.Group, error)
	UpdateGroup(ctx context.Context, name string, generation int64, newName, description *string) (metadb.Group, error)
	DeleteGroup(ctx context.Context, name string, generation int64) error
	GroupMembers(ctx context.Context, name string, after metadb.GroupMember, limit int) ([]metadb.GroupMember, error)
	AddGroupMember(ctx context.Context, group, account string) error
	RemoveGroupMember(ctx context.Context, group, account string) error
}

// InGroup is the parameter of routes about a group.
type InGroup struct {
	Group string `path:"group" doc:"Name of the group."`
}

func (h *Handler) declareGroups(f *face) {
	about := func(id, method, path, summary, answer string, verb identity.Verb) operation {
		return operation{id: id, method: method, path: path, tag: "groups", needs: on(onRegistry, verb), summary: summary, answer: answer}
	}
	declare(f, about("listGroups", http.MethodGet, "groups", "List groups, by name", "A page of groups.", identity.GroupRead), h.listGroups)
	create := about("createGroup", http.MethodPost, "groups", "Make a group", "The group.", identity.GroupWrite)
	create.once, create.status = true, http.StatusCreated
	declare(f, create, h.createGroup)
	declare(f, about("getGroup", http.MethodGet, "groups/{group}", "Show a group", "The group.", identity.GroupRead), func(ctx context.Context, in *struct{ InGroup }) (*tagged[groupView], error) {
		g, err := h.Groups.Group(ctx, in.Group)
		return showTagged(viewGroup(g), g.Generation, err)
	})
	update := about("updateGroup", http.MethodPatch, "groups/{group}", "Change a group", "The group as it is now.", identity.GroupWrite)
	update.text = "What is not said stays. A group that gets another name keeps its members and grants."
	declare(f, update, h.updateGroup)
	remove := about("deleteGroup", http.MethodDelete, "groups/{group}", "Delete a group, and every grant of it", "It is gone.", identity.GroupWrite)
	remove.status = http.StatusNoContent
	declare(f, remove, func(ctx context.Context, in *struct {
		InGroup
		IfMatchOptional
	}) (*done, error) {
		generation, err := in.generation()
		if err != nil {
			return nil, err
		}
		return finish(h.Groups.DeleteGroup(ctx, in.Group, generation))
	})
	declare(f, about("listGroupMembers", http.MethodGet, "groups/{group}/members", "List who is in a group, and by whom", "A page of members.", identity.GroupRead), h.listGroupMembers)
	add := about("addGroupMember", http.MethodPut, "groups/{group}/members/{user}", "Put an account into a group", "It is in the group.", identity.GroupWrite)
	add.status = http.StatusNoContent
	declare(f, add, func(ctx context.Context, in *struct {
		InGroup
		InUser
	}) (*done, error) {
		return finish(h.Groups.AddGroupMember(ctx, in.Group, in.User))
	})
	take := about("removeGroupMember", http.MethodDelete, "groups/{group}/members/{user}", "Take an account out of a group", "It is not in the group any more.", identity.GroupWrite)
	take.status = http.StatusNoContent
	take.text = "409 when an identity provider says that it is in the group: it has to say otherwise."
	declare(f, take, func(ctx context.Context, in *struct {
		InGroup
		InUser
	}) (*done, error) {
		return finish(h.Groups.RemoveGroupMember(ctx, in.Group, in.User))
	})
}

type groupView struct {
	Name        string     `json:"name"`
	Description string     `json:"description"`
	CreatedAt   time.Time  `json:"createdAt"`
	UpdatedAt   *time.Time `json:"updatedAt,omitempty"`
	Generation  int64      `json:"generation" doc:"Its ETag is this number in quotes."`
}

func viewGroup(g metadb.Group) groupView {
	return groupView{g.Name, g.Description, g.CreatedAt.UTC(), stamp(g.UpdatedAt), g.Generation}
}

type groupsQuery struct {
	Contains string `query:"contains" maxLength:"255" doc:"Only groups with this text in their name, in any case."`
	ByNameQuery
	PageQuery
}

func (h *Handler) listGroups(ctx context.Context, q *groupsQuery) (*listed[groupView], error) {
	after, err := q.key(ctx)
	if err != nil {
		return nil, err
	}
	order := orderOf(q.Sort)
	found, err := h.Groups.Groups(ctx, metadb.GroupFilter{Contains: q.Contains, Order: order}, after, q.Limit)
	if err != nil {
		return nil, err
	}
	return pageOf(ctx, found, q.Limit, viewGroup, func(g metadb.Group) string { return order.Key(g.Name, g.ID, time.Time{}) })
}

// newGroup is the body of createGroup, groupChange that of updateGroup.
type newGroup struct {
	Name        string `json:"name" minLength:"1" maxLength:"200"`
	Description string `json:"description,omitempty" maxLength:"4096"`
}

type groupChange struct {
	Name        *string `json:"name,omitempty" minLength:"1" maxLength:"200"`
	Description *string `json:"description,omitempty" maxLength:"4096"`
}

type createGroupInput struct{ Body newGroup }

func (h *Handler) createGroup(ctx context.Context, in *createGroupInput) (*created[groupView], error) {
	g, err := h.Groups.CreateGroup(ctx, in.Body.Name, in.Body.Description)
	if err != nil {
		return nil, err
	}
	return &created[groupView]{etag(g.Generation), h.location(root + "groups/" + url.PathEscape(g.Name)), viewGroup(g)}, nil
}

type updateGroupInput struct {
	InGroup
	IfMatch
	Body groupChange
}

func (h *Handler) updateGroup(ctx context.Context, in *updateGroupInput) (*tagged[groupView], error) {
	generation, err := in.generation()
	if err != nil {
		return nil, err
	}
	g, err := h.Groups.UpdateGroup(ctx, in.Group, generation, in.Body.Name, in.Body.Description)
	return showTagged(viewGroup(g), g.Generation, err)
}

type groupMemberView struct {
	User   string `json:"user"`
	Source string `json:"source" doc:"The identity provider that says so; empty for an administrator."`
}

type groupMembersQuery struct {
	InGroup
	PageQuery
}

func (h *Handler) listGroupMembers(ctx context.Context, q *groupMembersQuery) (*listed[groupMemberView], error) {
	key, err := q.key(ctx)
	if err != nil {
		return nil, err
	}
	var after metadb.GroupMember
	if key != "" && (json.Unmarshal([]byte(key), &after) != nil || !legible.Storable(after.Account) || !legible.Storable(after.Source)) {
		return nil, badCursor(q.After)
	}
	found, err := h.Groups.GroupMembers(ctx, q.Group, after, q.Limit)
	if err != nil {
		return nil, err
	}
	return pageOf(ctx, found, q.Limit, func(m metadb.GroupMember) groupMemberView { return groupMemberView{m.Account, m.Source} },
		func(m metadb.GroupMember) string {
			text, err := json.Marshal(m)
			if err != nil { // texts and numbers
				return ""
			}
			return string(text)
		})
}
