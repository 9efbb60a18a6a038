package adminapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/identity"
)

// issuers is what the face needs of the auth room for those whose tokens are exchanged.
type issuers interface {
	Issuers(ctx context.Context, after string, limit int) ([]auth.TrustedIssuer, error)
	Issuer(ctx context.Context, name string) (auth.TrustedIssuer, error)
	CreateIssuer(ctx context.Context, t auth.TrustedIssuer) (auth.TrustedIssuer, error)
	UpdateIssuer(ctx context.Context, t auth.TrustedIssuer, generation int64) (auth.TrustedIssuer, error)
	DeleteIssuer(ctx context.Context, name string, generation int64) error
	TryIssuer(ctx context.Context, c auth.IssuerConfig) error
}

// InIssuer is the parameter of routes about an issuer.
type InIssuer struct {
	Issuer string `path:"issuer" doc:"Name of the issuer."`
}

func (h *Handler) declareIssuers(f *face) {
	about := func(id, method, path, summary, answer string, verb identity.Verb) operation {
		return operation{id: id, method: method, path: path, tag: "issuers", needs: on(onRegistry, verb), summary: summary, answer: answer}
	}
	declare(f, about("listIssuers", http.MethodGet, "issuers", "List the issuers whose tokens are exchanged, by name", "A page of issuers.", identity.ProviderRead), h.listIssuers)
	create := about("createIssuer", http.MethodPost, "issuers", "Trust an issuer", "The issuer.", identity.ProviderWrite)
	create.once, create.status = true, http.StatusCreated
	create.text = "Its tokens are exchanged for ours from then on, as its rules say; since rules give rights, only an administrator may. Nobody is asked for keys yet. `bearerFile` is taken over the socket alone."
	declare(f, create, h.createIssuer)
	try := about("checkIssuer", http.MethodPost, "issuers/check", "Say whether an issuer would be taken", "It would.", identity.ProviderWrite)
	try.status = http.StatusNoContent
	try.text = "The answer is what createIssuer would say of the members; nothing is changed, and the issuer is not asked."
	declare(f, try, func(ctx context.Context, in *struct{ Body IssuerSettings }) (*done, error) {
		return finish(h.Issuers.TryIssuer(ctx, in.Body.config()))
	})
	declare(f, about("getIssuer", http.MethodGet, "issuers/{issuer}", "Show an issuer", "The issuer.", identity.ProviderRead), func(ctx context.Context, in *struct{ InIssuer }) (*tagged[issuerView], error) {
		t, err := h.Issuers.Issuer(ctx, in.Issuer)
		return showTagged(viewIssuer(t), t.Generation, err)
	})
	update := about("updateIssuer", http.MethodPut, "issuers/{issuer}", "Replace what an issuer is and its rules", "The issuer as it is now.", identity.ProviderWrite)
	update.text = "What is not said is gone. Tokens that were had under the configuration before end. `bearerFile` is taken over the socket alone, unless it goes where it went before."
	declare(f, update, h.updateIssuer)
	remove := about("deleteIssuer", http.MethodDelete, "issuers/{issuer}", "Trust an issuer no more", "It is gone, and so are the tokens that were exchanged.", identity.ProviderWrite)
	remove.status = http.StatusNoContent
	declare(f, remove, h.deleteIssuer)
}

type issuerView struct {
	Name       string           `json:"name"`
	Enabled    bool             `json:"enabled"`
	Issuer     string           `json:"issuer" doc:"The claim iss, as it is."`
	Audiences  []string         `json:"audiences"`
	KeySetURL  string           `json:"jwksUrl,omitempty"`
	KeySet     json.RawMessage  `json:"jwks,omitempty" doc:"Public keys."`
	CA         string           `json:"ca,omitempty" doc:"PEM."`
	BearerFile string           `json:"bearerFile,omitempty" doc:"Name of the file; its content is not shown."`
	Algorithms []string         `json:"algorithms,omitempty" doc:"Absent for all asymmetric ones."`
	Rules      []issuerRuleView `json:"rules"`
	Generation int64            `json:"generation" doc:"Its ETag is this number in quotes."`
}

// issuerRuleView is a rule, in answers and requests.
type issuerRuleView struct {
	Name     string            `json:"name" maxLength:"128" doc:"For records."`
	Claims   map[string]string `json:"claims" doc:"What a token must say: names of claims, or ways to them joined by /, with their values. * stands for any characters but / and :, ** for any. At least one says more than wildcards."`
	Robot    string            `json:"robot,omitempty" maxLength:"255" doc:"The robot that the token stands for; or grants."`
	Grants   *[]tokenGrantView `json:"grants,omitempty" maxItems:"100" doc:"What the token may do by itself, to repositories."`
	Lifetime int64             `json:"lifetimeSeconds,omitempty" minimum:"0" maximum:"3600" doc:"Of our token; as that of others when not said."`
}

