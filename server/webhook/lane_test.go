package webhook

import (
	"testing"

	"github.com/berth-registry/berth/server/event"
)

// TestCut: a batch never ends between two events of a repository that are the wrong way round.
func TestCut(t *testing.T) {
	events := func(ids ...int64) (all []event.Event) {
		for i, id := range ids {
			all = append(all, event.Event{Repository: "a", Cursor: event.Cursor{Epoch: int64(i), ID: id}})
		}
		return all
	}
	for _, test := range []struct {
		events []event.Event
		limit  int
		want   int
	}{
		{events(1, 2, 3, 4), 2, 2},
		{events(1, 2), 5, 2},
		{events(1, 3, 2, 4), 2, 1},
		{events(1, 4, 3, 2, 5), 3, 1},
		{events(4, 3, 2, 1), 2, 4},
		{append(events(3), event.Event{Repository: "b", Cursor: event.Cursor{ID: 1}}), 1, 1},
	} {
		if got := cut(test.events, test.limit); got != test.want {
			t.Errorf("%+v: cut at %d, want %d", test.events, got, test.want)
		}
	}
}
