package oracle

import (
	"fmt"
	"strings"
	"sync"
)

// kind is a kind of step. A step of a walker counts when it was done, and not when it was rightly refused.
type kind string

const (
	pushedAtOnce   kind = "pushes at once"
	pushedInTwo    kind = "pushes in two requests"
	pushedInChunks kind = "pushes in chunks"
	leftUpload     kind = "uploads left half-way"
	cancelled      kind = "uploads cancelled"
	vouched        kind = "blobs vouched for"
	mounted        kind = "mounts"
	putManifest    kind = "manifests put"
	movedTag       kind = "tags moved"
	deletedTag     kind = "tags deleted"
	deletedDigest  kind = "manifests deleted"
	deletedBlob    kind = "blobs deleted"
	rolledBack     kind = "rollbacks"
	restoredTag    kind = "tags restored"
	restoredTrash  kind = "manifests restored"
	purged         kind = "manifests purged"
	lookedBack     kind = "looks into the past"
	pulledBlob     kind = "blobs pulled"

	killed         kind = "kill -9"
	collected      kind = "collections"
	scrubbed       kind = "scrubs"
	rottedLarge    kind = "large blobs rotted"
	rottedSmall    kind = "small blobs rotted"
	rottedManifest kind = "manifests rotted"
	foundByScrub   kind = "damage found by a scrub"
	repaired       kind = "damage repaired by a push"
	restoredWhole  kind = "restores from a backup"
	rebuilt        kind = "rebuilds from the store"
)

// kinds are all that a run must have taken a step of, or it has not tested what it says.
var kinds = []kind{
	pushedAtOnce, pushedInTwo, pushedInChunks, leftUpload, cancelled, vouched, mounted, putManifest, movedTag, deletedTag, deletedDigest, deletedBlob,
	rolledBack, restoredTag, restoredTrash, purged, lookedBack, pulledBlob,
	killed, collected, scrubbed, rottedLarge, rottedSmall, rottedManifest, foundByScrub, repaired, restoredWhole, rebuilt,
}

// leastSteps is how many steps of all kinds a run takes at least.
const leastSteps = 2000

// tally counts steps.
type tally struct {
	mu sync.Mutex
	of map[kind]int
}

func (t *tally) count(k kind) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of[k]++
}

// lacks says what a run has not done yet, "" when it has done enough.
func (t *tally) lacks() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var missing []string
	for _, k := range kinds {
		if t.of[k] == 0 {
			missing = append(missing, string(k))
		}
	}
	if len(missing) > 0 {
		return "there were no " + strings.Join(missing, ", no ")
	}
	if n := t.sum(); n < leastSteps {
		return fmt.Sprintf("there were only %d steps of %d", n, leastSteps)
	}
	return ""
}

func (t *tally) sum() (n int) {
	for _, of := range t.of {
		n += of
	}
	return n
}

func (t *tally) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []string
	for _, k := range kinds {
		all = append(all, fmt.Sprintf("%d %s", t.of[k], k))
	}
	return fmt.Sprintf("%d steps: %s", t.sum(), strings.Join(all, ", "))
}
