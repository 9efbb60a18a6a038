package adminapi

import "github.com/berth-registry/berth/server/identity"

// The verbs of the registry as a whole.
const (
	jobRead        identity.Verb = "job.read"
	jobWrite       identity.Verb = "job.write"
	gcRead         identity.Verb = "gc.read"
	gcWrite        identity.Verb = "gc.write"
	integrityRead  identity.Verb = "integrity.read"
	integrityWrite identity.Verb = "integrity.write"
	backupRead     identity.Verb = "backup.read"
	backupWrite    identity.Verb = "backup.write"
	purge          identity.Verb = "purge"
)
