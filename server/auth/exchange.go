package auth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

const (
	// IssuerKind is the kind of identity providers whose tokens are exchanged for ours.
	IssuerKind = "issuer"
	// maxExchange is the longest life of a token that was had by exchange.
	maxExchange = time.Hour
	// maxIssuers and maxRules bound the configuration.
	maxIssuers, maxRules = 200, 200
	// rereadIssuers is how old what is known of issuers may be on SQLite, where other processes tell nobody.
	rereadIssuers = refreshAccount
	// maxForeign bounds a token of an issuer, in bytes; those of GitLab are the longest.
	maxForeign = 16 << 10
)

// IssuerConfig says whose tokens are exchanged for ours, and for which rights: the configuration of an identity provider of the
// kind "issuer", as JSON.
type IssuerConfig struct {
	Issuer     string          `json:"issuer"`               // claim "iss", compared as it is
	Audiences  []string        `json:"audiences"`            // claim "aud" names one of these
	KeySetURL  string          `json:"jwksUrl,omitempty"`    // default: what discovery at the issuer says
	KeySet     json.RawMessage `json:"jwks,omitempty"`       // the keys themselves, for an issuer that cannot be asked
	CA         string          `json:"ca,omitempty"`         // authorities of the issuer's certificate, PEM
	BearerFile string          `json:"bearerFile,omitempty"` // a file whose content is sent to the issuer as a bearer token
	Algorithms []string        `json:"algorithms,omitempty"` // default: all asymmetric ones
	Rules      []IssuerRule    `json:"rules"`                // the first one that fits decides
}

// IssuerRule gives rights to tokens with certain claims.
type IssuerRule struct {
	Name string `json:"name"` // for records
	// Claims are what a token must say: the name of a claim, or for one inside an object the way to it joined by /, such as
	// kubernetes.io/serviceaccount/name; and its value. * in a value stands for any characters but / and :, ** for any. A
	// list fits when one of its entries does. At least one value has to say more than wildcards.
	Claims map[string]string `json:"claims"`
	// Robot is the robot that the token then stands for; or Grants what it may do by itself.
	Robot  string       `json:"robot,omitempty"`
	Grants []TokenGrant `json:"grants,omitempty"`
	// Lifetime of our token in seconds, at most an hour; 0 is that of other tokens.
	Lifetime int64 `json:"lifetimeSeconds,omitempty"`
}

// CheckIssuer says what is wrong with a configuration, and names the member.
func CheckIssuer(c IssuerConfig) error {
	bad := func(field, format string, args ...any) error {
		return fault.New(fault.Invalid, fault.UnsupportedReason, "issuer %.100q: %s", c.Issuer, fmt.Sprintf(format, args...)).At(field)
	}
	switch {
	case c.Issuer == "":
		return bad("issuer", "the text of the claim iss is needed")
	case len(c.Audiences) == 0 || slices.Contains(c.Audiences, ""):
		return bad("audiences", "audiences are needed; without one, every token that it signs for anybody would be accepted here")
	case len(c.Rules) > maxRules:
		return bad("rules", "%d rules are more than %d", len(c.Rules), maxRules)
	}
	for i, r := range c.Rules {
		if err := r.check(fmt.Sprintf("rules[%d]", i), func(field, format string, args ...any) error {
			return bad(field, "rule %d %s", i+1, fmt.Sprintf(format, args...))
		}); err != nil {
			return err
		}
	}
	return nil
}

// check says what is wrong with a rule, which stands at a place in its configuration.
func (r IssuerRule) check(at string, bad func(field, format string, args ...any) error) error {
	says := false
	for name, value := range r.Claims {
		if name == "" || value == "" {
			return bad(at+".claims", "has a claim without name or value")
		}
		if name != "iss" && name != "aud" && strings.Trim(value, "*/:") != "" {
			says = true
		}
	}
	switch {
	case !says:
		return bad(at+".claims", "fits every token of the issuer; name a claim that tells whose token it is, such as repository")
	case (r.Robot == "") == (r.Grants == nil):
		return bad(at, "needs either a robot or grants")
	case r.Lifetime < 0 || time.Duration(r.Lifetime)*time.Second > maxExchange || r.Lifetime > 0 && r.Lifetime < int64(minTokenLifetime/time.Second):
		return bad(at+".lifetimeSeconds", "has a lifetime of %d seconds; %d to %d are allowed", r.Lifetime, minTokenLifetime/time.Second, maxExchange/time.Second)
	}
	if err := checkTokenGrants(r.Grants); err != nil {
		return bad(at+".grants", "has grants that are none: %s", fault.Of(err).Message)
	}
	for _, g := range r.Grants {
		for _, v := range g.Verbs {
			if identity.LevelOf(v) != identity.OfRepository {
				return bad(at+".grants", "gives %s; a rule gives verbs of repositories, for others name a robot", v)
			}
		}
	}
	return nil
}

// issuer is one that is in use.
type issuer struct {
	row    metadb.IdentityProvider
	config IssuerConfig
	verify Issuer
}