func viewIssuer(t auth.TrustedIssuer) issuerView {
	c := t.Config
	return issuerView{
		Name: t.Name, Enabled: t.Enabled, Issuer: c.Issuer, Audiences: list(c.Audiences), KeySetURL: c.KeySetURL, KeySet: c.KeySet, CA: c.CA, BearerFile: c.BearerFile,
		Algorithms: c.Algorithms, Rules: viewAll(c.Rules, viewIssuerRule), Generation: t.Generation,
	}
}

func viewIssuerRule(r auth.IssuerRule) issuerRuleView {
	v := issuerRuleView{Name: r.Name, Claims: r.Claims, Robot: r.Robot, Lifetime: r.Lifetime}
	if r.Grants != nil {
		grants := viewAll(r.Grants, func(g auth.TokenGrant) tokenGrantView { return tokenGrantView{g.Repositories, words(g.Verbs)} })
		v.Grants = &grants
	}
	return v
}

// IssuerSettings is the body of updateIssuer and checkIssuer, newIssuer that of createIssuer.
type IssuerSettings struct {
	Enabled    *bool            `json:"enabled,omitempty" doc:"True when not said."`
	Issuer     string           `json:"issuer" minLength:"1" maxLength:"1024" doc:"The claim iss, compared as it is."`
	Audiences  []string         `json:"audiences" minItems:"1" maxItems:"64" doc:"The claim aud names one of these."`
	KeySetURL  string           `json:"jwksUrl,omitempty" maxLength:"1024" doc:"Address of its keys; what discovery at the issuer says when not said."`
	KeySet     *json.RawMessage `json:"jwks,omitempty" doc:"Its keys themselves, a JSON Web Key Set, for an issuer that cannot be asked."`
	CA         string           `json:"ca,omitempty" maxLength:"32768" doc:"Authorities of the issuer's certificate, PEM."`
	BearerFile string           `json:"bearerFile,omitempty" maxLength:"4096" doc:"A file of the server's machine whose content is sent to the issuer as a bearer token."`
	Algorithms []string         `json:"algorithms,omitempty" maxItems:"16" doc:"Of signatures; all asymmetric ones when not said."`
	Rules      []issuerRuleView `json:"rules" maxItems:"200" doc:"The first one that fits decides."`
}

type newIssuer struct {
	Name string `json:"name" minLength:"1" maxLength:"128"`
	IssuerSettings
}

func (b IssuerSettings) config() auth.IssuerConfig {
	c := auth.IssuerConfig{
		Issuer: b.Issuer, Audiences: b.Audiences, KeySetURL: b.KeySetURL, CA: b.CA, BearerFile: b.BearerFile, Algorithms: b.Algorithms, Rules: []auth.IssuerRule{},
	}
	if b.KeySet != nil && string(*b.KeySet) != "null" {
		c.KeySet = *b.KeySet
	}
	for _, r := range b.Rules {
		rule := auth.IssuerRule{Name: r.Name, Claims: r.Claims, Robot: r.Robot, Lifetime: r.Lifetime}
		if r.Grants != nil {
			rule.Grants = viewAll(*r.Grants, func(g tokenGrantView) auth.TokenGrant {
				return auth.TokenGrant{Repositories: g.Repositories, Verbs: verbsOf(g.Verbs)}
			})
		}
		c.Rules = append(c.Rules, rule)
	}
	return c
}

func (b IssuerSettings) trusted(name string) auth.TrustedIssuer {
	return auth.TrustedIssuer{Name: name, Enabled: b.Enabled == nil || *b.Enabled, Config: b.config()}
}

func (h *Handler) listIssuers(ctx context.Context, q *struct{ PageQuery }) (*listed[issuerView], error) {
	after, err := q.key(ctx)
	if err != nil {
		return nil, err
	}
	found, err := h.Issuers.Issuers(ctx, after, q.Limit)
	if err != nil {
		return nil, err
	}
	return pageOf(ctx, found, q.Limit, viewIssuer, func(t auth.TrustedIssuer) string { return t.Name })
}

type createIssuerInput struct{ Body newIssuer }

func (h *Handler) createIssuer(ctx context.Context, in *createIssuerInput) (*created[issuerView], error) {
	t, err := h.Issuers.CreateIssuer(ctx, in.Body.trusted(in.Body.Name))
	if err != nil {
		return nil, err
	}
	return &created[issuerView]{etag(t.Generation), h.location(root + "issuers/" + url.PathEscape(t.Name)), viewIssuer(t)}, nil
}

type updateIssuerInput struct {
	InIssuer
	IfMatch
	Body IssuerSettings
}

func (h *Handler) updateIssuer(ctx context.Context, in *updateIssuerInput) (*tagged[issuerView], error) {
	generation, err := in.generation()
	if err != nil {
		return nil, err
	}
	t, err := h.Issuers.UpdateIssuer(ctx, in.Body.trusted(in.Issuer), generation)
	return showTagged(viewIssuer(t), t.Generation, err)
}

type deleteIssuerInput struct {
	InIssuer
	IfMatchOptional
}

func (h *Handler) deleteIssuer(ctx context.Context, in *deleteIssuerInput) (*done, error) {
	generation, err := in.generation()
	if err != nil {
		return nil, err
	}
	return finish(h.Issuers.DeleteIssuer(ctx, in.Issuer, generation))
}
