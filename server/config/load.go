package config

import (
	"errors"
	"io/fs"
)

// LoadOptions says where values come from. The zero value gives the built-in defaults.
type LoadOptions struct {
	// File is the configuration file; "-" reads Stdin. Empty: the first file of Search or Fallback that exists.
	File string
	// Search and Fallback are looked at when File is empty. A file of Fallback is used with a notice.
	// Nil means [SearchPaths] and [FallbackPaths]; an empty list means none.
	Search, Fallback []string
	// Env is the environment, as os.Environ gives it.
	Env []string
	// Flags are values from the command line, by flag name (addr, host, data, acme, log-format) or by key.
	Flags map[string]string
	// Stdin is read when File is "-".
	Stdin func() ([]byte, error)
	// ReadFile reads files; nil means os.ReadFile.
	ReadFile func(name string) ([]byte, error)
}

// Loaded is a configuration and what is known about it.
type Loaded struct {
	Config   *Config
	File     string            // file that was read; empty: none
	Origins  map[string]Origin // where each key got its value; a key that is not here has its default
	Warnings []Problem         // what works differently from what was asked
}

// Origin is where a value came from.
type Origin struct {
	Source    string // "default", "file", "env", "flag" or "derived"
	Name      string // file, variable, flag, or the key it was derived from
	Line, Col int    // in a file
}

// SearchPaths are the files that are looked for when none is named.
func SearchPaths() []string { return []string{"./berth.yml", "/etc/berth/berth.yml"} }

// FallbackPaths are distribution's files, used with a notice when no file of SearchPaths exists.
func FallbackPaths() []string {
	return []string{"/etc/distribution/config.yml", "/etc/docker/registry/config.yml"}
}

// Load gathers the configuration: flag before environment before file before default. When anything
// is wrong it returns [Problems], which holds every problem found, not only the first.
func Load(o LoadOptions) (*Loaded, error) {
	return nil, errors.Join(fs.ErrInvalid)
}
