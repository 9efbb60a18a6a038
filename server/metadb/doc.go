// Package metadb is the metadata database: which repositories there are, what is in them, who may enter, what happened.
// All SQL of berth is in this room, written once for SQLite (one machine, no server to run) and PostgreSQL (many
// replicas). Content bytes are elsewhere, except small ones that are cheaper here (blob_content).
//
// Start reading at [DB.Update]; the tables are in migrations/. A method belongs in the file of its noun; a new table is
// a new migration. metadbtest.Run is the suite that both databases pass.
//
// # Reading and writing
//
// Every question is a method of [Reads], one statement, and can be asked of a [DB] or inside a transaction of a [Tx].
// Every change is a method of [Tx]. Lists are read by keyset: the next page begins behind the last name, so a page costs
// the same wherever it lies and however long the list is. Names sort by their bytes on both databases.
//
// Missing rows are [ErrNotFound]. Failures that a caller can act upon are faults: Full, Unavailable, Conflict.
//
// # Group commit
//
// A durable update waits for the disk, and on SQLite there is one writing connection. Callers of Update lead it in turn:
// who leads runs its closure and those of everybody who waits as one SQL transaction with one COMMIT, passes the
// connection on, syncs and answers them. While one syncs the next is already at work. Others may read what was committed
// a moment before it is durable.
//
// Small blobs and mounts need no transaction of their own: [DB.KeepBlob] and [DB.KeepLink] append them to a log beside
// the database (intake), and the next transaction, whoever's it is, makes their rows before it does anything else. So a
// closure sees all of them through its Tx. It must not ask the DB itself, which would wait for the closure to end.
//
// When the shared transaction is lost (disk full, COMMIT failed), or when a closure of it fails after it has changed
// something, every closure of it is run again alone and gets its own answer: hence closures may run more than once.
// When a sync fails, nothing is written any more until the process restarts, because the kernel may report the next
// sync as a success without having those pages.
//
// [DB.UpdateSoft] is for what may be lost with the power but not with the process, such as the progress of an upload:
// they are answered after the commit. The log stays one sequence, so a durable update makes every soft one before it
// durable too.
//
// The log is copied into the database by a checkpointer on a connection of its own, so that no caller pays for that.
//
// On PostgreSQL each update is a transaction of its own, and the server groups commits. A deadlock runs it again, and so does
// a connection that is lost before the commit; one that is lost in it leaves the outcome unknown, which is Unavailable.
// Isolation is READ COMMITTED: what a closure has to rely on until it commits, the methods lock (MissingBlobs,
// MissingManifests, LinkBlob, PutTag), and what it must rule out it asks after its own change (see UnlinkBlob).
//
// # Replicas
//
// Caches of several processes hear of each other's changes through a table (signal.go): whoever writes a method of Tx that
// changes or removes a row that some cache holds calls tx.changed there, and not in the engine. The same connection knows when
// the server cannot be reached, and then everyone is told so at once ([DB.Update] and every read: Unavailable), and how
// far our clock is from the server's ([DB.Clock]), by which claims and leases are measured.
//
// A SQLite file has one berthd, and an operator's commands beside it (beside.go).
//
// # Blobs, claims and the sweep
//
// Bytes first, row second: a crash may leave bytes without a row, never a row without bytes. Finding such bytes must not
// need a listing of the store, so a row names them before they appear. A file blob is committed in three steps:
//
//  1. Update: [Tx.SetCommitting] (upload, digest). It is refused with [ErrClaimed] while the digest is being deleted.
//  2. The store commits the bytes under the digest.
//  3. Update: [Tx.PutBlob], [Tx.LinkBlob], [Tx.DeleteUpload]. When the last says that the upload did not exist any more,
//     the closure returns an error: a sweep thought it dead, and may have deleted the bytes.
//
// A crash after 1 leaves the upload row. When it has expired ([Reads.ExpiredUploads]), or when it is cancelled or fails,
// whoever ends it does for its digest:
//
//  1. Update: read the row, as it is now, and [Tx.ClaimOrphan] (digest, upload, hold). When it is not claimed the bytes
//     are in use, or will be: the same transaction ends with [Tx.EndUpload], which fails when another replica has
//     announced a digest since. On ErrClaimed another process is at it: next time.
//  2. The store deletes the bytes, with a deadline before hold is over.
//  3. Update: [Tx.DeleteClaimed] and [Tx.EndUpload].
//
// A method that claims begins with beginClaim, so that no mount is taken into the intake behind its back. A claim is a
// blob row in state Claimed, so a push of the same digest meets it at its own step 1 (or 3) and is refused
// until the claim is over: bytes can never be deleted under a blob that was promised. A sweep that dies leaves upload
// and claim, and the next one takes the claim over when hold is over.
//
// # Places
//
// A store that cannot rename leaves the bytes of a blob where they were uploaded, and the row says where ([Blob].Place; see
// blob.Parker and moved.go). Step 2 of a commit then makes bytes at a place that is the upload's alone, and step 3 asks
// DeleteUpload first and names the place only when the upload was still there. No claim protects a place. Whoever ends the
// upload first makes its row one with which no commit succeeds ([Tx.EndingUpload]), then deletes those of its places that no
// row names ([Reads.PlaceNamed], asked after that), and then the row.
//
// Later the bytes are copied under the digest and the place is forgotten ([Tx.SettleBlob]); the copy is announced by the row
// of an upload, as a commit is. Until that is committed bytes may be in both; so whoever deletes a claimed blob deletes
// under its digest and at its place (blob.Remove). What a blob's place was is in blob_moved until it is due, for those who
// read from it; also when the blob was collected meanwhile.
//
// # Collection
//
// What keeps a blob's row is an edge of a manifest, living or in the trash, whose kind is not subject; being a manifest,
// living or in the trash; being the digest that an upload is about to commit; and its own lease. blob.lease_until is the queue:
// above zero it says when collection looks at the blob, zero that something needs it and that nobody need look. Whatever
// takes a reference away calls [Tx.Review] or [Tx.ReviewEdges] in the same transaction, which grants a whole grace. The end of
// an upload does not; so what only an upload needs stays in the queue, and is looked at again when a grace is over.
//
// [Tx.Collect] decides about blobs that are due. On SQLite transactions do not overlap, and beginClaim makes rows of every
// link in the intake and lets none in until all caches have forgotten what is claimed; a small blob that is kept in the
// intake meanwhile makes its row live again, with bytes of its own. On PostgreSQL (READ COMMITTED: every statement sees what
// was committed before it began) Collect takes locks first and looks afterwards, and waits for nobody:
//
//  1. It locks rows of blob FOR UPDATE SKIP LOCKED. LinkBlob, SetCommitting, Review and the foreign keys of a link or manifest
//     lock the row FOR KEY SHARE, PutBlob, LeaseBlob and Review of what is not kept for long lock it more strongly. So of a blob that is locked here,
//     nobody is in the middle of a mount, of a push of it, of the renewal of its lease or of the restoring of its manifest:
//     who began before has committed and is seen by the next statement, or holds the lock and the blob is left for the next
//     run; who comes later waits, and then finds the blob live or claimed, never in between. HEAD asks for the row again
//     after the renewal, SetCommitting and PutBlob answer ErrClaimed, a mount finds nothing.
//  2. It locks the links of what nothing needs, FOR UPDATE SKIP LOCKED. A push of a manifest has the links of its blobs
//     locked FOR KEY SHARE from MissingBlobs until it commits: so either its edges are seen by the look that follows, or a link
//     is missing among those that were locked, and the blob is left for the next run. A push that comes later finds the link gone
//     and answers MANIFEST_BLOB_UNKNOWN, which only who had no promise can meet.
//  3. It asks, in one statement, whether anything needs them. One statement is one moment: a manifest that goes from
//     manifest to trash or back is seen in one of the two; its edges are in one place all the time.
//
// Manifests that collection puts into the trash are locked before they are looked at again (prune.go): a tag locks its
// manifest by its foreign key, an index its children by MissingManifests, and restoring or pushing again what is in the
// trash deletes its row there, which is locked, too.
//
// What is removed from rows first is deleted from the store second. A claim holds until a time; the deletion ends well
// before it, and [Tx.EndClaims] names that time, so that it cannot end the claim of who has taken over. A claim that failed is
// released as a damaged blob without links: a push replaces it, collection comes back to it. Leases and claims are
// compared by the database's clock. A hold is asked for again after the claims are committed and before bytes are
// deleted: who holds collection and then takes a snapshot has the claims in it, or nothing of them is deleted.
package metadb
