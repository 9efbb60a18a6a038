package adminapi

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// users is what the face needs of the auth room for accounts.
type users interface {
	Users(ctx context.Context, f metadb.AccountFilter, after string, limit int) ([]auth.User, error)
	User(ctx context.Context, name string) (auth.User, error)
	CreateUser(ctx context.Context, u auth.NewUser) (made auth.User, generated string, err error)
	UpdateUser(ctx context.Context, name string, generation int64, c auth.UserChange) (auth.User, error)
	DeleteUser(ctx context.Context, name string, generation int64) error
	SetPassword(ctx context.Context, name, password string, mustChange bool) (generated string, err error)
	ChangePassword(ctx context.Context, name, old, password, addr string) error
	Unlock(ctx context.Context, name string) error
	Me(ctx context.Context) (auth.User, []string, error)
	Links(ctx context.Context, account string) ([]metadb.Link, error)
	Link(ctx context.Context, account, provider, subject string) error
	Unlink(ctx context.Context, account, provider, subject string) error
}

// InUser is the parameter of routes about an account.
type InUser struct {
	User string `path:"user" doc:"Name of the account."`
}

func (h *Handler) declareUsers(f *face) {
	about := func(id, method, path, summary, answer string, verb identity.Verb) operation {
		return operation{id: id, method: method, path: path, tag: "users", needs: on(onRegistry, verb), summary: summary, answer: answer}
	}
	declare(f, about("listUsers", http.MethodGet, "users", "List accounts, by name", "A page of accounts.", identity.UserRead), h.listUsers)
	create := about("createUser", http.MethodPost, "users", "Make an account", "The account.", identity.UserWrite)
	create.once, create.secret, create.status = true, "password", http.StatusCreated
	create.text = "Without a password one is made up, and said this once. Only an administrator makes administrators and auditors."
	declare(f, create, h.createUser)
	get := about("getUser", http.MethodGet, "users/{user}", "Show an account: one's own, or, with user.read, any", "The account.", "")
	get.needs = permission{Scope: signedIn}
	declare(f, get, func(ctx context.Context, in *struct{ InUser }) (*tagged[userView], error) {
		u, err := h.Users.User(ctx, in.User)
		return showTagged(viewUser(u), u.Generation, err)
	})
	update := about("updateUser", http.MethodPatch, "users/{user}", "Change an account", "The account as it is now.", identity.UserWrite)
	update.text = "What is not said stays. Logins and tokens from before stop working."
	declare(f, update, h.updateUser)
	remove := about("deleteUser", http.MethodDelete, "users/{user}", "Delete an account, with its grants, tokens and sessions", "It is gone.", identity.UserWrite)
	remove.status = http.StatusNoContent
	declare(f, remove, func(ctx context.Context, in *struct {
		InUser
		IfMatchOptional
	}) (*done, error) {
		generation, err := in.generation()
		if err != nil {
			return nil, err
		}
		return finish(h.Users.DeleteUser(ctx, in.User, generation))
	})
	reset := about("resetPassword", http.MethodPost, "users/{user}/reset-password", "Give an account another password", "The password, when it was made up.", identity.UserWrite)
	reset.text = "Without a password one is made up, and said this once."
	declare(f, reset, h.resetPassword)
	unlock := about("unlockUser", http.MethodPost, "users/{user}/unlock", "Forget the failed logins of an account, which delay the next one", "It is done.", identity.UserWrite)
	unlock.status = http.StatusNoContent
	declare(f, unlock, func(ctx context.Context, in *struct{ InUser }) (*done, error) {
		return finish(h.Users.Unlock(ctx, in.User))
	})
	links := about("listLinks", http.MethodGet, "users/{user}/links", "List the identities at providers that are an account: one's own, or, with user.read, any", "All of them.", "")
	links.needs = permission{Scope: signedIn}
	declare(f, links, h.listLinks)
	link := about("linkIdentity", http.MethodPost, "users/{user}/links", "Make an identity at a provider one of an account", "It is done.", identity.UserWrite)
	link.status = http.StatusNoContent
	declare(f, link, h.link)
	unlink := about("unlinkIdentity", http.MethodPost, "users/{user}/unlink", "Take an identity at a provider from an account", "It is done.", identity.UserWrite)
	unlink.status = http.StatusNoContent
	declare(f, unlink, h.unlink)
}

