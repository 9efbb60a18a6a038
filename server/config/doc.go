// Package config is the one typed tree of everything that can be set about berthd.
//
// The tree is [Config]: the grammar of CNCF distribution's config.yml (so that a file written for
// registry:2 or registry:3 is read as it is) plus our own keys under "berth:". Struct tags are the
// single source of truth. From them come strict parsing, environment names, defaults, the commented
// file of [PrintDefaults], the JSON Schema, [Explain], and what SIGHUP may change:
//
//	yaml         the key
//	default      the value when nobody says anything, in YAML
//	doc, zh      the comment, in English and in Chinese
//	oneof        the words that are allowed, separated by "|"
//	check        the grammar of the value (see value.go)
//	env, flag    a short environment variable or command line flag that sets the key too
//	reload       SIGHUP applies a change of this key (and of the keys below it) without a restart
//	choice       this section is one of several, of which a file names one; the tag says of what
//	unsupported  "warn" or "refuse": the key is read and checked, but this version does nothing with it
//	effect       what that means for whoever set it
//
// To add a setting, add a field with its tags; to add a rule that looks at two keys, see rules.go.
//
// The room may assume nothing about the rest of the daemon: it reads files and variables through
// [LoadOptions] only, opens no sockets, and keeps no state. Values of type [Secret] never print.
// Start reading at config.go (the tree), then load.go (where values come from).
package config
