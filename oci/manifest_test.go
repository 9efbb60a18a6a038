package oci_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/oci"
)

const (
	d1 = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	d2 = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
	d3 = "sha256:3333333333333333333333333333333333333333333333333333333333333333"
)

// desc is a descriptor in JSON.
func desc(mediaType, digest string) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":7}`, mediaType, digest)
}

var (
	config    = desc("application/vnd.oci.image.config.v1+json", d1)
	layer     = desc("application/vnd.oci.image.layer.v1.tar+gzip", d2)
	child     = desc(oci.MediaTypeManifest, d3)
	image     = `{"schemaVersion":2,"mediaType":"` + oci.MediaTypeManifest + `","config":` + config + `,"layers":[` + layer + `]}`
	index     = `{"schemaVersion":2,"mediaType":"` + oci.MediaTypeIndex + `","manifests":[` + child + `]}`
	emptyDesc = `{"mediaType":"` + oci.MediaTypeEmpty + `","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2,"data":"e30="}`
)

func TestParseManifest(t *testing.T) {
	must := func(s string) oci.Digest {
		d, err := oci.ParseDigest(s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	type shape struct {
		mediaType, artifactType string
		config, subject         string
		layers, manifests       []string
		index                   bool
	}
	const cyclone = "application/vnd.cyclonedx+json"
	tests := map[string]struct {
		contentType, body string
		want              shape
	}{
		"image":                 {oci.MediaTypeManifest, image, shape{mediaType: oci.MediaTypeManifest, artifactType: "application/vnd.oci.image.config.v1+json", config: d1, layers: []string{d2}}},
		"image by its own word": {"", image, shape{mediaType: oci.MediaTypeManifest, artifactType: "application/vnd.oci.image.config.v1+json", config: d1, layers: []string{d2}}},
		"image as plain JSON":   {"application/json; charset=utf-8", image, shape{mediaType: oci.MediaTypeManifest, artifactType: "application/vnd.oci.image.config.v1+json", config: d1, layers: []string{d2}}},
		"content type with parameter, in another case": {"Application/vnd.OCI.image.manifest.v1+JSON; charset=utf-8", image, shape{mediaType: oci.MediaTypeManifest, artifactType: "application/vnd.oci.image.config.v1+json", config: d1, layers: []string{d2}}},
		"image without mediaType":                      {oci.MediaTypeManifest, `{"schemaVersion":2,"config":` + config + `,"layers":[]}`, shape{mediaType: oci.MediaTypeManifest, artifactType: "application/vnd.oci.image.config.v1+json", config: d1}},
		"image without layers":                         {oci.MediaTypeManifest, `{"schemaVersion":2,"config":` + config + `}`, shape{mediaType: oci.MediaTypeManifest, artifactType: "application/vnd.oci.image.config.v1+json", config: d1}},
		"docker image": {oci.MediaTypeDockerManifest, `{"schemaVersion":2,"mediaType":"` + oci.MediaTypeDockerManifest + `","config":` + desc("application/vnd.docker.container.image.v1+json", d1) + `,"layers":[` + desc("application/vnd.docker.image.rootfs.diff.tar.gzip", d2) + `]}`,
			shape{mediaType: oci.MediaTypeDockerManifest, artifactType: "application/vnd.docker.container.image.v1+json", config: d1, layers: []string{d2}}},
		"index":       {oci.MediaTypeIndex, index, shape{mediaType: oci.MediaTypeIndex, manifests: []string{d3}, index: true}},
		"empty index": {oci.MediaTypeIndex, `{"schemaVersion":2,"manifests":[]}`, shape{mediaType: oci.MediaTypeIndex, index: true}},
		"docker list": {oci.MediaTypeDockerList, `{"schemaVersion":2,"mediaType":"` + oci.MediaTypeDockerList + `","manifests":[{"mediaType":"` + oci.MediaTypeDockerManifest + `","size":7,"digest":"` + d3 + `","platform":{"architecture":"amd64","os":"linux"}}]}`,
			shape{mediaType: oci.MediaTypeDockerList, manifests: []string{d3}, index: true}},
		"artifact manifest of 1.1 drafts": {oci.MediaTypeArtifact, `{"mediaType":"` + oci.MediaTypeArtifact + `","artifactType":"` + cyclone + `","blobs":[` + desc("text/plain", d2) + `],"subject":` + child + `}`,
			shape{mediaType: oci.MediaTypeArtifact, artifactType: cyclone, subject: d3, layers: []string{d2}}},
		"artifact with the empty config": {oci.MediaTypeManifest, `{"schemaVersion":2,"artifactType":"` + cyclone + `","config":` + emptyDesc + `,"layers":[` + emptyDesc + `],"subject":` + child + `,"annotations":{"mediatype":"is the user's word","MediaType":"and so is this"}}`,
			shape{mediaType: oci.MediaTypeManifest, artifactType: cyclone, config: "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", subject: d3, layers: []string{"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}}},
		"type of its own": {"application/vnd.example.thing.v1+json", `{"hello":["world",1.5e3,true,null]}`, shape{mediaType: "application/vnd.example.thing.v1+json"}},
		"unknown fields":  {oci.MediaTypeIndex, `{"schemaVersion":2,"manifests":[],"x":{"a":[[[]]],"\u00e9":"\ud83d\ude00\\\""}}`, shape{mediaType: oci.MediaTypeIndex, index: true}},
		"null lists":      {oci.MediaTypeManifest, `{"schemaVersion":2,"config":` + config + `,"layers":null,"manifests":null,"subject":null}`, shape{mediaType: oci.MediaTypeManifest, artifactType: "application/vnd.oci.image.config.v1+json", config: d1}},
		"white space":     {oci.MediaTypeIndex, " \n\t{ \"schemaVersion\" :\r\n2 , \"manifests\" : [ ] } \n", shape{mediaType: oci.MediaTypeIndex, index: true}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			m, err := oci.ParseManifest(test.contentType, []byte(test.body))
			if err != nil {
				t.Fatal(err)
			}
			got := shape{mediaType: m.MediaType, artifactType: m.ArtifactType, index: m.IsIndex()}
			if m.Config != nil {
				got.config = m.Config.Digest.String()
			}
			if m.Subject != nil {
				got.subject = m.Subject.Digest.String()
			}
			for _, l := range m.Layers {
				got.layers = append(got.layers, l.Digest.String())
			}
			for _, c := range m.Manifests {
				got.manifests = append(got.manifests, must(c.Digest.String()).String())
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("\n got %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func TestParseManifestRefuses(t *testing.T) {
	deep := func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }
	with := func(fields string) string { // an image with more in it
		return strings.TrimSuffix(image, "}") + "," + fields + "}"
	}
	many := func(n int) string {
		return `{"schemaVersion":2,"config":` + config + `,"layers":[` + strings.Repeat(layer+",", n-1) + layer + `]}`
	}
	keys := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"%x":"",`, i)
		}
		return `{"schemaVersion":2,"config":` + config + `,"layers":[],"annotations":{` + strings.TrimSuffix(b.String(), ",") + `}}`
	}
	tests := map[string]struct{ contentType, body, says string }{
		"nothing":                    {oci.MediaTypeManifest, "", "not a JSON object"},
		"white space":                {oci.MediaTypeManifest, " \n", "not a JSON object"},
		"a list":                     {oci.MediaTypeManifest, "[" + image + "]", "not a JSON object"},
		"null":                       {oci.MediaTypeManifest, "null", "not a JSON object"},
		"cut off":                    {oci.MediaTypeManifest, image[:len(image)-1], "not valid JSON"},
		"cut in a string":            {oci.MediaTypeManifest, `{"a`, "not valid JSON"},
		"cut in an escape":           {oci.MediaTypeManifest, `{"a\`, "not valid JSON"},
		"two documents":              {oci.MediaTypeManifest, image + image, "not valid JSON"},
		"rubbish behind":             {oci.MediaTypeManifest, image + "x", "not valid JSON"},
		"byte order mark":            {oci.MediaTypeManifest, "\ufeff" + image, "not a JSON object"},
		"comment":                    {oci.MediaTypeManifest, "{/*x*/" + image[1:], "not valid JSON"},
		"single quotes":              {oci.MediaTypeManifest, `{'a':1}`, "not valid JSON"},
		"NaN":                        {oci.MediaTypeManifest, with(`"x":NaN`), "not valid JSON"},
		"invalid UTF-8":              {oci.MediaTypeManifest, with("\"x\":\"\xff\""), "UTF-8"},
		"overlong UTF-8":             {oci.MediaTypeManifest, with("\"x\":\"\xc0\xaf\""), "UTF-8"},
		"surrogate in UTF-8":         {oci.MediaTypeManifest, with("\"x\":\"\xed\xa0\x80\""), "UTF-8"},
		"UTF-16":                     {oci.MediaTypeManifest, "\xff\xfe{\x00}\x00", "UTF-8"},
		"control character":          {oci.MediaTypeManifest, with("\"x\":\"\x00\""), "not valid JSON"},
		"duplicate key":              {oci.MediaTypeManifest, with(`"schemaVersion":2`), `key "schemaVersion" twice`},
		"duplicate key, escaped":     {oci.MediaTypeManifest, with(`"l\u0061yers":[]`), `key "layers" twice`},
		"duplicate key of the user":  {oci.MediaTypeManifest, with(`"annotations":{"a":"1","a":"2"}`), `key "a" twice`},
		"duplicate key far below":    {oci.MediaTypeManifest, with(`"x":[[{"y":{"z":1,"z":1}}]]`), `key "z" twice`},
		"duplicate key in a crowd":   {oci.MediaTypeManifest, with(`"x":{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"k":1,"l":1,"m":1,"n":1,"n":1}`), `key "n" twice`},
		"duplicate key, first again": {oci.MediaTypeManifest, with(`"x":{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"k":1,"l":1,"m":1,"n":1,"a":1}`), `key "a" twice`},
		"duplicate empty key":        {oci.MediaTypeManifest, with(`"":1,"":2`), `key "" twice`},
		"key in another case":        {oci.MediaTypeManifest, with(`"Manifests":[]`), `key "Manifests", which some readers take for "manifests"`},
		"key all capitals":           {oci.MediaTypeManifest, with(`"SUBJECT":` + child), `take for "subject"`},
		"key with a long s":          {oci.MediaTypeManifest, with(`"manife` + "\u017f" + `ts":[` + child + `]`), "take for"},
		"key with a kelvin sign":     {oci.MediaTypeManifest, with(`"x":1,"` + "\u212a" + `":1,"layer` + "\u017f" + `":[]`), "take for"},
		"key in a descriptor":        {oci.MediaTypeManifest, `{"schemaVersion":2,"config":` + config + `,"layers":[{"mediaType":"a/b","digest":"` + d2 + `","Digest":"` + d1 + `","size":1}]}`, `take for "digest"`},
		"depth 33":                   {oci.MediaTypeManifest, deep(33), "nested deeper than 32"},
		"depth 2,000,000 of objects": {oci.MediaTypeManifest, deep(600_000), "nested deeper than 32"},
		"depth 2,000,000 of lists":   {oci.MediaTypeManifest, `{"a":` + strings.Repeat("[", 2_000_000), "nested deeper than 32"},
		"manifest and index":         {"", with(`"manifests":[` + child + `]`), "both manifests and layers"},
		"empty manifests in image":   {oci.MediaTypeManifest, with(`"manifests":[]`), "both manifests and layers"},
		"layers in an index":         {oci.MediaTypeIndex, strings.TrimSuffix(index, "}") + `,"layers":[]}`, "both manifests and layers"},
		"config in an index":         {oci.MediaTypeIndex, strings.TrimSuffix(index, "}") + `,"config":` + config + `}`, "both manifests"},
		"blobs in an index":          {oci.MediaTypeIndex, strings.TrimSuffix(index, "}") + `,"blobs":[]}`, "both manifests"},
		"both in a type of its own":  {"application/vnd.example+json", `{"manifests":[],"layers":[]}`, "both manifests"},
		"index said to be an image":  {oci.MediaTypeManifest, `{"schemaVersion":2,"manifests":[` + child + `]}`, "has a list of manifests"},
		"image said to be an index":  {oci.MediaTypeIndex, `{"schemaVersion":2,"config":` + config + `,"layers":[]}`, "has layers, config or blobs"},
		"header against body":        {oci.MediaTypeIndex, image, "they must agree"},
		"header of docker":           {oci.MediaTypeDockerManifest, image, "they must agree"},
		"no type at all":             {"", `{"schemaVersion":2,"manifests":[]}`, "neither a Content-Type header nor a mediaType"},
		"octets":                     {"application/octet-stream", image, "not a manifest's"},
		"HTML":                       {"text/html", image, "not a manifest's"},
		"broken content type":        {"application/", image, "malformed"},
		"long content type":          {"application/" + strings.Repeat("x", 300) + "+json", `{}`, "malformed"},
		"schema 1":                   {"application/vnd.docker.distribution.manifest.v1+json", `{"schemaVersion":1,"name":"a","tag":"b","fsLayers":[],"history":[]}`, "schema 1"},
		"schema 1 signed":            {"application/vnd.docker.distribution.manifest.v1+prettyjws", `{"schemaVersion":1,"signatures":[]}`, "schema 1"},
		"schema 1 by its own word":   {"", `{"schemaVersion":1,"mediaType":"application/vnd.docker.distribution.manifest.v1+json"}`, "schema 1"},
		"schema version 1":           {oci.MediaTypeManifest, `{"schemaVersion":1,"config":` + config + `,"layers":[]}`, "schemaVersion 2"},
		"schema version as text":     {oci.MediaTypeManifest, `{"schemaVersion":"2","config":` + config + `,"layers":[]}`, "shape"},
		"no schema version":          {oci.MediaTypeIndex, `{"manifests":[]}`, "schemaVersion 2"},
		"no config":                  {oci.MediaTypeManifest, `{"schemaVersion":2,"layers":[]}`, "no config"},
		"null config":                {oci.MediaTypeManifest, `{"schemaVersion":2,"config":null,"layers":[]}`, "no config"},
		"empty config":               {oci.MediaTypeManifest, `{"schemaVersion":2,"config":{},"layers":[]}`, "without a digest"},
		"layer without digest":       {oci.MediaTypeManifest, `{"schemaVersion":2,"config":` + config + `,"layers":[{}]}`, "without a digest"},
		"null layer":                 {oci.MediaTypeManifest, `{"schemaVersion":2,"config":` + config + `,"layers":[null]}`, "without a digest"},
		"empty subject":              {oci.MediaTypeManifest, with(`"subject":{}`), "without a digest"},
		"short digest":               {oci.MediaTypeManifest, strings.Replace(image, d2, "sha256:abc", 1), "has 3 digits"},
		"digest of traversal":        {oci.MediaTypeManifest, strings.Replace(image, d2, "../../etc/passwd", 1), "no algorithm"},
		"negative size":              {oci.MediaTypeManifest, strings.Replace(image, `"size":7`, `"size":-1`, 1), "size"},
		"huge size":                  {oci.MediaTypeManifest, strings.Replace(image, `"size":7`, `"size":9223372036854775808`, 1), "shape"},
		"broken size":                {oci.MediaTypeManifest, strings.Replace(image, `"size":7`, `"size":1.5`, 1), "shape"},
		"layers as object":           {oci.MediaTypeManifest, `{"schemaVersion":2,"config":` + config + `,"layers":{}}`, "shape"},
		"annotations as list":        {oci.MediaTypeManifest, with(`"annotations":[]`), "shape"},
		"annotation as number":       {oci.MediaTypeManifest, with(`"annotations":{"a":1}`), "shape"},
		"16,385 layers":              {oci.MediaTypeManifest, many(16385), "at most 16384"},
		"131,073 keys":               {oci.MediaTypeManifest, keys(131_072), "at most 131072"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			m, err := oci.ParseManifest(test.contentType, []byte(test.body))
			if err == nil {
				t.Fatalf("accepted: %+v", m)
			}
			// A digest inside of a manifest that is malformed is MANIFEST_INVALID, too: the request's digest is fine.
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v; want it to say %q", err, test.says)
			}
			if !fault.Has(err, fault.ManifestInvalid) {
				t.Errorf("reason of %v is %s", err, fault.Of(err).Reason)
			}
			for _, ours := range []string{" Go ", "struct field", "document.", "Descriptor.", "json:", "unmarshal"} {
				if strings.Contains(err.Error(), ours) {
					t.Errorf("%v speaks of our inside", err)
				}
			}
			if len(err.Error()) > 500 {
				t.Errorf("message of %d bytes", len(err.Error()))
			}
		})
	}
	if _, err := oci.ParseManifest(oci.MediaTypeManifest, []byte(many(16384))); err != nil {
		t.Errorf("as many layers as are allowed: %v", err)
	}
	if _, err := oci.ParseManifest(oci.MediaTypeManifest, []byte(keys(131_000))); err != nil {
		t.Errorf("nearly as many keys as are allowed: %v", err)
	}
	if _, err := oci.ParseManifest("application/vnd.example+json", []byte(deep(32))); err != nil {
		t.Errorf("as deep as is allowed: %v", err)
	}
}

func TestExternal(t *testing.T) {
	for _, test := range []struct {
		d    oci.Descriptor
		want bool
	}{
		{oci.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip"}, false},
		{oci.Descriptor{MediaType: "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"}, true},
		{oci.Descriptor{MediaType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}, true},
		{oci.Descriptor{MediaType: "text/plain", URLs: []string{"https://example.com/x"}}, true},
		{oci.Descriptor{MediaType: "text/plain", URLs: []string{}}, false},
	} {
		if test.d.External() != test.want {
			t.Errorf("%+v: %v", test.d, !test.want)
		}
	}
}

// Whatever 4 MiB of JSON can be made of, reading it costs a bounded multiple of its size in memory, and no more time
// than the JSON reader of the library takes for honest content.
func TestParseManifestHostile(t *testing.T) {
	const limit = 4 << 20
	fill := func(head, unit, tail string) string {
		n := (limit - len(head) - len(tail)) / len(unit)
		return head + strings.TrimSuffix(strings.Repeat(unit, n), ",") + tail
	}
	var annotations, keys strings.Builder
	for i := range 150_000 {
		fmt.Fprintf(&annotations, `"k%d":"v",`, i)
	}
	for i := range 350_000 {
		fmt.Fprintf(&keys, `"%x":1,`, i)
	}
	bodies := map[string]string{
		"150,000 annotations":   strings.TrimSuffix(image, "}") + `,"annotations":{` + strings.TrimSuffix(annotations.String(), ",") + "}}",
		"350,000 keys":          strings.TrimSuffix(image, "}") + `,"x":{` + strings.TrimSuffix(keys.String(), ",") + "}}",
		"empty layers":          fill(`{"schemaVersion":2,"config":`+config+`,"layers":[`, `{},`, `]}`),
		"honest layers":         fill(`{"schemaVersion":2,"config":`+config+`,"layers":[`, layer+",", `]}`),
		"null children":         fill(`{"schemaVersion":2,"manifests":[`, `null,`, `]}`),
		"open brackets":         fill(`{"x":`, `[`, ``),
		"open objects":          fill(``, `{"a":`, ``),
		"one key":               fill(`{"`, `a`, `":1}`),
		"one escaped key":       fill(`{"`, `\u0061`, `":1}`),
		"escaped quotes":        fill(`{"x":"`, `\"`, `"}`),
		"duplicate keys":        fill(`{`, `"a":1,`, `}`),
		"escaped keys":          fill(`{"x":[`, `{"\u0061":1},`, `]}`),
		"numbers":               fill(`{"x":`, `9`, `}`),
		"wide and flat":         fill(`{"x":[`, `1,`, `]}`),
		"urls":                  fill(`{"schemaVersion":2,"config":{"digest":"`+d1+`","urls":[`, `"",`, `]}}`),
		"unclosed string":       fill(`{"`, `a`, ``),
		"white space":           fill(`{`, ` `, `}`),
		"maps in descriptors":   fill(`{"schemaVersion":2,"manifests":[`, `{"annotations":{"a":"b"}},`, `]}`),
		"long media type":       fill(`{"schemaVersion":2,"mediaType":"`, `a`, `"}`),
		"keys with many sounds": fill(`{"x":{"`, "\u017f", `":1}}`),
	}
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			start := worked(t)
			_, err := oci.ParseManifest(oci.MediaTypeManifest, []byte(body))
			took := worked(t) - start
			runtime.ReadMemStats(&after)
			if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; mib > 100 {
				t.Errorf("%d MiB were allocated for %d KiB (%v)", mib, len(body)>>10, err)
			}
			if took > 10*time.Second {
				t.Errorf("took %s (%v)", took, err)
			}
			if err != nil && len(err.Error()) > 500 {
				t.Errorf("message of %d bytes", len(err.Error()))
			}
		})
	}
}

// worked is how long this process has had a processor: a machine that is busy with other things does not add to it.
func worked(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func FuzzParseManifest(f *testing.F) {
	for _, s := range []string{image, index, `{}`, `{"schemaVersion":2,"config":` + emptyDesc + `,"layers":[]}`, `{"a":"\`, `{"a":{"a":1,"\u0061":2}}`, `{"Layers":[]}`, `{"annotations":{"Layers":""}}`} {
		f.Add(oci.MediaTypeManifest, []byte(s))
		f.Add("", []byte(s))
	}
	f.Add(oci.MediaTypeIndex, []byte(index))
	f.Add("application/json; charset=utf-8", []byte(index))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		before := string(body)
		m, err := oci.ParseManifest(contentType, body)
		if string(body) != before {
			t.Fatal("the body was changed")
		}
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("%v is not the sender's fault", err)
			}
			return
		}
		if m.MediaType == "" || m.IsIndex() && m.Config != nil {
			t.Fatalf("%+v", m)
		}
		// Another reader, strict in nothing, must see the same: the library's takes keys in any case and the last of two.
		var other struct {
			Config    *struct{ Digest string }
			Manifests []struct{ Digest string }
			Subject   *struct{ Digest string }
		}
		if err := json.Unmarshal(body, &other); err != nil {
			t.Fatalf("the library refuses what was accepted: %v", err)
		}
		if (other.Config == nil) != (m.Config == nil) || other.Config != nil && other.Config.Digest != m.Config.Digest.String() ||
			(other.Subject == nil) != (m.Subject == nil) || len(other.Manifests) != len(m.Manifests) {
			t.Fatalf("two readings of %q", body)
		}
	})
}