type userView struct {
	Name          string     `json:"name"`
	DisplayName   string     `json:"displayName"`
	Email         string     `json:"email"`
	Source        string     `json:"source" doc:"The identity provider that proves it; empty for a password of berth's own."`
	Admin         bool       `json:"admin"`
	Auditor       bool       `json:"auditor" doc:"May read how the registry is set up, and no content."`
	Disabled      bool       `json:"disabled"`
	MustChange    bool       `json:"mustChange" doc:"The password has to be changed before anything else."`
	ExpiresAt     *time.Time `json:"expiresAt,omitempty"`
	LastLoginAt   *time.Time `json:"lastLoginAt,omitempty"`
	CreatedAt     time.Time  `json:"createdAt"`
	UpdatedAt     *time.Time `json:"updatedAt,omitempty"`
	Failures      int64      `json:"failures,omitempty" doc:"Failed logins since one succeeded; of getUser alone."`
	LastFailureAt *time.Time `json:"lastFailureAt,omitempty"`
	Generation    int64      `json:"generation" doc:"Its ETag is this number in quotes."`
}

func viewUser(u auth.User) userView {
	return userView{
		Name: u.Name, DisplayName: u.DisplayName, Email: u.Email, Source: u.Source, Admin: u.Admin, Auditor: u.Auditor, Disabled: u.Disabled,
		MustChange: u.MustChange, ExpiresAt: stamp(u.ExpiresAt), LastLoginAt: stamp(u.LastLoginAt), CreatedAt: u.CreatedAt.UTC(), UpdatedAt: stamp(u.UpdatedAt),
		Failures: u.Failures, LastFailureAt: stamp(u.LastFailureAt), Generation: u.Generation,
	}
}

type usersQuery struct {
	Contains string `query:"contains" maxLength:"255" doc:"Only accounts with this text in their name, in any case."`
	Admin    string `query:"admin" enum:"true,false" doc:"Only administrators, or only others."`
	Disabled string `query:"disabled" enum:"true,false" doc:"Only disabled accounts, or only others."`
	Source   string `query:"source" doc:"Only accounts of this provider; local for those with a password of berth's own."`
	ByNameQuery
	PageQuery
}

func (h *Handler) listUsers(ctx context.Context, q *usersQuery) (*listed[userView], error) {
	after, err := q.key(ctx)
	if err != nil {
		return nil, err
	}
	f := metadb.AccountFilter{Contains: q.Contains, Admin: optional(q.Admin), Disabled: optional(q.Disabled), Order: orderOf(q.Sort)}
	if q.Source != "" {
		source := q.Source
		if source == "local" {
			source = ""
		}
		f.Source = &source
	}
	found, err := h.Users.Users(ctx, f, after, q.Limit)
	if err != nil {
		return nil, err
	}
	return pageOf(ctx, found, q.Limit, viewUser, func(u auth.User) string { return f.Order.Key(u.Name, u.ID, time.Time{}) })
}

// newUser is the body of createUser.
type newUser struct {
	Name        string `json:"name" minLength:"1" maxLength:"128"`
	Password    string `json:"password,omitempty" maxLength:"1024"`
	DisplayName string `json:"displayName,omitempty" maxLength:"255"`
	Email       string `json:"email,omitempty" maxLength:"255"`
	Admin       bool   `json:"admin,omitempty"`
	Auditor     bool   `json:"auditor,omitempty"`
	MustChange  bool   `json:"mustChange,omitempty"`
	ExpiresAt   string `json:"expiresAt,omitempty" format:"date-time"`
	Source      string `json:"source,omitempty" maxLength:"128" doc:"The identity provider that proves it, which then has no password here."`
}

type madeUserView struct {
	User     userView `json:"user"`
	Password string   `json:"password,omitempty" doc:"That was made up, said this once."`
}

type createUserInput struct{ Body newUser }

func (h *Handler) createUser(ctx context.Context, in *createUserInput) (*created[madeUserView], error) {
	b := in.Body
	var bad wrong
	expires := bad.moment("expiresAt", b.ExpiresAt)
	if err := bad.err(); err != nil {
		return nil, err
	}
	u, password, err := h.Users.CreateUser(ctx, auth.NewUser{
		Name: b.Name, Password: b.Password, DisplayName: b.DisplayName, Email: b.Email, Admin: b.Admin, Auditor: b.Auditor, MustChange: b.MustChange,
		ExpiresAt: expires, Source: b.Source,
	})
	if err != nil {
		return nil, err
	}
	return &created[madeUserView]{etag(u.Generation), h.location(root + "users/" + url.PathEscape(u.Name)), madeUserView{viewUser(u), password}}, nil
}

