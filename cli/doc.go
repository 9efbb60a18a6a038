// Package cli is the image tool berth: its commands, what they print, and the exit codes.
//
// It may assume a process of its own: it reads the environment, the user's files (auth.json, registries.conf, certs.d,
// policy.json: those that skopeo, podman and docker use) and the terminal. It never imports package server; what it
// wants of a berthd it asks over HTTP. Standard output carries results only; progress, warnings and errors go to
// standard error.
//
// Each command is one file with one function that makes it from the app; root.go lists them by group, which is the
// only place to register one. Flag groups that commands share are in cli/option, printing in cli/output. A command
// returns an error; failure.go says what a person sees of it and which exit code that is.
//
// Start reading at Main, then groups in root.go, then listtags.go as the example of a command.
package cli
