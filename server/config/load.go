package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFileBytes is a hundred times a long configuration.
const maxFileBytes = 1 << 20

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
// is wrong it returns [Problems], which holds every problem found, not only the first. Environment
// variables without one of our prefixes are read only where a file says ${NAME}.
func Load(o LoadOptions) (*Loaded, error) {
	if o.ReadFile == nil {
		o.ReadFile = os.ReadFile
	}
	env := environment(o.Env)
	d := &decoder{origins: map[string]Origin{}, settings: Settings()}
	name, content, err := o.find(d, env)
	if err != nil {
		return nil, err
	}
	d.secrets = secretFiles{readFile: o.ReadFile, credentials: env["CREDENTIALS_DIRECTORY"], base: filepath.Dir(name)}
	d.file = name
	c := Defaults()
	c.Storage.Filesystem = nil // being there means being chosen; finish puts it back
	var root *yaml.Node
	if name != "" {
		d.source = Origin{Source: "file", Name: name}
		root = d.readFile(content, c, env)
	}
	d.applyEnv(c, env)
	d.applyFlags(c, o.Flags)
	d.finish(c, root)
	if len(d.problems) > 0 {
		return nil, d.problems.sorted()
	}
	return &Loaded{Config: c, File: name, Origins: d.origins, Warnings: d.warnings.sorted()}, nil
}

// Defaults is the configuration when nobody says anything.
func Defaults() *Config {
	c := &Config{}
	setDefaults(reflect.ValueOf(c).Elem())
	c.Storage.Filesystem = &Filesystem{}
	setDefaults(reflect.ValueOf(c.Storage.Filesystem).Elem())
	return c
}

// find reads the configuration file: the one that was named, or the first that exists.
func (o LoadOptions) find(d *decoder, env map[string]string) (name string, content []byte, err error) {
	if name = cmp.Or(o.File, env[fileVariable]); name != "" {
		if name == "-" && o.Stdin != nil {
			name = "stdin"
			content, err = o.Stdin()
		} else {
			content, err = o.ReadFile(name)
		}
		if err != nil {
			return "", nil, Problems{{File: name, Message: "cannot read the configuration: " + withoutName(err)}}
		}
		return name, content, nil
	}
	search, fallback := o.Search, o.Fallback
	if search == nil {
		search = SearchPaths()
	}
	if fallback == nil {
		fallback = FallbackPaths()
	}
	for i, candidate := range slices.Concat(search, fallback) {
		content, err = o.ReadFile(candidate)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return "", nil, Problems{{File: candidate, Message: "cannot read the configuration: " + withoutName(err)}}
		case i >= len(search):
			d.warnings = append(d.warnings, Problem{File: candidate, Warning: true,
				Message: "no " + strings.Join(search, ", no ") + "; using this file of distribution, which is only read, never written"})
		}
		return candidate, content, nil
	}
	return "", nil, nil
}

// withoutName is an error of the file system without the name, which the message has already.
func withoutName(err error) string {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err.Error()
	}
	return err.Error()
}

// readFile decodes a configuration file and returns its root, nil when it is empty or no YAML.
func (d *decoder) readFile(content []byte, c *Config, env map[string]string) *yaml.Node {
	if len(content) > maxFileBytes {
		d.problem(&yaml.Node{Line: 1, Column: 1}, "", "the file has %d bytes; a configuration has at most %d", len(content), maxFileBytes)
		return nil
	}
	reader := yaml.NewDecoder(bytes.NewReader(content))
	var document, second yaml.Node
	if err := reader.Decode(&document); err != nil {
		if !errors.Is(err, io.EOF) {
			d.syntaxError(err, content)
		}
		return nil
	}
	if err := reader.Decode(&second); err == nil {
		d.problem(&second, "", "a second document begins here; a configuration is one document")
	}
	if document.Kind != yaml.DocumentNode || len(document.Content) == 0 || isNull(document.Content[0]) {
		return nil
	}
	root := document.Content[0]
	d.expandAll(root, env)
	d.decode(root, reflect.ValueOf(c).Elem(), "")
	return root
}

// syntaxError reports what the YAML reader says ("yaml: line 3: …"), with the cause that people look
// for longest: a tab.
func (d *decoder) syntaxError(err error, content []byte) {
	place, message := &yaml.Node{Line: 1, Column: 1}, strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(message, "line "); ok {
		if number, text, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(number); err == nil {
				place.Line, message = n, text
			}
		}
	}
	for i, line := range strings.Split(string(content), "\n") {
		if indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]; strings.Contains(indent, "\t") {
			place.Line, place.Column = i+1, strings.Index(indent, "\t")+1
			message = "the line is indented with a tab; YAML allows spaces only"
			break
		}
	}
	d.problem(place, "", "not readable as YAML: %s", message)
}

// String says it in one word or two: default, berth.yml:3:5, REGISTRY_HTTP_ADDR, --addr.
func (o Origin) String() string {
	switch {
	case o.Line > 0:
		return fmt.Sprintf("%s:%d:%d", o.Name, o.Line, o.Col)
	case o.Source == "derived":
		return "from " + o.Name
	case o.Name != "":
		return o.Name
	}
	return "default"
}

// Origin is where a key got its value: what was said about it, about a part of it, or its default.
func (l *Loaded) Origin(key string) Origin {
	if o, ok := place(l.Origins, key); ok {
		return o
	}
	return Origin{Source: "default"}
}

// place finds the origin of a key, or the first origin of what is inside it.
func place(origins map[string]Origin, key string) (Origin, bool) {
	if o, ok := origins[key]; ok {
		return o, true
	}
	var first Origin
	found := false
	for k, o := range origins {
		inside := strings.HasPrefix(k, key+".") || strings.HasPrefix(k, key+"[")
		if inside && (!found || cmp.Or(cmp.Compare(o.Line, first.Line), cmp.Compare(o.Col, first.Col), cmp.Compare(o.Name, first.Name)) < 0) {
			first, found = o, true
		}
	}
	return first, found
}
