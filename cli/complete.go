package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/pkg/docker/config"

	"github.com/berth-registry/berth/cli/option"
	"github.com/berth-registry/berth/oci/ref"
)

// completionTime is how long a shell waits for live names, unless BERTH_COMPLETION_TIME says otherwise.
const completionTime = 200 * time.Millisecond

// completeImage completes an image name: its transport, the registries that one is signed in to, and the repositories
// and tags of a registry, which is asked within completionTime.
func (a *app) completeImage(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	const more = cobra.ShellCompDirectiveNoSpace
	rest, isDocker := strings.CutPrefix(word, "docker://")
	if !isDocker {
		var names []string
		for _, t := range imageTransports() {
			name := t.Name() + ":"
			if t == docker.Transport {
				name += "//"
			}
			if strings.HasPrefix(name, word) {
				names = append(names, name)
			}
		}
		if len(names) == 0 {
			return nil, cobra.ShellCompDirectiveDefault // a file behind oci:, dir:
		}
		slices.Sort(names)
		return names, more | cobra.ShellCompDirectiveNoFileComp
	}
	names, directive := a.completeRegistry(cmd.Context(), rest)
	for i := range names {
		names[i] = "docker://" + names[i]
	}
	return names, directive
}

// completeRemote completes the name of an image or repository in a registry, with docker:// before it or without.
func (a *app) completeRemote(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	rest, prefixed := strings.CutPrefix(word, "docker://")
	names, directive := a.completeRegistry(cmd.Context(), rest)
	if prefixed {
		for i := range names {
			names[i] = "docker://" + names[i]
		}
	}
	return names, directive
}

