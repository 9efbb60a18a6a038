package remote

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestParseChallenges(t *testing.T) {
	for in, want := range map[string]string{
		`Bearer realm="https://auth.example.com/token",service="reg",scope="repository:a:pull,push"`: "bearer realm=https://auth.example.com/token scope=repository:a:pull,push service=reg",
		`bearer  realm = "x" , service=y`: "bearer realm=x service=y",
		`Basic realm="a \"b\" c"`:         `basic realm=a "b" c`,
		`Basic`:                           "basic",
		`Negotiate, Basic realm="x"`:      "negotiate; basic realm=x",
		`Basic realm="x", Bearer realm=https://y/z,service="s"`: "basic realm=x; bearer realm=https://y/z service=s",
		`Bearer realm="unclosed`:                                "bearer",
		`Bearer realm="a",realm="b"`:                            "bearer realm=a",
		``:                                                      "",
		`=,=,"`:                                                 "",
		strings.Repeat("a", maxChallenge+1):                     "",
	} {
		var parts []string
		for _, c := range parseChallenges([]string{in}) {
			s := c.scheme
			for _, k := range []string{"realm", "scope", "service"} {
				if v, ok := c.params[k]; ok {
					s += " " + k + "=" + v
				}
			}
			parts = append(parts, s)
		}
		if got := strings.Join(parts, "; "); got != want {
			t.Errorf("%.80q: %q, want %q", in, got, want)
		}
	}
}

func TestParseNext(t *testing.T) {
	for in, want := range map[string]string{
		`</v2/a/tags/list?last=b&n=1>; rel="next"`:            "/v2/a/tags/list?last=b&n=1",
		`</a>; rel=prev, </b>; title="x, <y>"; rel="up next"`: "/b",
		`</a>; rel="NEXT"`: "/a",
		`</a>`:             "", `</a; rel="next"`: "", `a; rel="next"`: "", ``: "", `<>; rel=next`: "", `</a>; rel="next`: "",
	} {
		if got := parseNext([]string{in}); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestParseRanges(t *testing.T) {
	for in, want := range map[string]int64{"0-0": 0, "0-1023": 1023, "bytes=0-9": 9, " 0-5 ": 5, "1-5": -1, "0-": -1, "-5": -1, "0--5": -1, "0-+5": -1,
		"0-5-6": -1, "": -1, "0-99999999999999999999": -1, "0-0x5": -1} {
		got, ok := parseUploadRange(in)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %d, want %d", in, got, want)
		}
	}
	for in, want := range map[string][3]int64{"bytes 0-9/10": {0, 9, 10}, "bytes 5-9/*": {5, 9, -1}, "bytes 9-5/10": {-1}, "bytes 0-10/10": {-1},
		"bytes */10": {-1}, "0-9/10": {-1}, "bytes 0-9": {-1}, "bytes -1-9/10": {-1}, "": {-1}} {
		from, to, total, ok := parseContentRange(in)
		if !ok {
			from, to, total = -1, 0, 0
		}
		if [3]int64{from, to, total} != want {
			t.Errorf("%q: %d %d %d", in, from, to, total)
		}
	}
}

func TestParseLimits(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		h    http.Header
		want Limit
	}{
		"docker hub": {http.Header{"Ratelimit-Limit": {"100;w=21600"}, "Ratelimit-Remaining": {"76;w=21600"}}, Limit{Known: true, Limit: 100, Remaining: 76}},
		"x":          {http.Header{"X-Ratelimit-Limit": {"60"}, "X-Ratelimit-Remaining": {"0"}, "X-Ratelimit-Reset": {"1893456030"}}, Limit{true, 60, 0, now.Add(30 * time.Second)}},
		"draft 7":    {http.Header{"Ratelimit": {"limit=100, remaining=50, reset=5"}}, Limit{true, 100, 50, now.Add(5 * time.Second)}},
		"draft 10":   {http.Header{"Ratelimit": {`"default";r=3;t=9`}}, Limit{true, 0, 3, now.Add(9 * time.Second)}},
		"none":       {http.Header{}, Limit{}},
		"nonsense":   {http.Header{"Ratelimit-Remaining": {"-1"}, "Ratelimit": {"remaining=x; =5;;"}}, Limit{}},
	} {
		if got := parseLimit(tc.h, now); got.Known != tc.want.Known || got.Limit != tc.want.Limit || got.Remaining != tc.want.Remaining || !got.Reset.Equal(tc.want.Reset) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for in, want := range map[string]time.Duration{"5": 5 * time.Second, "Tue, 01 Jan 2030 00:01:00 GMT": time.Minute, "Mon, 01 Jan 2029 00:00:00 GMT": 0,
		"-5": -1, "": -1, "soon": -1, "1.5": -1, "99999999999": (1 << 31) * time.Second} {
		got, ok := parseRetryAfter(in, now)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func FuzzChallenge(f *testing.F) {
	for _, s := range []string{`Bearer realm="x",service="y"`, `Basic realm="a\"b", Bearer realm=z`, `a b c = d, e`, `"`, `Bearer realm="\`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, c := range parseChallenges([]string{s, s}) {
			if c.scheme == "" || c.scheme != strings.ToLower(c.scheme) || len(c.params) > maxParams {
				t.Fatalf("%q gives %+v", s, c)
			}
			for k, v := range c.params {
				if k == "" || len(v) > len(s) {
					t.Fatalf("%q gives %q=%q", s, k, v)
				}
			}
		}
	})
}

func FuzzLink(f *testing.F) {
	for _, s := range []string{`</a>; rel="next"`, `<a>;rel=next,<b>`, `<`, `<>;rel`, `<a>;;;`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := parseNext([]string{s}); got != "" && (!strings.Contains(s, "<"+got+">") || !strings.Contains(strings.ToLower(s), "next")) {
			t.Fatalf("%q gives %q", s, got)
		}
	})
}

func FuzzRange(f *testing.F) {
	for _, s := range []string{"0-0", "bytes=0-5", "bytes 0-9/10", "bytes 5-9/*", "-", "0-18446744073709551616"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if last, ok := parseUploadRange(s); ok && last < 0 {
			t.Fatalf("%q ends at %d", s, last)
		}
		if from, to, total, ok := parseContentRange(s); ok && (from < 0 || to < from || total != -1 && to >= total) {
			t.Fatalf("%q is %d-%d/%d", s, from, to, total)
		}
		if d, ok := parseRetryAfter(s, time.Unix(0, 0)); ok && d < 0 {
			t.Fatalf("%q is %s", s, d)
		}
	})
}
