package hostile_test

import (
	"fmt"
	"strings"
)

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

// names that no repository can have, as they stand in a request line.
func badNames() []string {
	list := []string{
		"A", "Team/app", "team/App", "team/aPp", "-a", "a-", "a/-b", "a/b-", ".a", "a.", "a..b", "_a", "a_", "a___b", "a._b", "a-.b", "a//b", "/a",
		"a/", "//", "a/./b", "a/../b", "..", ".", "../a", "a/..", "./a", "...", "a/.../b", "%2e%2e", "%2e%2e/a", "a/%2e%2e/b", "a%2f..%2fb",
		"%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..%2f..%2fetc", "..%5c..%5cwindows", "a%5cb", "a\\b", "%5c%5chost", "a%00b", "a%00", "%00", "a%0ab", "a%0d%0ab",
		"a%09b", "a%20b", "a%7fb", "a%ffb", "a%c0%afb", "a%c3%28b", "%e2%80%8b", "a%e2%80%aeb", "caf%c3%a9", "%F0%9F%92%A9", "a:b", "a@b", "a@sha256:" + zeros, "a%3fb",
		"a%23b", "a%25b", "a%252fb", "a%252e%252e", "a;b", "a,b", "a=b", "a&b", "a+b", "a*b", "a!b", "a$b", "a~b", "a(b)", "a'b", "a%22b", "a%3cscript%3e",
		"%24%7bjndi%7d", "%7b%7b7*7%7d%7d", "a'%20or%201=1--", "a%27;drop%20table%20tag;--", strings.Repeat("a", 256), strings.Repeat("a/", 128) + "aa",
		strings.Repeat("a", 4000), "a" + strings.Repeat("-", 300) + "b", "con%00.txt", "a/b/c/d/E",
	}
	return list
}

var badTags = []string{
	".a", "-a", "..", "%2e%2e", "%2e%2e%2fx", "a%2fb", "a%00", "%00", "a%0a", "a%20b", "%20", "a+b", "a,b", "a;b", "a%40b", "a%5cb", "a%ff", "a%c0%af", "caf%c3%a9", "%e2%80%8b",
	"a!b", "a*", "$(x)", "%24%7bx%7d", "a%22b", "a%27", "a%3cb%3e", strings.Repeat("a", 129), strings.Repeat("a", 3000),
}

var badDigests = []string{
	"sha256:", "sha256:0", "sha256:" + zeros[:63], "sha256:" + zeros + "0", "sha256:" + strings.Repeat("A", 64), "sha256:" + strings.Repeat("g", 64), "SHA256:" + zeros,
	"sha512:" + zeros, "sha512:" + zeros + zeros[:63], "sha1:" + zeros[:40], "md5:d41d8cd98f00b204e9800998ecf8427e", "sha384:" + zeros, "sha256+b64:" + zeros, ":" + zeros, "sha256::" + zeros,
	"sha256:" + zeros + ":", "sha256:" + zeros[:62] + "%00", "%00:" + zeros, "sha256:" + zeros[:60] + "%2e%2e%2f", "sha256:..%2f..%2f" + zeros[:50], "sha256:%2e%2e", "sha256:" + zeros[:62] + "%ff",
	"sha256:" + zeros[:63] + "%20", "%20sha256:" + zeros, "sha256:%0a" + zeros[:63], "sha256:" + strings.Repeat("0", 3000), "a:b", ":", "::", "sha256:-1", "x%3a" + zeros,
}

var badSessions = []string{
	"x", "..", "%2e%2e", "%2e%2e%2f%2e%2e", "%00", "a%00b", "-", "00000000-0000-0000-0000-000000000000", zeros, strings.Repeat("a", 66), strings.Repeat("f", 3000), "%ff", "%c0%af", "a%20b",
	"a%0ab", "a'--", "%24%7bx%7d", "A", "sha256:" + zeros, "1e309", "%5c..%5c", strings.Repeat("-", 66), "..;",
}

