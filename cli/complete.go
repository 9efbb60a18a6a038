package cli

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/docker/config"
)

// completionTime is how long a shell waits for live names, unless BERTH_COMPLETION_TIME says otherwise.
const completionTime = 200 * time.Millisecond

// completeImage completes an image name: its transport, the registries that one is signed in to, and the tags of the
// repository, asked of the registry within completionTime.
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
	if !strings.Contains(rest, "/") {
		return a.completeHost(rest), more | cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeTag(cmd.Context(), rest), cobra.ShellCompDirectiveNoFileComp
}

// completeHost offers the registries of auth.json.
func (a *app) completeHost(word string) []string {
	sys, err := a.global.System(version)
	if err != nil {
		return nil
	}
	known, err := config.GetAllCredentials(sys)
	if err != nil {
		return nil
	}
	var hosts []string
	for host := range known {
		if strings.HasPrefix(host, word) {
			hosts = append(hosts, "docker://"+host+"/")
		}
	}
	slices.Sort(hosts)
	return hosts
}

// completeTag offers the tags of the repository before the last colon.
func (a *app) completeTag(ctx context.Context, word string) []string {
	at := strings.LastIndexByte(word, ':')
	if at < strings.IndexByte(word, '/') {
		return nil
	}
	named, err := reference.ParseNormalizedNamed(word[:at])
	if err != nil {
		return nil
	}
	sys, err := a.global.System(version)
	if err != nil {
		return nil
	}
	ref, err := docker.NewReference(reference.TagNameOnly(named))
	if err != nil {
		return nil
	}
	if ctx == nil {
		ctx = context.Background()
	}
	patience := completionTime
	if d, err := time.ParseDuration(os.Getenv("BERTH_COMPLETION_TIME")); err == nil && d > 0 {
		patience = d
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if sys, err = withStored(sys, ref); err != nil {
		return nil
	}
	tags, err := docker.GetRepositoryTags(ctx, sys, ref)
	if err != nil {
		return nil
	}
	var names []string
	for _, tag := range tags {
		if strings.HasPrefix(tag, word[at+1:]) {
			names = append(names, "docker://"+word[:at]+":"+tag)
		}
	}
	return names
}
