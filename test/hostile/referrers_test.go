package hostile_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
)

// TestHeavyReferrers gives one subject referrers of nearly the size of a manifest. The list repeats their annotations:
// it comes in pages that a client can read, and costs the memory of a page, not of the list.
func TestHeavyReferrers(t *testing.T) {
	testkit.RequireDisk(t, t.TempDir(), 2<<30)
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); heavyReferrers(t, "") })
	t.Run("postgres", func(t *testing.T) { t.Parallel(); heavyReferrers(t, testkit.Postgres(t)) })
}

func heavyReferrers(t *testing.T, database string) {
	d := testkit.Start(t, testkit.Options{Database: database, Env: []string{"BERTH_ANONYMOUS=delete", "BERTH_LOG_LEVEL=warn"}})
	config := seed(t, d.Addr)
	heavy := func(i int, filler string) request {
		body := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"artifactType":"a/b","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[],
			"subject":{"mediaType":"a/b","digest":%[2]q,"size":2},"annotations":{"n":"%[3]d","filler":"%[4]s"}}`, imageType, config, i, filler)
		return request{method: "PUT", target: fmt.Sprintf("/v2/%s/manifests/r%d", repo, i), header: []string{"Content-Type: " + imageType}, body: []byte(body)}
	}
	const count = 24
	for i := range count {
		must(t, d.Addr, 201, heavy(i, strings.Repeat("<", 4_100_000)))
	}
	// What JSON writes in six bytes for three stays within a manifest's size and not within a page's.
	must(t, d.Addr, 413, heavy(count, strings.Repeat("\u2028", 1_390_000)))
	before := peakMemory(t, d.PID())
	seen, target := 0, "/v2/"+repo+"/referrers/"+config
	for target != "" {
		a := must(t, d.Addr, 200, request{method: "GET", target: target})
		var page struct{ Manifests []json.RawMessage }
		if err := json.Unmarshal(a.body, &page); err != nil || len(page.Manifests) == 0 {
			t.Fatalf("page of %d bytes after %d: %v", len(a.body), seen, err)
		}
		if len(a.body) > 4<<20 {
			t.Errorf("a page has %d bytes, more than clients read", len(a.body))
		}
		seen += len(page.Manifests)
		target, _, _ = strings.Cut(strings.TrimPrefix(a.header.Get("Link"), "<"), ">")
	}
	if seen != count {
		t.Errorf("%d referrers are listed, want %d", seen, count)
	}
	after := peakMemory(t, d.PID())
	if after-before > 100<<20 {
		t.Errorf("the list of %d referrers cost %d MiB of memory", count, (after-before)>>20)
	}
	t.Logf("peak %d MiB before the list, %d MiB after", before>>20, after>>20)
}