var badContentRanges = []string{
	"abc", "0", "-", "0-", "-9", "9-0", "0-9-9", "a-b", "0x0-0x9", "0-99999999999999999999999", "0-4", "0-19", "0 - 9", "bytes 0-9/10", "bytes=0-9", "bytes 0-9", "0-9/10", "0-9/*", "*/10", "+0-9",
	"-0-9", "0--9", "00-0e9", "1-10", "5-14", "9223372036854775807-9223372036854775807", "0-9223372036854775807", "9223372036854775798-9223372036854775807", "18446744073709551615-18446744073709551624",
	"0-9,10-19", "0-9;x", "０-９", "٠-٩", "0.0-9.0", "0-9\x01", strings.Repeat("0", 5000) + "x-9", strings.Repeat("9", 3000) + "-" + strings.Repeat("9", 3000), "NaN-Inf", "%30-%39",
}

var oddRanges = []string{
	"bytes=abc", "bytes=", "bytes=-", "bytes=--", "bytes=-0", "bytes=9-0", "bytes=99999999999999999999-", "bytes=0-99999999999999999999", "bytes=-99999999999999999999", "bytes=9223372036854775807-",
	"bytes=0-0,1-1,2-2", "bytes=" + strings.Repeat("0-0,", 1000) + "0-0", "bytes=0-0-0", "bytes=+1-2", "bytes= 0-1", "bytes=0 - 1", "lines=0-1", "bytes", "=", "bytes=0x0-0x1", "bytes=1e3-", "bytes=-1.5",
	"bytes=5-5\x01", "bytes=\xff-", "octets=0-1", "bytes=100-", "bytes=1000-2000", "bytes:0-1", "BYTES=0-1", "bytes=٠-٩",
}

var oddValues = []string{
	"-1", "x", "1.5", "99999999999999999999999", "%00", "%ff", "%c0%af", "%zz", "%", "%2", "9223372036854775807", "0x10", "1e9", "+1", "%20", "%0a", "٣", "null", "NaN", "..%2f..%2fetc", "%2e%2e%2f",
	"'--", "%27%20or%201=1", strings.Repeat("9", 3000), strings.Repeat("a", 3000), "%F0%9F%92%A9", "%e2%80%ae", "a%00b", "%ed%a0%80", ";", "a;b=c", "%5b%5d", "*", "%25",
}

// pathCases are names, tags, digests and sessions in every place of a path where they can stand.
func pathCases(repo, upload string) []request {
	var out []request
	add := func(method, format string, args ...any) {
		q := request{method: method, target: "/v2/" + fmt.Sprintf(format, args...)}
		if method == "PUT" || method == "PATCH" {
			q.header, q.body = []string{"Content-Type: application/vnd.oci.image.manifest.v1+json"}, []byte("{}")
		}
		out = append(out, q)
	}
	for _, n := range badNames() {
		add("GET", "%s/manifests/v1", n)
		add("PUT", "%s/manifests/v1", n)
		add("POST", "%s/blobs/uploads/", n)
		add("GET", "%s/tags/list", n)
		add("DELETE", "%s/blobs/sha256:%s", n, zeros)
		add("GET", "%s/referrers/sha256:%s", n, zeros)
	}
	for _, tag := range badTags {
		add("GET", "%s/manifests/%s", repo, tag)
		add("HEAD", "%s/manifests/%s", repo, tag)
		add("PUT", "%s/manifests/%s", repo, tag)
		add("DELETE", "%s/manifests/%s", repo, tag)
		add("PUT", "%s/manifests/sha256:%s?tag=%s", repo, zeros, tag)
	}
	for _, d := range badDigests {
		add("GET", "%s/blobs/%s", repo, d)
		add("HEAD", "%s/blobs/%s", repo, d)
		add("DELETE", "%s/blobs/%s", repo, d)
		add("GET", "%s/manifests/%s", repo, d)
		add("PUT", "%s/manifests/%s", repo, d)
		add("GET", "%s/referrers/%s", repo, d)
		add("POST", "%s/blobs/uploads/?digest=%s", repo, d)
		add("POST", "%s/blobs/uploads/?mount=%s&from=%s", repo, d, repo)
		add("PUT", "%s?digest=%s", strings.TrimPrefix(upload, "/v2/"), d)
	}
	for _, id := range badSessions {
		add("GET", "%s/blobs/uploads/%s", repo, id)
		add("PATCH", "%s/blobs/uploads/%s", repo, id)
		add("PUT", "%s/blobs/uploads/%s?digest=sha256:%s", repo, id, zeros)
		add("DELETE", "%s/blobs/uploads/%s", repo, id)
	}
	// The session of another repository.
	stolen := upload[strings.LastIndex(upload, "/")+1:]
	for _, method := range []string{"GET", "PATCH", "DELETE"} {
		add(method, "%sx/blobs/uploads/%s", repo, stolen)
	}
	return out
}

