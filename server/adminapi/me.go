package adminapi

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/identity"
)

// tokens is what the face needs of the auth room for personal access tokens.
type tokens interface {
	MyTokens(ctx context.Context, after int64, limit int) ([]auth.AccessToken, error)
	AccessTokens(ctx context.Context, account string, after int64, limit int) ([]auth.AccessToken, error)
	CreateAccessToken(ctx context.Context, name string, grants []auth.TokenGrant, expires time.Time) (t auth.AccessToken, secret string, err error)
	RevokeAccessToken(ctx context.Context, id int64) error
}

// TokenUnknown and SessionUnknown mark the numbers of none.
const (
	TokenUnknown   fault.Reason = "TOKEN_UNKNOWN"
	SessionUnknown fault.Reason = "SESSION_UNKNOWN"
)

func (h *Handler) declareMe(f *face) {
	declare(f, operation{
		id: "getMe", method: http.MethodGet, path: "me", tag: "me", needs: permission{Scope: signedIn},
		summary: "Show who is calling", answer: "The account of the caller, with its groups.",
	}, h.me)
	declare(f, operation{
		id: "changePassword", method: http.MethodPost, path: "password", tag: "me", needs: permission{Scope: everybody},
		summary: "Change a password with the old one", text: "It needs no login: it is the way out for an account whose password has to be changed.",
		answer: "It is changed.", status: http.StatusNoContent,
	}, h.changePassword)
	declare(f, operation{
		id: "listMyTokens", method: http.MethodGet, path: "me/tokens", tag: "tokens", needs: permission{Scope: signedIn},
		summary: "List the caller's personal access tokens", answer: "A page of tokens.",
	}, func(ctx context.Context, q *struct{ PageQuery }) (*listed[tokenView], error) {
		return h.listTokens(ctx, q.PageQuery, h.Tokens.MyTokens)
	})
	declare(f, operation{
		id: "createToken", method: http.MethodPost, path: "me/tokens", tag: "tokens", needs: permission{Scope: signedIn}, once: true, secret: "secret",
		summary: "Make a personal access token of the caller", text: "Its secret is said this once. Without grants it may all that the account may, and never more. A token cannot make one.",
		answer: "The token and its secret.", status: http.StatusCreated,
	}, h.createToken)
	declare(f, operation{
		id: "listTokens", method: http.MethodGet, path: "tokens", tag: "tokens", needs: on(onRegistry, identity.UserRead),
		summary: "List personal access tokens of all accounts, or of one", answer: "A page of tokens.",
	}, func(ctx context.Context, q *tokensQuery) (*listed[tokenView], error) {
		return h.listTokens(ctx, q.PageQuery, func(ctx context.Context, after int64, n int) ([]auth.AccessToken, error) {
			return h.Tokens.AccessTokens(ctx, q.User, after, n)
		})
	})
	declare(f, operation{
		id: "revokeToken", method: http.MethodDelete, path: "tokens/{id}", tag: "tokens", needs: permission{Scope: signedIn}, object: "token", unknown: TokenUnknown,
		summary: "End a personal access token: one's own, or, with user.write, any", answer: "It is ended.", status: http.StatusNoContent,
	}, func(ctx context.Context, in *struct {
		ID int64 `path:"id" minimum:"1" doc:"Number of the token."`
	}) (*done, error) {
		return finish(h.Tokens.RevokeAccessToken(ctx, in.ID))
	})
}

type meView struct {
	Kind   string    `json:"kind" enum:"user,robot,local" doc:"local is the administrator of the machine, over its socket."`
	Name   string    `json:"name"`
	Admin  bool      `json:"admin"`
	Groups []string  `json:"groups"`
	User   *userView `json:"user,omitempty" doc:"The account, when berth keeps one."`
}

func (h *Handler) me(ctx context.Context, _ *struct{}) (*shown[meView], error) {
	who := identity.From(ctx)
	v := meView{Name: who.String(), Admin: who.Admin, Groups: []string{}}
	switch {
	case who.Kind == identity.Robot:
		v.Kind = "robot"
	case who.Kind == identity.Local:
		v.Kind = "local"
	default:
		v.Kind = "user"
		if who.ID == 0 {
			break
		}
		u, groups, err := h.Users.Me(ctx)
		if err != nil {
			return nil, err
		}
		view := viewUser(u)
		v.User, v.Groups = &view, list(groups)
	}
	return show(v)
}

