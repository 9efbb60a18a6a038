// Package metadbtest is the contract of metadb as a suite: what every database under it must do. Both SQLite and
// PostgreSQL run all of it.
//
// Start reading at [Run].
package metadbtest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/server/metadb"
)

// Run runs the suite. open gives a fresh, empty database; the suite closes it.
func Run(t *testing.T, open func(t *testing.T) *metadb.DB) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, *metadb.DB)
	}{
		{"Projects", testProjects},
		{"Repositories", testRepositories},
		{"Keyset", testKeyset},
		{"Search", testSearch},
		{"Patterns", testPatterns},
		{"Orders", testOrders},
		{"TagOrder", testTagOrder},
		{"Blobs", testBlobs},
		{"Places", testPlaces},
		{"EndingUpload", testEndingUpload},
		{"BlobKeptAsItIs", testBlobKept},
		{"KeepBlob", testKeepBlob},
		{"KeepClaimed", testKeepClaimed},
		{"KeepMany", testKeepMany},
		{"KeepLink", testKeepLink},
		{"MissingBlobs", testMissingBlobs},
		{"Manifests", testManifests},
		{"ManifestEdges", testEdges},
		{"Referrers", testReferrers},
		{"Signatures", testSignatures},
		{"Tags", testTags},
		{"TagsProtectManifests", testTagsProtect},
		{"SecurityScans", testSecurityScans},
		{"Uploads", testUploads},
		{"EndedUpload", testEndedUpload},
		{"Sweep", testSweep},
		{"SweepTakeover", testSweepTakeover},
		{"SweepAgainstPush", testSweepAgainstPush},
		{"Damage", testDamage},
		{"Needs", testNeeds},
		{"Collect", testCollect},
		{"CollectTakeover", testCollectTakeover},
		{"CollectUploads", testCollectUploads},
		{"CollectPages", testCollectPages},
		{"Review", testReview},
		{"Follow", testFollow},
		{"Untagged", testUntagged},
		{"CollectRivals", testCollectRivals},
		{"ReviewRival", testReviewRival},
		{"PruneRivals", testPruneRivals},
		{"RestoreRivals", testRestoreRivals},
		{"DeleteRivals", testDeleteRivals},
		{"QuarantineRivals", testQuarantineRivals},
		{"MountsTogether", testMountsTogether},
		{"Accounts", testAccounts},
		{"AccountChanges", testAccountChanges},
		{"Groups", testGroups},
		{"Grants", testGrants},
		{"Roles", testRoles},
		{"ProjectChanges", testProjectChanges},
		{"Robots", testRobots},
		{"NameRace", testNameRace},
		{"TokensAndSessions", testTokensAndSessions},
		{"IdentityProviders", testProviders},
		{"Idempotency", testIdempotency},
		{"LoginFailures", testLoginFailures},
		{"WatchAll", testWatchAll},
		{"SettingsAndKeys", testSettings},
		{"Events", testEvents},
		{"EventsOfConcurrentWriters", testEventsConcurrent},
		{"Delivery", testDelivery},
		{"ParkedDeliveries", testParked},
		{"OutboxLimits", testOutboxLimits},
		{"Jobs", testJobs},
		{"JobOfAChange", testJobRollback},
		{"JobFencing", testJobFencing},
		{"JobReturned", testJobReturn},
		{"JobDedupe", testJobDedupe},
		{"JobDedupeRace", testJobDedupeRace},
		{"JobCancel", testJobCancel},
		{"JobFairness", testJobFairness},
		{"JobBound", testJobBound},
		{"JobClaimRace", testJobClaimRace},
		{"JobLists", testJobLists},
		{"JobTrim", testJobTrim},
		{"JobModel", testJobModel},
		{"Schedules", testSchedule},
		{"Leases", testLease},
		{"Rollback", testRollback},
		{"RollbackOfOneInABatch", testRollbackOne},
		{"FailedStatement", testFailedStatement},
		{"Panic", testPanic},
		{"Hooks", testHooks},
		{"Context", testContext},
		{"Concurrency", testConcurrency},
		{"TagRace", testTagRace},
		{"EnsureRace", testEnsureRace},
		{"PushAgainstDelete", testPushAgainstDelete},
		{"Closed", testClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := open(t)
			t.Cleanup(func() {
				if err := db.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			c.run(t, db)
		})
	}
}

// must fails the test on an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// get is a value whose error fails the test.
func get[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		must(t, err)
		return v
	}
}

func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func wantErr(t testing.TB, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func update(t testing.TB, db *metadb.DB, fn func(tx *metadb.Tx) error) {
	t.Helper()
	must(t, db.Update(t.Context(), fn))
}

// repository makes a listed repository in a public project.
func repository(t testing.TB, db *metadb.DB, name string) metadb.Repository {
	t.Helper()
	return repositoryIn(t, db, "public-project", true, name)
}

func repositoryIn(t testing.TB, db *metadb.DB, project string, public bool, name string) (r metadb.Repository) {
	t.Helper()
	update(t, db, func(tx *metadb.Tx) error {
		p, _, err := tx.EnsureProject(project, public)
		if err != nil {
			return err
		}
		if r, err = tx.EnsureRepository(p.ID, name); err != nil {
			return err
		}
		return tx.SetListed(r.ID, true)
	})
	return r
}

func digestOf(format string, args ...any) oci.Digest {
	return oci.FromBytes(oci.SHA256, fmt.Appendf(nil, format, args...))
}

// putManifest puts an inline manifest with its blob.
func putManifest(tx *metadb.Tx, m metadb.Manifest, content string, edges ...metadb.Edge) (bool, error) {
	m.Size = int64(len(content))
	if err := tx.PutBlob(metadb.Blob{Digest: m.Digest, Size: m.Size}, []byte(content)); err != nil {
		return false, err
	}
	return tx.PutManifest(m, edges)
}

// putTagged puts a manifest of that content and points the tag at it.
func putTagged(t testing.TB, db *metadb.DB, repoID int64, tag, content string) oci.Digest {
	t.Helper()
	d := digestOf("%s", content)
	update(t, db, func(tx *metadb.Tx) error {
		if _, err := putManifest(tx, metadb.Manifest{RepoID: repoID, Digest: d, MediaType: "m"}, content); err != nil {
			return err
		}
		_, err := tx.PutTag(repoID, tag, d, metadb.Origin{})
		return err
	})
	return d
}

// background is for what a test's own end must not cut short.
func background() context.Context { return context.Background() }
