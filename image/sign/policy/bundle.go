package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/image/sign"
	"github.com/berth-registry/berth/image/sign/cosign"
	"github.com/berth-registry/berth/image/sign/key"
	"github.com/berth-registry/berth/oci"
)

// The library knows signatures of cosign at tags alone. What cosign 3 signs is a bundle that refers to the image. A bundle is bound
// to the digest; unlike the payload of a tag it need not say what the image was called, and that of cosign 3 does not. It counts for
// a requirement that asks for a repository, as the one that it lies in, and for the digest of a reference by digest; not for one that
// asks for a tag, or for another repository.

// byBundles asks every requirement of the image's scope by itself: the library first and, for a sigstoreSigned of keys that it does
// not find met, the bundles in the image's repository.
func byBundles(ctx context.Context, p *signature.Policy, src types.ImageSource, d oci.Digest, o Options) error {
	proven := false
	for _, r := range requirements(p, src.Reference()) {
		kind, err := kindOf(r)
		if err != nil {
			return err
		}
		err = library(ctx, &signature.Policy{Default: signature.PolicyRequirements{r}}, src, Options{Instance: o.Instance})
		if err != nil && kind.Type() == "sigstoreSigned" {
			err = bundled(ctx, kind, src.Reference().DockerReference(), d, o.Store)
		}
		if err != nil {
			return err
		}
		proven = proven || kind.Type() == "sigstoreSigned" || kind.Type() == "signedBy"
	}
	if o.RequireSigned && !proven {
		return &sign.Refusal{Why: sign.ByPolicy, Message: "the policy accepts the image without a signature, and one is required"}
	}
	return nil
}

// requirements are those that hold for an image, found as the library finds them.
//
// Spec: containers-policy.json(5), "Supported transports and their scopes".
func requirements(p *signature.Policy, ref types.ImageReference) signature.PolicyRequirements {
	scopes, ok := p.Transports[ref.Transport().Name()]
	if !ok {
		return p.Default
	}
	for _, name := range append(append([]string{ref.PolicyConfigurationIdentity()}, ref.PolicyConfigurationNamespaces()...), "") {
		if rs, ok := scopes[name]; ok {
			return rs
		}
	}
	return p.Default
}

func kindOf(r signature.PolicyRequirement) (Requirement, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	kind := Requirement{}
	if err := json.Unmarshal(text, &kind); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return kind, nil
}

// bundled is nil when a bundle meets a requirement of type sigstoreSigned.
func bundled(ctx context.Context, r Requirement, image reference.Named, d oci.Digest, store sign.Store) error {
	for field := range r {
		switch field {
		case "type", "keyPath", "keyPaths", "keyData", "keyDatas", "signedIdentity":
		default:
			return fmt.Errorf("bundles were not looked at: they are for requirements of keys, and this one has %q", field)
		}
	}
	keys, err := r.keys()
	if err != nil {
		return err
	}
	if image == nil {
		return errors.New("bundles were not looked at: the image is in no registry")
	}
	found, err := cosign.Verify(ctx, store, d, cosign.Trust{Keys: keys, Only: cosign.Bundle}, nil)
	if err != nil {
		return err
	}
	for _, v := range found {
		if err = r.identity(image, v.Reference); err == nil {
			return nil
		}
	}
	return err
}

// keys are the public keys that a requirement names, any one of which is enough.
func (r Requirement) keys() ([]*key.Public, error) {
	var files [][]byte
	for _, name := range r.KeyPaths() {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("policy: key: %w", err)
		}
		body, err := key.Read(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("policy: key %s: %w", name, err)
		}
		files = append(files, body)
	}
	var many [][]byte
	if err := json.Unmarshal(orNull(r["keyDatas"]), &many); err != nil {
		return nil, fmt.Errorf("policy: keyDatas: %w", err)
	}
	files = append(files, many...)
	if b := r.KeyData(); len(b) > 0 {
		files = append(files, b)
	}
	keys := make([]*key.Public, 0, len(files))
	for _, f := range files {
		k, err := key.ParsePublic(f)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, errors.New("policy: the requirement has no key")
	}
	return keys, nil
}

func orNull(b json.RawMessage) []byte {
	if len(b) == 0 {
		return []byte("null")
	}
	return b
}

// identity is nil when the name of an image is one that the requirement's signedIdentity accepts. claimed is what the signer called
// it, "" for nothing.
func (r Requirement) identity(image reference.Named, claimed string) error {
	want := struct {
		Type             string `json:"type"`
		DockerRepository string `json:"dockerRepository"`
	}{Type: "matchRepoDigestOrExact"}
	if err := json.Unmarshal(orNull(r["signedIdentity"]), &want); err != nil {
		return fmt.Errorf("policy: signedIdentity: %w", err)
	}
	repository := image.Name()
	switch want.Type {
	case "matchRepository":
	case "matchRepoDigestOrExact":
		if _, byDigest := image.(reference.Digested); !byDigest {
			return errors.New(`a bundle says nothing of tags; name the image by its digest, or set the signedIdentity of the policy to {"type": "matchRepository"}`)
		}
	case "exactRepository":
		if want.DockerRepository != repository {
			return fmt.Errorf("a bundle in %s does not speak for %s", repository, want.DockerRepository)
		}
	default:
		return fmt.Errorf("a bundle cannot meet a signedIdentity of type %q; matchRepository is one that it can", want.Type)
	}
	if claimed == "" {
		return nil
	}
	named, err := reference.ParseNormalizedNamed(claimed)
	if err != nil || named.Name() != repository {
		return fmt.Errorf("the bundle was signed for %.200q, not for %s", claimed, repository)
	}
	return nil
}
