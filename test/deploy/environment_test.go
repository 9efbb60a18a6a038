package deploy_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/berth-registry/berth/internal/testkit"
)

// knownVariables checks that every BERTH_ and REGISTRY_ variable of a text is one that berthd reads.
func knownVariables(t *testing.T, text string) {
	t.Helper()
	known := "\n" + command{}.run(t, testkit.BuildBerthd(t), "config", "env")
	for _, name := range regexp.MustCompile(`\b(BERTH|REGISTRY)_[A-Z0-9_]+\b`).FindAllString(text, -1) {
		switch name {
		case "BERTH_CONFIG", "BERTH_PORT", "BERTH_IMAGE": // the last two are of the Compose file
			continue
		}
		if !strings.Contains(known, "\n"+name+" ") {
			t.Errorf("variable %s is not known to berthd", name)
		}
	}
}
