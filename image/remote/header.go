package remote

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Parsers of what strangers write into headers. All of them are total: what they cannot read is "not said", never a panic
// and never a guess.

// challenge is one WWW-Authenticate challenge.
type challenge struct {
	scheme string            // lower case: "basic", "bearer"
	params map[string]string // names in lower case
}

// maxChallenge bounds what is read of one header, and maxParams of one challenge.
const (
	maxChallenge = 8 << 10
	maxParams    = 32
)

// parseChallenges reads the values of WWW-Authenticate headers (RFC 9110, section 11.6.1). A challenge that breaks the
// grammar ends its header; those before it are kept.
func parseChallenges(values []string) []challenge {
	var out []challenge
	for _, v := range values {
		if len(v) > maxChallenge {
			continue
		}
		s := scanner{s: v}
		for {
			s.skip(" \t,")
			scheme := s.token()
			if scheme == "" {
				break
			}
			c := challenge{scheme: strings.ToLower(scheme), params: map[string]string{}}
			for {
				mark := s.i
				s.skip(" \t,")
				name := s.token()
				s.skip(" \t")
				if name == "" || !s.take('=') {
					s.i = mark // the next challenge's scheme, or the end
					break
				}
				s.skip(" \t")
				value, ok := s.value()
				if !ok {
					return append(out, c)
				}
				if name = strings.ToLower(name); len(c.params) < maxParams {
					if _, twice := c.params[name]; !twice {
						c.params[name] = value
					}
				}
			}
			out = append(out, c)
		}
	}
	return out
}

// scanner reads the tokens and quoted strings of HTTP headers.
type scanner struct {
	s string
	i int
}

func (s *scanner) skip(set string) {
	for s.i < len(s.s) && strings.IndexByte(set, s.s[s.i]) >= 0 {
		s.i++
	}
}

func (s *scanner) take(c byte) bool {
	if s.i < len(s.s) && s.s[s.i] == c {
		s.i++
		return true
	}
	return false
}

func (s *scanner) token() string {
	start := s.i
	for s.i < len(s.s) && tokenByte(s.s[s.i]) {
		s.i++
	}
	return s.s[start:s.i]
}

// tokenByte is RFC 9110's tchar.
func tokenByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// value reads a quoted string, or what stands up to the next comma, semicolon or space: some registries do not quote URLs.
func (s *scanner) value() (string, bool) {
	if !s.take('"') {
		start := s.i
		for s.i < len(s.s) && strings.IndexByte(" \t,;", s.s[s.i]) < 0 {
			s.i++
		}
		return s.s[start:s.i], s.i > start
	}
	var b strings.Builder
	for s.i < len(s.s) {
		c := s.s[s.i]
		s.i++
		switch c {
		case '"':
			return b.String(), true
		case '\\':
			if s.i == len(s.s) {
				return "", false
			}
			c = s.s[s.i]
			s.i++
		}
		b.WriteByte(c)
	}
	return "", false
}

// parseNext finds the target of rel="next" in Link headers (RFC 8288); "" when there is none.
func parseNext(values []string) string {
	for _, v := range values {
		s := scanner{s: v}
		for s.i < len(s.s) {
			s.skip(" \t,")
			if !s.take('<') {
				break
			}
			end := strings.IndexByte(s.s[s.i:], '>')
			if end < 0 {
				break
			}
			target := s.s[s.i : s.i+end]
			s.i += end + 1
			if s.relations() {
				return target
			}
		}
	}
	return ""
}

// relations reads the parameters behind a link's target, and reports whether its relations have "next".
func (s *scanner) relations() (next bool) {
	for {
		s.skip(" \t")
		if !s.take(';') {
			return next
		}
		s.skip(" \t")
		name := s.token()
		s.skip(" \t")
		if !s.take('=') {
			continue
		}
		s.skip(" \t")
		value, ok := s.value()
		if !ok {
			return next
		}
		if strings.EqualFold(name, "rel") {
			for _, rel := range strings.Fields(value) {
				next = next || strings.EqualFold(rel, "next")
			}
		}
	}
}