// signatureCases are the extension for signatures and its web root: names, digests and numbers that are none, bodies that are no
// signature, and methods that it has not. manifest is the digest of one that is there.
func signatureCases(repo, manifest string) []request {
	var out []request
	const extension, web = "/extensions/v2/", "/lookaside/"
	name := strings.Repeat("0", 32)
	body := func(name string) []byte {
		return []byte(`{"schemaVersion":2,"name":"` + name + `","type":"atomic","content":"eA=="}`)
	}
	put := func(target string, body []byte) {
		out = append(out, request{method: "PUT", target: target, header: []string{"Content-Type: application/json"}, body: body})
	}
	at := extension + repo + "/signatures/" + manifest
	for _, n := range badNames() {
		out = append(out, request{method: "GET", target: extension + n + "/signatures/" + manifest},
			request{method: "GET", target: web + n + "@" + strings.Replace(manifest, ":", "=", 1) + "/signature-1"})
		put(extension+n+"/signatures/"+manifest, body(manifest+"@"+name))
	}
	for _, d := range badDigests {
		out = append(out, request{method: "GET", target: extension + repo + "/signatures/" + d},
			request{method: "GET", target: web + repo + "@" + strings.Replace(d, ":", "=", 1) + "/signature-1"})
		put(extension+repo+"/signatures/"+d, body(manifest+"@"+name))
	}
	for _, n := range append([]string{"0", "01", "2", "1/x", "-1"}, oddValues...) {
		out = append(out, request{method: "GET", target: web + repo + "@" + strings.Replace(manifest, ":", "=", 1) + "/signature-" + n, allow: numbered(n)})
	}
	for _, n := range append([]string{
		"", manifest, "@", "@" + name, manifest + "@", manifest + "@@" + name, manifest + "@" + name[1:], manifest + "@" + name + "0", manifest + "@" + strings.Repeat("A", 32), manifest + "@" + name + "@" + name,
		"sha256:" + zeros + "@" + name, manifest + "@../../../../../../../../etc/pass", manifest + `@\u0000` + name[1:], manifest + "@" + strings.Repeat("0", 60_000),
	}, oddValues...) {
		put(at, body(n))
	}
	for _, b := range []string{
		"", "{", "[]", "null", "0", "\"x\"", "{}", strings.Repeat("[", 50_000), strings.Repeat("{\"a\":", 20_000), "\xff\xfe", `{"schemaVersion":"2"}`, `{"schemaVersion":2e400}`, `{"schemaVersion":2,"type":"atomic"}`,
		`{"schemaVersion":2,"name":"` + manifest + "@" + name + `","type":"atomic","content":"%"}`, `{"schemaVersion":2,"name":"` + manifest + "@" + name + `","type":"atomic","content":[1]}`,
		`{"schemaVersion":2,"name":"` + manifest + "@" + name + `","type":"atomic","content":"` + strings.Repeat("QUFB", 25_000) + `"}`, strings.Repeat(" ", 1<<20),
	} {
		put(at, []byte(b))
	}
	for _, method := range []string{"POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "X", strings.Repeat("Y", 500)} {
		out = append(out, request{method: method, target: at, body: body(manifest + "@" + name)},
			request{method: method, target: web + repo + "@" + strings.Replace(manifest, ":", "=", 1) + "/signature-1"})
	}
	for _, target := range []string{extension, extension + "x", extension + repo, extension + repo + "/signatures", extension + repo + "/signatures/", extension + "signatures/" + manifest, extension + "/signatures/" + manifest, web, web + repo, web + "@/signature-1"} {
		out = append(out, request{method: "GET", target: target})
	}
	return out
}