// passwordChange is the body of changePassword.
type passwordChange struct {
	Name string `json:"name" minLength:"1" maxLength:"255"`
	Old  string `json:"oldPassword" maxLength:"1024"`
	New  string `json:"newPassword" maxLength:"1024"`
}

type changePasswordInput struct{ Body passwordChange }

func (h *Handler) changePassword(ctx context.Context, in *changePasswordInput) (*done, error) {
	return finish(h.Users.ChangePassword(ctx, in.Body.Name, in.Body.Old, in.Body.New, callOf(ctx).addr))
}

type tokenView struct {
	ID           int64            `json:"id"`
	User         string           `json:"user"`
	Name         string           `json:"name" doc:"What it is for."`
	Prefix       string           `json:"prefix" doc:"First characters of its secret."`
	Grants       []tokenGrantView `json:"grants,omitempty" doc:"What it is narrowed to; absent for all that the account may."`
	CreatedAt    time.Time        `json:"createdAt"`
	ExpiresAt    *time.Time       `json:"expiresAt,omitempty"`
	RevokedAt    *time.Time       `json:"revokedAt,omitempty"`
	LastUsedAt   *time.Time       `json:"lastUsedAt,omitempty" doc:"May be behind by a minute."`
	LastUsedFrom string           `json:"lastUsedFrom,omitempty"`
}

// tokenGrantView is one thing that a token is good for.
type tokenGrantView struct {
	Repositories string   `json:"repositories,omitempty" maxLength:"512" doc:"A pattern, such as team/app-*; absent for verbs of the registry."`
	Verbs        []string `json:"verbs" minItems:"1" maxItems:"64"`
}

func viewToken(t auth.AccessToken) tokenView {
	v := tokenView{
		ID: t.ID, User: t.Account, Name: t.Name, Prefix: t.Prefix, CreatedAt: t.CreatedAt.UTC(), ExpiresAt: stamp(t.ExpiresAt), RevokedAt: stamp(t.RevokedAt),
		LastUsedAt: stamp(t.LastUsedAt), LastUsedFrom: t.LastUsedFrom,
	}
	for _, g := range t.Grants {
		v.Grants = append(v.Grants, tokenGrantView{g.Repositories, words(g.Verbs)})
	}
	return v
}

type tokensQuery struct {
	User string `query:"user" doc:"Only tokens of this account."`
	PageQuery
}

func (h *Handler) listTokens(ctx context.Context, q PageQuery, read func(ctx context.Context, after int64, n int) ([]auth.AccessToken, error)) (*listed[tokenView], error) {
	after, err := q.number(ctx)
	if err != nil {
		return nil, err
	}
	found, err := read(ctx, after, q.Limit)
	if err != nil {
		return nil, err
	}
	return pageOf(ctx, found, q.Limit, viewToken, func(t auth.AccessToken) string { return strconv.FormatInt(t.ID, 10) })
}

// newToken is the body of createToken.
type newToken struct {
	Name      string            `json:"name" minLength:"1" maxLength:"128" doc:"What it is for."`
	Grants    *[]tokenGrantView `json:"grants,omitempty" maxItems:"100" doc:"What it is narrowed to; all that the account may when not said."`
	ExpiresAt string            `json:"expiresAt,omitempty" format:"date-time"`
}

type madeTokenView struct {
	Token  tokenView `json:"token"`
	Secret string    `json:"secret,omitempty" doc:"Said this once: a password of the account, or a bearer token."`
}

type createTokenInput struct{ Body newToken }

func (h *Handler) createToken(ctx context.Context, in *createTokenInput) (*created[madeTokenView], error) {
	var bad wrong
	expires := bad.moment("expiresAt", in.Body.ExpiresAt)
	if err := bad.err(); err != nil {
		return nil, err
	}
	var grants []auth.TokenGrant
	if in.Body.Grants != nil {
		grants = viewAll(*in.Body.Grants, func(g tokenGrantView) auth.TokenGrant {
			return auth.TokenGrant{Repositories: g.Repositories, Verbs: verbsOf(g.Verbs)}
		})
	}
	t, secret, err := h.Tokens.CreateAccessToken(ctx, in.Body.Name, grants, expires)
	if err != nil {
		return nil, err
	}
	return &created[madeTokenView]{"", h.location(root + "tokens/" + strconv.FormatInt(t.ID, 10)), madeTokenView{viewToken(t), secret}}, nil
}
