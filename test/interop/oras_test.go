package interop_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// orasRepository is what the oras command does: TLS with berthd's CA, and the admin's password for a token.
func orasRepository(t testing.TB, r *registry, name string) *remote.Repository {
	t.Helper()
	repo, err := remote.NewRepository(r.host + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(r.ca) {
		t.Fatalf("not a certificate:\n%s", r.ca)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	t.Cleanup(transport.CloseIdleConnections)
	repo.Client = &auth.Client{
		Client:     &http.Client{Transport: transport},
		Cache:      auth.NewCache(),
		Credential: auth.StaticCredential(r.host, auth.Credential{Username: "admin", Password: password}),
	}
	return repo
}

const orasArtifact = "application/vnd.test.artifact"

// packed pushes one blob and a manifest around it to store and returns the manifest.
func packed(ctx context.Context, t testing.TB, store content.Pusher, kind, body string, subject *ocispec.Descriptor) ocispec.Descriptor {
	t.Helper()
	layer := content.NewDescriptorFromBytes("text/plain", []byte(body))
	if err := store.Push(ctx, layer, bytes.NewReader([]byte(body))); err != nil {
		t.Fatal(err)
	}
	desc, err := oras.PackManifest(ctx, store, oras.PackManifestVersion1_1, kind, oras.PackManifestOptions{
		Layers: []ocispec.Descriptor{layer}, Subject: subject})
	if err != nil {
		t.Fatal(err)
	}
	return desc
}

// An artifact and what refers to it, two levels deep, is copied out of the registry and into another repository.
func TestOrasArtifactGraph(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	r := guardedRegistry(t)
	repo := orasRepository(t, r, "team/artifact")
	// Without this, oras would fall back to tags in silence if the referrers API answered wrongly.
	if err := repo.SetReferrersCapability(true); err != nil {
		t.Fatal(err)
	}
	root := packed(ctx, t, repo, orasArtifact, "content", nil)
	if err := repo.Tag(ctx, root, "v1"); err != nil {
		t.Fatal(err)
	}
	sbom := packed(ctx, t, repo, "application/vnd.test.sbom", "sbom", &root)
	signature := packed(ctx, t, repo, "application/vnd.test.signature", "signature", &sbom)

	var kinds []string
	err := repo.Referrers(ctx, root, "", func(found []ocispec.Descriptor) error {
		for _, d := range found {
			kinds = append(kinds, d.ArtifactType)
		}
		return nil
	})
	if err != nil || !slices.Equal(kinds, []string{"application/vnd.test.sbom"}) {
		t.Errorf("referrers of the artifact: %q, %v", kinds, err)
	}

	local := memory.New()
	if _, err := oras.ExtendedCopy(ctx, repo, "v1", local, "v1", oras.DefaultExtendedCopyOptions); err != nil {
		t.Fatal(err)
	}
	if ok, err := local.Exists(ctx, signature); !ok || err != nil {
		t.Errorf("the signature of the sbom was not copied: %v", err)
	}
	other := orasRepository(t, r, "team/copy")
	if _, err := oras.ExtendedCopy(ctx, local, "v1", other, "v1", oras.DefaultExtendedCopyOptions); err != nil {
		t.Fatal(err)
	}
	if found, err := other.Predecessors(ctx, sbom); err != nil || len(found) != 1 || found[0].Digest != signature.Digest {
		t.Errorf("predecessors of the copied sbom: %v, %v", found, err)
	}
}

func TestOrasRepository(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	r := guardedRegistry(t)
	repo := orasRepository(t, r, "team/artifact")
	desc := packed(ctx, t, repo, orasArtifact, "content", nil)
	want := []string{"a", "b", "c", "d", "e"}
	for _, tag := range want {
		if err := repo.Tag(ctx, desc, tag); err != nil {
			t.Fatal(err)
		}
	}

	// Two at a time: the library follows the Link header.
	repo.TagListPageSize = 2
	var tags []string
	var pages int
	if err := repo.Tags(ctx, "", func(page []string) error { pages++; tags = append(tags, page...); return nil }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(tags, want) || pages != 3 {
		t.Errorf("tags in %d pages: %q, want %q in 3", pages, tags, want)
	}

	// Mounted from a repository that the caller may read, without the bytes.
	other := orasRepository(t, r, "team/mounted")
	layer := content.NewDescriptorFromBytes("text/plain", []byte("content"))
	err := other.Mount(ctx, layer, "team/artifact", func() (io.ReadCloser, error) {
		t.Error("the registry asked for the bytes, it should have mounted the blob")
		return repo.Fetch(ctx, layer)
	})
	if err != nil {
		t.Fatal(err)
	}

	if err := repo.Delete(ctx, desc); err != nil {
		t.Fatal(err)
	}
	if _, err := repo.Resolve(ctx, "a"); err == nil {
		t.Error("a deleted artifact is still there")
	}
	absent := ocispec.Descriptor{MediaType: "text/plain", Digest: digest.FromString("absent"), Size: 6}
	if _, err := repo.Blobs().Fetch(ctx, absent); !isNotFound(err) {
		t.Errorf("an absent blob: %v, want not found", err)
	}
}

func isNotFound(err error) bool { return errors.Is(err, errdef.ErrNotFound) }
