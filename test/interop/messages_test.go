package interop_test

import (
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
)

// quick bounds how long a client may take over a refusal. One that berthd words wrongly makes docker retry for 50 s
// and podman for 20 s before the user sees anything.
const quick = 8 * time.Second

// clients makes each client once for a test of messages.
type clients struct {
	t *testing.T
	r *registry
	m map[string]*client
}

func (c *clients) get(name string) *client {
	if c.m[name] == nil {
		switch name {
		case "docker":
			c.m[name] = newDocker(c.t)
		case "podman":
			c.m[name] = newPodman(c.t, c.r)
		case "regctl":
			c.m[name] = newRegctl(c.t, c.r, true)
		case "helm":
			helm, ca := newHelm(c.t, c.r)
			helm.env = append(helm.env, "SSL_CERT_FILE="+strings.TrimPrefix(ca, "--ca-file="))
			c.m[name] = helm
		case "ctr":
			ctr := newClient(c.t, "ctr")
			namespace := "messages" + strings.ReplaceAll(c.r.host, ":", "-")
			ctr.flags = []string{"--address", shared.containerd(c.t), "--namespace", namespace}
			ctr.env = append(ctr.env, "NO_COLOR=1")
			c.t.Cleanup(func() { dropNamespace(c.t, ctr, namespace) })
			c.m[name] = ctr
		default:
			c.m[name] = newClient(c.t, name, c.r)
		}
	}
	return c.m[name]
}

// refusal is one reason to say no, and who is told.
type refusal struct {
	name     string   // of the golden file
	env      []string // of berthd
	says     string   // of berthd's own words, what must reach the user of every client not listed in mute
	mute     []string // clients that show no server text for this answer, whatever a server does
	commands [][]string
	stdin    string
	signedIn bool // as builder, of an htpasswd file

	// account makes whom the clients are signed in as, instead; of them only signs, when it is set. then is what happens after that.
	account func(testing.TB, *registry) (name, password string)
	signs   []string
	then    func(testing.TB, *registry)
	before  func(testing.TB, *registry) // before each command
}

