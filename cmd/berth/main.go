// Command berth is the image tool. This folder holds nothing but the process; the tool begins at cli.Main.
package main

import (
	"os"
	"runtime/debug"

	"go.podman.io/storage/pkg/reexec"

	"github.com/berth-registry/berth/cli"
)

func main() {
	if reexec.Init() { // a child of containers-storage, which unpacks layers in processes of its own
		return
	}
	// A command lives for a moment and keeps little: collecting what it drops is a fifth of the work of a sync that finds nothing new.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	os.Exit(cli.Main(os.Args, cli.Process()))
}
