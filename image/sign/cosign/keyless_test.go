package cosign_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"testing"
	"time"

	pbbundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	pbcommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	pbdsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	pbrekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/image/sign"
	"github.com/berth-registry/berth/image/sign/cosign"
	"github.com/berth-registry/berth/image/sign/key"
	"github.com/berth-registry/berth/image/sign/signtest"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

const (
	somebody = "somebody@example.com"
	issuer   = "https://issuer.example.com"
)

func identity() cosign.Identity { return cosign.Identity{Subject: somebody, Issuer: issuer} }

func newCA(t *testing.T) *ca.VirtualSigstore {
	t.Helper()
	return must[*ca.VirtualSigstore](t)(ca.NewVirtualSigstore())
}

// entryOf completes the log entry of a signature with its kind and the log's promise, which the authority keeps to itself.
func entryOf(t *testing.T, v *ca.VirtualSigstore, e *ca.TestEntity) *pbrekor.TransparencyLogEntry {
	t.Helper()
	entries := must[[]*tlog.Entry](t)(e.TlogEntries())
	entry := entries[0].TransparencyLogEntry()
	var kind struct{ Kind, APIVersion string }
	if err := json.Unmarshal(entry.CanonicalizedBody, &kind); err != nil {
		t.Fatal(err)
	}
	entry.KindVersion = &pbrekor.KindVersion{Kind: kind.Kind, Version: kind.APIVersion}
	entry.InclusionPromise = &pbrekor.InclusionPromise{SignedEntryTimestamp: must[[]byte](t)(v.RekorSignPayload(tlog.RekorPayload{
		Body: base64.StdEncoding.EncodeToString(entry.CanonicalizedBody), IntegratedTime: entry.IntegratedTime,
		LogIndex: entry.LogIndex, LogID: hex.EncodeToString(entry.LogId.KeyId),
	}))}
	return entry
}

// certified pushes a signature of the image by a certificate of the authority, as cosign 3 keeps it, and returns the bundle.
func certified(t *testing.T, s *signtest.Store, v *ca.VirtualSigstore, image sign.Content, predicate string, at time.Time, logged bool) {
	t.Helper()
	st, _ := json.Marshal(map[string]any{
		"_type": "https://in-toto.io/Statement/v1", "predicateType": predicate, "predicate": map[string]any{},
		"subject": []any{map[string]any{"digest": map[string]string{"sha256": image.Digest.Hex()}}},
	})
	e := must[*ca.TestEntity](t)(v.AttestAtTime(somebody, issuer, st, at, true))
	content, _ := e.VerificationContent()
	sigs, _ := e.SignatureContent()
	env := sigs.EnvelopeContent().RawEnvelope()
	sig, _ := base64.StdEncoding.DecodeString(env.Signatures[0].Sig)
	stamps, _ := e.Timestamps()
	b := &pbbundle.Bundle{
		MediaType: cosign.BundleType,
		VerificationMaterial: &pbbundle.VerificationMaterial{
			Content: &pbbundle.VerificationMaterial_Certificate{Certificate: &pbcommon.X509Certificate{RawBytes: content.Certificate().Raw}},
			TimestampVerificationData: &pbbundle.TimestampVerificationData{
				Rfc3161Timestamps: []*pbcommon.RFC3161SignedTimestamp{{SignedTimestamp: stamps[0]}},
			},
		},
		Content: &pbbundle.Bundle_DsseEnvelope{DsseEnvelope: &pbdsse.Envelope{
			PayloadType: env.PayloadType, Payload: st, Signatures: []*pbdsse.Signature{{Sig: sig}},
		}},
	}
	if logged {
		b.VerificationMaterial.TlogEntries = []*pbrekor.TransparencyLogEntry{entryOf(t, v, e)}
	}
	body := must[[]byte](t)(protojson.Marshal(b))
	d := oci.FromBytes(oci.SHA256, body)
	s.Blobs[d] = body
	m, _ := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeManifest, "artifactType": cosign.BundleType,
		"config":  map[string]any{"mediaType": oci.MediaTypeEmpty, "digest": oci.FromBytes(oci.SHA256, []byte("{}")).String(), "size": 2},
		"layers":  []any{map[string]any{"mediaType": cosign.BundleType, "digest": d.String(), "size": len(body)}},
		"subject": image.Descriptor(),
	})
	_ = s.PutManifest(t.Context(), ref.Reference{Digest: oci.FromBytes(oci.SHA256, m)}, oci.MediaTypeManifest, m)
}

