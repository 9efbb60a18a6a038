package deploy_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// quadletKeys are the keys of podman-systemd.unit(5) of Podman 4.4 to 5 that the files may use: an unknown one makes
// Podman's generator leave the service out, and Debian's Podman has no generator to ask.
func quadletKeys() map[string][]string {
	return map[string][]string{
		"Container": {"Image", "ContainerName", "PublishPort", "Volume", "Environment", "EnvironmentFile", "Secret", "User", "Group", "ReadOnly",
			"DropCapability", "AddCapability", "NoNewPrivileges", "HealthCmd", "HealthInterval", "HealthTimeout", "HealthStartPeriod", "HealthRetries",
			"HealthOnFailure", "Network", "Label", "Exec", "Tmpfs", "PodmanArgs", "AutoUpdate", "Notify", "Timezone"},
		"Volume":  {"Label", "User", "Group", "Copy", "Device", "Options", "Type"},
		"Unit":    {"Description", "Documentation", "After", "Wants", "Requires"},
		"Service": {"Restart", "RestartSec", "TimeoutStartSec", "TimeoutStopSec"},
		"Install": {"WantedBy"},
	}
}

// ini reads a unit file.
func ini(t *testing.T, file string) map[string]map[string][]string {
	t.Helper()
	sections, section := map[string]map[string][]string{}, ""
	for line := range strings.Lines(read(t, file)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[]")
			sections[section] = map[string][]string{}
			continue
		}
		key, value, found := strings.Cut(line, "=")
		if !found || section == "" {
			t.Fatalf("%s: line %q", file, line)
		}
		sections[section][key] = append(sections[section][key], value)
	}
	return sections
}

func TestQuadlet(t *testing.T) {
	dir := tree + "/deploy/quadlet"
	for _, name := range []string{"berth.container", "berth.volume"} {
		for section, keys := range ini(t, filepath.Join(dir, name)) {
			known, there := quadletKeys()[section]
			if !there {
				t.Errorf("%s: section %s", name, section)
			}
			for key := range keys {
				if !slices.Contains(known, key) {
					t.Errorf("%s: key %s in %s is not known to Podman 4.4", name, key, section)
				}
			}
		}
	}

	// It fits to the image.
	c := ini(t, filepath.Join(dir, "berth.container"))["Container"]
	image := read(t, tree+"/deploy/container/Containerfile")
	user, group := c["User"][0], c["Group"][0]
	volume, mount, _ := strings.Cut(c["Volume"][0], ":")
	mount = strings.TrimSuffix(mount, ":U")
	_, port, _ := strings.Cut(c["PublishPort"][0], ":")
	wants(t, image, "USER "+user+":"+group+"\n", "VOLUME "+mount+"\n", "EXPOSE "+port+"\n")
	if !exists(filepath.Join(dir, volume)) {
		t.Errorf("volume %s has no file", volume)
	}
	if c["ReadOnly"][0] != "true" || c["DropCapability"][0] != "all" || c["NoNewPrivileges"][0] != "true" {
		t.Errorf("%v", c)
	}
}
