// Package remote speaks the distribution API to any registry: manifests, blobs, uploads, mounts, tags and referrers,
// with what it takes to do so over a real network: logins, tokens, retries, pauses that a registry asks for, and reads and
// writes that go on where they were interrupted.
//
// What it promises, whatever the registry does:
//   - Bytes are streamed and never handed out as whole unless their digest and size are what was asked for.
//   - Credentials and tokens go to the scheme, host and port that they are for, and nowhere else: not along a redirect, not
//     to a Location or Link on another host, and to a token server only when [Options.TrustRealm] accepts it.
//   - A refusal becomes a fault whose cause is an [Answer]: what the registry said, with status, code and request id.
//
// It may assume nothing of the registry, reads no files and no environment: who uses it supplies credentials, transports
// and endpoints in [Options]. A [Client] is safe for concurrent use.
//
// Start reading at [New] and [Client.Repository]; request.go is the way of one request.
//
// Spec: OCI distribution v1.1.1.
package remote
