package blobtest_test

import (
	"testing"

	"github.com/berth-registry/berth/server/blob"
	"github.com/berth-registry/berth/server/blob/blobtest"
	"github.com/berth-registry/berth/server/blob/mem"
)

// A store that parks keeps the whole contract, also when it is observed.
func TestParking(t *testing.T) {
	blobtest.Run(t, func(*testing.T) blob.Store {
		return blob.Observe(blobtest.NewParking(mem.New(), 50_000), func(string, float64, error) {})
	})
}
