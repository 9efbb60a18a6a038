package access_test

import (
	"fmt"
	"testing"

	"github.com/berth-registry/berth/oci/ref"
	"github.com/berth-registry/berth/server/access"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// BenchmarkCheck is a decision about a pull: by nobody in a public project, and by an account with 1,000 grants and 20 groups in a
// private one.
func BenchmarkCheck(b *testing.B) {
	h := newHouse(b, access.Options{Anonymous: access.Pull, AutoCreate: access.Admins})
	who := h.user("alice")
	h.change(b, func(tx *metadb.Tx) error {
		for i := range 20 {
			g, err := tx.CreateGroup(metadb.Group{Name: fmt.Sprint("group", i)})
			if err != nil {
				return err
			}
			who.Groups = append(who.Groups, g.ID)
		}
		for i := range 1000 {
			g := metadb.Grant{Subject: metadb.Subject{Kind: metadb.AccountSubject, ID: h.ids["alice"]}, Role: identity.Guest}
			switch i % 4 {
			case 0:
				g.Pattern = fmt.Sprintf("team%d/**", i)
			case 1:
				g.Pattern = fmt.Sprintf("team/app-%d", i)
			case 2:
				g.Subject = metadb.Subject{Kind: metadb.GroupSubject, ID: who.Groups[i%20]}
				g.Pattern = fmt.Sprintf("other/app%d-*", i)
			default:
				g.Pattern, g.Project = fmt.Sprintf("team/x%d/*", i), h.ids["team"]
			}
			if _, err := tx.CreateGrant(g); err != nil {
				return err
			}
		}
		return nil
	})
	for _, c := range []struct {
		name, repository string
		who              identity.Principal
	}{{"anonymous", "open/app", identity.Principal{Kind: identity.Anonymous}}, {"grants=1000", "team/app-1", who}} {
		b.Run(c.name, func(b *testing.B) {
			name, err := ref.ParseName(c.repository)
			if err != nil {
				b.Fatal(err)
			}
			ctx := identity.With(b.Context(), c.who)
			b.ReportAllocs()
			for b.Loop() {
				if err := h.Check(ctx, identity.Pull, name); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
