package crash

import (
	"maps"
	"slices"
	"testing"
)

// What the tag that all writers move may be after a crash is the heart of the judgement, so it is judged itself.
func TestRegisterAllows(t *testing.T) {
	// Each step begins ("a") or acknowledges ("a!") a move.
	for name, c := range map[string]struct {
		steps []string
		want  []string
	}{
		"never moved":                     {nil, []string{""}},
		"one in flight":                   {[]string{"a"}, []string{"", "a"}},
		"one acknowledged":                {[]string{"a", "a!"}, []string{"a"}},
		"one after the other":             {[]string{"a", "a!", "b", "b!"}, []string{"b"}},
		"the second in flight":            {[]string{"a", "a!", "b"}, []string{"a", "b"}},
		"both at once":                    {[]string{"a", "b", "a!", "b!"}, []string{"a", "b"}},
		"in flight since before the last": {[]string{"a", "b", "b!"}, []string{"a", "b"}},
		"two at once, then a third":       {[]string{"a", "b", "a!", "b!", "c", "c!"}, []string{"c"}},
		"a long one over two short ones":  {[]string{"a", "b", "b!", "c", "c!", "a!"}, []string{"a", "c"}},
	} {
		t.Run(name, func(t *testing.T) {
			var r register
			moves := map[string]*move{}
			for _, s := range c.steps {
				if m, ok := moves[s[:1]]; ok {
					r.acknowledge(m)
				} else {
					moves[s] = r.begin(s)
				}
			}
			if got := slices.Sorted(maps.Keys(r.allowed())); !slices.Equal(got, c.want) {
				t.Errorf("allowed %q, want %q", got, c.want)
			}
		})
	}
	var r register
	r.begin("in flight")
	r.settle("seen")
	if got := r.allowed(); len(got) != 1 || !got["seen"] {
		t.Errorf("after settling: %v", got)
	}
	r.settle("")
	if got := r.allowed(); len(got) != 1 || !got[""] {
		t.Errorf("after settling on nothing: %v", got)
	}
}

func TestLedgerValues(t *testing.T) {
	m := map[string][]string{}
	may(m, "t", "new")
	if !slices.Equal(m["t"], []string{"", "new"}) {
		t.Errorf("a first write in flight leaves %q", m["t"])
	}
	if _, ok := sure(m, "t"); ok {
		t.Error("two values are sure")
	}
	is(m, "t", "new")
	may(m, "t", "new")
	if v, ok := sure(m, "t"); !ok || v != "new" {
		t.Errorf("after an acknowledged write: %q", m["t"])
	}
	may(m, "t", "")
	if !slices.Equal(m["t"], []string{"new", ""}) {
		t.Errorf("a delete in flight leaves %q", m["t"])
	}
}
