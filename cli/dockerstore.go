package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/docker/config"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/cli/option"
	"github.com/berth-registry/berth/internal/durable"
)

// dockerStore is the credential store of one of docker's files (credsStore): docker keeps all logins there that credHelpers does not
// give to another. The library of skopeo and podman knows credHelpers only.
type dockerStore struct {
	name, file string
	failed     error // why it could not be asked
}

// storeOf is the store that a file of logins names; false is none.
func storeOf(file string) (dockerStore, bool) {
	body, err := readFile(file, 16<<20)
	if err != nil {
		return dockerStore{}, false
	}
	var doc struct {
		Store string `json:"credsStore"`
	}
	if json.Unmarshal(body, &doc) != nil || doc.Store == "" {
		return dockerStore{}, false
	}
	return dockerStore{name: doc.Store, file: file}, true
}

func (s dockerStore) program() client.ProgramFunc {
	return client.NewShellProgramFunc("docker-credential-" + s.name)
}

// address is what docker calls a host in a store.
func (s dockerStore) address(host string) string {
	if address(host) == "docker.io" {
		return "https://index.docker.io/v1/"
	}
	return host
}

// get asks the store for a host; the zero value is no login there.
func (s dockerStore) get(host string) (types.DockerAuthConfig, error) {
	got, err := client.Get(s.program(), s.address(host))
	switch {
	case credentials.IsErrCredentialsNotFound(err):
		return types.DockerAuthConfig{}, nil
	case err != nil:
		return types.DockerAuthConfig{}, fmt.Errorf("docker-credential-%s, which %s names: %w", s.name, s.file, err)
	case got.Username == "<token>": // docker's word for an identity token
		return types.DockerAuthConfig{IdentityToken: got.Secret}, nil
	}
	return types.DockerAuthConfig{Username: got.Username, Password: got.Secret}, nil
}

// put keeps a login in the store, and notes in docker's file that there is one, as docker does.
func (s dockerStore) put(host, user, password string) error {
	if err := client.Store(s.program(), &credentials.Credentials{ServerURL: s.address(host), Username: user, Secret: password}); err != nil {
		return err
	}
	return s.note(func(auths map[string]json.RawMessage) { auths[s.address(host)] = json.RawMessage("{}") })
}

// drop forgets a login, and reports whether there was one.
func (s dockerStore) drop(host string) (was bool, err error) {
	got, err := s.get(host)
	if err != nil || got == (types.DockerAuthConfig{}) {
		return false, err
	}
	if err := client.Erase(s.program(), s.address(host)); err != nil {
		return false, err
	}
	return true, s.note(func(auths map[string]json.RawMessage) { delete(auths, s.address(host)) })
}

// note changes the entries of docker's file and leaves everything else of it.
func (s dockerStore) note(change func(map[string]json.RawMessage)) error {
	body, err := readFile(s.file, 16<<20)
	if err != nil {
		return err
	}
	doc, auths := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	if err := json.Unmarshal(body, &doc); err != nil {
		return fmt.Errorf("%s: %w", s.file, err)
	}
	if raw, ok := doc["auths"]; ok {
		if err := json.Unmarshal(raw, &auths); err != nil {
			return fmt.Errorf("%s: %w", s.file, err)
		}
	}
	if auths == nil {
		auths = map[string]json.RawMessage{}
	}
	change(auths)
	if doc["auths"], err = json.Marshal(auths); err != nil {
		return err
	}
	if body, err = json.MarshalIndent(doc, "", "\t"); err != nil {
		return err
	}
	perm := fs.FileMode(0o600)
	if info, err := os.Stat(s.file); err == nil {
		perm = info.Mode().Perm()
	}
	return durable.WriteFile(s.file, body, perm)
}

// loginFor is the login that is known for a key (a host, or a host and what is below), in the order of the library; where it knows none, that
// of docker's store. store says which it was; nil is none. A store that cannot be asked knows nobody, and is no failure: a config.json often
// outlives the docker whose program it names.
func loginFor(sys *types.SystemContext, host, key string) (auth types.DockerAuthConfig, store *dockerStore, err error) {
	auth, err = config.GetCredentials(sys, key)
	if err != nil || auth != (types.DockerAuthConfig{}) || sys.DockerAuthConfig != nil {
		return auth, nil, err
	}
	for _, file := range authFiles(sys) {
		s, ok := storeOf(file)
		if !ok {
			continue
		}
		if auth, s.failed = s.get(host); s.failed != nil || auth != (types.DockerAuthConfig{}) {
			return auth, &s, nil
		}
	}
	return types.DockerAuthConfig{}, nil, nil
}

// withStored is the settings by which the library reaches one image: with the login of docker's store, where that is the only one.
// They are for this image alone, and only where it is read from no mirror: what stands in them goes to every host that is asked. A
// registry that sends logins to another site is refused, for the library would send them there.
func (a *app) withStored(ctx context.Context, sys *types.SystemContext, img types.ImageReference) (*types.SystemContext, error) {
	named := img.DockerReference()
	if img.Transport() != docker.Transport || named == nil {
		return sys, nil
	}
	if err := a.loginStays(ctx, sys, named); err != nil {
		return nil, err
	}
	if sys.DockerAuthConfig != nil || sys.DockerBearerRegistryToken != "" {
		return sys, nil
	}
	if simple, err := plainRegistry(sys, named); err != nil || !simple {
		return sys, err
	}
	auth, store, err := loginFor(sys, reference.Domain(named), named.Name())
	if err != nil || store == nil || store.failed != nil {
		return sys, err
	}
	own := *sys
	own.DockerAuthConfig = &auth
	return &own, nil
}

// loginStays refuses a name when a host that it is read from or written to sends logins to another site.
func (a *app) loginStays(ctx context.Context, sys *types.SystemContext, named reference.Named) error {
	if sys.DockerBearerRegistryToken != "" { // it goes to the registry itself
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	places, err := pullSources(sys, named)
	if err != nil {
		return err
	}
	for _, place := range append(places, named) {
		host := reference.Domain(place)
		if _, known := a.stay.Load(host); known {
			continue
		}
		if err := a.client(sys, option.Retry{}, nil).MayAsk(ctx, host, reference.Path(place)); err != nil {
			return err
		}
		a.stay.Store(host, true)
	}
	return nil
}

// checkAuth signs in by the library, which asks as nobody when the name or the password is empty.
func (a *app) checkAuth(ctx context.Context, sys *types.SystemContext, user, password, host string) error {
	own := *sys
	own.DockerAuthConfig = &types.DockerAuthConfig{Username: user, Password: password}
	if err := a.client(&own, option.Retry{}, nil).MayAsk(ctx, host, ""); err != nil {
		return err
	}
	return docker.CheckAuth(ctx, sys, user, password, host)
}

// compatStore is the store of the docker file that login and logout were told to write; nil is none. A helper of credHelpers for the
// host goes first, and is the library's to ask.
func compatStore(sys *types.SystemContext, host string) *dockerStore {
	file := sys.DockerCompatAuthFilePath
	if file == "" {
		return nil
	}
	if helper, _ := entryOf(file, host, host); helper != "" {
		return nil
	}
	if s, ok := storeOf(file); ok {
		return &s
	}
	return nil
}
