package blueprint

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/identity"
)

// Role is a named set of verbs.
type Role struct {
	Name        string   `json:"name" minLength:"1" maxLength:"128"`
	Description string   `json:"description,omitempty" maxLength:"4096"`
	Verbs       []string `json:"verbs" minItems:"1" maxItems:"64"`
}

// Group is a named set of accounts. Who is in it because an identity provider says so is not part of a document.
type Group struct {
	Name        string   `json:"name" minLength:"1" maxLength:"200"`
	Description string   `json:"description,omitempty" maxLength:"4096"`
	Members     []string `json:"members,omitempty" doc:"Names of accounts that an administrator put into it."`
}

// User is an account, without its password.
type User struct {
	Name        string `json:"name" minLength:"1" maxLength:"255"`
	DisplayName string `json:"displayName,omitempty" maxLength:"255"`
	Email       string `json:"email,omitempty" maxLength:"255"`
	Source      string `json:"source,omitempty" maxLength:"128" doc:"The identity provider that proves it; absent for a password of berth's own."`
	Admin       bool   `json:"admin,omitempty"`
	Auditor     bool   `json:"auditor,omitempty"`
	Disabled    bool   `json:"disabled,omitempty"`
	ExpiresAt   string `json:"expiresAt,omitempty" format:"date-time"`
}

// Project is a namespace.
type Project struct {
	Name        string            `json:"name" minLength:"1" maxLength:"128"`
	Public      bool              `json:"public,omitempty"`
	Description string            `json:"description,omitempty" maxLength:"4096"`
	Labels      map[string]string `json:"labels,omitempty"`
}

// Robot is a machine account, without its secrets.
type Robot struct {
	Name        string `json:"name" minLength:"1" maxLength:"128"`
	Project     string `json:"project,omitempty" doc:"That it belongs to; absent for the registry."`
	Description string `json:"description,omitempty" maxLength:"4096"`
	Disabled    bool   `json:"disabled,omitempty"`
	ExpiresAt   string `json:"expiresAt,omitempty" format:"date-time"`
}

// Grant says who may, or may not, do what where.
type Grant struct {
	Subject Subject  `json:"subject"`
	Project string   `json:"project,omitempty" doc:"Absent for the registry as a whole."`
	Pattern string   `json:"pattern,omitempty" maxLength:"512" doc:"Of repositories; absent for all."`
	Role    string   `json:"role,omitempty" maxLength:"128" doc:"Either a role or verbs."`
	Verbs   []string `json:"verbs,omitempty" maxItems:"64"`
	Deny    bool     `json:"deny,omitempty"`
	From    string   `json:"from,omitempty" format:"date-time"`
	Until   string   `json:"until,omitempty" format:"date-time"`
}

// Subject is who a grant is for.
type Subject struct {
	Kind string `json:"kind" enum:"user,group,robot,signed-in,everyone"`
	Name string `json:"name,omitempty" maxLength:"255"`
}

// Issuer is somebody whose tokens are exchanged for ours.
type Issuer struct {
	Name    string          `json:"name" minLength:"1" maxLength:"128"`
	Enabled bool            `json:"enabled"`
	Config  json.RawMessage `json:"config" doc:"Issuer, audiences, keys and rules."`
}

// key is what a grant is, besides its times: a registry has it once.
func (g Grant) key() string {
	verbs := slices.Clone(g.Verbs)
	return strings.Join([]string{g.Subject.Kind, g.Subject.Name, g.Project, g.Pattern, g.Role, strings.Join(verbs, ","), fmt.Sprint(g.Deny)}, "\x00")
}

// String says what a grant is, for people.
func (g Grant) String() string {
	what := cmp.Or(g.Role, strings.Join(g.Verbs, ","))
	if g.Deny {
		what = "not " + what
	}
	return strings.TrimSpace(g.Subject.Kind+" "+g.Subject.Name) + ": " + what + " in " + cmp.Or(strings.TrimSuffix(g.Project+" "+g.Pattern, " "), "the registry")
}

// state is a configuration by names.
type state struct {
	roles    map[string]Role
	groups   map[string]Group
	users    map[string]User
	projects map[string]Project
	robots   map[string]Robot
	grants   map[string]Grant
	issuers  map[string]Issuer

	rows rows // of what the registry has
}