// userChange is the body of updateUser.
type userChange struct {
	DisplayName *string `json:"displayName,omitempty" maxLength:"255"`
	Email       *string `json:"email,omitempty" maxLength:"255"`
	Admin       *bool   `json:"admin,omitempty"`
	Auditor     *bool   `json:"auditor,omitempty"`
	Disabled    *bool   `json:"disabled,omitempty"`
	MustChange  *bool   `json:"mustChange,omitempty"`
	ExpiresAt   *string `json:"expiresAt,omitempty" doc:"A time, or never."`
}

type updateUserInput struct {
	InUser
	IfMatch
	Body userChange
}

func (h *Handler) updateUser(ctx context.Context, in *updateUserInput) (*tagged[userView], error) {
	generation, err := in.generation()
	if err != nil {
		return nil, err
	}
	b := in.Body
	var bad wrong
	c := auth.UserChange{DisplayName: b.DisplayName, Email: b.Email, Admin: b.Admin, Auditor: b.Auditor, Disabled: b.Disabled, MustChange: b.MustChange, ExpiresAt: bad.end("expiresAt", b.ExpiresAt)}
	if err := bad.err(); err != nil {
		return nil, err
	}
	u, err := h.Users.UpdateUser(ctx, in.User, generation, c)
	return showTagged(viewUser(u), u.Generation, err)
}

// end reads a time that is to be changed, which may be never.
func (w *wrong) end(name string, text *string) *time.Time {
	if text == nil {
		return nil
	}
	var t time.Time
	switch *text {
	case "never":
	case "":
		w.add(name, "member %q expects a time such as 2026-01-31T09:00:00Z, or never", name)
	default:
		t = w.moment(name, *text)
	}
	return &t
}

// newPassword is the body of resetPassword.
type newPassword struct {
	Password   string `json:"password,omitempty" maxLength:"1024"`
	MustChange bool   `json:"mustChange,omitempty" doc:"Who uses it has to choose another one first."`
}

type passwordView struct {
	Password string `json:"password,omitempty" doc:"That was made up, said this once."`
}

type resetPasswordInput struct {
	InUser
	Body *newPassword
}

func (h *Handler) resetPassword(ctx context.Context, in *resetPasswordInput) (*shown[passwordView], error) {
	var b newPassword
	if in.Body != nil {
		b = *in.Body
	}
	generated, err := h.Users.SetPassword(ctx, in.User, b.Password, b.MustChange)
	if err != nil {
		return nil, err
	}
	return show(passwordView{generated})
}

type linkView struct {
	Provider    string     `json:"provider"`
	Subject     string     `json:"subject" doc:"The provider's own, unchanging name of the identity."`
	Login       string     `json:"login,omitempty" doc:"How the provider shows it."`
	Email       string     `json:"email,omitempty"`
	CreatedAt   time.Time  `json:"createdAt"`
	LastLoginAt *time.Time `json:"lastLoginAt,omitempty"`
}

func (h *Handler) listLinks(ctx context.Context, in *struct{ InUser }) (*shown[page[linkView]], error) {
	found, err := h.Users.Links(ctx, in.User)
	if err != nil {
		return nil, err
	}
	return show(page[linkView]{Items: viewAll(found, func(l metadb.Link) linkView {
		return linkView{l.Provider, l.Subject, l.Login, l.Email, l.CreatedAt.UTC(), stamp(l.LastLoginAt)}
	})})
}

// identityAt is the body of linkIdentity and unlinkIdentity.
type identityAt struct {
	Provider string `json:"provider" minLength:"1" maxLength:"128"`
	Subject  string `json:"subject" minLength:"1" maxLength:"1024"`
}

type linkInput struct {
	InUser
	Body identityAt
}

func (h *Handler) link(ctx context.Context, in *linkInput) (*done, error) {
	return finish(h.Users.Link(ctx, in.User, in.Body.Provider, in.Body.Subject))
}

func (h *Handler) unlink(ctx context.Context, in *linkInput) (*done, error) {
	return finish(h.Users.Unlink(ctx, in.User, in.Body.Provider, in.Body.Subject))
}
