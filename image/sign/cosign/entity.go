package cosign

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	pbbundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	pbcommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	pbdsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	pbrekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
)

// fromSimple makes a bundle of a layer of the tag scheme: the payload is the layer, all else is in its annotations.
func fromSimple(payload []byte, notes map[string]string) (*bundle.Bundle, error) {
	sig, err := base64.StdEncoding.DecodeString(notes[signatureNote])
	if err != nil || len(sig) == 0 {
		return nil, fmt.Errorf("annotation %s has no signature in base64", signatureNote)
	}
	sum := sha256.Sum256(payload)
	b := &pbbundle.Bundle{MediaType: legacyBundle, Content: &pbbundle.Bundle_MessageSignature{MessageSignature: &pbcommon.MessageSignature{
		MessageDigest: &pbcommon.HashOutput{Algorithm: pbcommon.HashAlgorithm_SHA2_256, Digest: sum[:]},
		Signature:     sig,
	}}}
	return withMaterial(b, notes)
}

// envelope is a DSSE envelope as JSON has it.
type envelope struct {
	PayloadType string `json:"payloadType"`
	Payload     []byte `json:"payload"`
	Signatures  []struct {
		KeyID string `json:"keyid"`
		Sig   []byte `json:"sig"`
	} `json:"signatures"`
}

// envelopeOf is an envelope as JSON.
func envelopeOf(in *pbdsse.Envelope) ([]byte, error) {
	type signature struct {
		KeyID string `json:"keyid"`
		Sig   []byte `json:"sig"`
	}
	out := struct {
		PayloadType string      `json:"payloadType"`
		Payload     []byte      `json:"payload"`
		Signatures  []signature `json:"signatures"`
	}{PayloadType: in.PayloadType, Payload: in.Payload}
	for _, s := range in.Signatures {
		out.Signatures = append(out.Signatures, signature{s.Keyid, s.Sig})
	}
	return json.Marshal(out)
}

// fromEnvelope makes a bundle of an attestation of the tag scheme.
func fromEnvelope(layer []byte, notes map[string]string) (*bundle.Bundle, error) {
	var e envelope
	if err := json.Unmarshal(layer, &e); err != nil {
		return nil, fmt.Errorf("envelope cannot be read: %w", err)
	}
	out := &pbdsse.Envelope{PayloadType: e.PayloadType, Payload: e.Payload}
	for _, s := range e.Signatures {
		out.Signatures = append(out.Signatures, &pbdsse.Signature{Keyid: s.KeyID, Sig: s.Sig})
	}
	b := &pbbundle.Bundle{MediaType: legacyBundle, Content: &pbbundle.Bundle_DsseEnvelope{DsseEnvelope: out}}
	return withMaterial(b, notes)
}

// withMaterial adds certificate, log entry and timestamp from the annotations, where there are any.
func withMaterial(b *pbbundle.Bundle, notes map[string]string) (*bundle.Bundle, error) {
	m := &pbbundle.VerificationMaterial{Content: &pbbundle.VerificationMaterial_PublicKey{PublicKey: &pbcommon.PublicKeyIdentifier{}}}
	if text := notes[certificateNote]; text != "" {
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			return nil, fmt.Errorf("annotation %s has no certificate", certificateNote)
		}
		m.Content = &pbbundle.VerificationMaterial_X509CertificateChain{X509CertificateChain: &pbcommon.X509CertificateChain{
			Certificates: []*pbcommon.X509Certificate{{RawBytes: block.Bytes}},
		}}
	}
	if text := notes[logNote]; text != "" {
		entry, err := logEntry([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("annotation %s: %w", logNote, err)
		}
		m.TlogEntries = []*pbrekor.TransparencyLogEntry{entry}
	}
	if text := notes[timestampNote]; text != "" {
		var t struct{ SignedRFC3161Timestamp []byte }
		if err := json.Unmarshal([]byte(text), &t); err != nil {
			return nil, fmt.Errorf("annotation %s: %w", timestampNote, err)
		}
		m.TimestampVerificationData = &pbbundle.TimestampVerificationData{
			Rfc3161Timestamps: []*pbcommon.RFC3161SignedTimestamp{{SignedTimestamp: t.SignedRFC3161Timestamp}},
		}
	}
	b.VerificationMaterial = m
	return bundle.NewBundle(b)
}

// logEntry reads what the log promised when the signature was made.
func logEntry(text []byte) (*pbrekor.TransparencyLogEntry, error) {
	var l struct {
		SignedEntryTimestamp []byte
		Payload              struct {
			Body           []byte `json:"body"`
			IntegratedTime int64  `json:"integratedTime"`
			LogIndex       int64  `json:"logIndex"`
			LogID          string `json:"logID"`
		}
	}
	if err := json.Unmarshal(text, &l); err != nil {
		return nil, err
	}
	id, err := hex.DecodeString(l.Payload.LogID)
	if err != nil {
		return nil, fmt.Errorf("log id %q is not hexadecimal", l.Payload.LogID)
	}
	var kind struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}
	if err := json.Unmarshal(l.Payload.Body, &kind); err != nil {
		return nil, fmt.Errorf("entry of the log: %w", err)
	}
	if len(l.SignedEntryTimestamp) == 0 {
		return nil, errors.New("entry of the log has no signed time")
	}
	return &pbrekor.TransparencyLogEntry{
		LogIndex: l.Payload.LogIndex, LogId: &pbcommon.LogId{KeyId: id},
		KindVersion:       &pbrekor.KindVersion{Kind: kind.Kind, Version: kind.APIVersion},
		IntegratedTime:    l.Payload.IntegratedTime,
		InclusionPromise:  &pbrekor.InclusionPromise{SignedEntryTimestamp: l.SignedEntryTimestamp},
		CanonicalizedBody: l.Payload.Body,
	}, nil
}
