package ldap

import (
	"context"
	"fmt"
	"slices"
	"strings"

	goldap "github.com/go-ldap/ldap/v3"
)

const (
	// maxGroups is how many groups one person may be in, whatever the nesting.
	maxGroups = 2000
	// page is how many entries a server is asked for at once; Active Directory gives no more than 1000.
	page = 500
	// batch is how many groups of a level are asked for in one search.
	batch = 40
)

// group is an entry of a group.
type group struct {
	dn, name string
}

// groupsOf finds the groups of a person.
func (d *Directory) groupsOf(ctx context.Context, who person) ([]group, error) {
	if d.o.Groups.Nested == Chain {
		// Active Directory, "LDAP_MATCHING_RULE_IN_CHAIN": the server follows member to the end of every chain.
		return d.searchGroups(ctx, "(member:1.2.840.113556.1.4.1941:="+goldap.EscapeFilter(who.dn)+")")
	}
	found, err := d.searchGroups(ctx, d.groups.with(map[string]string{"dn": who.dn, "name": who.name}))
	if err != nil || d.o.Groups.Nested != Walk {
		return found, err
	}
	seen := map[string]bool{}
	for _, g := range found {
		seen[strings.ToLower(g.dn)] = true
	}
	// Level by level. A group is asked for once, so a ring of groups ends.
	for level, depth := found, 0; len(level) > 0; depth++ {
		if depth == d.o.Groups.Depth {
			return nil, fmt.Errorf("ldap provider %s: groups of %s are nested deeper than %d levels; raise groups.depth", d.o.Name, who.dn, d.o.Groups.Depth)
		}
		var above []group
		for some := range slices.Chunk(level, batch) {
			var b strings.Builder
			for _, g := range some {
				// A group has no user name: no memberUid may match it.
				b.WriteString(d.groups.with(map[string]string{"dn": g.dn, "name": "\x00"}))
			}
			more, err := d.searchGroups(ctx, "(|"+b.String()+")")
			if err != nil {
				return nil, err
			}
			for _, g := range more {
				if key := strings.ToLower(g.dn); !seen[key] {
					seen[key] = true
					above = append(above, g)
				}
			}
		}
		if found = append(found, above...); len(found) > maxGroups {
			return nil, d.tooMany()
		}
		level = above
	}
	return found, nil
}

func (d *Directory) tooMany() error {
	return fmt.Errorf("ldap provider %s: more than %d groups of one person; narrow groups.filter or groups.base", d.o.Name, maxGroups)
}

// searchGroups runs a search page by page (RFC 2696).
func (d *Directory) searchGroups(ctx context.Context, filter string) ([]group, error) {
	attributes := []string{d.o.Groups.Name}
	if strings.EqualFold(d.o.Groups.Name, dnAsID) {
		attributes = []string{"1.1"} // RFC 4511 section 4.5.1.8: no attributes
	}
	var found []group
	err := d.searches.with(ctx, func(c *goldap.Conn) error {
		found = found[:0]
		paging := goldap.NewControlPaging(page)
		for {
			r := goldap.NewSearchRequest(d.o.Groups.Base, goldap.ScopeWholeSubtree, goldap.NeverDerefAliases, 0, d.seconds(), false,
				filter, attributes, []goldap.Control{paging})
			answer, err := c.Search(r)
			if err != nil {
				return err
			}
			for _, e := range answer.Entries {
				g := group{dn: e.DN, name: e.GetEqualFoldAttributeValue(d.o.Groups.Name)}
				if strings.EqualFold(d.o.Groups.Name, dnAsID) {
					g.name = e.DN
				}
				found = append(found, g)
			}
			if len(found) > maxGroups {
				return d.tooMany()
			}
			next, ok := goldap.FindControl(answer.Controls, goldap.ControlTypePaging).(*goldap.ControlPaging)
			if !ok || len(next.Cookie) == 0 {
				return nil
			}
			paging.SetCookie(next.Cookie)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("ldap provider %s: search for groups below %q: %w", d.o.Name, d.o.Groups.Base, err)
	}
	return found, nil
}

// namesOf are the names of groups as berth knows them, sorted, each once. Two groups of one name are one group here:
// whoever may make groups below the base decides who is in it, so the base or the filter must be as narrow as that.
func (d *Directory) namesOf(groups []group) []string {
	names := make([]string, 0, len(groups))
	for _, g := range groups {
		if g.name != "" {
			names = append(names, d.o.Groups.Prefix+g.name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// groupName is how the configuration names a group: by its name in the directory, or by its DN.
type groupName struct {
	name string
	dn   *goldap.DN // nil: by name
}

func parseGroupName(text string) groupName {
	if strings.Contains(text, "=") {
		if dn, err := goldap.ParseDN(text); err == nil {
			return groupName{name: text, dn: dn}
		}
	}
	return groupName{name: text}
}

func (n groupName) is(g group) bool {
	if n.dn == nil {
		return strings.EqualFold(n.name, g.name)
	}
	dn, err := goldap.ParseDN(g.dn)
	return err == nil && n.dn.EqualFold(dn)
}

// anyOf reports whether one of the groups has one of the names.
func anyOf(names []groupName, groups []group) bool {
	return slices.ContainsFunc(names, func(n groupName) bool {
		return slices.ContainsFunc(groups, n.is)
	})
}