// Every image of the tests here is at library/app (public) and team/app (private), tags 1, 2 and 3.
var refusals = []refusal{
	{
		name: "pull-unknown-tag", says: "3", mute: []string{"ctr"},
		commands: pulls("library/app:9"),
	},
	{
		name: "pull-unknown-digest", says: "is not in library/app", mute: []string{"ctr"},
		commands: pulls("library/app@sha256:" + strings.Repeat("0", 64)),
	},
	{
		name: "pull-unknown-repository", says: "library/absent", mute: []string{"ctr"},
		commands: pulls("library/absent:1"),
	},
	{
		// Anonymous: 401 with a challenge, which docker and containerd turn into words of their own.
		name: "pull-private-anonymous", mute: []string{"docker", "podman", "skopeo", "crane", "regctl", "ctr"},
		commands: pulls("team/app:1"),
	},
	{
		name: "push-anonymous", mute: []string{"docker", "podman", "skopeo", "crane", "regctl", "helm"},
		commands: pushes("library/app:new"),
	},
	{
		name: "push-read-only", env: []string{"REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED=true", "BERTH_ANONYMOUS=delete"},
		says:     "read-only",
		commands: pushes("library/app:new"),
	},
	{
		name: "delete-anonymous", mute: []string{"skopeo", "crane", "regctl"},
		commands: deletes("library/app:1"),
	},
	{
		name: "delete-disabled", env: []string{"REGISTRY_STORAGE_DELETE_ENABLED=false", "BERTH_ANONYMOUS=delete"},
		says: "storage.delete.enabled",
		// Without regctl: told that tags cannot be deleted, it pushes a manifest of its own over the tag to delete that.
		commands: deletes("library/app:1")[:2],
	},
	{
		name: "delete-unknown", env: []string{"BERTH_ANONYMOUS=delete"},
		says: "9", mute: []string{"skopeo"},
		commands: deletes("library/app:9"),
	},
	{
		name: "push-denied-user", signedIn: true, env: []string{"BERTH_AUTH_USERS=pull"},
		says:     "you are signed in as builder",
		commands: pushes("library/app:new"),
	},
	{
		name: "push-no-project", signedIn: true, env: []string{"BERTH_PROJECTS_AUTOCREATE=admins"},
		says:     "you are signed in as builder",
		commands: pushes("nobody/app:new"),
	},
	{
		name: "delete-denied-user", signedIn: true, env: []string{"BERTH_AUTH_USERS=push"},
		says:     "you are signed in as builder",
		commands: deletes("library/app:1")[:2], // see delete-disabled
	},
	{
		// Who may not even read is not told that a repository is there.
		name: "pull-hidden-user", signedIn: true, env: []string{"BERTH_AUTH_USERS=none"},
		says: "team/app", mute: []string{"ctr"},
		commands: pulls("team/app:1"),
	},
	{
		// Who sees that it is there, and may not pull it.
		name: "pull-denied-user", account: lister, says: "you are signed in as dora", mute: []string{"skopeo"},
		commands: pulls("team/app:1"),
	},
	{name: "robot-expired", account: robot, then: expire, says: "robot ci is disabled or has expired", mute: []string{"podman", "skopeo", "regctl", "ctr"}, commands: credentials()},
	{name: "user-disabled", account: developer, then: disable, says: "account dora is disabled", mute: []string{"podman", "skopeo", "regctl", "ctr"}, commands: credentials()},
	{name: "password-changed", account: developer, then: anotherPassword, before: unlock, says: "user name or password is wrong", mute: []string{"podman", "skopeo", "regctl", "ctr"}, commands: credentials()},
	{name: "token-revoked", account: ownToken, then: revoke, says: "has ended; ask for a new one", mute: []string{"podman", "skopeo", "regctl", "ctr"}, commands: credentials()},
	{
		name: "locked-out", env: []string{"BERTH_LIMITS_LOGIN_FAILURES=1", "BERTH_LIMITS_LOGIN_PAUSE=15m", "BERTH_LIMITS_LOGIN_WINDOW=30m"},
		account: func(testing.TB, *registry) (string, string) { return "admin", "not-the-password" }, signs: []string{"crane", "ctr"}, then: guess,
		says: "too many failed logins", mute: []string{"podman", "skopeo", "ctr"},
		commands: append(logins(), []string{"crane", "manifest", "HOST/team/app:1"}, []string{"ctr", "images", "pull", "--local", "--plain-http", "HOST/team/app:1"}),
	},
	{
		name: "login-wrong-password", says: "password", stdin: "not-the-password",
		commands: [][]string{
			{"docker", "login", "HOST", "--username", "admin", "--password-stdin"},
			{"podman", "login", "HOST", "--username", "admin", "--password-stdin"},
			{"skopeo", "login", "HOST", "--username", "admin", "--password-stdin"},
			{"helm", "registry", "login", "HOST", "--username", "admin", "--password-stdin"},
		},
	},
	{
		name: "pull-wrong-password", says: "user name or password is wrong",
		commands: [][]string{
			{"podman", "pull", "--quiet", "--creds", "admin:wrong", "HOST/library/app:1"},
			{"skopeo", "inspect", "--creds", "admin:wrong", "docker://HOST/library/app:1"},
		},
	},
	{
		// What no client of these would send: curl shows the answer itself.
		name: "raw-bad-requests", env: []string{"BERTH_ANONYMOUS=delete"}, says: `"errors"`,
		commands: [][]string{
			curl("-X", "PUT", "-H", "Content-Type: application/vnd.oci.image.manifest.v1+json", "--data", `{"schemaVersion":2,"config":42}`, "http://HOST/v2/library/app/manifests/bad"),
			curl("-X", "PUT", "-H", "Content-Type: application/vnd.oci.image.manifest.v1+json", "--data", "{", "http://HOST/v2/library/app/manifests/bad"),
			curl("-X", "POST", "--data", "not what the digest says", "http://HOST/v2/library/app/blobs/uploads/?digest=sha256:"+strings.Repeat("2", 64)),
			curl("-X", "POST", "http://HOST/v2/library/app/blobs/uploads/?digest=sha256:short"),
			curl("-X", "PATCH", "--data", "x", "http://HOST/v2/library/app/blobs/uploads/00000000-0000-0000-0000-000000000000"),
			curl("http://HOST/v2/Library/App/manifests/1"),
			curl("http://HOST/v2/library/app/manifests/-bad-"),
			curl("http://HOST/v2/library/app/tags/list?n=-1"),
			curl("http://HOST/v2/library/app/nothing"),
		},
	},
	{
		// Plain HTTP under a name that is not this machine's: the answer says what to do.
		name: "raw-plain-http", env: []string{"BERTH_ANONYMOUS=delete"}, says: "https",
		commands: [][]string{
			curl("-H", "Host: registry.example.com", "http://HOST/v2/"),
			curl("-H", "Host: registry.example.com", "-u", "admin:x", "http://HOST/v2/library/app/tags/list"),
		},
	},
	{
		name: "push-manifest-without-blobs", env: []string{"BERTH_ANONYMOUS=delete"}, says: "sha256:" + strings.Repeat("1", 64),
		stdin: `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{` +
			`"mediaType":"application/vnd.oci.image.config.v1+json","size":2,"digest":"sha256:` + strings.Repeat("1", 64) + `"},"layers":[]}`,
		commands: [][]string{{"regctl", "manifest", "put", "--content-type", "application/vnd.oci.image.manifest.v1+json", "HOST/library/app:bad"}},
	},
}

