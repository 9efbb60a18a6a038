// Command berth is the image tool. This folder holds nothing but the process; the tool begins at cli.Main.
package main

import (
	"os"

	"go.podman.io/storage/pkg/reexec"

	"github.com/berth-registry/berth/cli"
)

func main() {
	if reexec.Init() { // a child of containers-storage, which unpacks layers in processes of its own
		return
	}
	os.Exit(cli.Main(os.Args, cli.Process()))
}
