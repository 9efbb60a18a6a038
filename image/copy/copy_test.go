package copy_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/copy"
	"github.com/berth-registry/berth/image/layout"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

// An index with referrers, referrers of referrers, an attestation of one of its manifests and a cosign tag goes from a registry
// into a folder, from there into an archive, and into another registry: all of it arrives, each time byte for byte.
func TestGraphTravels(t *testing.T) {
	c := plainClient(remote.Options{})
	from := repo(t, c, berthd(t), "team/app")
	s := putSigned(t, from, "v1", 10)
	dir, err := layout.CreateDir(filepath.Join(t.TempDir(), "layout"))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	file := filepath.Join(t.TempDir(), "image.tar")
	b, err := layout.NewBuilder(file)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	move := func(src copy.Source, dst copy.Target) *copy.Result {
		t.Helper()
		res, err := copy.New(copy.Options{}).Copy(t.Context(), copy.Job{From: src, At: tag("v1"), To: dst, As: []ref.Reference{tag("v1")}})
		if err != nil {
			t.Fatal(err)
		}
		if res.Manifests != len(s.all()) || res.Referrers != 4 || res.Digest != s.index.Digest || !res.Changed {
			t.Errorf("%s to %s: %d manifests, %d referrers", src, dst, res.Manifests, res.Referrers)
		}
		return res
	}
	check := func(p place) {
		t.Helper()
		mustHave(t, p, tag("v1"), s.index.Digest)
		mustHave(t, p, tag(remote.FallbackTag(s.index.Digest)+".sig"), s.sig.Digest)
		for subject, want := range map[oci.Digest]oci.Digest{s.index.Digest: s.sbom.Digest, s.sbom.Digest: s.sbomSig.Digest, s.arm64.Digest: s.att.Digest} {
			got, err := p.Referrers(t.Context(), subject)
			if err != nil || len(got) != 1 || got[0].Digest != want {
				t.Errorf("%s: referrers of %s: %v, %v", p, subject, got, err)
			}
			mustHave(t, p, ref.Reference{Digest: want}, want)
		}
	}
	move(from, dir)
	check(dir)
	move(dir, b)
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	a, err := layout.OpenArchive(file)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	to := repo(t, c, berthd(t), "other/app")
	move(a, to)
	check(to)

	// Once more there is nothing to do.
	res, err := copy.New(copy.Options{}).Copy(t.Context(), copy.Job{From: a, At: tag("v1"), To: to, As: []ref.Reference{tag("v1")}})
	if err != nil || res.Changed || res.Sent+res.Mounted+res.Manifests != 0 {
		t.Errorf("the second time: %+v, %v", res, err)
	}
	// A signature that comes later travels although the image does not.
	late := putReferrer(t, from, ref.Reference{}, s.amd64, "application/spdx+json", "late")
	res, err = copy.New(copy.Options{}).Copy(t.Context(), copy.Job{From: from, At: tag("v1"), To: to, As: []ref.Reference{tag("v1")}})
	if err != nil || res.Manifests != 1 || res.Referrers != 1 {
		t.Errorf("a late referrer: %+v, %v", res, err)
	}
	mustHave(t, to, ref.Reference{Digest: late.Digest}, late.Digest)
}

func TestReferrersChoice(t *testing.T) {
	c := plainClient(remote.Options{})
	host := berthd(t)
	from := repo(t, c, host, "team/app")
	s := putSigned(t, from, "v1", 20)
	for name, tc := range map[string]struct {
		choice     copy.Referrers
		have, lack []oci.Descriptor
	}{
		"none":     {copy.Referrers{None: true}, nil, []oci.Descriptor{s.sbom, s.att, s.sig}},
		"spdx":     {copy.Referrers{Types: []string{"application/spdx+json"}}, []oci.Descriptor{s.sbom}, []oci.Descriptor{s.att, s.sig, s.sbomSig}},
		"cosign":   {copy.Referrers{Types: []string{copy.TypeCosignTags}}, []oci.Descriptor{s.sig}, []oci.Descriptor{s.att, s.sbom}},
		"untagged": {copy.Referrers{NoTags: true}, []oci.Descriptor{s.sbom, s.sbomSig}, []oci.Descriptor{s.sig}},
	} {
		to := repo(t, c, host, "choice/"+name)
		if _, err := copy.New(copy.Options{Referrers: tc.choice}).Copy(t.Context(), copy.Job{From: from, At: tag("v1"), To: to, As: []ref.Reference{tag("v1")}}); err != nil {
			t.Fatal(err)
		}
		mustHave(t, to, tag("v1"), s.index.Digest)
		for _, d := range tc.have {
			mustHave(t, to, ref.Reference{Digest: d.Digest}, d.Digest)
		}
		for _, d := range tc.lack {
			mustLack(t, to, ref.Reference{Digest: d.Digest})
		}
	}
}

// Between repositories of one registry not a byte is sent.
func TestMounts(t *testing.T) {
	c := plainClient(remote.Options{})
	host := berthd(t)
	from, to := repo(t, c, host, "team/app"), repo(t, c, host, "prod/app")
	d := putImage(t, from, tag("v1"), 30, 100_000, 50_000, 7)
	var ev events
	res, err := copy.New(copy.Options{Progress: ev.add}).Copy(t.Context(), copy.Job{From: from, At: tag("v1"), To: to, As: []ref.Reference{tag("v1"), tag("stable")}})
	if err != nil || res.Mounted != 4 || res.Sent != 0 || res.Bytes != 0 || ev.blobs(copy.Mounted) != 4 {
		t.Errorf("%+v, %v", res, err)
	}
	mustHave(t, to, tag("v1"), d.Digest)
	mustHave(t, to, tag("stable"), d.Digest)
}