// A certificate of a trusted authority proves its identity, when log and time are right, and to nobody who expects another.
func TestKeyless(t *testing.T) {
	v := newCA(t)
	s := signtest.New()
	image := s.Image("a")
	certified(t, s, v, image, cosign.SignPredicate, time.Now().Add(5*time.Minute), true)
	good := cosign.Trust{Root: v, Identity: identity(), NoSCT: true}

	got := must[[]sign.Verified](t)(cosign.Verify(t.Context(), s, image.Digest, good, nil))
	if len(got) != 1 || got[0].Identity != somebody || got[0].Issuer != issuer || got[0].Key != "" {
		t.Fatalf("verified %+v", got)
	}
	with := func(change func(*cosign.Trust)) cosign.Trust {
		tr := good
		change(&tr)
		return tr
	}
	must[[]sign.Verified](t)(cosign.Verify(t.Context(), s, image.Digest, with(func(tr *cosign.Trust) {
		tr.Identity = cosign.Identity{SubjectRegexp: `some.*@example\.com`, IssuerRegexp: `https://.*`}
	}), nil))
	must[[]sign.Verified](t)(cosign.Verify(t.Context(), s, image.Digest, with(func(tr *cosign.Trust) { tr.NoLog = true }), nil))

	for name, c := range map[string]struct {
		trust cosign.Trust
		says  string
	}{
		"another subject": {with(func(tr *cosign.Trust) { tr.Identity.Subject = "other@example.com" }), "other@example.com"},
		"another issuer":  {with(func(tr *cosign.Trust) { tr.Identity.Issuer = issuer + "/" }), "issuer"},
		"part of the subject": {with(func(tr *cosign.Trust) {
			tr.Identity = cosign.Identity{SubjectRegexp: "body@example.com", Issuer: issuer}
		}), "body"},
		"part of the issuer":      {with(func(tr *cosign.Trust) { tr.Identity = cosign.Identity{Subject: somebody, IssuerRegexp: "issuer"} }), "issuer"},
		"no proof of publication": {with(func(tr *cosign.Trust) { tr.NoSCT = false }), "certificate timestamp"},
		"another authority":       {with(func(tr *cosign.Trust) { tr.Root = newCA(t) }), ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := cosign.Verify(t.Context(), s, image.Digest, c.trust, nil)
			refused(t, err, sign.NoMatch, c.says)
		})
	}
	if _, err := cosign.Verify(t.Context(), s, image.Digest, cosign.Trust{Root: v, NoSCT: true}, nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("without an identity: %v", err)
	}
	if _, err := cosign.Verify(t.Context(), s, image.Digest, with(func(tr *cosign.Trust) { tr.Identity.SubjectRegexp = "(" }), nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("a broken expression: %v", err)
	}
	// A key does not verify what a certificate signed.
	_, err := cosign.Verify(t.Context(), s, image.Digest, trust(newKey(t, key.P256)), nil)
	refused(t, err, sign.NoMatch, "by a certificate")
}

