package hostile_test

import (
	"fmt"
	"strings"
)

const imageType = "application/vnd.oci.image.manifest.v1+json"

// manifestCases are bodies that are no manifest, or one that two readers would understand in two ways.
func manifestCases(repo, config string) []request {
	const index = "application/vnd.oci.image.index.v1+json"
	long := strings.Repeat("a", 5000)
	descriptor := func(fields string) string {
		return `{"mediaType":"application/vnd.oci.empty.v1+json","digest":"` + config + `","size":2` + fields + `}`
	}
	image := func(fields string) string {
		return `{"schemaVersion":2,"mediaType":"` + imageType + `","config":` + descriptor("") + `,"layers":[]` + fields + `}`
	}
	bodies := []string{
		"", " ", "null", "true", "1", `"x"`, "[]", "{", "}", "{}", "{}{}", "{} x", "[" + strings.Repeat("[", 200_000), strings.Repeat(`{"a":`, 100_000), strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000),
		strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000), "\x00", "\xff\xfe{}", "\xef\xbb\xbf" + image(""), image("") + "\x00", image("") + image(""), image(`,"layers":[]`), image(`,"config":` + descriptor("")), image(`,"schemaVersion":1`),
		image(`,"Layers":[]`), image(`,"\u006cayers":[]`), image(`,"x":{"a":1,"a":2}`), image(`,"manifests":[]`), image(`,"subject":1`), image(`,"subject":{}`), image(`,"subject":{"digest":"x"}`), image(`,"subject":` + descriptor(`,"size":-1`)),
		image(`,"annotations":[]`), image(`,"annotations":{"a":1}`), image(`,"annotations":"x"`), image(`,"artifactType":1`), image(`,"artifactType":"a\u0000b"`), image(`,"artifactType":"` + long + `"`), image(`,"artifactType":"\ud800"` + `,"x":` + strings.Repeat("[", 50) + strings.Repeat("]", 50)),
		image(`,"x":1e999999999x`), image(`,"x":"` + "\x01" + `"`), image(`,"x":"` + "\xff" + `"`), image(`,"x":nul`), image(`,`), image(`,"x"`), `{"schemaVersion":2}`, `{"schemaVersion":"2","config":{}}`, `{"schemaVersion":99999999999999999999}`,
		`{"schemaVersion":2,"config":null,"layers":null}`, `{"schemaVersion":2,"config":[],"layers":{}}`, `{"schemaVersion":2,"config":{"digest":"sha256:x"},"layers":[]}`, `{"schemaVersion":2,"config":{"digest":"` + config + `","size":-5,"mediaType":"a/b"},"layers":[]}`,
		`{"schemaVersion":2,"config":{"digest":"` + config + `","size":1e400,"mediaType":"a/b"},"layers":[]}`, `{"schemaVersion":2,"config":{"digest":"` + config + `","size":2.5,"mediaType":"a/b"},"layers":[]}`, `{"schemaVersion":2,"config":{"digest":"../../etc/passwd","size":2},"layers":[]}`,
		`{"schemaVersion":2,"config":{"digest":"` + config + `","size":2,"mediaType":"a\u0000b"},"layers":[]}`, `{"schemaVersion":2,"config":{"digest":"` + config + `","size":2,"mediaType":"` + long + `"},"layers":[]}`,
		image(`,"layers2":[` + strings.Repeat(descriptor("")+",", 3)), `{"schemaVersion":2,"config":` + descriptor("") + `,"layers":[` + strings.Repeat(descriptor("")+",", 17_000) + descriptor("") + `]}`,
		`{"schemaVersion":2,"config":` + descriptor("") + `,"layers":[{"mediaType":"a/b","digest":"sha256:` + zeros + `","size":3}]}`, strings.Repeat(" ", 4<<20) + image(""), strings.Repeat("x", 5<<20),
		image(`,"subject":` + descriptor("") + `,"artifactType":"\u0000"`), image(`,"mediaType":"a/b+json"`),
	}
	var out []request
	put := func(contentType, body string) {
		q := request{method: "PUT", target: "/v2/" + repo + "/manifests/hostile", body: []byte(body)}
		if contentType != "" {
			q.header = []string{"Content-Type: " + contentType}
		}
		out = append(out, q)
	}
	for _, b := range bodies {
		put(imageType, b)
		if len(b) < 1<<20 {
			q := request{method: "PUT", target: "/v2/" + repo + "/manifests/sha256:" + zeros, header: []string{"Content-Type: " + imageType}, body: []byte(b)}
			out = append(out, q)
		}
	}
	for _, b := range []string{
		"{}", `{"manifests":1}`, `{"schemaVersion":2,"manifests":[1]}`, `{"schemaVersion":2,"manifests":[{}]}`, `{"schemaVersion":2,"manifests":[{"digest":"x"}]}`, `{"schemaVersion":2,"layers":[],"manifests":[]}`,
		`{"schemaVersion":1,"manifests":[]}`, `{"schemaVersion":2,"manifests":[],"manifests":[]}`, `{"schemaVersion":2,"Manifests":[]}`,
	} {
		put(index, b)
	}
	for _, kind := range []string{
		"text/plain", "x", "/", "a/b", "application/json", "*/*", "application/vnd.docker.distribution.manifest.v1+json", "application/vnd.docker.distribution.manifest.v1+prettyjws", "application/" + long + "+json", "application/x+json; charset",
		"multipart/form-data; boundary=x", "application/\xff+json", "application/octet-stream", "a+json", index,
	} {
		put(kind, `{"schemaVersion":2,"config":{},"layers":[]}`)
	}
	// More tags than anybody needs, and one among them that is none.
	tags := make([]string, 2000)
	for i := range tags {
		tags[i] = fmt.Sprintf("tag=t%d", i)
	}
	out = append(out,
		request{method: "PUT", target: "/v2/" + repo + "/manifests/sha256:" + zeros + "?" + strings.Join(tags, "&"), header: []string{"Content-Type: " + imageType}, body: []byte(image(""))},
		request{method: "PUT", target: "/v2/" + repo + "/manifests/sha256:" + zeros + "?tag=a&tag=-b", header: []string{"Content-Type: " + imageType}, body: []byte(image(""))})
	return out
}
