package adminapi_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/berth-registry/berth/server/access"
	"github.com/berth-registry/berth/server/adminapi"
	"github.com/berth-registry/berth/server/httpd"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// nobodyKnown is an auth room that must not be asked.
type nobodyKnown struct{ t *testing.T }

func (n nobodyKnown) Authenticate(context.Context, string, string) (identity.Principal, error) {
	n.t.Error("a caller over the socket was asked for a password")
	return identity.Principal{}, nil
}

// seen is a job room that notes who asks.
type seen struct{ who identity.Principal }

func (s *seen) List(ctx context.Context, _ metadb.JobFilter, _ int64, _ int) ([]metadb.Job, error) {
	s.who = identity.From(ctx)
	return nil, nil
}
func (*seen) Get(context.Context, int64) (metadb.Job, error) { return metadb.Job{}, metadb.ErrNotFound }
func (*seen) Cancel(context.Context, int64) (metadb.Job, error) {
	return metadb.Job{}, metadb.ErrNotFound
}
func (*seen) Retry(context.Context, int64) (metadb.Job, error) {
	return metadb.Job{}, metadb.ErrNotFound
}

// managed is an access room in which administrators manage.
type managed struct{ *access.Point }

func (m managed) CheckSystem(ctx context.Context, _ identity.Verb) error { return m.CheckAdmin(ctx) }
func (m managed) CheckProject(ctx context.Context, _ identity.Verb, _ string) error {
	return m.CheckAdmin(ctx)
}

// Over the socket it is the operating system that says who is calling, and nothing in the request.
func TestPeers(t *testing.T) {
	jobs := &seen{}
	h, err := adminapi.New(adminapi.Options{Auth: nobodyKnown{t}, Access: managed{access.New(access.Options{})}, Jobs: jobs, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		peer   httpd.Peer
		status int
		kind   identity.Kind
	}{
		{httpd.Peer{UID: 7, Admitted: true}, http.StatusOK, identity.Local},
		{httpd.Peer{UID: 7}, http.StatusForbidden, identity.Nobody},
		{httpd.Peer{UID: -1}, http.StatusForbidden, identity.Nobody},
	} {
		jobs.who = identity.Principal{}
		r := httptest.NewRequestWithContext(httpd.WithPeer(t.Context(), test.peer), http.MethodGet, "/api/v1/jobs", http.NoBody)
		r.SetBasicAuth("admin", "whatever")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != test.status || jobs.who.Kind != test.kind || jobs.who.Admin != (test.kind == identity.Local) {
			t.Errorf("%+v: %d %s as %+v", test.peer, w.Code, w.Body, jobs.who)
		}
	}
}
