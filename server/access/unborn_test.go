package access_test

import (
	"testing"

	"github.com/berth-registry/berth/server/access"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// TestUnborn: a token that was asked for before its project was there makes it and goes on in it, and is worthless in the next one.
func TestUnborn(t *testing.T) {
	h := newHouse(t, access.Options{AutoCreate: access.Admins})
	root := identity.Principal{Kind: identity.User, ID: 99, Name: "root", Admin: true}
	token := func() identity.Principal {
		t.Helper()
		kept, err := h.Narrow(t.Context(), root, []identity.Grant{{Repository: "fresh/app", Verbs: []identity.Verb{identity.Pull, identity.Push}}})
		if err != nil || len(kept) != 1 {
			t.Fatal(kept, err)
		}
		who := root
		who.Grants = &identity.Grants{List: kept}
		return who
	}
	make := func() {
		t.Helper()
		h.change(t, func(tx *metadb.Tx) error {
			p, err := tx.CreateProject(metadb.Project{Name: "fresh"})
			h.ids["fresh"] = p.ID
			return err
		})
	}
	remove := func() {
		t.Helper()
		h.change(t, func(tx *metadb.Tx) error { return tx.DeleteProject(h.ids["fresh"]) })
	}
	first := token()
	h.expect(t, first, map[string]string{"fresh/app": "pPlr", "fresh/other": ""})
	make()
	h.expect(t, first, map[string]string{"fresh/app": "pPlr", "fresh/other": ""})
	remove()
	h.expect(t, first, map[string]string{"fresh/app": ""})
	second := token()
	h.expect(t, second, map[string]string{"fresh/app": "pPlr"})
	make()
	h.expect(t, first, map[string]string{"fresh/app": ""})
	h.expect(t, second, map[string]string{"fresh/app": "pPlr"})
	remove()
	make()
	h.expect(t, second, map[string]string{"fresh/app": ""})
	h.expect(t, token(), map[string]string{"fresh/app": "pPlr"})
}
