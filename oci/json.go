package oci

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// maxDepth is far beyond what any real manifest needs (an index with platform and annotations has five levels).
const maxDepth = 32

// known are the keys that decide what a manifest means, in lower case. A key that differs from one of them only by case
// would be read by some parsers and skipped by others (CVE-2021-41190 is such a case of two readings).
var known = map[string]string{
	"schemaversion": "schemaVersion", "mediatype": "mediaType", "artifacttype": "artifactType", "config": "config",
	"layers": "layers", "blobs": "blobs", "manifests": "manifests", "subject": "subject", "annotations": "annotations",
	"digest": "digest", "size": "size", "urls": "urls", "platform": "platform",
}

// unambiguous reports what would let two parsers disagree about body: invalid JSON or UTF-8, something other than an
// object, duplicate keys anywhere, known keys in another case outside of annotations, or nesting beyond maxDepth.
func unambiguous(body []byte) error {
	if !utf8.Valid(body) {
		return invalid("manifest is not valid UTF-8")
	}
	w := walker{b: body}
	w.space()
	if w.i >= len(body) || body[w.i] != '{' {
		return invalid("manifest is not a JSON object")
	}
	// Depth first: the validator of the standard library recurses by the input's nesting.
	if d := depth(body); d > maxDepth {
		return invalid("manifest is nested deeper than %d levels", maxDepth)
	}
	if !json.Valid(body) {
		return invalid("manifest is not valid JSON")
	}
	return w.value(false, "")
}

// depth is the deepest nesting of brackets outside of strings. It needs no valid JSON.
func depth(b []byte) (deepest int) {
	d, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			d++
			deepest = max(deepest, d)
		case c == '}' || c == ']':
			d--
		}
	}
	return deepest
}

// maxKeys is how many keys all objects of a manifest may have together, 8 for each descriptor that it may list: a key of an annotation costs
// ten times the memory that it takes here.
const maxKeys = 8 * MaxDescriptors

// walker goes over JSON that is known to be valid, looking only at keys.
type walker struct {
	b []byte
	i int

	descriptors, urls int // entries of their lists so far
	keys              int // of all objects so far
}

func (w *walker) space() {
	for w.i < len(w.b) && (w.b[w.i] == ' ' || w.b[w.i] == '\t' || w.b[w.i] == '\n' || w.b[w.i] == '\r') {
		w.i++
	}
}

// value skips the value of a key. free is true below annotations, whose keys belong to the user.
func (w *walker) value(free bool, key string) error {
	w.space()
	switch w.b[w.i] {
	case '{':
		return w.object(free)
	case '[':
		return w.list(free, key)
	case '"':
		w.text()
	default:
		for w.i < len(w.b) && !strings.ContainsRune(",]} \t\r\n", rune(w.b[w.i])) {
			w.i++
		}
	}
	return nil
}

// list also counts what will be decoded: a descriptor costs far more memory than the two bytes that it may have here, so
// there must not be too many of them.
func (w *walker) list(free bool, key string) error {
	var n *int
	switch key {
	case "layers", "manifests", "blobs":
		n = &w.descriptors
	case "urls":
		n = &w.urls
	}
	w.i++
	for w.space(); w.b[w.i] != ']'; w.space() {
		if w.b[w.i] == ',' {
			w.i++
			continue
		}
		if n != nil {
			if *n++; *n > MaxDescriptors {
				return invalid("manifest has more than %d entries in its lists of %s; at most %d are accepted", MaxDescriptors, key, MaxDescriptors)
			}
		}
		if err := w.value(free, ""); err != nil {
			return err
		}
	}
	w.i++
	return nil
}

func (w *walker) object(free bool) error {
	w.i++
	var first [12]string // most objects are small; a map only for the rest
	seen, more := first[:0], map[string]struct{}(nil)
	for w.space(); w.b[w.i] != '}'; w.space() {
		if w.b[w.i] == ',' {
			w.i++
			continue
		}
		if w.keys++; w.keys > maxKeys {
			return invalid("manifest has more than %d keys; at most %d are accepted", maxKeys, maxKeys)
		}
		key := w.text()
		for _, k := range seen {
			if k == key {
				return invalid("manifest has the key %.60q twice in one object", key)
			}
		}
		if _, dup := more[key]; dup {
			return invalid("manifest has the key %.60q twice in one object", key)
		}
		if len(seen) < cap(seen) {
			seen = append(seen, key)
		} else {
			if more == nil {
				more = map[string]struct{}{}
			}
			more[key] = struct{}{}
		}
		if want, ok := known[fold(key)]; ok && !free && key != want {
			return invalid("manifest has the key %.60q, which some readers take for %q; write it exactly", key, want)
		}
		w.space()
		w.i++ // the colon
		if err := w.value(free || key == "annotations", key); err != nil {
			return err
		}
	}
	w.i++
	return nil
}

// fold is what a reader that ignores case makes of a key. The one of the standard library goes beyond ASCII: it takes a
// long s for an s, and the Kelvin sign for a k.
func fold(key string) string {
	for i := range len(key) {
		if key[i] >= utf8.RuneSelf {
			return strings.ToLower(strings.ToUpper(key))
		}
	}
	return strings.ToLower(key)
}

// text reads a string and leaves the walker behind it.
func (w *walker) text() string {
	start, escaped := w.i, false
	for w.i++; w.b[w.i] != '"'; w.i++ {
		if w.b[w.i] == '\\' {
			w.i++
			escaped = true
		}
	}
	w.i++
	if !escaped {
		return string(w.b[start+1 : w.i-1])
	}
	var s string
	_ = json.Unmarshal(w.b[start:w.i], &s) // valid: the caller checked the document
	return s
}
