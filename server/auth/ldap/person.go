package ldap

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	goldap "github.com/go-ldap/ldap/v3"

	"github.com/berth-registry/berth/server/auth"
)

// dnAsID is the value of Users.ID for directories whose entries have no lasting identifier.
const dnAsID = "dn"

// person is an entry of somebody who may log in.
type person struct {
	dn, id, name       string
	email, displayName string
}

// findByName searches the entry of a user name as it was typed.
func (d *Directory) findByName(ctx context.Context, name string) (person, error) {
	if !utf8.ValidString(name) || strings.ContainsRune(name, 0) {
		return person{}, auth.ErrNoAccount
	}
	return d.find(ctx, d.userSearch(d.o.Users.Base, goldap.ScopeWholeSubtree, d.users.with(map[string]string{"name": name})))
}

// findBySubject searches the entry that Login has named so before. It must still pass the filter of users.
func (d *Directory) findBySubject(ctx context.Context, subject string) (person, error) {
	if strings.EqualFold(d.o.Users.ID, dnAsID) {
		dn, err := goldap.ParseDN(subject)
		if err != nil {
			return person{}, auth.ErrNoAccount
		}
		if base, err := goldap.ParseDN(d.o.Users.Base); err != nil || !base.EqualFold(dn) && !base.AncestorOfFold(dn) {
			return person{}, auth.ErrNoAccount
		}
		return d.find(ctx, d.userSearch(subject, goldap.ScopeBaseObject, d.users.any()))
	}
	value := goldap.EscapeFilter(subject)
	if binary(d.o.Users.ID) {
		raw, err := hex.DecodeString(subject)
		if err != nil || len(raw) == 0 {
			return person{}, auth.ErrNoAccount
		}
		value = escapeBytes(raw)
	}
	return d.find(ctx, d.userSearch(d.o.Users.Base, goldap.ScopeWholeSubtree, "(&("+d.o.Users.ID+"="+value+")"+d.users.any()+")"))
}

// userSearch asks for one entry more than there may be.
func (d *Directory) userSearch(base string, scope int, filter string) *goldap.SearchRequest {
	u := d.o.Users
	attributes := []string{u.Name, u.Email, cmp.Or(u.DisplayName, "displayName"), "cn"}
	if !strings.EqualFold(u.ID, dnAsID) {
		attributes = append(attributes, u.ID)
	}
	r := goldap.NewSearchRequest(base, scope, goldap.NeverDerefAliases, 2, d.seconds(), false, filter, attributes, nil)
	r.EnforceSizeLimit = true
	return r
}

// seconds is the limit that the server is told; ours is a little later.
func (d *Directory) seconds() int { return max(1, int(d.o.Timeout.Seconds())) }

// find runs a search that must have one result.
func (d *Directory) find(ctx context.Context, r *goldap.SearchRequest) (person, error) {
	var found *goldap.SearchResult
	err := d.searches.with(ctx, func(c *goldap.Conn) (err error) {
		found, err = c.Search(r)
		return err
	})
	several := found != nil && len(found.Entries) > 1
	switch {
	case several:
		d.o.Log.WarnContext(ctx, "user name is not one entry of the directory; nobody is logged in by it", "provider", d.o.Name, "filter", r.Filter)
		return person{}, auth.ErrNoAccount
	case goldap.IsErrorWithCode(err, goldap.LDAPResultNoSuchObject) && r.Scope == goldap.ScopeBaseObject:
		return person{}, auth.ErrNoAccount
	case err != nil:
		return person{}, fmt.Errorf("ldap provider %s: search below %q: %w", d.o.Name, r.BaseDN, err)
	case len(found.Entries) == 0:
		return person{}, auth.ErrNoAccount
	}
	return d.person(found.Entries[0])
}

func (d *Directory) person(e *goldap.Entry) (person, error) {
	u := d.o.Users
	who := person{
		dn: e.DN, name: e.GetEqualFoldAttributeValue(u.Name), email: e.GetEqualFoldAttributeValue(u.Email),
		displayName: cmp.Or(e.GetEqualFoldAttributeValue(cmp.Or(u.DisplayName, "displayName")), e.GetEqualFoldAttributeValue("cn")),
	}
	switch {
	case strings.EqualFold(u.ID, dnAsID):
		who.id = strings.ToLower(e.DN)
	case binary(u.ID):
		who.id = hex.EncodeToString(e.GetEqualFoldRawAttributeValue(u.ID))
	default:
		who.id = e.GetEqualFoldAttributeValue(u.ID)
	}
	if who.id == "" || who.name == "" {
		return person{}, fmt.Errorf("ldap provider %s: entry %s has no %s or no %s that the service account may read; name other attributes in the configuration", d.o.Name, e.DN, u.ID, u.Name)
	}
	return who, nil
}

// binary names the attributes whose values are bytes and no text.
func binary(attribute string) bool { return strings.EqualFold(attribute, "objectGUID") }

// escapeBytes writes every byte as RFC 4515 escapes it.
func escapeBytes(raw []byte) string {
	var b strings.Builder
	for _, c := range raw {
		fmt.Fprintf(&b, `\%02x`, c)
	}
	return b.String()
}

// bindAs proves a password.
func (d *Directory) bindAs(ctx context.Context, dn, password string) error {
	err := d.binds.with(ctx, func(c *goldap.Conn) error { return c.Bind(dn, password) })
	var answer *goldap.Error
	if !errors.As(err, &answer) {
		if err != nil {
			return fmt.Errorf("ldap provider %s: bind: %w", d.o.Name, err)
		}
		return nil
	}
	switch answer.ResultCode {
	case goldap.LDAPResultInvalidCredentials, goldap.LDAPResultInappropriateAuthentication,
		goldap.LDAPResultUnwillingToPerform, goldap.LDAPResultConstraintViolation, goldap.LDAPResultInsufficientAccessRights,
		goldap.LDAPResultNoSuchObject, goldap.LDAPResultInvalidDNSyntax:
		return fmt.Errorf("%w: %w", auth.ErrPassword, err) // wrong, locked, expired: the server knows, and we need not
	}
	return fmt.Errorf("ldap provider %s: bind: %w", d.o.Name, err)
}

// bindService makes a new connection one of the service account.
func (d *Directory) bindService(c *goldap.Conn) error {
	if d.o.BindDN == "" {
		return nil // as it is: anonymous
	}
	if err := c.Bind(d.o.BindDN, d.o.BindPassword); err != nil {
		return fmt.Errorf("the service account %s is refused: %w", d.o.BindDN, err)
	}
	return nil
}
