package oidc

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-registry/berth/server/auth"
)

// maxGroups is how many groups one person may be in.
const maxGroups = 2000

// external makes a statement of verified claims.
func (p *Provider) external(subject string, claims map[string]any) (auth.External, error) {
	for _, r := range p.o.Required {
		if !r.holds(claims) {
			return auth.External{}, p.refuse("claim %s of subject %s is not what the configuration requires", r.Claim, subject)
		}
	}
	name, err := auth.AccountName(text(find(claims, p.o.Username)))
	if err != nil {
		return auth.External{}, p.refuse("claim %s of subject %s cannot be an account's name: %w; name another claim in the configuration, or ask for its scope", p.o.Username, subject, err)
	}
	e := auth.External{
		Provider: p.o.Name, Subject: subject, Name: name, DisplayName: text(claims["name"]), SID: text(claims["sid"]),
		ExpiresAt: p.o.Now().Add(p.o.Lifetime),
	}
	if verified, ok := claims["email_verified"]; ok && (verified == true || verified == "true") {
		e.Email = text(claims["email"])
	}
	if p.o.Groups.Claim == "" {
		return e, nil
	}
	groups, err := p.groups(claims)
	if err != nil {
		return auth.External{}, p.refuse("groups of subject %s: %w", subject, err)
	}
	e.Groups = []string{}
	for _, g := range groups {
		if slices.Contains(p.o.Admins, g) {
			e.Admin = true
		}
		e.Groups = append(e.Groups, p.o.Groups.Prefix+g)
	}
	return e, nil
}

// groups reads the claim of groups: a list of names, of objects with a name, or one name. A claim that is not there means
// no groups, unless the provider says that it left them out.
func (p *Provider) groups(claims map[string]any) ([]string, error) {
	value := find(claims, p.o.Groups.Claim)
	if elsewhere, ok := claims["_claim_names"].(map[string]any); value == nil && ok && elsewhere[p.o.Groups.Claim] != nil {
		// OpenID Connect Core section 5.6.2. Entra ID does this from 200 groups on; without them a denial would not hold.
		return nil, fmt.Errorf("the provider left claim %s out, since there are too many; let it send only the groups that are assigned to this application", p.o.Groups.Claim)
	}
	var names []string
	switch v := value.(type) {
	case nil:
	case string:
		names = append(names, v)
	case []any:
		for _, one := range v {
			if object, ok := one.(map[string]any); ok {
				one = object["name"]
			}
			name, ok := one.(string)
			if !ok {
				return nil, fmt.Errorf("claim %s has something in it that is no name", p.o.Groups.Claim)
			}
			names = append(names, name)
		}
	default:
		return nil, fmt.Errorf("claim %s is no list of names", p.o.Groups.Claim)
	}
	if p.o.Groups.Parents {
		for _, name := range slices.Clone(names) {
			for i := strings.LastIndexByte(name, '/'); i > 0; i = strings.LastIndexByte(name[:i], '/') {
				names = append(names, name[:i])
			}
		}
	}
	names = slices.DeleteFunc(names, func(n string) bool { return n == "" })
	slices.Sort(names)
	if names = slices.Compact(names); len(names) > maxGroups {
		return nil, fmt.Errorf("claim %s has %d groups; at most %d are read", p.o.Groups.Claim, len(names), maxGroups)
	}
	return names, nil
}

// find reads a claim by its name or, when there is none, by a path with dots into nested ones. Names with dots in them,
// such as addresses, are found as a whole.
func find(claims map[string]any, path string) any {
	if v, ok := claims[path]; ok {
		return v
	}
	for i := strings.IndexByte(path, '.'); i >= 0; {
		if inner, ok := claims[path[:i]].(map[string]any); ok {
			return find(inner, path[i+1:])
		}
		next := strings.IndexByte(path[i+1:], '.')
		if next < 0 {
			break
		}
		i += 1 + next
	}
	return nil
}

// text is a claim as a text; numbers are written as JSON writes them.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return ""
}

func (r Requirement) holds(claims map[string]any) bool {
	v := find(claims, r.Claim)
	if len(r.Values) == 0 {
		return v == true || v == "true"
	}
	if list, ok := v.([]any); ok {
		return slices.ContainsFunc(list, func(one any) bool { return slices.Contains(r.Values, scalar(one)) })
	}
	return v != nil && slices.Contains(r.Values, scalar(v))
}

// scalar is a claim as the configuration writes it.
func scalar(v any) string {
	if b, ok := v.(bool); ok {
		return strconv.FormatBool(b)
	}
	return text(v)
}
