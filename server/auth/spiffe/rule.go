package spiffe

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/berth-registry/berth/server/auth"
)

// Rule says which SPIFFE ID is whom.
type Rule struct {
	// ID is spiffe://example.org/ns/*/sa/builder: * is one segment of the path, ** at the end is any number of them. The
	// trust domain is written out.
	ID string
	// Account or Robot is the name of who it is.
	Account, Robot string
	Groups         []string // of the account; nil says nothing of groups
}

type rule struct {
	Rule
	domain   spiffeid.TrustDomain
	segments []string
	open     bool // ends in **
}

func isSPIFFE(u *url.URL) bool { return u.Scheme == "spiffe" }

func (r Rule) compile() (rule, error) {
	c := rule{Rule: r}
	rest, ok := strings.CutPrefix(r.ID, "spiffe://")
	domain, path, _ := strings.Cut(rest, "/")
	var err error
	if c.domain, err = spiffeid.TrustDomainFromString(domain); !ok || err != nil {
		return c, fmt.Errorf("id %q is not written as spiffe://example.org/ns/*/sa/builder", r.ID)
	}
	if path != "" {
		c.segments = strings.Split(path, "/")
	}
	if n := len(c.segments); n > 0 && c.segments[n-1] == "**" {
		c.open, c.segments = true, c.segments[:n-1]
	}
	for _, s := range c.segments {
		if s == "" || s != "*" && strings.Contains(s, "*") {
			return c, fmt.Errorf("id %q: a segment is a text or * alone, and ** stands at the end", r.ID)
		}
	}
	switch {
	case (r.Account == "") == (r.Robot == ""):
		return c, errors.New("it needs either an account or a robot")
	case r.Account != "":
		c.Account, err = auth.AccountName(r.Account)
	}
	return c, err
}

func (r *rule) match(id spiffeid.ID) bool {
	if id.TrustDomain() != r.domain {
		return false
	}
	var path []string
	if p := strings.TrimPrefix(id.Path(), "/"); p != "" {
		path = strings.Split(p, "/")
	}
	if len(path) < len(r.segments) || len(path) > len(r.segments) && !r.open {
		return false
	}
	for i, s := range r.segments {
		if s != "*" && s != path[i] {
			return false
		}
	}
	return true
}