// What one image brought to the target's registry another does not send again, be it into another repository.
func TestMountsFromSameRun(t *testing.T) {
	c := plainClient(remote.Options{})
	from, host := repo(t, c, berthd(t), "team/app"), berthd(t)
	putImage(t, from, tag("v1"), 40, 100_000, 50_000)
	e := copy.New(copy.Options{})
	for i, name := range []string{"a/app", "b/app"} {
		res, err := e.Copy(t.Context(), copy.Job{From: from, At: tag("v1"), To: repo(t, c, host, name), As: []ref.Reference{tag("v1")}})
		if err != nil || res.Mounted != 3*i || res.Sent != 3-3*i {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
	}
}

func TestPlatforms(t *testing.T) {
	c := plainClient(remote.Options{})
	host := berthd(t)
	from := repo(t, c, host, "team/app")
	s := putSigned(t, from, "v1", 50)
	arm, err := copy.ParsePlatform("linux/arm64/v8")
	if err != nil {
		t.Fatal(err)
	}
	one := repo(t, c, host, "one/app")
	res, err := copy.New(copy.Options{Select: copy.One, Platform: arm}).Copy(t.Context(), copy.Job{From: from, At: tag("v1"), To: one, As: []ref.Reference{tag("v1")}})
	if err != nil || res.Digest != s.arm64.Digest {
		t.Fatalf("%+v, %v", res, err)
	}
	mustHave(t, one, tag("v1"), s.arm64.Digest)
	mustHave(t, one, ref.Reference{Digest: s.att.Digest}, s.att.Digest)
	mustLack(t, one, ref.Reference{Digest: s.amd64.Digest})

	sparse := repo(t, c, host, "sparse/app")
	if _, err := copy.New(copy.Options{Platforms: []copy.Platform{arm}}).Copy(t.Context(), copy.Job{From: from, At: tag("v1"), To: sparse, As: []ref.Reference{tag("v1")}}); err != nil {
		t.Fatal(err)
	}
	if d, err := sparse.Head(t.Context(), tag("v1")); err != nil || d.Digest != s.index.Digest {
		t.Errorf("%v, %v", d, err)
	}
	mustHave(t, sparse, ref.Reference{Digest: s.arm64.Digest}, s.arm64.Digest)
	mustLack(t, sparse, ref.Reference{Digest: s.amd64.Digest})

	_, err = copy.New(copy.Options{Select: copy.One, Platform: copy.Platform{OS: "linux", Architecture: "s390x"}}).Copy(t.Context(), copy.Job{From: from, At: tag("v1"), To: one})
	if !fault.Is(err, fault.NotFound) || !contains(err, "linux/s390x", "linux/amd64, linux/arm64") {
		t.Errorf("%v", err)
	}
}

func TestDryRunWritesNothing(t *testing.T) {
	c := plainClient(remote.Options{})
	from, to := repo(t, c, berthd(t), "team/app"), repo(t, c, berthd(t), "team/app")
	s := putSigned(t, from, "v1", 60)
	var ev events
	res, err := copy.New(copy.Options{DryRun: true, Progress: ev.add}).Copy(t.Context(), copy.Job{From: from, At: tag("v1"), To: to, As: []ref.Reference{tag("v1")}})
	if err != nil || !res.Changed || res.Manifests != len(s.all()) || res.Bytes < 500_000 || ev.blobs(copy.Planned) != res.Sent {
		t.Errorf("%+v, %v", res, err)
	}
	if tags, err := to.Tags(t.Context()); err == nil && len(tags) > 0 {
		t.Errorf("tags %v", tags)
	}
	for _, d := range s.all() {
		mustLack(t, to, ref.Reference{Digest: d.Digest})
	}
}

// A folder that lost a blob, or has it wrong, is told apart from one that has it, and is mended.
func TestFolderIsMended(t *testing.T) {
	c := plainClient(remote.Options{})
	from := repo(t, c, berthd(t), "team/app")
	d := putImage(t, from, tag("v1"), 70, 9000, 5000)
	dir, err := layout.CreateDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	job := copy.Job{From: from, At: tag("v1"), To: dir, As: []ref.Reference{tag("v1")}}
	if _, err := copy.New(copy.Options{}).Copy(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	lost := oci.FromBytes(oci.SHA256, randomBytes(7000, 9000))
	damage(t, filepath.Join(dir.String(), "blobs", "sha256", lost.Hex()), 100)
	damage(t, filepath.Join(dir.String(), "blobs", "sha256", d.Digest.Hex()), 10)
	res, err := copy.New(copy.Options{}).Copy(t.Context(), job)
	if err != nil || res.Sent != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	mustHave(t, dir, tag("v1"), d.Digest)
	// A blob alone, beside manifests that are whole, is mended, too, and has its name when the copy has ended.
	damage(t, filepath.Join(dir.String(), "blobs", "sha256", lost.Hex()), 100)
	if res, err = copy.New(copy.Options{}).Copy(t.Context(), job); err != nil || res.Sent != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	if b, err := os.ReadFile(filepath.Join(dir.String(), "blobs", "sha256", lost.Hex())); err != nil || oci.FromBytes(oci.SHA256, b) != lost {
		t.Errorf("the blob was not mended: %v", err)
	}
}