func pulls(reference string) [][]string {
	return [][]string{
		{"docker", "pull", "HOST/" + reference},
		{"podman", "pull", "--quiet", "HOST/" + reference},
		{"skopeo", "inspect", "docker://HOST/" + reference},
		{"crane", "manifest", "HOST/" + reference},
		{"regctl", "manifest", "get", "HOST/" + reference},
		{"ctr", "images", "pull", "--local", "--plain-http", "HOST/" + reference},
	}
}

// pushes push the image that the test has loaded into docker and podman as HOST/local/image:1.
func pushes(reference string) [][]string {
	return [][]string{
		{"docker", "push", "HOST/" + reference},
		{"podman", "push", "--quiet", "local/image:1", "HOST/" + reference},
		{"skopeo", "copy", "--quiet", "LAYOUT", "docker://HOST/" + reference},
		{"crane", "push", "ARCHIVE", "HOST/" + reference},
		{"regctl", "image", "copy", "REGCTL-LAYOUT", "HOST/" + reference},
		{"helm", "push", "CHART", "oci://HOST/" + path.Dir(reference)},
		{"ctr", "images", "push", "--local", "--plain-http", "HOST/" + reference},
	}
}

// logins log in again as whom the clients are signed in as.
func logins() [][]string {
	return [][]string{
		{"docker", "login", "HOST", "--username", "NAME", "--password-stdin"},
		{"podman", "login", "HOST", "--username", "NAME", "--password-stdin"},
		{"skopeo", "login", "HOST", "--username", "NAME", "--password-stdin"},
	}
}

// credentials are all that a client does with what it has stored: log in again, pull, push.
func credentials() [][]string {
	return slices.Concat(logins(), pulls("team/app:1"), slices.DeleteFunc(pushes("team/app:new"), func(c []string) bool { return c[0] == "helm" || c[0] == "regctl" }))
}

func curl(args ...string) []string {
	return append([]string{"curl", "--silent", "--show-error", "--fail-with-body"}, args...)
}

func deletes(reference string) [][]string {
	return [][]string{
		{"skopeo", "delete", "docker://HOST/" + reference},
		{"crane", "delete", "HOST/" + reference},
		{"regctl", "tag", "delete", "HOST/" + reference},
	}
}

