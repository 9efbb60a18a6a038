package event_test

import (
	"testing"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/event"
	"github.com/berth-registry/berth/server/identity"
)

// Kinds and fields are what webhooks and other replicas read: this table changes by additions only.
func TestFacts(t *testing.T) {
	d := oci.FromBytes(oci.SHA256, []byte("x"))
	ctx := identity.With(t.Context(), identity.Principal{Kind: identity.User, Name: "alice"})
	for _, test := range []struct {
		got  event.Event
		want event.Event
	}{
		{event.ManifestPushed(ctx, "team/app", d), event.Event{Kind: "manifest.pushed", Repository: "team/app", Digest: d, Principal: "alice"}},
		{event.ManifestDeleted(ctx, "team/app", d), event.Event{Kind: "manifest.deleted", Repository: "team/app", Digest: d, Principal: "alice"}},
		{event.TagMoved(ctx, "team/app", "1", d), event.Event{Kind: "tag.moved", Repository: "team/app", Tag: "1", Digest: d, Principal: "alice"}},
		{event.TagDeleted(ctx, "team/app", "1", d), event.Event{Kind: "tag.deleted", Repository: "team/app", Tag: "1", Digest: d, Principal: "alice"}},
		{event.TagDeleted(t.Context(), "team/app", "1", d), event.Event{Kind: "tag.deleted", Repository: "team/app", Tag: "1", Digest: d, Principal: "nobody"}},
	} {
		if test.got != test.want {
			t.Errorf("\n got %+v\nwant %+v", test.got, test.want)
		}
	}
}
