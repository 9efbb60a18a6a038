// Package interop_test drives real clients against a real berthd: docker, podman, skopeo, buildah, crane, regctl,
// helm, containerd, cosign and oras, the way their users do, over TLS with berthd's own CA and over plain HTTP on
// loopback.
//
// It may assume root (dockerd and containerd ask for it) and what test/setup/setup.sh installs. No registry of the
// outside world is reached: images are made here (image_test.go). Every client gets a home directory of its own, so
// nothing of the machine's user is read or written. What a client prints when berthd refuses is kept in
// testdata/*.golden; `go test ./test/interop -update` writes them again, and a reviewer reads the difference, because
// that text is all that a user gets to see.
//
// Start reading at registry_test.go (the berthd under test) and client_test.go (how a client is run); after that each
// client has one file.
package interop_test

import (
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/*.golden from what the clients print now")

// TestMain ends the daemons that all tests share (dockerd, containerd) after the last test.
func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	shared.stop()
	os.Exit(code)
}