func TestKeylessTime(t *testing.T) {
	v := newCA(t)
	for name, c := range map[string]struct {
		at     time.Time
		logged bool
	}{
		"before the certificate": {time.Now().Add(-time.Hour), true},
		"after the certificate":  {time.Now().Add(24 * time.Hour), true},
		"not in the log":         {time.Now().Add(5 * time.Minute), false},
	} {
		t.Run(name, func(t *testing.T) {
			s := signtest.New()
			image := s.Image("a")
			certified(t, s, v, image, cosign.SignPredicate, c.at, c.logged)
			_, err := cosign.Verify(t.Context(), s, image.Digest, cosign.Trust{Root: v, Identity: identity(), NoSCT: true}, nil)
			refused(t, err, sign.NoMatch, "")
		})
	}
}

// An entry of the log about something else proves nothing, however good it is by itself.
func TestForeignLogEntry(t *testing.T) {
	v := newCA(t)
	s := signtest.New()
	image, other := s.Image("a"), s.Image("b")
	certified(t, s, v, image, cosign.SignPredicate, time.Now().Add(5*time.Minute), true)
	o := signtest.New()
	certified(t, o, v, other, cosign.SignPredicate, time.Now().Add(5*time.Minute), true)
	var foreign any
	for _, b := range o.Blobs {
		var m map[string]any
		_ = json.Unmarshal(b, &m)
		foreign = m["verificationMaterial"].(map[string]any)["tlogEntries"]
	}
	sp := &spoiled{Store: s, t: t, image: image}
	delete(s.Manifests, other.Digest.String())
	sp.content(func(b []byte) []byte {
		var m map[string]any
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		m["verificationMaterial"].(map[string]any)["tlogEntries"] = foreign
		b, _ = json.Marshal(m)
		return b
	})
	_, err := cosign.Verify(t.Context(), s, image.Digest, cosign.Trust{Root: v, Identity: identity(), NoSCT: true}, nil)
	refused(t, err, sign.NoMatch, "log")
}

// The tag scheme keeps certificate, log entry and timestamp in annotations; signed is what cosign 2 wrote.
func TestKeylessTag(t *testing.T) {
	v := newCA(t)
	s := signtest.New()
	image := s.Image("a")
	k := newKey(t, key.P256)
	must[string](t)(cosign.Signer{Key: k, Format: cosign.Legacy, Now: now}.Sign(t.Context(), s, image, "app", nil))
	good := cosign.Trust{Root: v, Identity: identity(), NoSCT: true}
	_, err := cosign.Verify(t.Context(), s, image.Digest, good, nil)
	refused(t, err, sign.NoCertificate, "no signature with a certificate")

	var payload []byte
	for _, b := range s.Blobs {
		if bytes.Contains(b, []byte("docker-manifest-digest")) {
			payload = b
		}
	}
	e := must[*ca.TestEntity](t)(v.SignWithVersion(somebody, issuer, payload, "v0.1"))
	content, _ := e.VerificationContent()
	sigs, _ := e.SignatureContent()
	entry := entryOf(t, v, e)
	log, _ := json.Marshal(map[string]any{"SignedEntryTimestamp": entry.InclusionPromise.SignedEntryTimestamp, "Payload": map[string]any{
		"body": entry.CanonicalizedBody, "integratedTime": entry.IntegratedTime, "logIndex": entry.LogIndex, "logID": hex.EncodeToString(entry.LogId.KeyId),
	}})
	sp := &spoiled{Store: s, t: t, image: image}
	sp.edit(func(_ map[string]any, l []any) {
		l[0].(map[string]any)["annotations"] = map[string]string{
			"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(sigs.Signature()),
			"dev.sigstore.cosign/certificate":    string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: content.Certificate().Raw})),
			"dev.sigstore.cosign/bundle":         string(log),
		}
	})
	got := must[[]sign.Verified](t)(cosign.Verify(t.Context(), s, image.Digest, good, nil))
	if got[0].Identity != somebody || got[0].Reference != "app" {
		t.Fatalf("verified %+v", got)
	}
	other := good
	other.Identity.Subject = "other@example.com"
	_, err = cosign.Verify(t.Context(), s, image.Digest, other, nil)
	refused(t, err, sign.NoMatch, "other@example.com")
}
