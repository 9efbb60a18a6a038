package interop_test

import (
	"strings"
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
)

// TestOnPostgreSQL goes once through what clients do with the metadata in PostgreSQL, over a restart: everything else
// here runs on the embedded database, and test/conformance compares the two sentence by sentence.
func TestOnPostgreSQL(t *testing.T) {
	t.Parallel()
	r := startRegistry(t, testkit.Options{Database: testkit.Postgres(t), Env: []string{"BERTH_ANONYMOUS=delete"}})
	skopeo, crane, regctl := newClient(t, "skopeo", r), newClient(t, "crane", r), newRegctl(t, r, true)
	app := r.host + "/team/app"
	index := multiArch(t, "a")
	r.push(t, index, "team/app:multi")
	skopeo.run(t, "copy", "--all", "docker://"+app+":multi", "docker://"+r.host+"/other/app:multi")
	regctl.pipe(t, strings.NewReader("{}"), "artifact", "put", "--subject", app+":multi", "--artifact-type", "application/spdx+json")

	r.Restart(t)
	mustContain(t, crane.run(t, "validate", "--remote", app+":multi"), "PASS")
	mustEqual(t, "catalog", crane.run(t, "catalog", r.host), "other/app\nteam/app")
	mustContain(t, regctl.run(t, "artifact", "tree", app+":multi"), "application/spdx+json")
	skopeo.run(t, "delete", "docker://"+r.host+"/other/app:multi")
	r.absent(t, "other/app", "multi")
	mustEqual(t, "tags", crane.run(t, "ls", app), "multi")
}
