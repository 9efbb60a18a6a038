// Package ldap is a directory, such as OpenLDAP or Active Directory, as an identity provider: it proves a name and
// password by a bind, and says which groups somebody is in.
//
// A login is a search for the entry by a service account and a bind as that entry, on connections that are kept apart:
// none that was ever bound as a caller is searched on. What callers type goes into filters escaped (RFC 4515), an empty
// password never goes over the wire (RFC 4513 section 5.1.2), referrals are not followed, and connections are encrypted
// unless the configuration says otherwise. Answers are bounded in size and time; what does not fit is an error and never
// a part of the answer, since a group that is left out may be the one that denies.
//
// Start reading at [Directory.Login], then groups.go and conn.go.
package ldap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/berth-registry/berth/server/auth"
)

// Nesting is how groups that are members of groups count.
type Nesting string

// The ways of nesting.
const (
	Direct Nesting = "no"    // only the groups that name the entry itself
	Walk   Nesting = "walk"  // and those that name these groups, level by level, up to Groups.Depth
	Chain  Nesting = "chain" // the server walks: Active Directory's LDAP_MATCHING_RULE_IN_CHAIN
)

// Options describe a directory.
type Options struct {
	Name string // of the provider

	// Servers are ldaps://host[:port] or ldap://host[:port], asked in this order: one that does not answer is tried last
	// for half a minute.
	Servers []string
	// Plain lets ldap:// go without StartTLS: anybody on the way reads the passwords.
	Plain bool
	// CAFile has the authorities that sign the servers' certificates, in PEM; "" is those of the system. It is read for
	// every new connection.
	CAFile string
	// ServerName is the name that certificates must be for; "" is the host of the address.
	ServerName string

	BindDN, BindPassword string        // the account that searches; both "" searches anonymously
	Timeout              time.Duration // of a connect and of each request; default 5 s
	Connections          int           // open at once; default 8

	Users    Users
	Groups   Groups
	Required []string // names or DNs of groups, one of which a caller must be in; empty: none
	Admins   []string // names or DNs of groups whose members are administrators

	Now func() time.Time
	Log *slog.Logger
}

// Users says where people are.
type Users struct {
	Base   string // DN below which they are
	Filter string // with {name} where the escaped user name goes; default (uid={name})
	// ID is the attribute that never changes and is never given to another: entryUUID (default), objectGUID of Active
	// Directory, or dn for a directory that has none such.
	ID          string
	Name        string // attribute of the account's name; default uid
	Email       string // default mail
	DisplayName string // default displayName, else cn
}

// Groups says where groups are. Without a Base, the provider knows nothing of groups.
type Groups struct {
	Base   string
	Filter string // with {dn} (and {name}) of the member; default: member, uniqueMember or memberUid
	Name   string // attribute of the group's name; default cn; dn for the whole DN
	Nested Nesting
	Depth  int    // of Walk; default 10
	Prefix string // before every name, so that groups of two providers are told apart
}

// defaultGroupFilter finds what the usual schemas call a group: RFC 4519 groupOfNames and groupOfUniqueNames, RFC 2307
// posixGroup.
const defaultGroupFilter = "(|(member={dn})(uniqueMember={dn})(&(objectClass=posixGroup)(memberUid={name})))"

// Directory is an auth.Directory. Safe for concurrent use.
type Directory struct {
	o        Options
	users    template
	groups   template
	required []groupName
	admins   []groupName
	binds    *pool // connections that are bound as callers
	searches *pool // connections that are bound as the service account
}

