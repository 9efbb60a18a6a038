package cluster

import (
	"strings"
	"testing"
	"time"
)

// The judgement of histories is judged itself: by some that are fine and by some that are not.
func TestHistory(t *testing.T) {
	at := func(n int) time.Time { return time.Unix(1000+int64(n), 0) }
	// A step is "value from to", a move; "?value from", a move without an answer; "=value from to", a read.
	type step struct {
		what     string
		from, to int
	}
	for name, c := range map[string]struct {
		steps []step
		want  string // in one of the faults; "" for none
	}{
		"nothing":                             {nil, ""},
		"one move":                            {[]step{{"a", 1, 2}, {"=a", 3, 4}}, ""},
		"read while it is moved, old":         {[]step{{"a", 1, 2}, {"b", 3, 6}, {"=a", 4, 5}}, ""},
		"read while it is moved, new":         {[]step{{"a", 1, 2}, {"b", 3, 6}, {"=b", 4, 5}}, ""},
		"an old value":                        {[]step{{"a", 1, 2}, {"b", 3, 4}, {"=a", 5, 6}}, "a… was the value"},
		"new, and then old":                   {[]step{{"a", 1, 2}, {"b", 3, 10}, {"=b", 4, 5}, {"=a", 6, 7}}, "was the value"},
		"both at once, either":                {[]step{{"a", 1, 5}, {"b", 1, 5}, {"=a", 6, 7}}, ""},
		"both at once, and both are read":     {[]step{{"a", 1, 5}, {"b", 1, 5}, {"=a", 6, 7}, {"=b", 8, 9}}, "was the value"},
		"no answer, never seen":               {[]step{{"a", 1, 2}, {"?b", 3, 0}, {"=a", 8, 9}}, ""},
		"no answer, seen later":               {[]step{{"a", 1, 2}, {"?b", 3, 0}, {"=a", 8, 9}, {"=b", 10, 11}}, ""},
		"no answer, seen, and gone again":     {[]step{{"a", 1, 2}, {"?b", 3, 0}, {"=b", 8, 9}, {"=a", 10, 11}}, "was the value"},
		"no answer, made after a later move":  {[]step{{"?a", 1, 0}, {"b", 3, 4}, {"=b", 5, 6}, {"=a", 7, 8}}, ""},
		"a move that was lost":                {[]step{{"a", 1, 2}, {"=a", 3, 3}, {"b", 4, 5}, {"=a", 6, 7}}, "was the value"},
		"one that passed between two reads":   {[]step{{"a", 1, 2}, {"b", 4, 5}, {"=a", 3, 3}, {"c", 6, 7}, {"=c", 8, 8}}, ""},
		"one that has to pass inside another": {[]step{{"a", 1, 2}, {"b", 4, 5}, {"=a", 3, 3}, {"=a", 8, 9}}, "at some moment"},
		"no tag at first":                     {[]step{{"=", 1, 2}, {"a", 3, 4}, {"=a", 5, 6}}, ""},
		"no tag after a move":                 {[]step{{"a", 3, 4}, {"=", 5, 6}}, "was the value"},
		"from nowhere":                        {[]step{{"=a", 5, 6}}, "nobody has asked for"},
		"before it was asked for":             {[]step{{"=a", 1, 2}, {"a", 3, 4}}, "before anybody asked"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory()
			for _, s := range c.steps {
				switch {
				case strings.HasPrefix(s.what, "="):
					h.read(s.what[1:], at(s.from), at(s.to))
				case strings.HasPrefix(s.what, "?"):
					h.begin(s.what[1:], at(s.from))
				default:
					h.acknowledge(h.begin(s.what, at(s.from)), at(s.to))
				}
			}
			got := h.check()
			if c.want == "" && len(got) > 0 || c.want != "" && !strings.Contains(strings.Join(got, "\n"), c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestOutboxOrder(t *testing.T) {
	at := func(n int) time.Time { return time.Unix(1000+int64(n), 0) }
	h := newHistory()
	h.acknowledge(h.begin("a", at(1)), at(2))
	h.acknowledge(h.begin("b", at(3)), at(6))
	h.acknowledge(h.begin("c", at(4)), at(5))
	h.begin("d", at(4))
	for order, want := range map[string]string{
		"a b c": "", "a c b": "", "a d c b": "", "a b c d": "",
		"b a c":   "before a move was asked for",
		"a b":     "is not in the outbox",
		"a b c e": "nobody has asked for it",
		"a b b c": "twice",
	} {
		got := strings.Join(h.agrees(strings.Fields(order)), "\n")
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", order, got, want)
		}
	}
}
