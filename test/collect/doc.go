// Package collect races clients against collection.
//
// Clients ask for a blob and skip its push, mount, push so slowly that collection looks several times, push again what was
// deleted a moment ago, and delete what others push, in the same repositories and with the same content, while collection
// runs without a pause with a grace of one second. What is asked:
//
//   - no push is refused: whoever was told 201 or 200 about every blob of an image within the grace gets 201 for its manifest;
//   - no image breaks: each that was acknowledged and not deleted is there at the end with all its content, byte for byte;
//   - nobody is answered with a failure of the server;
//   - nothing stays: afterwards the store and the database hold what the images need, and not a byte else (1 % is promised).
//
// How the last is counted: of the store every file, object and unfinished multipart upload below its content and its uploads;
// of the database the bytes of small content, and every row that is about content. Not counted are the database's own
// indexes and pages, and what it keeps besides content (events, jobs, the history of tags); their size is logged.
//
// Start reading at TestRace.
//
// Environment:
//
//	BERTH_COLLECT_SECONDS  how long the race lasts, for each kind of registry (8)
//	BERTH_COLLECT_SEED     the seed of a run to repeat: the same operations, though not the same moments
package collect