// New checks the options. It opens no connection: a directory that is away does not keep berthd from starting.
func New(o Options) (*Directory, error) {
	d := &Directory{o: o}
	o = d.defaults()
	if len(o.Servers) == 0 || o.Users.Base == "" {
		return nil, fmt.Errorf("ldap provider %s: servers and the base of users are needed", o.Name)
	}
	var err error
	if d.users, err = parseTemplate(o.Users.Filter, "name"); err != nil {
		return nil, fmt.Errorf("ldap provider %s: filter of users: %w", o.Name, err)
	}
	if d.groups, err = parseTemplate(o.Groups.Filter, "dn", "name"); err != nil {
		return nil, fmt.Errorf("ldap provider %s: filter of groups: %w", o.Name, err)
	}
	if o.Groups.Base == "" && len(o.Required)+len(o.Admins) > 0 {
		return nil, fmt.Errorf("ldap provider %s: required and admins name groups, and there is no base of groups", o.Name)
	}
	for _, list := range []struct {
		from []string
		to   *[]groupName
	}{{o.Required, &d.required}, {o.Admins, &d.admins}} {
		for _, text := range list.from {
			*list.to = append(*list.to, parseGroupName(text))
		}
	}
	dial, err := newDialer(&d.o)
	if err != nil {
		return nil, fmt.Errorf("ldap provider %s: %w", o.Name, err)
	}
	slots := make(chan struct{}, o.Connections)
	d.binds = newPool(&d.o, dial, slots, nil)
	d.searches = newPool(&d.o, dial, slots, d.bindService)
	return d, nil
}

func (d *Directory) defaults() Options {
	o := &d.o
	o.Timeout = cmp.Or(o.Timeout, 5*time.Second)
	o.Connections = cmp.Or(o.Connections, 8)
	o.Users.Filter = cmp.Or(o.Users.Filter, "(uid={name})")
	o.Users.ID = cmp.Or(o.Users.ID, "entryUUID")
	o.Users.Name = cmp.Or(o.Users.Name, "uid")
	o.Users.Email = cmp.Or(o.Users.Email, "mail")
	o.Groups.Filter = cmp.Or(o.Groups.Filter, defaultGroupFilter)
	o.Groups.Name = cmp.Or(o.Groups.Name, "cn")
	o.Groups.Nested = cmp.Or(o.Groups.Nested, Direct)
	o.Groups.Depth = cmp.Or(o.Groups.Depth, 10)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return *o
}

// Name implements auth.Directory.
func (d *Directory) Name() string { return d.o.Name }

// Login implements auth.Directory. A name that several entries have is ErrNoAccount, and so is somebody with the right
// password who is in none of the required groups.
func (d *Directory) Login(ctx context.Context, name, password string) (auth.External, error) {
	if name == "" {
		return auth.External{}, auth.ErrNoAccount
	}
	if password == "" { // a bind with a name and without a password proves nothing, and succeeds
		return auth.External{}, auth.ErrPassword
	}
	who, err := d.findByName(ctx, name)
	if errors.Is(err, auth.ErrNoAccount) {
		// A bind that cannot succeed, so that an unknown name costs the round trip that a known one does.
		if e := d.bindAs(ctx, d.o.Users.Base, "-"); e != nil && !errors.Is(e, auth.ErrPassword) {
			return auth.External{}, e
		}
		return auth.External{}, err
	}
	if err != nil {
		return auth.External{}, err
	}
	if err := d.bindAs(ctx, who.dn, password); err != nil {
		return auth.External{}, err
	}
	return d.describe(ctx, who)
}

// Lookup implements auth.Directory.
func (d *Directory) Lookup(ctx context.Context, subject string) (auth.External, error) {
	who, err := d.findBySubject(ctx, subject)
	if err != nil {
		return auth.External{}, err
	}
	return d.describe(ctx, who)
}

// Close ends the connections that are open; those in use end with their request.
func (d *Directory) Close() error {
	d.binds.close()
	d.searches.close()
	return nil
}

// describe makes a statement of an entry: who it is, in which groups.
func (d *Directory) describe(ctx context.Context, who person) (auth.External, error) {
	name, err := auth.AccountName(who.name)
	if err != nil {
		return auth.External{}, fmt.Errorf("%w: entry %s of ldap provider %s: %w", auth.ErrNoAccount, who.dn, d.o.Name, err)
	}
	e := auth.External{Provider: d.o.Name, Subject: who.id, Name: name, Email: who.email, DisplayName: who.displayName}
	if d.o.Groups.Base == "" {
		return e, nil
	}
	groups, err := d.groupsOf(ctx, who)
	if err != nil {
		return auth.External{}, err
	}
	if len(d.required) > 0 && !anyOf(d.required, groups) {
		return auth.External{}, fmt.Errorf("%w: entry %s of ldap provider %s is in none of the required groups", auth.ErrNoAccount, who.dn, d.o.Name)
	}
	e.Admin = anyOf(d.admins, groups)
	e.Groups = d.namesOf(groups)
	return e, nil
}
