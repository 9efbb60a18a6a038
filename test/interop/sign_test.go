package interop_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What berth signs cosign verifies, and what cosign signs berth verifies: cosign 2 and 3, with the same key files, in both places where
// signatures are kept, attestations too, and neither verifies what is spoiled or by another key.
func TestBerthAndCosign(t *testing.T) {
	t.Parallel()
	for _, program := range cosigns() {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			testBerthAndCosign(t, program)
		})
	}
}

func testBerthAndCosign(t *testing.T, program string) {
	for _, scheme := range []struct{ format, bundle string }{
		{"tag", "--new-bundle-format=false"}, {"bundle", "--new-bundle-format=true"},
	} {
		t.Run(scheme.format, func(t *testing.T) {
			t.Parallel()
			r := openRegistry(t)
			cosign, berth := newCosignOf(t, program, r), newBerth(t, r)
			berth.env = append(berth.env, "COSIGN_PASSWORD=")
			key := func(of *client, file string) string { return filepath.Join(of.home, file) }
			berth.run(t, "keys", "new")
			berth.run(t, "keys", "new", "--output-key-prefix", "stranger")
			verify := []string{"verify", "--insecure-ignore-tlog=true", scheme.bundle, "--key"}
			attested := []string{"verify-attestation", "--insecure-ignore-tlog=true", scheme.bundle, "--type", "https://example.com/tested", "--key"}
			verifying := func(c *client, verb []string, args ...string) []string {
				return slices.Concat(verb[:1], offlineRoots(c, scheme.bundle), verb[1:], args)
			}
			offline := []string{"--yes", "--tlog-upload=false", "--use-signing-config=false", scheme.bundle}
			notes := []string{"-a", "env=prod"}
			if program == "cosign2" && scheme.format == "bundle" {
				notes = nil // it signs none in a bundle, and does not look for them there
			}
			predicate := writeFile(t, filepath.Join(berth.home, "predicate.json"), []byte(`{"tested":"yes"}`))

			for name, signer := range map[string]*client{"ours": berth, "theirs": cosign} {
				// Each signs with the other's key file: they are the same format.
				other := map[*client]*client{berth: cosign, cosign: berth}[signer]
				img := ociImage(t, name)
				r.push(t, img, "team/"+name+":1")
				image := r.host + "/team/" + name + "@" + digestOf(t, img)
				for _, verifier := range []*client{berth, cosign} {
					verifier.refused(t, verifying(verifier, verify, key(other, "cosign.pub"), image)...)
				}
				signer.run(t, slices.Concat([]string{"sign", "--key", key(other, "cosign.key")}, notes, offline, []string{image})...)
				signer.run(t, append(append([]string{"attest", "--key", key(other, "cosign.key"), "--type", "https://example.com/tested", "--predicate", predicate}, offline...), image)...)
				for _, verifier := range []*client{berth, cosign} {
					mustContain(t, verifier.run(t, verifying(verifier, verify, slices.Concat([]string{key(other, "cosign.pub")}, notes, []string{image})...)...), digestOf(t, img))
					mustContain(t, verifier.run(t, verifying(verifier, attested, key(other, "cosign.pub"), image)...), "application/vnd.in-toto+json")
					if len(notes) > 0 {
						verifier.refused(t, verifying(verifier, verify, key(other, "cosign.pub"), "-a", "env=test", image)...)
					}
					verifier.refused(t, verifying(verifier, verify, filepath.Join(berth.home, "stranger.pub"), image)...)
					verifier.refused(t, verifying(verifier, attested, filepath.Join(berth.home, "stranger.pub"), image)...)
				}
			}
		})
	}
}

