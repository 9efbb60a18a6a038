// Package policy decides by a policy.json, the file of podman, skopeo and CRI-O, whether an image may be used: reject,
// insecureAcceptAnything, signedBy (GPG keys) and sigstoreSigned (cosign's keys, at tags and in bundles). It also shows and changes such files.
//
// Start reading at [Check]; file.go is about the file.
//
// Spec: containers-policy.json(5), containers-registries.d(5).
package policy

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/types"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/sign"
	"github.com/berth-registry/berth/oci"
)

// Checked is an image that a policy allows: whoever transfers it afterwards asks for this digest, and not for the tag
// again.
type Checked struct {
	Digest oci.Digest
	// Signed is false when the policy accepts the image without a signature.
	Signed bool
}

// Options are how strictly to look.
type Options struct {
	// RequireSigned refuses what only insecureAcceptAnything allows.
	RequireSigned bool
	// Store is the repository of the image, where bundles of cosign 3 are looked for; nil does not look for them.
	Store sign.Store
	// Instance is the image of an index that is asked about; the zero value is what the reference names.
	Instance oci.Digest
}

// Check asks the policy whether the image may be used. It returns an error unless every requirement of the scope is met: a
// *sign.Refusal when the policy says no, any other when it could not be asked. sys says where signatures are (registries.d)
// and how to reach the registry.
func Check(ctx context.Context, p *signature.Policy, ref types.ImageReference, sys *types.SystemContext, o Options) (c Checked, err error) {
	src, err := ref.NewImageSource(ctx, sys)
	if err != nil {
		return c, fmt.Errorf("policy: open the image: %w", err)
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	body, _, err := src.GetManifest(ctx, nil)
	if err != nil {
		return c, fmt.Errorf("policy: read the manifest: %w", err)
	}
	d, err := manifest.Digest(body)
	if err != nil {
		return c, fmt.Errorf("policy: digest of the manifest: %w", err)
	}
	if c.Digest, err = oci.ParseDigest(d.String()); err != nil {
		return c, err
	}
	if err := Allow(ctx, p, src, c.Digest, o); err != nil {
		return c, err
	}
	// Asked again with the need of a signature, the answer tells what was believed.
	o.RequireSigned = true
	c.Signed = Allow(ctx, p, src, c.Digest, o) == nil
	return c, nil
}

// Allow asks the policy about an image that is open. d is the digest of its manifest.
func Allow(ctx context.Context, p *signature.Policy, src types.ImageSource, d oci.Digest, o Options) error {
	err := library(ctx, p, src, o)
	if err == nil || o.Store == nil || !asksFor(p, src.Reference(), "sigstoreSigned") {
		return err
	}
	berr := byBundles(ctx, p, src, d, o)
	if berr == nil {
		return nil
	}
	if no := (*sign.Refusal)(nil); errors.As(err, &no) {
		no.Tried = append(no.Tried, sign.Attempt{Where: "bundles", Err: berr})
	}
	return err
}

// asksFor reports whether a requirement of this type holds for an image.
func asksFor(p *signature.Policy, ref types.ImageReference, kind string) bool {
	for _, r := range requirements(p, ref) {
		if k, err := kindOf(r); err == nil && k.Type() == kind {
			return true
		}
	}
	return false
}

// library asks go.podman.io/image.
func library(ctx context.Context, p *signature.Policy, src types.ImageSource, o Options) error {
	pc, err := signature.NewPolicyContext(p)
	if err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	defer func() { _ = pc.Destroy() }() // it only reports that somebody else uses it, and nobody does
	pc.RequireSignatureVerification(o.RequireSigned)
	var instance *digest.Digest
	if !o.Instance.IsZero() {
		d := digest.Digest(o.Instance.String())
		instance = &d
	}
	allowed, err := pc.IsRunningImageAllowed(ctx, image.UnparsedInstance(src, instance))
	var no signature.PolicyRequirementError
	var wrong signature.InvalidSignatureError
	switch {
	case err == nil && allowed:
		return nil
	case err == nil:
		return &sign.Refusal{Why: sign.ByPolicy, Message: "the policy does not allow the image"}
	case errors.As(err, &no), errors.As(err, &wrong):
		return &sign.Refusal{Why: sign.ByPolicy, Message: "the policy does not allow the image", Tried: []sign.Attempt{{Where: "policy.json", Err: err}}}
	}
	return fmt.Errorf("policy: %w", err)
}

// Parse reads a policy.json as it is checked: keys that are unknown are errors.
func Parse(file []byte) (*signature.Policy, error) {
	p, err := signature.NewPolicyFromBytes(file)
	if err != nil {
		return nil, fault.New(fault.Invalid, sign.ReasonTrust, "policy is not valid: %s", err).Because(err)
	}
	return p, nil
}