func sorted[T any](m map[string]T) []T {
	out := make([]T, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}

func (st *state) document() Document {
	return Document{
		Version: Version, Roles: sorted(st.roles), Groups: sorted(st.groups), Users: sorted(st.users), Projects: sorted(st.projects),
		Robots: sorted(st.robots), Grants: sorted(st.grants), Issuers: sorted(st.issuers),
	}
}

// byName puts a list into a map; a name twice is Invalid.
func byName[T any](kind string, list []T, name func(T) string, check func(*T) error) (map[string]T, error) {
	m := make(map[string]T, len(list))
	for i, one := range list {
		at := fmt.Sprintf("%ss[%d]", kind, i)
		if err := check(&one); err != nil {
			if f := fault.Of(err); f.Kind == fault.Invalid {
				return nil, f.At(strings.TrimSuffix(at+"."+f.Field, "."))
			}
			return nil, err
		}
		n := name(one)
		if _, twice := m[n]; twice {
			return nil, invalid("%s %.100q is in the document twice", kind, strings.ReplaceAll(n, "\x00", " ")).At(at)
		}
		m[n] = one
	}
	return m, nil
}

// stateOf checks a document, as far as that needs no registry.
func (s *Service) stateOf(d Document) (*state, error) {
	if d.Version != Version {
		return nil, invalid("the document has version %d; this berthd reads version %d", d.Version, Version).At("version")
	}
	st, errs := &state{}, [7]error{}
	st.roles, errs[0] = byName("role", d.Roles, func(r Role) string { return r.Name }, func(r *Role) error {
		if _, builtin := identity.BuiltinRole(r.Name); builtin {
			return invalid("role %s is one that every registry has", r.Name).At("name")
		}
		if err := plainName("role", r.Name); err != nil {
			return err
		}
		return checkVerbs("role "+r.Name, r.Verbs)
	})
	st.groups, errs[1] = byName("group", d.Groups, func(g Group) string { return g.Name }, func(g *Group) error {
		if len(g.Members) == 0 {
			g.Members = nil
		}
		slices.Sort(g.Members)
		g.Members = slices.Compact(g.Members)
		if err := checkText("group", g.Name); err != nil {
			return err
		}
		if strings.Contains(g.Name, ":") {
			return invalid("group name %.100q has a colon", g.Name).At("name")
		}
		return nil
	})
	st.users, errs[2] = byName("user", d.Users, func(u User) string { return u.Name }, func(u *User) error {
		if u.Source != "" { // who proves it has given the name
			if err := checkText("user", u.Name); err != nil {
				return err
			}
			if strings.Contains(u.Name, ":") {
				return invalid("user name %.100q has a colon", u.Name).At("name")
			}
		} else if err := accountName("user", u.Name); err != nil {
			return err
		}
		return canonical("user "+u.Name, &u.ExpiresAt)
	})
	st.projects, errs[3] = byName("project", d.Projects, func(p Project) string { return p.Name }, func(p *Project) error {
		if len(p.Labels) == 0 {
			p.Labels = nil
		}
		return plainName("project", p.Name)
	})
	st.robots, errs[4] = byName("robot", d.Robots, func(r Robot) string { return r.Name }, func(r *Robot) error {
		if err := accountName("robot", r.Name); err != nil {
			return err
		}
		return canonical("robot "+r.Name, &r.ExpiresAt)
	})
	st.grants, errs[5] = byName("grant", d.Grants, Grant.key, (*Grant).check)
	st.issuers, errs[6] = byName("issuer", d.Issuers, func(i Issuer) string { return i.Name }, func(i *Issuer) error {
		if err := checkText("issuer", i.Name); err != nil {
			return err
		}
		i.Config = compact(i.Config)
		err := s.o.CheckIssuer(i.Config)
		if f := fault.Of(err); err != nil && f.Field != "" {
			err = f.At("config." + f.Field)
		}
		return err
	})
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return st, nil
}

func (g *Grant) check() error {
	what := "grant of " + g.Subject.Kind + " " + g.Subject.Name
	if named := g.Subject.Kind == "user" || g.Subject.Kind == "group" || g.Subject.Kind == "robot"; named != (g.Subject.Name != "") {
		return invalid("%s: a user, group or robot has a name, and others have none", what).At("subject.name")
	}
	if (g.Role == "") == (len(g.Verbs) == 0) {
		return invalid("%s: it has either a role or verbs", what).At("role")
	}
	if len(g.Verbs) == 0 {
		g.Verbs = nil
	} else if err := checkVerbs(what, g.Verbs); err != nil {
		return err
	}
	if g.Pattern != "" {
		p, err := ref.ParsePattern(g.Pattern)
		if err != nil {
			return fault.Of(err).At("pattern")
		}
		g.Pattern = p.String()
	}
	if err := canonical(what, &g.From); err != nil {
		return err
	}
	return canonical(what, &g.Until)
}

func checkVerbs(what string, verbs []string) error {
	if len(verbs) == 0 {
		return invalid("%s has no verbs", what).At("verbs")
	}
	for i, v := range verbs {
		if identity.LevelOf(identity.Verb(v)) == identity.NoLevel {
			return invalid("%s: verb %.60q is not known", what, v).At(fmt.Sprintf("verbs[%d]", i))
		}
		if !identity.Grantable(identity.Verb(v)) {
			return invalid("%s: verb %s cannot be granted; it is for administrators of this registry alone", what, v)
		}
		if slices.Contains(verbs[:i], v) {
			return invalid("%s: verb %s is given twice", what, v).At(fmt.Sprintf("verbs[%d]", i))
		}
	}
	return nil
}

// plainName is the name of a project or role: one part of a repository's name.
func plainName(kind, name string) error {
	if n, err := ref.ParseName(name); err != nil || strings.Contains(n.String(), "/") && name != n.String() {
		return invalid("%s name %.100q is invalid; use lowercase letters and digits, joined by one of . _ __ -", kind, name).At("name")
	}
	if strings.Contains(name, "/") {
		return invalid("%s name %.100q is invalid: it has a slash", kind, name).At("name")
	}
	return nil
}

// accountName is the name of an account or robot.
func accountName(kind, name string) error {
	if name == "" || len(name) > 128 || strings.ContainsFunc(name, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-@+$", r)
	}) {
		return invalid("%s name %.100q is invalid; use letters, digits and . _ - @ + $", kind, name).At("name")
	}
	switch strings.ToLower(name) {
	case "anonymous", "system", "local", "nobody", "everyone", "signed-in":
		return invalid("%s name %q is a word of this registry; choose another", kind, name).At("name")
	}
	return nil
}

func checkText(kind, name string) error {
	if strings.TrimSpace(name) == "" || len(name) > 255 || strings.ContainsFunc(name, unicode.IsControl) {
		return invalid("%s name %.100q is not text of 1 to 255 bytes", kind, name).At("name")
	}
	return nil
}

// compact gives JSON one form, so that two that say the same are the same.
func compact(text json.RawMessage) json.RawMessage {
	var v any
	if json.Unmarshal(text, &v) != nil {
		return text
	}
	b, err := json.Marshal(v)
	if err != nil {
		return text
	}
	return b
}
