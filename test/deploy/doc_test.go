// Package deploy_test proves deploy/: the image is built FROM scratch and run read-only, without capabilities and under
// the system call filter of the systemd unit; the chart is rendered, decoded with the types of Kubernetes, and its
// configuration checked by berthd; the Compose file is loaded by docker compose's own loader, its services' commands run;
// the load balancers of the documentation run for real in front of replicas.
//
// It may assume root (for podman) and what test/setup/setup.sh installs; images of the outside world cannot be had, so
// nothing is pulled. Start reading at container_test.go; `go test ./test/deploy -update` writes deploy/kubernetes again.
package deploy_test

import "flag"

var update = flag.Bool("update", false, "write deploy/kubernetes from the chart")
