package conformance_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func tagListChecks() []check {
	return []check{
		{"tags: list", []string{"list-1", "list-4"}, tagList},
		{"tags: none", []string{"list-1", "list-2", "list-4"}, noTags},
		{"tags: repository that does not exist", []string{"put-8"}, tagsOfNothing},
		{"tags: order", []string{"list-3", "list-9"}, tagOrder},
		{"tags: pages", []string{"list-5", "list-6", "list-9"}, tagPages},
		{"tags: n of zero", []string{"list-7", "list-8"}, tagsZero},
		{"tags: last", []string{"list-10", "list-11", "list-12"}, tagsLast},
		{"tags: parameters that make no sense", []string{"list-10"}, tagsBadParameters},
	}
}

type tagDocument struct {
	Name string    `json:"name"`
	Tags *[]string `json:"tags"`
}

// tagPage gets one page, and fails the check when its form is not the specification's.
func (r *registry) tagPage(t *testing.T, repo, target string) ([]string, *answer) {
	t.Helper()
	a := r.do(t, http.MethodGet, target).want(t, http.StatusOK)
	if !isJSON(a.header) {
		t.Errorf("%s: Content-Type %q, want JSON", a.what, a.header.Get("Content-Type"))
	}
	var doc tagDocument
	a.decode(t, &doc)
	if doc.Name != repo {
		t.Errorf("%s: name is %q, want %q", a.what, doc.Name, repo)
	}
	if doc.Tags == nil {
		t.Errorf("%s: tags is not a list: %s", a.what, short(a.body))
		return nil, a
	}
	return *doc.Tags, a
}

// tags returns all tags of a repository, over as many pages as it takes.
func (r *registry) tags(t *testing.T, repo string) []string {
	t.Helper()
	return r.tagsFrom(t, repo, r.path("%s/tags/list", repo))
}

func (r *registry) tagsFrom(t *testing.T, repo, target string) []string {
	t.Helper()
	var all []string
	walk(t, target, func(target string) *answer {
		page, a := r.tagPage(t, repo, target)
		all = append(all, page...)
		return a
	})
	return all
}

var linkForm = regexp.MustCompile(`^<([^<>]+)>\s*;\s*rel="?next"?$`)

// next returns the absolute URL of an answer's Link, "" when it has none.
func next(t *testing.T, a *answer) string {
	t.Helper()
	links := a.header.Values("Link")
	if len(links) == 0 {
		return ""
	}
	m := linkForm.FindStringSubmatch(links[0])
	if len(links) != 1 || m == nil {
		t.Fatalf("%s: Link %q is not <URL>; rel=\"next\"", a.what, links)
	}
	u, err := a.from.Parse(m[1])
	if err != nil {
		t.Fatalf("%s: Link %q: %v", a.what, links[0], err)
	}
	return u.String()
}

// walk gets page after page as Link says, and fails the check when that leads in a circle.
func walk(t *testing.T, target string, get func(target string) *answer) {
	t.Helper()
	seen := map[string]bool{}
	for target != "" {
		if seen[target] || len(seen) == 1000 {
			t.Fatalf("after %d pages Link leads to %s: the pages do not end", len(seen), target)
		}
		seen[target] = true
		target = next(t, get(target))
	}
}

func (r *registry) withTags(t *testing.T, tags ...string) string {
	t.Helper()
	repo := r.repo()
	r.pushed(t, repo, tags...)
	return repo
}

func tagList(t *testing.T, r *registry) {
	repo := r.withTags(t, "b", "a")
	if got, _ := r.tagPage(t, repo, r.path("%s/tags/list", repo)); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("tags are %q, want a and b", got)
	}
	// A tag moved is one tag; a tag of another repository is not here.
	r.pushed(t, repo, "a")
	r.pushed(t, repo+"/below", "c")
	if got := r.tags(t, repo); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("tags are %q, want a and b", got)
	}
}

func noTags(t *testing.T, r *registry) {
	repo := r.repo()
	m := r.pushed(t, repo) // by digest only
	if got := r.tags(t, repo); len(got) != 0 {
		t.Errorf("tags are %q, want none", got)
	}
	r.put(t, repo, "a", m).want(t, http.StatusCreated)
	r.do(t, http.MethodDelete, r.path("%s/manifests/a", repo)).want(t, http.StatusAccepted)
	if got := r.tags(t, repo); len(got) != 0 {
		t.Errorf("after the only tag was deleted tags are %q, want none", got)
	}
}

func tagsOfNothing(t *testing.T, r *registry) {
	r.do(t, http.MethodGet, r.path("%s/tags/list", r.repo())).want(t, http.StatusNotFound).says(t, "NAME_UNKNOWN")
}

// ordered says whether tags are in one of the two orders that are allowed.
func ordered(tags []string) bool {
	return slices.IsSorted(tags) || slices.IsSortedFunc(tags, func(a, b string) int {
		return strings.Compare(strings.ToLower(a), strings.ToLower(b))
	})
}

