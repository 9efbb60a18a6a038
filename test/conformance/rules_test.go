package conformance_test

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// knownCodes are the error codes of the specification ("Error Codes", code-1 to code-14).
var knownCodes = []string{
	"BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN",
	"MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN", "SIZE_INVALID", "UNAUTHORIZED", "DENIED",
	"UNSUPPORTED", "TOOMANYREQUESTS",
}

var (
	codeForm    = regexp.MustCompile(`^[A-Z_]+$`)
	warningForm = regexp.MustCompile(`^299 - "((?:[^"\\]|\\.)*)"$`)
)

// brokenRules holds an answer against what the specification asks of every answer, whatever was asked: the form of
// errors, of warnings, of 429, and that Docker-Content-Digest is true of the body. It says what is broken.
func brokenRules(a *answer) []string {
	var broken []string
	if a.status >= 500 {
		broken = append(broken, "a request must not be answered by a server error: "+short(a.body))
	}
	if a.status >= 400 && a.status < 500 && isJSON(a.header) && len(a.body) > 0 {
		broken = append(broken, brokenError(a.body)...)
	}
	if a.status == http.StatusTooManyRequests && a.header.Get("Retry-After") == "" {
		broken = append(broken, "429 without Retry-After")
	}
	broken = append(broken, brokenWarnings(a.header.Values("Warning"))...)
	if d := a.digest(); a.status == http.StatusOK && d != "" && strings.HasPrefix(a.what, "GET ") {
		if got, ok := digestLike(d, a.body); !ok || got != d {
			broken = append(broken, fmt.Sprintf("Docker-Content-Digest is %s, the body has %s", d, got))
		}
	}
	return broken
}

func isJSON(h http.Header) bool {
	mediaType, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && (mediaType == "application/json" || strings.HasSuffix(mediaType, "+json"))
}

func brokenError(body []byte) []string {
	var doc struct {
		Errors []map[string]json.RawMessage `json:"errors"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return []string{fmt.Sprintf("error body is not of the form {\"errors\": [...]}: %v: %s", err, short(body))}
	}
	if len(doc.Errors) == 0 {
		return []string{"error body has no errors: " + short(body)}
	}
	var broken []string
	for _, e := range doc.Errors {
		var code, message string
		if err := json.Unmarshal(e["code"], &code); err != nil {
			broken = append(broken, "error has no code: "+short(body))
			continue
		}
		if !codeForm.MatchString(code) {
			broken = append(broken, fmt.Sprintf("error code %q is not of capital letters and underscores", code))
		}
		if !slices.Contains(knownCodes, code) {
			broken = append(broken, fmt.Sprintf("error code %q is not one of the specification's", code))
		}
		if raw, ok := e["message"]; ok && json.Unmarshal(raw, &message) != nil {
			broken = append(broken, fmt.Sprintf("error message is not a string: %s", raw))
		}
		for name := range e {
			if name != "code" && name != "message" && name != "detail" {
				broken = append(broken, fmt.Sprintf("error has a field %q the specification does not know", name))
			}
		}
	}
	return broken
}

func brokenWarnings(warnings []string) []string {
	var broken []string
	sum := 0
	for _, w := range warnings {
		sum += len(w)
		if !warningForm.MatchString(w) {
			broken = append(broken, fmt.Sprintf(`Warning %q is not of the form 299 - "text"`, w))
		}
	}
	if sum > 4096 {
		broken = append(broken, fmt.Sprintf("%d bytes of warnings, at most 4096 are allowed", sum))
	}
	return broken
}

// code returns the code of the answer's first error, "" when it has none.
func (a *answer) code() string {
	var doc struct {
		Errors []struct {
			Code string `json:"code"`
		} `json:"errors"`
	}
	if json.Unmarshal(a.body, &doc) != nil || len(doc.Errors) == 0 {
		return ""
	}
	return doc.Errors[0].Code
}

// TestRulesCatch shows that the rules can fail: a rule that never fires would prove nothing.
func TestRulesCatch(t *testing.T) {
	jsonHeader := http.Header{"Content-Type": {"application/json"}}
	warn := func(w ...string) http.Header { return http.Header{"Warning": w} }
	blob := []byte("body")
	for name, c := range map[string]struct {
		a    answer
		want string
	}{
		"server error":       {answer{status: 500}, "server error"},
		"no errors":          {answer{status: 404, header: jsonHeader, body: []byte(`{"message":"x"}`)}, "no errors"},
		"not the form":       {answer{status: 404, header: jsonHeader, body: []byte(`[]`)}, "not of the form"},
		"no code":            {answer{status: 404, header: jsonHeader, body: []byte(`{"errors":[{"message":"x"}]}`)}, "no code"},
		"lower case":         {answer{status: 404, header: jsonHeader, body: []byte(`{"errors":[{"code":"denied"}]}`)}, "capital"},
		"unknown code":       {answer{status: 404, header: jsonHeader, body: []byte(`{"errors":[{"code":"TEAPOT"}]}`)}, "not one of"},
		"message no string":  {answer{status: 404, header: jsonHeader, body: []byte(`{"errors":[{"code":"DENIED","message":1}]}`)}, "not a string"},
		"unknown field":      {answer{status: 404, header: jsonHeader, body: []byte(`{"errors":[{"code":"DENIED","x":1}]}`)}, `field "x"`},
		"429":                {answer{status: 429}, "Retry-After"},
		"warn code":          {answer{status: 200, header: warn(`199 - "x"`)}, "299"},
		"warn agent":         {answer{status: 200, header: warn(`299 berth "x"`)}, "299"},
		"warn date":          {answer{status: 200, header: warn(`299 - "x" "Wed, 21 Oct 2015 07:28:00 GMT"`)}, "299"},
		"warnings too long":  {answer{status: 200, header: warn(`299 - "`+strings.Repeat("x", 3000)+`"`, `299 - "`+strings.Repeat("x", 3000)+`"`)}, "4096"},
		"digest of others":   {answer{what: "GET x", status: 200, body: blob, header: http.Header{"Docker-Content-Digest": {sha256Of([]byte("other"))}}}, "the body has"},
		"digest of no kind":  {answer{what: "GET x", status: 200, body: blob, header: http.Header{"Docker-Content-Digest": {"crc32:00"}}}, "the body has"},
		"nothing is broken":  {answer{what: "GET x", status: 200, body: blob, header: http.Header{"Docker-Content-Digest": {sha512Of(blob)}}}, ""},
		"a good error":       {answer{status: 404, header: jsonHeader, body: []byte(`{"errors":[{"code":"DENIED","message":"x","detail":{}}]}`)}, ""},
		"a good warning":     {answer{status: 200, header: warn(`299 - "say \"hi\""`)}, ""},
		"an error not JSON":  {answer{status: 404, header: http.Header{"Content-Type": {"text/plain"}}, body: []byte("no")}, ""},
		"an error to a HEAD": {answer{status: 404, header: jsonHeader}, ""},
	} {
		got := strings.Join(brokenRules(&c.a), "; ")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: rules say %q, want %q", name, got, c.want)
		}
	}
}