// numbered is what may come of the number of a signature: one that is no URL is answered by net/http.
func numbered(n string) allow {
	if n == "%zz" || n == "%" || n == "%2" {
		return gone
	}
	return refused
}

// partCases are ranges, parameters and methods.
func partCases(repo, upload, digest string) []request {
	var out []request
	chunk := []byte("0123456789")
	for _, v := range badContentRanges {
		out = append(out,
			request{method: "PATCH", target: upload, header: []string{"Content-Range: " + v}, body: chunk, allow: contentRangeAllowed(v)},
			request{method: "PUT", target: upload + "?digest=sha256:" + zeros, header: []string{"Content-Range: " + v}, body: chunk, allow: contentRangeAllowed(v)})
	}
	for _, v := range oddRanges {
		for _, method := range []string{"GET", "HEAD"} {
			q := request{method: method, target: "/v2/" + repo + "/blobs/" + digest, header: []string{"Range: " + v}, allow: any4xx}
			if strings.ContainsAny(v, "\x01") {
				q.allow = gone
			}
			out = append(out, q)
		}
	}
	for _, v := range oddValues {
		for _, target := range []string{
			repo + "/tags/list?n=" + v, repo + "/tags/list?last=" + v, repo + "/tags/list?n=1&last=" + v, "_catalog?n=" + v, "_catalog?last=" + v,
			repo + "/referrers/" + digest + "?artifactType=" + v, repo + "/referrers/" + digest + "?n=" + v, repo + "/referrers/" + digest + "?last=" + v, "?ns=" + v,
		} {
			out = append(out, request{method: "GET", target: "/v2/" + target, allow: any4xx})
		}
		out = append(out,
			request{method: "POST", target: "/v2/" + repo + "/blobs/uploads/?digest-algorithm=" + v},
			request{method: "POST", target: "/v2/" + repo + "/blobs/uploads/?mount=" + v + "&from=" + v},
			request{method: "PUT", target: "/v2/" + repo + "/manifests/x?digest-algorithm=" + v, body: []byte("{}")},
			request{method: "GET", target: "/v1/search?q=" + v, allow: any4xx},
			request{method: "GET", target: "/v1/search?n=" + v, allow: any4xx},
			request{method: "GET", target: "/token?scope=" + v, allow: any4xx})
	}
	for _, method := range []string{"POST", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "X", strings.Repeat("M", 2000)} {
		for _, target := range []string{"/v2/", "/v2/_catalog", "/v2/" + repo + "/tags/list", "/v2/" + repo + "/manifests/v1", "/v2/" + repo + "/referrers/" + digest} {
			q := request{method: method, target: target}
			if method == "CONNECT" {
				q.allow = gone
			}
			out = append(out, q)
		}
	}
	return out
}

// contentRangeAllowed: control characters in a header are no HTTP.
func contentRangeAllowed(v string) allow {
	if strings.ContainsAny(v, "\x01") {
		return gone
	}
	return refused
}