func tagOrder(t *testing.T, r *registry) {
	want := []string{"0", "1", "10", "2", "A", "B", "Z", "_", "a", "a-b", "a.b", "a0", "a_b", "aA", "ab", "b", "v1.10", "v1.9", "z"}
	shuffled := slices.Clone(want)
	slices.SortFunc(shuffled, func(a, b string) int { return strings.Compare(sha256Of([]byte(a)), sha256Of([]byte(b))) })
	repo := r.withTags(t, shuffled...)
	got := r.tags(t, repo)
	if !ordered(got) || len(got) != len(want) {
		t.Errorf("tags are %q, in no order", got)
	}
	slices.Sort(want)
	if r.ours && !slices.Equal(got, want) {
		t.Errorf("tags are %q, want ASCII order %q", got, want)
	}
	// In pages the order is the same, and nothing is lost or twice.
	if paged := r.tagsFrom(t, repo, r.path("%s/tags/list?n=3", repo)); !slices.Equal(paged, got) {
		t.Errorf("in pages tags are %q, at once %q", paged, got)
	}
}

func tagPages(t *testing.T, r *registry) {
	var all []string
	for i := range 10 {
		all = append(all, fmt.Sprintf("t%02d", i))
	}
	repo := r.withTags(t, all...)
	for _, n := range []int{1, 3, 5, 9, 10, 11, 1000, 100_000} {
		page, a := r.tagPage(t, repo, r.path("%s/tags/list?n=%d", repo, n))
		if want := min(n, len(all)); len(page) != want && (len(page) > want || next(t, a) == "") {
			t.Errorf("n=%d: %d tags and Link %q, want %d", n, len(page), a.header.Get("Link"), want)
		}
		if len(page) > 0 && !slices.Equal(page, all[:len(page)]) {
			t.Errorf("n=%d: tags are %q, want the first of %q", n, page, all)
		}
		if len(page) == len(all) && n > len(all) && next(t, a) != "" {
			t.Errorf("n=%d: a Link %q, but there is nothing more", n, a.header.Get("Link"))
		}
		// Through all the pages; a Link is a promise of something more, and keeps n.
		var got []string
		pages := 0
		for target := r.path("%s/tags/list?n=%d", repo, n); target != ""; pages++ {
			page, a := r.tagPage(t, repo, target)
			if len(page) > n {
				t.Errorf("n=%d: page %d has %d tags", n, pages, len(page))
			}
			got = append(got, page...)
			target = next(t, a)
			if target == "" && len(got) < len(all) && len(page) == n {
				target = r.path("%s/tags/list?n=%d&last=%s", repo, n, page[len(page)-1]) // Link is optional
				if r.ours {
					t.Errorf("n=%d: page %d has no Link and is not the last", n, pages)
				}
			}
			if pages > 2*len(all) {
				t.Fatalf("n=%d: the pages do not end", n)
			}
		}
		if !slices.Equal(got, all) {
			t.Errorf("n=%d: in pages tags are %q, want %q", n, got, all)
		}
	}
}

func tagsZero(t *testing.T, r *registry) {
	repo := r.withTags(t, "a", "b")
	for _, q := range []string{"n=0", "n=0&last=a"} {
		page, a := r.tagPage(t, repo, r.path("%s/tags/list?%s", repo, q))
		if len(page) != 0 {
			t.Errorf("%s: tags are %q, want none", q, page)
		}
		if l := a.header.Get("Link"); l != "" {
			t.Errorf("%s: Link %q, want none", q, l)
		}
	}
}

func tagsLast(t *testing.T, r *registry) {
	repo := r.withTags(t, "1", "2", "a", "b", "c", "d")
	for _, c := range []struct {
		query string
		want  []string
	}{
		{"last=a", []string{"b", "c", "d"}},
		{"last=d", []string{}},
		{"last=zzz", []string{}},
		{"n=2&last=a", []string{"b", "c"}},
		{"last=a&n=2", []string{"b", "c"}},
		{"n=3&last=a", []string{"b", "c", "d"}},
		{"n=9&last=c", []string{"d"}},
		{"n=2&last=bb", []string{"c", "d"}},      // a tag that was deleted since
		{"last=2", []string{"a", "b", "c", "d"}}, // a tag, not the third place
		{"last=1&n=1", []string{"2"}},
	} {
		page, _ := r.tagPage(t, repo, r.path("%s/tags/list?%s", repo, c.query))
		if !slices.Equal(page, c.want) {
			t.Errorf("%s: tags are %q, want %q", c.query, page, c.want)
		}
	}
}

func tagsBadParameters(t *testing.T, r *registry) {
	repo := r.withTags(t, "a", "b")
	for _, q := range []string{"n=-1", "n=x", "n=1.5", "n=99999999999999999999999", "n=%00", "last=%00", "last=-bad", "last=" + strings.Repeat("x", 3000)} {
		a := r.do(t, http.MethodGet, r.path("%s/tags/list?%s", repo, q))
		if a.status == http.StatusOK { // an answer is allowed; it must be one
			var doc tagDocument
			if err := json.Unmarshal(a.body, &doc); err != nil || doc.Tags == nil {
				t.Errorf("%s: 200 with %s", q, short(a.body))
			}
			continue
		}
		a.refused(t)
	}
}
