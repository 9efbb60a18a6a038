package adminapi

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/identity"
)

// providers is what the face needs of the auth room for the sources of identities.
type providers interface {
	Providers(ctx context.Context) ([]auth.ProviderInfo, error)
}

func (h *Handler) declareProviders(f *face) {
	declare(f, operation{
		id: "listProviders", method: http.MethodGet, path: "providers", tag: "providers", needs: on(onRegistry, identity.ProviderRead),
		summary: "List the sources of identities, in the order in which they are asked",
		text:    "They are what the configuration of berthd says (`auth`), and changed there. Addresses and secrets are not shown.", answer: "A page of providers.",
	}, h.listProviders)
}

type providerView struct {
	Name       string     `json:"name"`
	Label      string     `json:"label,omitempty" doc:"What people read where they log in."`
	Kind       string     `json:"kind" doc:"local, htpasswd, ldap, oidc, mtls or spiffe."`
	Accounts   string     `json:"accounts,omitempty" enum:"create,adopt,existing" doc:"What a first login does; see auth in the configuration."`
	Groups     bool       `json:"createsGroups" doc:"Groups that it names, and that are not there, are made."`
	Logins     []string   `json:"logins" doc:"Ways to log in: password, browser, device, certificate."`
	AnsweredAt *time.Time `json:"answeredAt,omitempty" doc:"When this process had an answer last, be it no; absent when it has not asked since its start, and for what is kept here."`
	FailedAt   *time.Time `json:"failedAt,omitempty" doc:"When the provider did not answer it last."`
	Failing    bool       `json:"failing" doc:"The last question had no answer."`
}

func viewProvider(p auth.ProviderInfo) providerView {
	v := providerView{
		Name: p.Name, Label: p.Label, Kind: p.Kind, Groups: p.Groups, Logins: []string{},
		AnsweredAt: stamp(p.AnsweredAt), FailedAt: stamp(p.FailedAt), Failing: p.FailedAt.After(p.AnsweredAt),
	}
	here := p.Kind == "local" || p.Kind == "htpasswd"
	switch {
	case here:
	case p.Adopt:
		v.Accounts = "adopt"
	case p.Create:
		v.Accounts = "create"
	default:
		v.Accounts = "existing"
	}
	for _, way := range []struct {
		name string
		has  bool
	}{{"password", here || p.Directory != nil}, {"browser", p.Browser != nil}, {"device", p.Device != nil}, {"certificate", p.Certificate != nil}} {
		if way.has {
			v.Logins = append(v.Logins, way.name)
		}
	}
	return v
}

// listProviders cuts pages from the whole: they are as few as the configuration has.
func (h *Handler) listProviders(ctx context.Context, q *struct{ PageQuery }) (*listed[providerView], error) {
	after, err := q.key(ctx)
	if err != nil {
		return nil, err
	}
	all, err := h.Providers.Providers(ctx)
	if err != nil {
		return nil, err
	}
	if after != "" {
		all = all[1+slices.IndexFunc(all, func(p auth.ProviderInfo) bool { return p.Name == after }):]
	}
	next := ""
	if len(all) > q.Limit {
		all, next = all[:q.Limit], all[q.Limit-1].Name
	}
	return pageUntil(ctx, viewAll(all, viewProvider), next)
}
