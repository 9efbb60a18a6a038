package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxSecretBytes is more than any password, key or certificate needs.
const maxSecretBytes = 64 << 10

// secretFiles reads the files that secrets refer to.
type secretFiles struct {
	readFile    func(string) ([]byte, error)
	credentials string // $CREDENTIALS_DIRECTORY, which systemd sets
	base        string // directory of the configuration file, for relative paths
}

// resolve reads a secret as it is written: the value itself, file:/path, file:./path (beside the
// configuration file), or file:name (in systemd's credentials directory).
func (s secretFiles) resolve(text string) (Secret, error) {
	name, ok := strings.CutPrefix(text, "file:")
	if !ok {
		return NewSecret(text), nil
	}
	switch {
	case filepath.IsAbs(name):
	case strings.ContainsRune(name, '/'):
		name = filepath.Join(s.base, name)
	case s.credentials != "":
		name = filepath.Join(s.credentials, name)
	default:
		return Secret{}, fmt.Errorf("file:%s names a systemd credential, but CREDENTIALS_DIRECTORY is not set; write file:/path or file:./path for another file", name)
	}
	return s.read(name)
}

// read gives the content of a file without the line end that editors leave.
func (s secretFiles) read(name string) (Secret, error) {
	content, err := s.readFile(name)
	if err != nil {
		return Secret{}, fmt.Errorf("cannot read the file of the secret: %w", err)
	}
	text := strings.TrimRight(string(content), "\r\n")
	switch {
	case text == "":
		return Secret{}, fmt.Errorf("the file of the secret, %s, is empty", name)
	case len(text) > maxSecretBytes:
		return Secret{}, fmt.Errorf("the file of the secret, %s, has %d bytes; at most %d are read", name, len(text), maxSecretBytes)
	}
	return NewSecret(text), nil
}

// expandAll replaces ${NAME} in every value of a file by the environment variable.
func (d *decoder) expandAll(n *yaml.Node, env map[string]string) {
	if n.Kind == yaml.MappingNode {
		for i := 1; i < len(n.Content); i += 2 { // keys stay as they are
			d.expandAll(n.Content[i], env)
		}
		return
	}
	for _, child := range n.Content {
		d.expandAll(child, env)
	}
	if n.Kind != yaml.ScalarNode || !strings.Contains(n.Value, "${") {
		return
	}
	value, err := expand(n.Value, env)
	if err != nil {
		d.problem(n, "", "%v", err)
		n.Tag, n.Value = "!!null", "" // one complaint is enough
		return
	}
	n.Value = value
}

// expand replaces ${NAME} and ${NAME:-text when NAME is not set or empty}; $${ stands for ${.
func expand(text string, env map[string]string) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${")
		if !found {
			b.WriteString(text)
			return b.String(), nil
		}
		if literal, ok := strings.CutSuffix(before, "$"); ok {
			b.WriteString(literal + "${")
			text = rest
			continue
		}
		b.WriteString(before)
		reference, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", errors.New("\"${\" without \"}\"; write $${ for the characters themselves")
		}
		name, fallback, hasFallback := strings.Cut(reference, ":-")
		value, set := env[name]
		switch {
		case hasFallback && value == "":
			value = fallback
		case !isVariableName(name): // not quoted back: it may be part of a password
			return "", errors.New("\"${\" must be followed by the name of an environment variable; write $${ for the characters themselves")
		case !set:
			return "", fmt.Errorf("environment variable %q is not set; write ${%s:-value} for a default, or $${ for the characters themselves", name, name)
		}
		b.WriteString(value)
		text = after
	}
}

func isVariableName(name string) bool {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_"
	return name != "" && strings.ContainsRune(letters, rune(name[0])) && strings.Trim(name, letters+"0123456789") == ""
}
