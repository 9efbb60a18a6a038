package main

import "time"

// size is how much of everything a run uses.
type size struct {
	rounds    int
	phase     time.Duration // of requests
	pushOps   int64         // images at most in one phase: bounds the disk
	images    int           // in the repository that is read
	blobs     int           // of 4 KiB
	tags      int           // in the repository whose tags are listed
	manyTags  int           // in the repository of which one tag is read and written
	repos     int
	referrers int
	rangeBlob int64
	largeBlob int64
	layer     int64 // of the memory scenario
	layers    int   // pushed at once, and pulled at once
	settle    time.Duration
	fewRows   int // of each kind, against manyRows of each kind
	manyRows  int

	garbageRows    int // blobs in the database, half of them garbage
	garbageFiles   int
	garbageObjects int
	collect        int // images that are pushed, deleted and collected: five blobs each

	large        bool  // the scenarios of hugeObject, too
	object       int64 // pushed to and pulled from a bucket
	hugeObject   int64
	upload       int64 // one of those whose memory is measured
	uploads      int
	fewPostgres  postgresRows
	manyPostgres postgresRows

	apiProjects int // with apiRepositories in each
}

func fullSize() size {
	return size{rounds: 3, phase: 2 * time.Second, pushOps: 2000, images: 100, blobs: 100, tags: 10_000, manyTags: 100_000, repos: 10_000, referrers: 1000,
		rangeBlob: 64 << 20, largeBlob: 1 << 30, layer: 24 << 20, layers: 64, settle: 2 * time.Second, fewRows: 10_000, manyRows: 1_000_000, collect: 1000, garbageRows: 1_000_000, garbageFiles: 200_000, garbageObjects: 40_000,
		object: 1 << 30, hugeObject: 5 << 30, upload: 64 << 20, uploads: 16,
		apiProjects: 10_000, fewPostgres: postgresRows{tags: 10_000, repositories: 10_000, referrers: 10_000}, manyPostgres: postgresRows{tags: 1_000_000, repositories: 100_000, referrers: 100_000}}
}

func quickSize() size {
	return size{rounds: 1, phase: 200 * time.Millisecond, pushOps: 200, images: 20, blobs: 20, tags: 1000, manyTags: 3000, repos: 500, referrers: 100,
		rangeBlob: 16 << 20, largeBlob: 64 << 20, layer: 8 << 20, layers: 16, settle: 300 * time.Millisecond, fewRows: 1000, manyRows: 100_000, collect: 50, garbageRows: 20_000, garbageFiles: 20_000, garbageObjects: 4_000,
		object: 64 << 20, hugeObject: 128 << 20, upload: 32 << 20, uploads: 4,
		apiProjects: 10_000, fewPostgres: postgresRows{tags: 1000, repositories: 1000, referrers: 1000}, manyPostgres: postgresRows{tags: 50_000, repositories: 5000, referrers: 5000}}
}