// issuers are all that are in use, as the database has them.
type issuers struct {
	mu      sync.Mutex
	list    []*issuer
	read    time.Time
	changed atomic.Bool
}

// trusted are the issuers in use. One whose configuration cannot be used proves nobody, and is logged.
func (s *Service) trusted(ctx context.Context) ([]*issuer, error) {
	i := &s.issuers
	i.mu.Lock()
	defer i.mu.Unlock()
	now := s.o.Now()
	if !i.read.IsZero() && !i.changed.Load() && now.Sub(i.read).Abs() < rereadIssuers {
		return i.list, nil
	}
	if s.o.OpenIssuer == nil {
		return nil, nil
	}
	i.changed.Store(false)
	found, err := s.o.Store.IdentityProviders(ctx, IssuerKind, "", maxIssuers)
	if err != nil {
		i.changed.Store(true)
		return nil, unavailableError(fmt.Errorf("auth: issuers: %w", err))
	}
	before := i.list
	i.list, i.read = nil, now
	for _, row := range found {
		if !row.Enabled {
			continue
		}
		one, err := s.openIssuer(row, before)
		if err != nil {
			s.o.Log.WarnContext(ctx, "issuer of tokens cannot be used", "provider", row.Name, "error", err)
			continue
		}
		i.list = append(i.list, one)
	}
	return i.list, nil
}

// openIssuer keeps one that has not changed, with the keys that it has.
func (s *Service) openIssuer(row metadb.IdentityProvider, before []*issuer) (*issuer, error) {
	for _, b := range before {
		if b.row.ID == row.ID && b.row.Generation == row.Generation {
			return b, nil
		}
	}
	one := &issuer{row: row}
	err := json.Unmarshal([]byte(row.Config), &one.config)
	if err == nil {
		err = CheckIssuer(one.config)
	}
	if err == nil {
		one.verify, err = s.o.OpenIssuer(one.config)
	}
	return one, err
}

// errNoIssuer says that a token names no issuer that is trusted here.
var errNoIssuer = errors.New("auth: token of no issuer that is trusted")

// Exchange proves the token of a trusted issuer (RFC 8693): the principal is what the first rule that fits says. lifetime is
// how long a token for it may live. Errors are Unauthenticated, with a text that does not say which check failed, and
// Unavailable when the issuer's keys cannot be had.
func (s *Service) Exchange(ctx context.Context, token, addr string) (p identity.Principal, lifetime time.Duration, err error) {
	p, lifetime, err = s.exchange(ctx, token, addr)
	if errors.Is(err, errNoIssuer) {
		err = fault.New(fault.Unauthenticated, InvalidToken, "the token is not of an issuer that this registry trusts; ask an administrator to add it").Because(err)
	}
	return p, lifetime, err
}

func (s *Service) exchange(ctx context.Context, token, addr string) (identity.Principal, time.Duration, error) {
	name := claimedIssuer(token)
	all, err := s.trusted(ctx)
	if err != nil {
		return identity.Principal{}, 0, err
	}
	refused := errNoIssuer
	for _, i := range all {
		if i.config.Issuer != name {
			continue
		}
		said, err := i.verify.Verify(ctx, token)
		switch {
		case errors.Is(err, ErrRefused):
			s.o.Log.InfoContext(ctx, "token of an issuer refused", "provider", i.row.Name, "addr", addr, "error", err)
			refused = fault.New(fault.Unauthenticated, InvalidToken, "the token of %s is not valid for this registry; check its audience and that it is fresh", name)
		case err != nil && abandoned(err):
			return identity.Principal{}, 0, err
		case err != nil:
			s.o.Log.WarnContext(ctx, "keys of an issuer cannot be had", "provider", i.row.Name, "error", err)
			return identity.Principal{}, 0, fault.New(fault.Unavailable, fault.UnavailableReason, "the keys of issuer %s cannot be had now; try again later", name).Because(err)
		default:
			for _, rule := range i.config.Rules {
				if rule.fits(said.Claims) {
					return s.admit(ctx, i, rule, said, addr)
				}
			}
			s.o.Log.InfoContext(ctx, "no rule fits the token of an issuer", "provider", i.row.Name, "subject", clip(said.Subject, 200), "addr", addr)
			refused = fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "the token of %s is right, and no rule here is for %.100q; ask an administrator of this registry for one", name, said.Subject)
		}
	}
	return identity.Principal{}, 0, refused
}