// parseUploadRange reads the Range header of an upload's answer, "0-N" with N the last byte received, or with the unit in
// front, as RFC 9110 would have it. The next byte to send is N+1, but "0-0" is also what is said of no bytes at all: the
// caller knows which, by whether it has sent any.
func parseUploadRange(v string) (last int64, ok bool) {
	v = strings.TrimPrefix(strings.TrimSpace(v), "bytes=")
	from, to, found := strings.Cut(v, "-")
	if !found || from != "0" {
		return 0, false
	}
	return number(to)
}

// parseContentRange reads "bytes FROM-TO/TOTAL"; total is -1 for "*".
func parseContentRange(v string) (from, to, total int64, ok bool) {
	v, ok = strings.CutPrefix(strings.TrimSpace(v), "bytes ")
	if !ok {
		return 0, 0, 0, false
	}
	span, all, ok := strings.Cut(v, "/")
	first, last, ok2 := strings.Cut(span, "-")
	if !ok || !ok2 {
		return 0, 0, 0, false
	}
	from, ok = number(first)
	to, ok2 = number(last)
	if !ok || !ok2 || to < from {
		return 0, 0, 0, false
	}
	if all == "*" {
		return from, to, -1, true
	}
	if total, ok = number(all); !ok || to >= total {
		return 0, 0, 0, false
	}
	return from, to, total, true
}

// number reads digits and nothing else.
func number(s string) (int64, bool) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// parseRetryAfter reads seconds or a date (RFC 9110, section 10.2.3); ok is false when it is neither.
func parseRetryAfter(v string, now time.Time) (time.Duration, bool) {
	if v = strings.TrimSpace(v); v == "" {
		return 0, false
	}
	if n, ok := number(v); ok {
		return time.Duration(min(n, 1<<31)) * time.Second, true
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0, false
	}
	return max(at.Sub(now), 0), true
}

// parseLimit reads what registries say of their limits, in the forms that are in use: RateLimit-Limit and
// RateLimit-Remaining with ";w=" as Docker Hub sends them, the same with RateLimit-Reset and with X- in front, and the
// structured RateLimit of the drafts ("limit=100, remaining=50, reset=5", and `"default";r=50;t=5`).
func parseLimit(h http.Header, now time.Time) Limit {
	get := func(name string) string {
		if v := h.Get(name); v != "" {
			return v
		}
		return h.Get("X-" + name)
	}
	lead := func(v string) (int, bool) {
		v, _, _ = strings.Cut(v, ";")
		v, _, _ = strings.Cut(v, ",")
		n, ok := number(strings.TrimSpace(v))
		return int(min(n, 1<<31-1)), ok
	}
	var l Limit
	if n, ok := lead(get("RateLimit-Limit")); ok {
		l.Limit = n
	}
	if n, ok := lead(get("RateLimit-Remaining")); ok {
		l.Known, l.Remaining = true, n
	}
	if n, ok := lead(get("RateLimit-Reset")); ok {
		l.Reset = resetAt(int64(n), now)
	}
	for part := range strings.FieldsFuncSeq(h.Get("RateLimit"), func(r rune) bool { return r == ',' || r == ';' }) {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		n, ok := number(strings.TrimSpace(value))
		if !ok {
			continue
		}
		n = min(n, 1<<31-1)
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "limit", "q":
			l.Limit = int(n)
		case "remaining", "r":
			l.Known, l.Remaining = true, int(n)
		case "reset", "t":
			l.Reset = resetAt(n, now)
		}
	}
	return l
}

// resetAt takes large numbers for a moment since 1970, as some services send it, and small ones for seconds from now.
func resetAt(n int64, now time.Time) time.Time {
	if n > 1_000_000_000 {
		return time.Unix(n, 0)
	}
	return now.Add(time.Duration(n) * time.Second)
}
