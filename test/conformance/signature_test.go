package conformance_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func signatureChecks() []check {
	return []check{
		{"signatures: put and list", []string{"sig-1", "sig-2", "sig-3"}, putSignatures},
		{"signatures: refused", []string{"sig-4", "sig-5"}, refusedSignatures},
		{"signatures: of another repository", []string{"sig-3", "sig-6"}, foreignSignatures},
		{"signatures: rights", []string{"sig-7"}, signatureRights},
		{"signatures: methods", []string{"sig-8"}, signatureMethods},
	}
}

// signaturesOf is where the signatures of a manifest are. A registry that does not announce the extension need not have it.
func (r *registry) signaturesOf(t *testing.T, repo, digest string) string {
	t.Helper()
	a := r.do(t, http.MethodGet, r.path(""))
	if a.header.Get("X-Registry-Supports-Signatures") != "1" {
		r.optional(t, "the version check does not announce signatures")
	}
	return r.base + "/extensions/v2/" + repo + "/signatures/" + digest
}

// signature is one as podman puts it.
func signature(digest, name string, bytes []byte) option {
	return content("application/json", encoded(map[string]any{"schemaVersion": 2, "name": digest + "@" + name, "type": "atomic", "content": base64.StdEncoding.EncodeToString(bytes)}))
}

