package interop_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// transcript is what a user sees when berthd refuses: each client's command and all of its standard error.
type transcript struct {
	registries []*registry
	text       strings.Builder
}

func (tr *transcript) add(r result) {
	seen := r.stderr
	if strings.HasPrefix(r.line, "curl ") { // the server's own answer, not a client's words about it
		seen = r.stdout + r.stderr
	}
	fmt.Fprintf(&tr.text, "$ %s\n%s\n\n", tr.normal(r.line), tr.normal(seen))
}

var volatile = []struct {
	pattern *regexp.Regexp
	by      string
}{
	// regctl tells of each layer that it pushes at the same time, in any order; its last line says why.
	{regexp.MustCompile(`(?m)^time=\S+ level=WARN .*\n`), ""},
	{regexp.MustCompile(`time="?[0-9T:.+Z-]+"?`), "time=TIME"},
	{regexp.MustCompile(`\d{4}/\d\d/\d\d \d\d:\d\d:\d\d`), "TIME"},
	{regexp.MustCompile(`"(request|requestId|request_id|req)":"[^"]+"`), `"$1":"REQUEST"`},
	{regexp.MustCompile(`(/[\w.-]+)*/(Test[\w.-]+/|interop)\d+(/[\w.-]+)*`), "FILE"},
	{regexp.MustCompile(`\(\d+ \w+ ago\)`), "(AGE ago)"},
	{regexp.MustCompile(`"manifest-sha256:[0-9a-f]{64}"`), `"manifest-DIGEST"`},
	// Layers are sent side by side, in any order.
	{regexp.MustCompile(`mount=sha256:[0-9a-f]{64}`), "mount=DIGEST"},
	{regexp.MustCompile(`trying to reuse blob sha256:[0-9a-f]{64}`), "trying to reuse blob DIGEST"},
	{regexp.MustCompile(`try again in \d+ seconds`), "try again in N seconds"},
	{regexp.MustCompile(`\r`), ""},
	{regexp.MustCompile(`[ \t]+\n`), "\n"},
}

// normal takes out what differs between two runs: ports, times, temporary folders.
func (tr *transcript) normal(text string) string {
	for _, r := range tr.registries {
		text = strings.ReplaceAll(text, r.host, "HOST")
		text = strings.ReplaceAll(text, r.Addr, "HOST")
	}
	for _, v := range volatile {
		text = v.pattern.ReplaceAllString(text, v.by)
	}
	return strings.TrimRight(text, "\n")
}

// compare holds the transcript against testdata/NAME.golden, or writes it with -update.
func (tr *transcript) compare(t testing.TB, name string) {
	t.Helper()
	got := strings.TrimRight(tr.text.String(), "\n") + "\n"
	file := filepath.Join("testdata", name+".golden")
	if *update {
		writeFile(t, file, []byte(got))
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (go test ./test/interop -run %s -update writes it)", err, t.Name())
	}
	if got == string(want) {
		return
	}
	t.Errorf("what the clients print is not what %s says (-update writes it again)\n%s", file, difference(string(want), got))
}

// difference lists the lines that only one side has; the texts are short, their order seldom changes.
func difference(want, got string) string {
	var out strings.Builder
	only := func(sign string, lines, others []string) {
		for _, line := range lines {
			found := false
			for _, other := range others {
				found = found || line == other
			}
			if !found {
				fmt.Fprintf(&out, "%s %s\n", sign, line)
			}
		}
	}
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	only("-", a, b)
	only("+", b, a)
	if out.Len() == 0 {
		return "the same lines in another order or number:\n" + got
	}
	return out.String()
}
