package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const unitFile = tree + "/deploy/systemd/berthd.service"

// exposureBound is what systemd-analyze may find at most, of 10. A service that has to be reached and to write cannot be
// much below 1.5.
const exposureBound = 1.7

// installUnit lays the unit and drop-ins out as an administrator does, with a program where ExecStart says.
func installUnit(t *testing.T, dropIns ...string) string {
	t.Helper()
	root := t.TempDir()
	unit := strings.ReplaceAll(read(t, unitFile), "/usr/local/bin/berthd", write(t, filepath.Join(root, "berthd"), "#!/bin/sh\n"))
	if err := os.Chmod(filepath.Join(root, "berthd"), 0o755); err != nil {
		t.Fatal(err)
	}
	path := write(t, filepath.Join(root, "berthd.service"), unit)
	for _, name := range dropIns {
		write(t, filepath.Join(root, "berthd.service.d", name), read(t, filepath.Join(tree, "deploy", "systemd", "drop-in", name)))
	}
	return path
}

func TestUnit(t *testing.T) {
	analyze := peer(t, "systemd-analyze")
	for name, dropIns := range map[string][]string{
		"alone": nil, "port 443": {"port-443.conf"}, "replica": {"postgresql-s3.conf"}, "both": {"port-443.conf", "postgresql-s3.conf"},
	} {
		t.Run(name, func(t *testing.T) {
			unit := installUnit(t, dropIns...)
			// It prints what it ignores, and succeeds.
			if _, out, err := (command{}).try(t, analyze, "verify", unit); err != nil || strings.TrimSpace(out) != "" {
				t.Errorf("systemd-analyze verify: %v\n%s", err, out)
			}
			_, out, err := command{}.try(t, analyze, "security", "--offline=yes", "--no-pager", unit)
			found := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindStringSubmatch(out)
			if err != nil || found == nil {
				t.Fatalf("%v\n%s", err, out)
			}
			bound := exposureBound
			if strings.Contains(strings.Join(dropIns, " "), "443") {
				bound += 0.4 // a capability, and no user namespace
			}
			if level, err := strconv.ParseFloat(found[1], 64); err != nil || level > bound {
				t.Errorf("exposure %s, at most %.1f:\n%s", found[1], bound, out)
			}
		})
	}
}

// Every variable of the unit and its drop-ins is one that berthd knows.
func TestUnitEnvironment(t *testing.T) {
	files, err := filepath.Glob(tree + "/deploy/systemd/drop-in/*.conf")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range append(files, unitFile, tree+"/deploy/quadlet/berth.container") {
		knownVariables(t, read(t, file))
	}
}

// filter is SystemCallFilter= of the unit: the allowed system calls, in groups and one by one, without what is taken away.
func filter(t *testing.T) (allowed []string) {
	t.Helper()
	analyze := peer(t, "systemd-analyze")
	group := func(name string) map[string]bool {
		set := map[string]bool{}
		var add func(name string)
		add = func(name string) {
			for line := range strings.Lines(command{}.run(t, analyze, "--no-pager", "syscall-filter", name)) {
				switch line = strings.TrimSpace(line); {
				case line == "" || line == name || strings.HasPrefix(line, "#"):
				case strings.HasPrefix(line, "@"):
					add(line)
				default:
					set[line] = true
				}
			}
		}
		add(name)
		return set
	}
	set := map[string]bool{}
	for line := range strings.Lines(read(t, unitFile)) {
		value, found := strings.CutPrefix(strings.TrimSpace(line), "SystemCallFilter=")
		if !found {
			continue
		}
		names, take := strings.CutPrefix(value, "~")
		for name := range strings.FieldsSeq(names) {
			for call := range group(name) {
				if take {
					delete(set, call)
				} else {
					set[call] = true
				}
			}
		}
	}
	for call := range set {
		allowed = append(allowed, call)
	}
	if len(allowed) < 100 {
		t.Fatalf("%d system calls in the filter: it was not read", len(allowed))
	}
	return allowed
}