// elsewhere are paths that try to leave the API, and to read files.
func elsewhere() []request {
	var out []request
	for _, p := range []string{
		"/v2", "/v2//", "/v2/.", "/v2/..", "/v2/../", "/v2/../../etc/passwd", "/v2/%2e%2e/%2e%2e/etc/passwd", "/v2/..%2f..%2fetc%2fpasswd", "/../../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%5c..%5c",
		"/ca.crt/../ca.key", "/ca.key", "/tls/ca.key", "/berth.db", "/blobs/sha256/00/" + zeros, "/uploads/", "/.git/config", "/debug/pprof/", "/debug/pprof/heap", "/v2/_catalog/", "/v2/_catalog/x", "/v2/_oci/ext/x",
		"/v2/_oci", "/v2/_trust/tuf", "/v2/x", "/v2/x/", "/v2/x/y", "/v2/manifests/v1", "/v2/blobs/uploads/", "/v2/tags/list", "/v2/%00", "/v2/%ff", "/v2/%", "/v2/%zz", "/%00", "//", "/v1/", "/v1/repositories/x", "/v3/",
		"/v2/" + strings.Repeat("a/", 5000), "/" + strings.Repeat("a", 9000), "*", "http://other.example/v2/", "http://other.example/../v2/x/tags/list", "/v2/?" + strings.Repeat("a=b&", 3000),
	} {
		q := request{method: "GET", target: p, allow: any4xx}
		if strings.Contains(p, "%zz") || strings.HasSuffix(p, "%") || p == "*" {
			q.allow = gone // no URL
		}
		out = append(out, q)
	}
	return out
}

// headerCases are headers that are too much, too many or no HTTP.
func headerCases(repo string) []request {
	target := "/v2/" + repo + "/manifests/v1"
	var out []request
	for _, line := range []string{
		"Authorization: Basic", "Authorization: Basic !!!!", "Authorization: Basic " + strings.Repeat("QQ==", 10), "Authorization: Basic YQ==", "Authorization: Basic OgAA", "Authorization: Basic AAAAOgAAAA==",
		"Authorization: Basic //86//8=", "Authorization: Bearer", "Authorization: Bearer a.b.c", "Authorization: Bearer eyJhbGciOiJub25lIn0.e30.", "Authorization: Bearer " + strings.Repeat("a", 9000),
		"Authorization: Digest x", "Authorization: " + strings.Repeat("x", 7000), "Authorization: Negotiate YII=", "X-Long: " + strings.Repeat("x", 40_000),
	} {
		out = append(out, request{method: "GET", target: target, header: []string{line}})
	}
	twice := []string{"Authorization: Basic YTpi", "Authorization: Basic YTpi"}
	out = append(out, request{method: "GET", target: target, header: twice})
	for _, line := range []string{
		"Accept: " + strings.Repeat("a/b,", 2000), "Accept: \xff\xfe", "If-None-Match: " + strings.Repeat("\"x\",", 2000), "If-None-Match: \"", "If-Range: \x80", "X-Forwarded-For: ${jndi:x}",
		"X-Forwarded-Proto: javascript", "X-Forwarded-Host: \"><script>", "Forwarded: for=\"_x\";proto=\xff", "X-Request-Id: " + strings.Repeat("a", 5000), "X-Request-Id: a b", "Traceparent: 00-zz-zz-zz", "Cookie: " + strings.Repeat("a=b;", 2000),
		"User-Agent: \xff\"quoted\" %s %n", "Content-Type: \xff", "Accept-Encoding: " + strings.Repeat("gzip,", 1000), "Expect: 100-continue", "Upgrade: h2c",
	} {
		out = append(out, request{method: "GET", target: target, header: []string{line}, allow: any4xx})
	}
	for _, raw := range []string{
		"GET " + target + " HTTP/1.1\r\n\r\n", "GET " + target + " HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET " + target + " HTTP/1.1\r\nHost: \x00\r\n\r\n", "GET " + target + "\r\n\r\n", "\x00\x01\x02\x03\r\n\r\n",
		"GET  " + target + " HTTP/1.1\r\nHost: a\r\n\r\n", "PUT " + target + " HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", "PUT " + target + " HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"PUT " + target + " HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "PUT " + target + " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "PUT " + target + " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"PUT " + target + " HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "GET " + target + " HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n", "GET " + target + " HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense nonsense nonsense", "\x16\x03\x01\x00\x05hello", "GET " + target + " HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 30_000) + "\r\n",
	} {
		out = append(out, request{raw: raw, method: "GET", allow: gone})
	}
	return out
}