func encoded(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func signatureName(n int) string { return fmt.Sprintf("%032x", n) }

// listed are the names and contents of the signatures that a registry lists.
func (r *registry) listed(t *testing.T, at string) (out []string) {
	t.Helper()
	var doc struct {
		Signatures *[]struct {
			SchemaVersion int
			Name, Type    string
			Content       []byte
		}
	}
	a := r.do(t, http.MethodGet, at).want(t, http.StatusOK)
	a.decode(t, &doc)
	if doc.Signatures == nil {
		t.Fatalf("%s: no list of signatures: %s", a.what, short(a.body))
	}
	for _, s := range *doc.Signatures {
		if s.SchemaVersion != 2 || s.Type != "atomic" {
			t.Errorf("%s: schemaVersion %d, type %q", a.what, s.SchemaVersion, s.Type)
		}
		out = append(out, s.Name+" "+string(s.Content))
	}
	return out
}

func putSignatures(t *testing.T, r *registry) {
	repo := r.repo()
	m := r.pushed(t, repo, "v1")
	at := r.signaturesOf(t, repo, m.Digest)
	if got := r.listed(t, at); len(got) != 0 {
		t.Errorf("an image without signatures has %q", got)
	}
	r.do(t, http.MethodPut, at, signature(m.Digest, signatureName(2), []byte("first"))).want(t, http.StatusCreated)
	r.do(t, http.MethodPut, at, signature(m.Digest, signatureName(1), []byte("second"))).want(t, http.StatusCreated)
	r.do(t, http.MethodPut, at, signature(m.Digest, signatureName(1), []byte("second"))).want(t, http.StatusCreated)
	want := []string{m.Digest + "@" + signatureName(2) + " first", m.Digest + "@" + signatureName(1) + " second"}
	if got := r.listed(t, at); strings.Join(got, ",") != strings.Join(want, ",") {
		t.Errorf("listed are %q, want %q", got, want)
	}
	r.do(t, http.MethodPut, at, signature(m.Digest, signatureName(1), []byte("another"))).refused(t)
	if got := r.listed(t, at); len(got) != 2 || strings.Contains(got[1], "another") {
		t.Errorf("a signature was replaced: %q", got)
	}
	r.do(t, http.MethodDelete, r.path("%s/manifests/%s", repo, m.Digest)).want(t, http.StatusAccepted)
	r.do(t, http.MethodGet, at).want(t, http.StatusNotFound).says(t, "MANIFEST_UNKNOWN", "NAME_UNKNOWN")
}

// refusedSignatures: what is no signature, or too much, is refused, and nothing of it is kept.
func refusedSignatures(t *testing.T, r *registry) {
	repo := r.repo()
	m := r.pushed(t, repo, "v1")
	at := r.signaturesOf(t, repo, m.Digest)
	body := func(s string) option { return content("application/json", []byte(s)) }
	other := "sha256:" + strings.Repeat("0", 64)
	for name, o := range map[string]option{
		"no JSON":             body("{"),
		"a list":              body("[]"),
		"nothing":             body(""),
		"another version":     body(`{"schemaVersion":1,"type":"atomic","name":"` + m.Digest + "@" + signatureName(1) + `","content":"eA=="}`),
		"another type":        body(`{"schemaVersion":2,"type":"x","name":"` + m.Digest + "@" + signatureName(1) + `","content":"eA=="}`),
		"no base64":           body(`{"schemaVersion":2,"type":"atomic","name":"` + m.Digest + "@" + signatureName(1) + `","content":"%"}`),
		"no content":          signature(m.Digest, signatureName(1), nil),
		"no name":             signature(m.Digest, "", []byte("x")),
		"a short name":        signature(m.Digest, "abc", []byte("x")),
		"a name that is none": signature(m.Digest, strings.Repeat("g", 32), []byte("x")),
		"a path as a name":    signature(m.Digest, "../../../../../../../../etc/pass", []byte("x")),
		"of another manifest": signature(other, signatureName(1), []byte("x")),
	} {
		if a := r.do(t, http.MethodPut, at, o); a.status != http.StatusBadRequest {
			t.Errorf("%s: %d, want 400", name, a.status)
		}
	}
	r.do(t, http.MethodPut, at, signature(m.Digest, signatureName(1), make([]byte, 65<<10))).want(t, http.StatusRequestEntityTooLarge)
	r.do(t, http.MethodPut, at, signature(m.Digest, signatureName(1), make([]byte, 8<<20))).want(t, http.StatusRequestEntityTooLarge)
	if got := r.listed(t, at); len(got) != 0 {
		t.Errorf("something was kept: %q", got)
	}
	for n := range 100 {
		r.do(t, http.MethodPut, at, signature(m.Digest, signatureName(n), []byte("x"))).want(t, http.StatusCreated)
	}
	r.do(t, http.MethodPut, at, signature(m.Digest, signatureName(100), []byte("x"))).want(t, http.StatusRequestEntityTooLarge)
	r.do(t, http.MethodPut, at, signature(m.Digest, signatureName(99), []byte("x"))).want(t, http.StatusCreated) // is there
	if got := r.listed(t, at); len(got) != 100 {
		t.Errorf("there are %d signatures, want 100", len(got))
	}
}

// foreignSignatures: a signature belongs to a manifest of one repository, whoever has the same bytes elsewhere.
func foreignSignatures(t *testing.T, r *registry) {
	mine, theirs := r.repo(), r.repo()
	m := r.pushed(t, mine, "v1")
	only := r.pushed(t, theirs, "v1")
	at := r.signaturesOf(t, mine, only.Digest)
	r.do(t, http.MethodGet, at).want(t, http.StatusNotFound).says(t, "MANIFEST_UNKNOWN")
	r.do(t, http.MethodPut, at, signature(only.Digest, signatureName(1), []byte("x"))).want(t, http.StatusNotFound).says(t, "MANIFEST_UNKNOWN")
	if got := r.listed(t, r.signaturesOf(t, theirs, only.Digest)); len(got) != 0 {
		t.Errorf("a signature came to another repository: %q", got)
	}
	r.do(t, http.MethodPut, r.signaturesOf(t, mine, m.Digest), signature(m.Digest, signatureName(1), []byte("x"))).want(t, http.StatusCreated)
	r.do(t, http.MethodGet, r.signaturesOf(t, theirs, m.Digest)).want(t, http.StatusNotFound).says(t, "MANIFEST_UNKNOWN")
	r.do(t, http.MethodGet, r.signaturesOf(t, r.repo(), m.Digest)).want(t, http.StatusNotFound).says(t, "NAME_UNKNOWN")
	r.do(t, http.MethodGet, r.signaturesOf(t, mine, "sha256:"+strings.Repeat("0", 64))).want(t, http.StatusNotFound).says(t, "MANIFEST_UNKNOWN")
}

// signatureRights: who may pull reads signatures, who may push puts them, and nobody else learns of them.
func signatureRights(t *testing.T, r *registry) {
	closed := r.start(t, "BERTH_ANONYMOUS=none", "BERTH_ADMIN_PASSWORD=correct horse")
	shown := r.start(t, "BERTH_ADMIN_PASSWORD=correct horse")
	shown.project = "library" // which anybody may pull from
	for _, r := range []*registry{closed, shown} {
		repo := r.repo()
		r.user, r.password = "admin", "correct horse"
		m := r.pushed(t, repo, "v1")
		at := r.signaturesOf(t, repo, m.Digest)
		r.do(t, http.MethodPut, at, signature(m.Digest, signatureName(1), []byte("secret"))).want(t, http.StatusCreated)
		r.user, r.password = "", ""
		if r == shown {
			if got := r.listed(t, at); len(got) != 1 {
				t.Errorf("who may pull sees %q", got)
			}
		} else if a := r.do(t, http.MethodGet, at).want(t, http.StatusUnauthorized); strings.Contains(string(a.body), "c2VjcmV0") || a.header.Get("Www-Authenticate") == "" {
			t.Errorf("%s: %s, or no challenge", a.what, short(a.body))
		}
		r.do(t, http.MethodPut, at, signature(m.Digest, signatureName(2), []byte("x"))).want(t, http.StatusUnauthorized)
		r.user, r.password = "admin", "wrong"
		r.do(t, http.MethodGet, at).want(t, http.StatusUnauthorized)
		r.user, r.password = "admin", "correct horse"
		if got := r.listed(t, at); len(got) != 1 {
			t.Errorf("after what was refused there are %q", got)
		}
	}
}

func signatureMethods(t *testing.T, r *registry) {
	repo := r.repo()
	m := r.pushed(t, repo, "v1")
	at := r.signaturesOf(t, repo, m.Digest)
	for _, method := range []string{http.MethodPost, http.MethodPatch, http.MethodDelete} {
		if a := r.do(t, method, at, signature(m.Digest, signatureName(1), []byte("x"))).want(t, http.StatusMethodNotAllowed); !strings.Contains(a.header.Get("Allow"), http.MethodPut) {
			t.Errorf("%s: Allow %q", a.what, a.header.Get("Allow"))
		}
	}
	r.do(t, http.MethodHead, at).want(t, http.StatusOK)
}
