package registry_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/registry"
)

// pages walks a list and checks that each page is what its limit says.
func pages(t *testing.T, n int, list func(after string, n int) (*registry.Names, error)) (all []string) {
	t.Helper()
	after := ""
	for range 1000 {
		page, err := list(after, n)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page.Names...)
		if !page.More {
			return all
		}
		if len(page.Names) != n {
			t.Fatalf("a page of %d has %d names and is not the last", n, len(page.Names))
		}
		after = page.Names[len(page.Names)-1]
	}
	t.Fatal("the pages have no end")
	return nil
}

func TestTagsByKeyset(t *testing.T) {
	eachDatabase(t, func(t *testing.T, database func(*options)) {
		h := newHouse(t, database)
		var want []string
		for i := range 23 {
			for _, form := range []string{"v%d", "V%d", "_%d", "%d.x", "v-%d"} {
				want = append(want, fmt.Sprintf(form, i))
			}
		}
		for part := range slices.Chunk(want, 100) {
			p := index("", "x")
			p.Reference, p.Tags = byDigest(digestOf(string(p.Body))), part
			h.put(t, admin(), "team/app", p)
		}
		slices.Sort(want) // by bytes, whatever the database's collation
		list := func(after string, n int) (*registry.Names, error) { return h.Tags(admin(), repo("team/app"), after, n) }
		for _, n := range []int{1, 7, 114, 115, 116, 1 << 30} {
			if got := pages(t, n, list); !slices.Equal(got, want) {
				t.Errorf("pages of %d: %v", n, got)
			}
		}
		for after, first := range map[string]int{"": 0, want[4]: 5, want[4] + "!": 5, "~": len(want)} {
			page, err := list(after, 1)
			if err != nil || first < len(want) && (len(page.Names) != 1 || page.Names[0] != want[first]) || first == len(want) && len(page.Names) != 0 {
				t.Errorf("after %q: %+v, %v", after, page, err)
			}
		}
		if page, err := list("", 0); err != nil || page.Names == nil || len(page.Names) != 0 || page.More {
			t.Errorf("none wanted: %+v, %v", page, err)
		}
		h.SetLimits(registry.Limits{Page: 3})
		for _, n := range []int{-1, 100} {
			if page, err := list("", n); err != nil || len(page.Names) != 3 || !page.More {
				t.Errorf("beyond the registry's own limit: %+v, %v", page, err)
			}
		}
	})
}

func TestCatalogShowsWhatMayBePulled(t *testing.T) {
	eachDatabase(t, func(t *testing.T, database func(*options)) {
		h := newHouse(t, database)
		var all, public []string
		for i := range 12 {
			name := fmt.Sprintf("library/app%02d", i)
			public = append(public, name)
			all = append(all, name, fmt.Sprintf("secret/app%02d", i))
		}
		slices.Sort(all)
		for _, name := range all {
			h.put(t, admin(), name, index("1", name))
		}
		h.pushBlob(t, admin(), "library/only-a-blob", "x") // has nothing that could be pulled yet
		for _, n := range []int{1, 5, 12, 24, 25} {
			if got := pages(t, n, func(after string, n int) (*registry.Names, error) { return h.Catalog(anonymous(), after, n) }); !slices.Equal(got, public) {
				t.Errorf("anonymous, pages of %d: %v", n, got)
			}
			if got := pages(t, n, func(after string, n int) (*registry.Names, error) { return h.Catalog(user("alice"), after, n) }); !slices.Equal(got, all) {
				t.Errorf("user, pages of %d: %v", n, got)
			}
		}
		found, err := h.Search(anonymous(), "app0", 100)
		if err != nil || len(found) != 10 || slices.ContainsFunc(found, func(r metadb.Repository) bool { return !slices.Contains(public, r.Name) }) {
			t.Errorf("anonymous finds %v, %v", found, err)
		}
		for _, text := range []string{"%", "_pp", `\`, "'; DROP TABLE tag; --", "app0%"} { // a text, not a pattern
			if found, err := h.Search(admin(), text, 100); err != nil || len(found) > 0 {
				t.Errorf("search for %q: %v, %v", text, found, err)
			}
		}
		// A repository goes from the list with its last manifest, and comes back.
		m, err := h.Manifest(admin(), repo("library/app00"), tagged("1"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.DeleteManifest(admin(), repo("library/app00"), byDigest(m.Digest)); err != nil {
			t.Fatal(err)
		}
		if got := pages(t, 100, func(after string, n int) (*registry.Names, error) { return h.Catalog(anonymous(), after, n) }); !slices.Equal(got, public[1:]) {
			t.Errorf("after the delete: %v", got)
		}
		h.put(t, admin(), "library/app00", index("2", "again"))
		if got := pages(t, 100, func(after string, n int) (*registry.Names, error) { return h.Catalog(anonymous(), after, n) }); !slices.Equal(got, public) {
			t.Errorf("pushed again: %v", got)
		}
		if _, err := h.Catalog(token(user("alice"), "library/app00", identity.Pull), "", -1); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("a token without the catalog lists it: %v", err)
		}
	})
}
