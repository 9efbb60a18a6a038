package event_test

import (
	"strings"
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
		{event.BlobMounted(ctx, "team/app", d), event.Event{Kind: "blob.mounted", Repository: "team/app", Digest: d, Principal: "alice"}},
		{event.BlobDeleted(ctx, "team/app", d), event.Event{Kind: "blob.deleted", Repository: "team/app", Digest: d, Principal: "alice"}},
	} {
		if test.got != test.want {
			t.Errorf("\n got %+v\nwant %+v", test.got, test.want)
		}
	}
}

// The payload is read by berthds of other versions: its form is a contract.
func TestDetail(t *testing.T) {
	ctx := event.WithRequest(t.Context(), event.Request{
		ID: "r1", Addr: "192.0.2.1", Host: "registry.example.com", Method: "PUT", UserAgent: strings.Repeat("x", 5000), Base: "https://registry.example.com",
	})
	want := event.Detail{MediaType: "m", Size: 7, FromRepository: "team/base", Tagged: true}
	e := event.TagMoved(ctx, "team/app", "1", oci.Digest{}).WithDetail(ctx, want)
	if len(e.Payload) > 1024 {
		t.Errorf("a header of 5000 bytes makes a payload of %d", len(e.Payload))
	}
	const form = `{"mediaType":"m","size":7,"fromRepository":"team/base","tagged":true,"request":{"id":"r1","addr":"192.0.2.1","host":"registry.example.com","method":"PUT","useragent":"`
	if !strings.HasPrefix(e.Payload, form) {
		t.Errorf("payload %s", e.Payload)
	}
	got := e.Detail()
	if got.Request == nil || got.Request.Base != "https://registry.example.com" {
		t.Errorf("request %+v", got.Request)
	}
	got.Request = nil
	if got != want {
		t.Errorf("got %+v", got)
	}
	for _, payload := range []string{"", "{", `{"of":"the future"}`} {
		if got := (event.Event{Payload: payload}).Detail(); got != (event.Detail{}) {
			t.Errorf("payload %q says %+v", payload, got)
		}
	}
}
