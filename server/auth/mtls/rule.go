package mtls

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Rule says which certificate is whom. Of the patterns, all that are set must fit, and one must be set; * in a pattern
// stands for any characters.
type Rule struct {
	CN    string // common name of the subject
	Email string // one of the subjectAltNames of the kind
	DNS   string
	URI   string
	// Subject is attributes of the subject, each of which must be there: OU=ci,O=Example.
	Subject string

	// Account or Robot is the name that fits; in an account's, {cn}, {email}, {dns} and {uri} are what the pattern has met.
	Account, Robot string
	Groups         []string // of the account; nil says nothing of groups
}

type rule struct {
	Rule
	subject []attribute
}

// attribute is a type of RFC 4514 and the pattern of its value.
type attribute struct{ oid, pattern string }

// attributeTypes are the names of RFC 4514 section 3, and serialNumber, by which certificates tell people apart.
func attributeTypes() map[string]string {
	return map[string]string{
		"CN": "2.5.4.3", "L": "2.5.4.7", "ST": "2.5.4.8", "O": "2.5.4.10", "OU": "2.5.4.11", "C": "2.5.4.6", "STREET": "2.5.4.9",
		"DC": "0.9.2342.19200300.100.1.25", "UID": "0.9.2342.19200300.100.1.1", "SERIALNUMBER": "2.5.4.5",
	}
}

func (r Rule) compile() (rule, error) {
	c := rule{Rule: r}
	switch {
	case r.CN == "" && r.Email == "" && r.DNS == "" && r.URI == "" && r.Subject == "":
		return c, errors.New("it fits every certificate; set at least one of cn, email, dns, uri and subject")
	case (r.Account == "") == (r.Robot == ""):
		return c, errors.New("it needs either an account or a robot")
	case strings.Contains(r.Robot, "{"):
		return c, errors.New("the name of a robot has no places in it; write a rule for each")
	}
	for place, pattern := range map[string]string{"{cn}": r.CN, "{email}": r.Email, "{dns}": r.DNS, "{uri}": r.URI} {
		if strings.Contains(r.Account, place) && pattern == "" {
			return c, fmt.Errorf("account %s has %s in it, and the rule has no pattern for that", r.Account, place)
		}
	}
	if left := strings.NewReplacer("{cn}", "", "{email}", "", "{dns}", "", "{uri}", "").Replace(r.Account); strings.ContainsAny(left, "{}") {
		return c, fmt.Errorf("account %s has an unknown place in braces; known are {cn}, {email}, {dns} and {uri}", r.Account)
	}
	if r.Subject == "" {
		return c, nil
	}
	for part := range strings.SplitSeq(r.Subject, ",") {
		name, pattern, ok := strings.Cut(strings.TrimSpace(part), "=")
		oid := attributeTypes()[strings.ToUpper(name)]
		if !ok || oid == "" || pattern == "" {
			return c, fmt.Errorf("subject %q is not written as OU=ci,O=Example", r.Subject)
		}
		c.subject = append(c.subject, attribute{oid, pattern})
	}
	return c, nil
}

// match gives the name that the rule says when it fits.
func (r *rule) match(c *x509.Certificate) (name string, ok bool) {
	places := []string{}
	for _, kind := range []struct {
		place, pattern string
		values         []string
	}{
		{"{cn}", r.CN, only(c.Subject.CommonName)},
		{"{email}", r.Email, c.EmailAddresses},
		{"{dns}", r.DNS, c.DNSNames},
		{"{uri}", r.URI, uris(c)},
	} {
		if kind.pattern == "" {
			continue
		}
		i := slices.IndexFunc(kind.values, func(v string) bool { return fits(kind.pattern, v) })
		if i < 0 {
			return "", false
		}
		places = append(places, kind.place, kind.values[i])
	}
	for _, a := range r.subject {
		if !slices.ContainsFunc(c.Subject.Names, func(n pkix.AttributeTypeAndValue) bool {
			text, ok := n.Value.(string)
			return ok && n.Type.String() == a.oid && fits(a.pattern, text)
		}) {
			return "", false
		}
	}
	if r.Robot != "" {
		return r.Robot, true
	}
	return strings.NewReplacer(places...).Replace(r.Account), true
}

func only(text string) []string {
	if text == "" {
		return nil
	}
	return []string{text}
}

func uris(c *x509.Certificate) []string {
	list := make([]string, len(c.URIs))
	for i, u := range c.URIs {
		list[i] = u.String()
	}
	return list
}

// fits compares a text with a pattern, in time linear in their product. Letters of both cases are different.
func fits(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	rest, ok := strings.CutPrefix(text, parts[0])
	if !ok {
		return false
	}
	last := parts[len(parts)-1]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(rest, part)
		if i < 0 {
			return false
		}
		rest = rest[i+len(part):]
	}
	return strings.HasSuffix(rest, last)
}
