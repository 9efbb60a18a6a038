package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
)

// TestFillPostgres: what the seed writes is what berthd lists and serves.
func TestFillPostgres(t *testing.T) {
	dsn := testkit.Postgres(t)
	d := testkit.Start(t, testkit.Options{Database: dsn, Env: []string{"BERTH_ANONYMOUS=pull"}})
	n := postgresRows{tags: 120, repositories: 30, referrers: 40}
	if err := fillPostgres(t.Context(), dsn, n, io.Discard); err != nil {
		t.Fatal(err)
	}
	ask := func(path string) string {
		t.Helper()
		r, err := http.Get(d.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Body.Close() }()
		b, err := io.ReadAll(r.Body)
		if err != nil || r.StatusCode != http.StatusOK {
			t.Fatalf("GET %s: %s %s, %v", path, r.Status, b, err)
		}
		return string(b)
	}
	if got := strings.Count(ask("/v2/"+repoRowTags+"/tags/list?n=1000"), `"t0`); got != n.tags {
		t.Errorf("%d tags", got)
	}
	if got := strings.Count(ask("/v2/_catalog?n=1000"), `"rows/zz`); got != n.repositories {
		t.Errorf("%d repositories", got)
	}
	subject := newEmptyIndex("subject")
	if got := strings.Count(ask("/v2/"+repoRowRefs+"/referrers/"+subject.digest), `"artifactType"`); got != n.referrers {
		t.Errorf("%d referrers", got)
	}
	if got := ask("/v2/" + repoRowTags + "/manifests/" + rowTag(7)); got != string(newEmptyIndex("tagged").data) {
		t.Errorf("a tag is %s", got)
	}
	if got := ask(fmt.Sprintf("/v2/%s/manifests/%s", repoRowRefs, subject.digest)); got != string(subject.data) {
		t.Errorf("the subject is %s", got)
	}
}