// TestMessages keeps every word that a user reads when berthd refuses, and that no client sits retrying meanwhile.
func TestMessages(t *testing.T) {
	t.Parallel()
	for _, refusal := range refusals {
		t.Run(refusal.name, func(t *testing.T) {
			t.Parallel()
			env := refusal.env
			if refusal.signedIn {
				env = append(htpasswdEnv(t), env...)
			}
			r := messagesRegistry(t, env)
			all := &clients{t: t, r: r, m: map[string]*client{}}
			place := strings.NewReplacer("REGCTL-LAYOUT", "ocidir://"+ociLayout(t, ociImage(t, "x"))+":v1")
			if slices.ContainsFunc(refusal.commands, func(c []string) bool { return slices.Contains(c, "push") || slices.Contains(c, "copy") }) {
				place = pushSources(t, all, refusal.commands)
			}
			name, secret := "builder", builderPassword
			if refusal.account != nil {
				name, secret = refusal.account(t, r)
			}
			if refusal.signedIn || refusal.account != nil {
				signed := map[string]bool{}
				for _, command := range refusal.commands {
					if c := command[0]; !signed[c] && (refusal.signs == nil || slices.Contains(refusal.signs, c)) {
						signed[c] = true
						signInAs(t, all.get(c), r, name, secret)
					}
				}
			}
			if refusal.then != nil {
				refusal.then(t, r)
			}
			seen := &transcript{registries: []*registry{r}}
			for _, command := range refusal.commands {
				c := all.get(command[0])
				args := make([]string, len(command)-1)
				for i, arg := range command[1:] {
					args[i] = strings.NewReplacer("HOST", r.host, "NAME", name).Replace(place.Replace(arg))
				}
				stdin := refusal.stdin
				if stdin == "" && slices.Contains(command, "--password-stdin") {
					stdin = secret
				}
				if refusal.before != nil {
					refusal.before(t, r)
				}
				result := c.exec(t, strings.NewReader(stdin), args...)
				if result.code == 0 {
					t.Errorf("succeeded, should have been refused:\n%s", result)
				}
				if result.took > quick {
					t.Errorf("the user waited %s:\n%s", result.took.Round(time.Millisecond), result)
				}
				if refusal.says != "" && !slices.Contains(refusal.mute, command[0]) && !strings.Contains(result.stdout+result.stderr, refusal.says) {
					t.Errorf("%q did not reach the user:\n%s", refusal.says, result)
				}
				result.line = strings.Join(command, " ")
				seen.add(result)
			}
			seen.compare(t, refusal.name)
		})
	}
}

// messagesRegistry fills a berthd while anybody may push to it, and starts it again as the test wants it.
func messagesRegistry(t *testing.T, env []string) *registry {
	t.Helper()
	data := t.TempDir()
	fill := startRegistry(t, testkit.Options{Data: data})
	for _, tag := range []string{"1", "2", "3"} {
		fill.push(t, ociImage(t, tag), "library/app:"+tag)
		fill.push(t, ociImage(t, tag), "team/app:"+tag)
	}
	if err := fill.Stop(); err != nil {
		t.Fatal(err)
	}
	return startRegistry(t, testkit.Options{Data: data, Env: env})
}

// pushSources prepares for each client that pushes what it is to push.
func pushSources(t *testing.T, all *clients, commands [][]string) *strings.Replacer {
	t.Helper()
	places := []string{"REGCTL-LAYOUT", "ocidir://" + ociLayout(t, ociImage(t, "x")) + ":v1",
		"LAYOUT", "oci:" + ociLayout(t, ociImage(t, "x")) + ":v1"}
	for _, command := range commands {
		if !slices.Contains(command, "push") {
			continue
		}
		switch command[0] {
		case "docker":
			loadDocker(t, all.get("docker"), "x", strings.Replace(command[2], "HOST", all.r.host, 1))
		case "podman":
			loadPodman(t, all.get("podman"), "x", "local/image:1")
		case "crane":
			archive, _ := dockerArchive(t, makeImage(t, "x"), "local/image:1")
			places = append(places, "ARCHIVE", archive)
		case "ctr":
			pull := []string{"images", "pull", "--local", "--plain-http"}
			if !all.r.open {
				pull = append(pull, "--user", "admin:"+password)
			}
			all.get("ctr").run(t, append(pull, all.r.host+"/library/app:1")...)
			all.get("ctr").run(t, "images", "tag", "--local", "--force", all.r.host+"/library/app:1", strings.Replace(command[5], "HOST", all.r.host, 1))
		case "helm":
			places = append(places, "CHART", helmChart(t, all.get("helm"), "0.1.0"))
		}
	}
	return strings.NewReplacer(places...)
}