// What docs/guide/sign-and-verify.md says of cosign 2, as its users type it: it finds at the tag what berth signs there, until the image has
// a bundle; then it looks at nothing else, and wants roots. berth finds what cosign 2 signs.
func TestCosign2(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	cosign, berth := newCosignOf(t, "cosign2", r), newBerth(t, r)
	berth.env = append(berth.env, "COSIGN_PASSWORD=")
	ours, theirs := ociImage(t, "ours"), ociImage(t, "theirs")
	r.push(t, ours, "team/app:ours")
	r.push(t, theirs, "team/app:theirs")
	app, key := r.host+"/team/app", filepath.Join(cosign.home, "cosign")
	verify := []string{"verify", "--key", "cosign.pub", "--insecure-ignore-tlog", app + ":ours"}
	berth.run(t, "sign", "--key", key+".key", "--format", "tag", app+"@"+digestOf(t, ours))
	mustContain(t, cosign.run(t, verify...), digestOf(t, ours))
	berth.run(t, "sign", "--key", key+".key", app+"@"+digestOf(t, ours))
	mustContain(t, cosign.refused(t, verify...).stderr, "trusted root is required")
	mustContain(t, cosign.run(t, append(verify, "--trusted-root", "roots.json")...), digestOf(t, ours))

	attested := ociImage(t, "attested")
	r.push(t, attested, "team/app:attested")
	berth.run(t, "attest", "--key", key+".key", "--type", "https://example.com/tested",
		"--predicate", writeFile(t, filepath.Join(berth.home, "predicate.json"), []byte("{}")), app+"@"+digestOf(t, attested))
	cosign.run(t, "verify", "--key", "cosign.pub", "--insecure-ignore-tlog", "--trusted-root", "roots.json", app+":attested")
	berth.refused(t, "verify", "--key", key+".pub", app+":attested")

	cosign.run(t, "sign", "--yes", "--tlog-upload=false", "--key", "cosign.key", app+"@"+digestOf(t, theirs))
	mustContain(t, berth.run(t, "verify", "--key", key+".pub", app+":theirs"), digestOf(t, theirs))
}

// The exit codes of berth's verify are those of cosign.
func TestBerthExitCodes(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	cosign, berth := newCosign(t, r), newBerth(t, r)
	img := ociImage(t, "a")
	r.push(t, img, "team/app:1")
	r.push(t, ociImage(t, "b"), "team/app:unsigned")
	berth.env = append(berth.env, "COSIGN_PASSWORD=")
	berth.run(t, "keys", "new")
	berth.run(t, "sign", "--key", filepath.Join(cosign.home, "cosign.key"), "--format", "tag", r.host+"/team/app:1")
	for _, c := range []struct{ key, image string }{
		{filepath.Join(cosign.home, "cosign.pub"), "/team/app:1"},
		{filepath.Join(cosign.home, "cosign.pub"), "/team/app:unsigned"},
		{filepath.Join(cosign.home, "cosign.pub"), "/team/app:none"},
		{filepath.Join(berth.home, "cosign.pub"), "/team/app:1"},
	} {
		args := []string{"verify", "--insecure-ignore-tlog=true", "--new-bundle-format=false", "--key", c.key, r.host + c.image}
		theirs, ours := cosign.exec(t, nil, args...), berth.exec(t, nil, args...)
		if theirs.code != ours.code {
			t.Errorf("%s: cosign ends with %d, berth with %d\n%s\n%s", c.image, theirs.code, ours.code, theirs, ours)
		}
	}
}

// gpgHome makes GPG keys: an address, the public and the secret key in files, and the environment to use them.
type gpgHome struct{ dir, address, public, secret string }