// completeRegistry completes a name that begins with a registry's host: the host, then the repository, then the tag.
func (a *app) completeRegistry(ctx context.Context, word string) ([]string, cobra.ShellCompDirective) {
	if ctx == nil {
		ctx = context.Background()
	}
	host, path, inside := strings.Cut(word, "/")
	if !inside {
		var names []string
		for _, h := range a.knownHosts() {
			if strings.HasPrefix(h, word) {
				names = append(names, h+"/")
			}
		}
		return names, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
	}
	repository, tag, tagging := strings.Cut(path, ":")
	var names []string
	if !tagging {
		for _, name := range a.live(ctx, host, "") {
			if strings.HasPrefix(name, path) {
				names = append(names, host+"/"+name)
			}
		}
		return names, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
	}
	for _, t := range a.live(ctx, host, repository) {
		if strings.HasPrefix(t, tag) {
			names = append(names, host+"/"+repository+":"+t)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// knownHosts are the registries of auth.json and of the contexts.
func (a *app) knownHosts() []string {
	found := map[string]bool{}
	if sys, err := a.global.System(version); err == nil {
		known, _ := config.GetAllCredentials(sys) // what cannot be read cannot be offered
		for key := range known {
			host, _, _ := strings.Cut(key, "/")
			found[host] = true
		}
	}
	if all, err := loadContexts(); err == nil {
		for _, c := range all.Contexts {
			if c.Registry != "" {
				found[c.Registry] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// How long names that a registry gave are offered without asking it again, and how long they are offered when it does not answer
// in time.
const (
	completionFresh = 10 * time.Second
	completionStale = 24 * time.Hour
)

// live are the repositories of a host, or the tags of one of them. The registry is asked as long as a shell may wait. When that is
// too short, what it said earlier is the answer, and a process in the background asks for the next time.
func (a *app) live(ctx context.Context, host, repository string) []string {
	kept := a.completionFile(host, repository)
	names, age := readNames(kept)
	if names != nil && age < completionFresh {
		return names
	}
	wait, given := completionTime, false
	if d, err := time.ParseDuration(os.Getenv("BERTH_COMPLETION_TIME")); err == nil && d > 0 {
		wait, given = d, true
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	fresh, err := a.ask(ctx, host, repository)
	if err == nil {
		writeNames(kept, fresh)
		return fresh
	}
	if ctx.Err() != nil && !given && kept != "" {
		a.askLater(host, repository)
	}
	if age > completionStale {
		return nil
	}
	return names
}

// ask asks a registry for its repositories, or for the tags of one.
func (a *app) ask(ctx context.Context, host, repository string) ([]string, error) {
	sys, err := a.global.System(version)
	if err != nil {
		return nil, err
	}
	c := a.client(sys, option.Retry{}, nil)
	if repository == "" {
		all, err := c.Catalog(ctx, host)
		names := make([]string, len(all))
		for i, n := range all {
			names[i] = n.String()
		}
		return names, err
	}
	name, err := ref.ParseName(repository)
	if err != nil {
		return nil, err
	}
	return c.Repository(host, name).Tags(ctx)
}

// askLater starts a berth that asks, with more time than a shell has, and keeps the answer. Nobody waits for it.
func (a *app) askLater(host, repository string) {
	self, err := os.Executable()
	if err != nil {
		return
	}
	word := "docker://" + host + "/" + repository
	if repository != "" {
		word += ":"
	}
	args := []string{"__complete", "inspect"}
	for name, value := range map[string]string{"--authfile": a.global.AuthFile, "--registries-conf": a.global.RegistriesConf} {
		if value != "" {
			args = append(args, name, value)
		}
	}
	later := exec.Command(self, append(args, word)...) //nolint:gosec // berth itself
	later.Args[0] = "berth"                            // whatever tool it stands in for: inspect is its own
	later.Env = append(os.Environ(), "BERTH_COMPLETION_TIME=20s")
	if err := later.Start(); err == nil {
		_ = later.Process.Release()
	}
}

// completionFile is where names are kept: in the user's cache, under a name that says nothing; "" when there is no such place.
// Whoever is signed in otherwise sees other names, so the files of credentials are part of the name.
func (a *app) completionFile(host, repository string) string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{host, repository, a.global.AuthFile, os.Getenv("REGISTRY_AUTH_FILE"), os.Getenv("DOCKER_CONFIG")}, "\x00")))
	return filepath.Join(dir, "berth", "names", hex.EncodeToString(sum[:16]))
}

func readNames(file string) (names []string, age time.Duration) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, 0
	}
	b, err := readFile(file, 16<<20)
	if err != nil || json.Unmarshal(b, &names) != nil {
		return nil, 0
	}
	return names, time.Since(info.ModTime())
}

// writeNames keeps names. They may be those of private repositories: the files are the user's alone. What cannot be kept is not.
func writeNames(file string, names []string) {
	if file == "" || os.MkdirAll(filepath.Dir(file), 0o700) != nil {
		return
	}
	if b, err := json.Marshal(names); err == nil {
		_ = replaceFile(file, b, 0o600)
	}
}

// complete gives every command of the tree, and every flag, the words that can stand there.
func (a *app) complete(cmd *cobra.Command) {
	words := func(list ...string) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp)
	}
	contextNames := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		all, err := loadContexts()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return slices.Sorted(maps.Keys(all.Contexts)), cobra.ShellCompDirectiveNoFileComp
	}
	hosts := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return a.knownHosts(), cobra.ShellCompDirectiveNoFileComp
	}
	_, arguments, _ := strings.Cut(cmd.Use, " ")
	switch {
	case cmd.ValidArgsFunction != nil || len(cmd.ValidArgs) > 0 || cmd.HasSubCommands():
	case strings.Contains(arguments, "NAME") && cmd.HasParent() && cmd.Parent().Name() == "context" && cmd.Name() != "add":
		cmd.ValidArgsFunction = contextNames
	case strings.Contains(arguments, "IMAGE"), strings.Contains(arguments, "REPOSITORY"):
		cmd.ValidArgsFunction = a.completeRemote
	case strings.Contains(arguments, "HOST"), strings.Contains(arguments, "REGISTRY"):
		cmd.ValidArgsFunction = hosts
	}
	values := map[string][]string{"output": {"table", "wide", "json", "yaml", "name", "csv", "go-template=", "jsonpath="}}
	switch cmd.Name() {
	case "copy", "sync":
		values["format"], values["multi-arch"] = []string{"oci", "v2s1", "v2s2"}, []string{"system", "all", "index-only"}
	case "sign":
		values["format"] = []string{"bundle", "tag", "gpg", "notation"}
	case "verify":
		values["format"] = []string{"cosign", "gpg", "notation"}
	}
	if !cmd.HasParent() {
		values["progress"], values["color"], values["lang"] = []string{"auto", "bar", "plain", "json", "none"}, []string{"auto", "always", "never"}, []string{"en", "zh-CN"}
	}
	flag := func(name string) bool {
		return cmd.Flags().Lookup(name) != nil || cmd.PersistentFlags().Lookup(name) != nil
	}
	for name, list := range values {
		if flag(name) {
			_ = cmd.RegisterFlagCompletionFunc(name, words(list...)) // it is there
		}
	}
	if !cmd.HasParent() && flag("context") {
		_ = cmd.RegisterFlagCompletionFunc("context", contextNames)
	}
	for _, c := range cmd.Commands() {
		a.complete(c)
	}
}
