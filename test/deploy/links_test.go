package deploy_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The documents about deploying, and all that are in Chinese, lead to files that are there; a page in two languages leads
// from each to the other, and says the same commands.
func TestDocumentLinks(t *testing.T) {
	docs := tree + "/docs/"
	files := []string{docs + "operate/install.md", tree + "/deploy/README.md", tree + "/deploy/compose/README.md", tree + "/deploy/kubernetes/README.md"}
	translated, err := filepath.Glob(docs + "zh-CN/*.md")
	if err != nil || len(translated) < 10 {
		t.Fatalf("%d pages in Chinese, %v", len(translated), err)
	}
	for _, file := range translated {
		files = append(files, file)
		name := filepath.Base(file)
		original := docs + "operate/" + name
		if !exists(original) {
			continue
		}
		files = append(files, original)
		wants(t, read(t, original), "[中文](../zh-CN/"+name+")")
		wants(t, read(t, file), "[English](../operate/"+name+")")
	}
	for _, file := range files {
		for _, link := range regexp.MustCompile(`\]\(([^)#]+)(#[a-z0-9-]+)?\)`).FindAllStringSubmatch(read(t, file), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			target := filepath.Join(filepath.Dir(file), link[1])
			if !exists(target) {
				t.Errorf("%s: no %s", file, link[1])
			} else if link[2] != "" && !strings.Contains(anchors(read(t, target)), "\n"+link[2]+"\n") {
				t.Errorf("%s: no heading %s in %s", file, link[2], link[1])
			}
		}
	}
	english, chinese := read(t, docs+"operate/ha.md"), read(t, docs+"zh-CN/ha.md")
	for _, command := range regexp.MustCompile("(?s)   ```sh\n.*?```").FindAllString(english, -1) {
		wants(t, chinese, command)
	}
}

// anchors are the headings of a document as addresses, one in a line.
func anchors(text string) string {
	list := "\n"
	for line := range strings.Lines(text) {
		if title, found := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); found && strings.HasPrefix(line, "#") {
			title = regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
			list += "#" + strings.ReplaceAll(title, " ", "-") + "\n"
		}
	}
	return list
}