func newGPG(t testing.TB, address string) gpgHome {
	t.Helper()
	g := gpgHome{dir: shortDir(t), address: address}
	g.public, g.secret = filepath.Join(g.dir, "public.asc"), filepath.Join(g.dir, "secret.asc")
	bin := peer(t, "gpg")
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command(bin, append([]string{"--homedir", g.dir, "--batch", "--quiet"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("gpg %v: %v\n%s", args, err, out)
		}
	}
	run("--pinentry-mode", "loopback", "--passphrase", "", "--quick-generate-key", address, "rsa2048", "sign", "never")
	run("--export", "--armor", "--output", g.public, address)
	run("--export-secret-keys", "--armor", "--output", g.secret, address)
	t.Cleanup(func() { _ = exec.Command("gpgconf", "--homedir", g.dir, "--kill", "all").Run() }) // its agent
	return g
}

// policyFor writes a policy.json that asks for the key's signature on images of the registry, and rejects all others.
func policyFor(t testing.TB, c *client, r *registry, keyType, key string) string {
	t.Helper()
	doc, err := json.Marshal(map[string]any{
		"default":    []any{map[string]string{"type": "reject"}},
		"transports": map[string]any{"docker": map[string]any{r.host: []any{map[string]string{"type": "signedBy", "keyType": keyType, "keyPath": key}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, filepath.Join(c.home, ".config", "containers", "policy.json"), doc)
}

// GPG signatures against berthd alone, without a web server for them: podman signs at push, berth with a key from a file;
// podman, skopeo and berth pull and verify by policy.json what is signed, and nothing else.
func TestSimpleSigning(t *testing.T) {
	t.Parallel()
	r := guardedRegistry(t)
	signer, stranger := newGPG(t, "signer@example.com"), newGPG(t, "stranger@example.com")
	podman, skopeo, berth := newPodman(t, r), newClient(t, "skopeo", r), newBerth(t, r)
	for _, c := range []*client{podman, skopeo, berth} {
		c.env = append(c.env, "GNUPGHOME="+signer.dir)
		c.pipe(t, strings.NewReader(password), "login", "--username", "admin", "--password-stdin", r.host)
	}
	app := r.host + "/library/app"
	loadPodman(t, podman, "a", app+":podman")
	podman.run(t, "push", "--sign-by", signer.address, app+":podman")
	podman.run(t, "tag", app+":podman", app+":unsigned")
	podman.run(t, "push", app+":unsigned") // the same image by another name: the signature is about the name, too
	loadPodman(t, podman, "b", app+":berth")
	podman.run(t, "push", app+":berth")
	berth.run(t, "sign", "--format", "gpg", "--key", signer.secret, "docker://"+app+":berth")
	loadPodman(t, podman, "c", app+":stranger")
	podman.run(t, "push", app+":stranger")
	berth.run(t, "sign", "--format", "gpg", "--key", stranger.secret, app+":stranger")
	if n := r.requests(t, "method=PUT", "/extensions/v2/library/app/signatures/"); n != 3 {
		t.Errorf("%d signatures were put into the registry, want 3", n)
	}

	for _, c := range []*client{podman, skopeo, berth} {
		policyFor(t, c, r, "GPGKeys", signer.public)
	}
	for _, tag := range []string{"podman", "berth"} {
		podman.run(t, "rmi", "--all", "--force")
		podman.run(t, "pull", app+":"+tag)
		skopeo.run(t, "copy", "docker://"+app+":"+tag, "dir:"+filepath.Join(skopeo.home, tag))
		berth.run(t, "verify", "--policy", filepath.Join(berth.home, ".config", "containers", "policy.json"), "docker://"+app+":"+tag)
		berth.run(t, "verify", "--format", "gpg", "--key", signer.public, app+":"+tag)
	}
	podman.run(t, "rmi", "--all", "--force")
	for _, tag := range []string{"unsigned", "stranger"} {
		podman.refused(t, "pull", app+":"+tag)
		skopeo.refused(t, "copy", "docker://"+app+":"+tag, "dir:"+filepath.Join(skopeo.home, tag))
		got := berth.refused(t, "verify", "--policy", filepath.Join(berth.home, ".config", "containers", "policy.json"), "docker://"+app+":"+tag)
		if got.code != 6 {
			t.Errorf("exit code %d, want 6:\n%s", got.code, got)
		}
		if got := berth.refused(t, "verify", "--format", "gpg", "--key", signer.public, app+":"+tag); got.code != 12 {
			t.Errorf("exit code %d, want 12:\n%s", got.code, got)
		}
	}

	// The signature in a file is one that skopeo verifies on its own, and the other way round.
	body, _, digest := r.manifest(t, "library/app", "berth")
	status, _, sig := r.get(t, "/lookaside/library/app@"+strings.Replace(digest, ":", "=", 1)+"/signature-1")
	if status != 200 || !bytes.HasPrefix(sig[:1], []byte{0x90}) && len(sig) < 100 {
		t.Fatalf("GET lookaside: %d, %d bytes", status, len(sig))
	}
	manifest := writeFile(t, filepath.Join(skopeo.home, "manifest.json"), body)
	file := writeFile(t, filepath.Join(skopeo.home, "signature"), sig)
	fingerprint := strings.Fields(berth.run(t, "keys", "show", "-o", "name", signer.public))[0]
	mustContain(t, skopeo.run(t, "standalone-verify", manifest, app+":berth", fingerprint, file), digest)
}

// GPG signatures travel with the engine of berth, from registry to registry, once, and also when they are made later; not with
// --remove-signatures.
func TestSimpleSigningTravels(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	signer := newGPG(t, "signer@example.com")
	berth := newBerth(t, r)
	img := ociImage(t, "a")
	r.push(t, img, "library/app:1")
	app, digest := r.host+"/library/app:1", strings.Replace(digestOf(t, img), ":", "=", 1)
	berth.run(t, "sign", "--format", "gpg", "--key", signer.secret, app)
	signatures := func(repository string) (all [][]byte) {
		t.Helper()
		for n := 1; ; n++ {
			status, _, body := r.get(t, fmt.Sprintf("/lookaside/%s@%s/signature-%d", repository, digest, n))
			if status != 200 {
				return all
			}
			all = append(all, body)
		}
	}
	for range 2 {
		berth.run(t, "copy", "docker://"+app, "docker://"+r.host+"/library/copied:1")
		berth.run(t, "sync", "--src", "docker", "--dest", "docker", r.host+"/library/app", r.host+"/mirror")
	}
	berth.run(t, "copy", "--remove-signatures", "docker://"+app, "docker://"+r.host+"/library/bare:1")
	want := signatures("library/app")
	for repository, n := range map[string]int{"library/copied": 1, "mirror/app": 1, "library/bare": 0} {
		if got := signatures(repository); len(got) != n || n > 0 && !bytes.Equal(got[0], want[0]) {
			t.Errorf("%s has %d signatures, want %d as at the source", repository, len(got), n)
		}
	}
	if n := r.requests(t, "method=PUT", "/signatures/"); n != 3 {
		t.Errorf("%d signatures were put, want 3: what is there is not put again", n)
	}
	berth.run(t, "sign", "--format", "gpg", "--key", signer.secret, "--sign-container-identity", r.host+"/mirror/app:1", app)
	berth.run(t, "sync", "--src", "docker", "--dest", "docker", r.host+"/library/app", r.host+"/mirror")
	if got := signatures("mirror/app"); len(got) != 2 {
		t.Errorf("mirror/app has %d signatures after another one was made, want 2", len(got))
	}
	berth.run(t, "verify", "--format", "gpg", "--key", signer.public, r.host+"/mirror/app:1")
}

// A client that knows no extension reads the same signatures as files below /lookaside/: registries.d names it.
func TestLookaside(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	signer := newGPG(t, "signer@example.com")
	berth := newBerth(t, r)
	img := ociImage(t, "a")
	r.push(t, img, "library/app:1")
	berth.run(t, "sign", "--format", "gpg", "--key", signer.secret, r.host+"/library/app:1")
	base := "/lookaside/library/app@" + strings.Replace(digestOf(t, img), ":", "=", 1) + "/signature-"
	if status, header, body := r.get(t, base+"1"); status != 200 || header.Get("Content-Type") != "application/octet-stream" || len(body) == 0 {
		t.Fatalf("signature-1: %d, %v", status, header)
	}
	if status, _, _ := r.get(t, base+"2"); status != 404 {
		t.Fatalf("signature-2: %d, want 404: it ends the list", status)
	}
}

// A policy.json that asks for cosign's signatures is met by a bundle that refers to the image (cosign 3), as by a signature at a tag
// (cosign 1 and 2), whoever made it: when berth verifies, and when it copies. Not by a bundle of another key or of another image, and
// not where the policy asks for what a bundle does not say.
func TestPolicyOfCosign(t *testing.T) {
	t.Parallel()
	r := openRegistry(t)
	cosign, berth := newCosign(t, r), newBerth(t, r)
	berth.env = append(berth.env, "COSIGN_PASSWORD=")
	berth.run(t, "keys", "new", "--output-key-prefix", "stranger")
	key := filepath.Join(cosign.home, "cosign")
	app := r.host + "/team/app"
	offline := []string{"--yes", "--tlog-upload=false", "--use-signing-config=false"}
	digests := map[string]string{}
	for _, tag := range []string{"bundle", "tag", "berth", "stranger", "unsigned"} {
		img := ociImage(t, tag)
		r.push(t, img, "team/app:"+tag)
		digests[tag] = digestOf(t, img)
	}
	at := func(tag string) string { return app + "@" + digests[tag] }
	cosign.run(t, append(append([]string{"sign", "--key", key + ".key", "--new-bundle-format=true"}, offline...), at("bundle"))...)
	cosign.run(t, append(append([]string{"sign", "--key", key + ".key", "--new-bundle-format=false"}, offline...), at("tag"))...)
	berth.run(t, "sign", "--key", key+".key", "--format", "bundle", at("berth"))
	berth.run(t, "sign", "--key", filepath.Join(berth.home, "stranger.key"), "--format", "bundle", at("stranger"))
	cosign.run(t, append(append([]string{"attest", "--key", key + ".key", "--new-bundle-format=true", "--type", "https://example.com/tested", "--predicate",
		writeFile(t, filepath.Join(cosign.home, "predicate.json"), []byte(`{"tested":"yes"}`))}, offline...), at("unsigned"))...) // which is no signature

	policy := func(identity map[string]string, more ...any) string {
		t.Helper()
		asked := map[string]any{"type": "sigstoreSigned", "keyPath": key + ".pub"}
		if identity != nil {
			asked["signedIdentity"] = identity
		}
		doc, err := json.Marshal(map[string]any{"default": []any{map[string]string{"type": "reject"}}, "transports": map[string]any{"docker": map[string]any{r.host: append([]any{asked}, more...)}}})
		if err != nil {
			t.Fatal(err)
		}
		return writeFile(t, filepath.Join(shortDir(t), "policy.json"), doc)
	}
	writeFile(t, filepath.Join(berth.home, ".config", "containers", "registries.d", "x.yaml"), []byte("docker:\n  "+r.host+":\n    use-sigstore-attachments: true\n"))
	repository := map[string]string{"type": "matchRepository"}
	for _, c := range []struct {
		name, image, policy string
		good                bool
	}{
		{"bundle of cosign", app + ":bundle", policy(repository), true},
		{"bundle of cosign, by digest", at("bundle"), policy(nil), true},
		{"bundle of berth", app + ":berth", policy(repository), true},
		{"signature at a tag", app + ":tag", policy(repository), true},
		{"bundle of a stranger", app + ":stranger", policy(repository), false},
		{"attestation alone", app + ":unsigned", policy(repository), false},
		{"bundle, and a name is asked for", app + ":bundle", policy(map[string]string{"type": "matchExact"}), false},
		{"bundle, and the default asks for the tag", app + ":bundle", policy(nil), false},
		{"bundle, and another repository is asked for", app + ":bundle", policy(map[string]string{"type": "exactRepository", "dockerRepository": r.host + "/team/other"}), false},
		{"bundle, and this repository is asked for", app + ":bundle", policy(map[string]string{"type": "exactRepository", "dockerRepository": app}), true},
		{"bundle, and the image is rejected besides", app + ":bundle", policy(repository, map[string]string{"type": "reject"}), false},
		{"bundle, and it is accepted besides", app + ":bundle", policy(repository, map[string]string{"type": "insecureAcceptAnything"}), true},
	} {
		for _, verb := range [][]string{{"verify", "--policy", c.policy, "docker://" + c.image}, {"--policy", c.policy, "copy", "docker://" + c.image, "oci:" + filepath.Join(shortDir(t), "out") + ":v1"}} {
			got := berth.exec(t, nil, verb...)
			if c.good && got.code != 0 || !c.good && got.code != 6 {
				t.Errorf("%s: %s: exit code %d\n%s", c.name, strings.Join(verb[:2], " "), got.code, got)
			}
		}
	}
}