// claimedIssuer is what a token says of its issuer, before anything of it is believed.
func claimedIssuer(token string) string {
	parts := strings.Split(clip(token, maxForeign+1), ".")
	if len(token) > maxForeign || len(parts) != 3 {
		return ""
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	var c struct {
		Issuer  string `json:"iss"`
		Subject string `json:"sub"`
	}
	if err != nil || json.Unmarshal(raw, &c) != nil {
		return ""
	}
	if domain, spiffe := strings.CutPrefix(c.Subject, "spiffe://"); spiffe && c.Issuer == "" { // a JWT-SVID: it is its trust domain's
		domain, _, _ = strings.Cut(domain, "/")
		return "spiffe://" + domain
	}
	return c.Issuer
}

// admit is the principal of a rule.
func (s *Service) admit(ctx context.Context, i *issuer, rule IssuerRule, said Statement, addr string) (identity.Principal, time.Duration, error) {
	life := time.Duration(rule.Lifetime) * time.Second
	s.o.Log.InfoContext(ctx, "token of an issuer accepted", "provider", i.row.Name, "rule", rule.Name, "subject", clip(said.Subject, 200), "addr", addr)
	if rule.Robot == "" {
		grants, err := tokenGrants(rule.Grants).principal()
		return identity.Principal{
			Kind: identity.Robot, Name: issuedName(i.row.Name, said.Subject), Grants: grants, Delegated: true, Via: identity.ViaToken, Addr: addr,
			Origin: originOf(fromIssuer, i.row.ID, i.row.Generation).String(),
		}, life, err
	}
	none := fault.New(fault.Unauthenticated, fault.UnauthorizedReason, "rule %q is for robot %q, which is disabled or not there; ask an administrator of this registry", rule.Name, rule.Robot)
	row, err := s.o.Store.RobotByName(ctx, rule.Robot)
	if errors.Is(err, metadb.ErrNotFound) {
		return identity.Principal{}, 0, none
	}
	if err != nil {
		return identity.Principal{}, 0, unavailableError(err)
	}
	who, err := s.resolve(ctx, row.Name, originOf(fromIssuerRobot, i.row.ID, i.row.Generation, row.ID))
	if errors.Is(err, errGone) || errors.Is(err, errDisabled) || errors.Is(err, errRevoked) {
		return identity.Principal{}, 0, none.Because(err)
	}
	if err != nil {
		return identity.Principal{}, 0, unavailableError(err)
	}
	s.used.robot(row.ID, addr)
	who.Addr = addr
	return who.Principal, life, nil
}

// issuedName names the caller of a rule without a robot. No account or robot has a colon in its name.
func issuedName(provider, subject string) string { return provider + ":" + clip(subject, MaxName) }

// resolveIssued finds a caller who came by an exchange, while the issuer's configuration is what it was.
func (s *Service) resolveIssued(ctx context.Context, name string, o origin) (caller, error) {
	all, err := s.trusted(ctx)
	if err != nil {
		return caller{}, err
	}
	for _, i := range all {
		if i.row.ID != o.n[0] || i.row.Generation != o.n[1] {
			continue
		}
		if o.kind == fromIssuerRobot {
			return s.resolveRobot(ctx, name, o.n[2], o)
		}
		p := identity.Principal{Kind: identity.Robot, Name: name, Grants: &identity.Grants{}, Delegated: true, Via: identity.ViaToken, Origin: o.String()}
		return caller{p, IssuerKind, o.String()}, nil
	}
	return caller{}, errRevoked
}

// fits reports whether the claims say what the rule wants.
func (r IssuerRule) fits(claims map[string]any) bool {
	for name, want := range r.Claims {
		if !claimFits(claims, name, want) {
			return false
		}
	}
	return len(r.Claims) > 0
}

func claimFits(claims map[string]any, name, want string) bool {
	if v, ok := claims[name]; ok {
		return valueFits(v, want)
	}
	// Names may have dots and slashes in them, as "kubernetes.io" has: the longest that is there goes first.
	for i := strings.LastIndexByte(name, '/'); i > 0; i = strings.LastIndexByte(name[:i], '/') {
		if inner, ok := claims[name[:i]].(map[string]any); ok {
			return claimFits(inner, name[i+1:], want)
		}
	}
	return false
}

func valueFits(v any, want string) bool {
	switch v := v.(type) {
	case string:
		return wildFits(want, v)
	case bool:
		return wildFits(want, strconv.FormatBool(v))
	case float64:
		return wildFits(want, strconv.FormatFloat(v, 'f', -1, 64))
	case []any:
		for _, one := range v {
			if _, nested := one.([]any); !nested && valueFits(one, want) {
				return true
			}
		}
	}
	return false
}

// maxClaim bounds a value that is compared with wildcards.
const maxClaim = 2048

// wildFits matches * with any characters but / and :, and ** with any.
func wildFits(pattern, text string) bool {
	if !strings.Contains(pattern, "*") {
		return pattern == text
	}
	if len(text) > maxClaim {
		return false
	}
	// reached[i] says that the pattern so far fits the first i bytes.
	reached := make([]bool, len(text)+1)
	reached[0] = true
	for len(pattern) > 0 {
		next := make([]bool, len(text)+1)
		if pattern[0] == '*' {
			any := strings.HasPrefix(pattern, "**")
			on := false
			for i := range next {
				if i > 0 && !any && (text[i-1] == '/' || text[i-1] == ':') {
					on = false
				}
				on = on || reached[i]
				next[i] = on
			}
			pattern = strings.TrimPrefix(strings.TrimPrefix(pattern, "*"), "*")
		} else {
			for i := 1; i < len(next); i++ {
				next[i] = reached[i-1] && text[i-1] == pattern[0]
			}
			pattern = pattern[1:]
		}
		reached = next
	}
	return reached[len(text)]
}
