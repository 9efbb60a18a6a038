package registry_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

// BenchmarkTagPut is the PUT of a manifest by tag, in the engine: of new content under a new tag, of new content under a tag
// that moves, and of content that is there under a tag that moves. Run it at two commits to see what the journal costs.
func BenchmarkTagPut(b *testing.B) {
	for _, database := range []string{"sqlite", "postgres"} {
		for _, callers := range []int{1, 16} {
			for _, kind := range []string{"new", "move", "retag"} {
				b.Run(fmt.Sprintf("%s/%d/%s", database, callers, kind), func(b *testing.B) {
					h := newHouse(b, func(o *options) {
						if database == "postgres" {
							o.database = testkit.Postgres(b)
						}
					})
					benchTagPut(b, h, callers, kind)
				})
			}
		}
	}
}

func benchTagPut(b *testing.B, h *house, callers int, kind string) {
	b.Helper()
	push := func(tag, note string) {
		if _, err := h.PutManifest(user("alice"), repo("library/app"), index(tag, note)); err != nil {
			b.Error(err)
		}
	}
	for i := range 128 {
		push(fmt.Sprint("t", i%64), fmt.Sprint("old", i))
	}
	var n atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	b.ResetTimer()
	for c := range callers {
		wg.Go(func() {
			for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
				switch kind {
				case "new":
					push(fmt.Sprint("v", i), fmt.Sprint("content", i))
				case "move":
					push(fmt.Sprint("t", c), fmt.Sprint("content", i))
				case "retag":
					push(fmt.Sprint("t", c), fmt.Sprint("old", i%128))
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "puts/s")
}
