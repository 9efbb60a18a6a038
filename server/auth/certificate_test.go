package auth_test

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/identity"
)

// office is an in-memory auth.Certificate: it knows certificates by their bytes.
type office struct {
	name  string
	known map[string]auth.External
	err   error // for whom it does not know; nil is ErrNoAccount
	asked int
}

func (o *office) Name() string { return o.name }

func (o *office) Identify(_ context.Context, chain []*x509.Certificate) (auth.External, error) {
	o.asked++
	if x, ok := o.known[string(chain[0].Raw)]; ok {
		return x, nil
	}
	if o.err != nil {
		return auth.External{}, o.err
	}
	return auth.External{}, auth.ErrNoAccount
}

// showing is the context of a request over a connection with that client certificate.
func showing(t *testing.T, leaf string) context.Context {
	t.Helper()
	return auth.WithCertificates(t.Context(), []*x509.Certificate{{Raw: []byte(leaf)}})
}

func withOffice(t *testing.T) (*bench, *office) {
	t.Helper()
	b := open(t)
	o := &office{name: "office", known: map[string]auth.External{
		"carol":  {Provider: "office", Subject: "CN=carol", Name: "carol"},
		"robot":  {Provider: "office", Subject: "CN=robot", Robot: "puller"},
		"alice":  {Provider: "office", Subject: "CN=alice", Name: alice},
		"nobody": {Provider: "office", Subject: "CN=nobody", Robot: "absent"},
	}}
	if err := b.Use([]auth.IdentityProvider{{Name: "site", Kind: "oidc", Browser: &site{}}, {Name: "office", Kind: "mtls", Create: true, Certificate: o}}); err != nil {
		t.Fatal(err)
	}
	b.robot(t, auth.NewRobot{Name: "puller"})
	return b, o
}

// TestCertificate: a certificate is somebody as long as its provider says so and the account or robot behind it is able; a header
// goes before it, right or wrong.
func TestCertificate(t *testing.T) {
	b, o := withOffice(t)
	come := func(leaf, header string) (identity.Principal, error) {
		t.Helper()
		return b.Authenticate(showing(t, leaf), header, here)
	}
	carol, err := come("carol", "")
	if err != nil || carol.Name != "carol" || carol.Kind != identity.User || carol.ID == 0 || carol.Via != identity.ViaMTLS || carol.Addr != here || carol.Grants != nil {
		t.Fatalf("%+v, %v", carol, err)
	}
	asked := o.asked
	if p, err := come("carol", ""); err != nil || p.ID != carol.ID || p.Via != identity.ViaMTLS || o.asked != asked {
		t.Errorf("again: %+v, %v; asked %d times more", p, err, o.asked-asked)
	}
	if p, err := come("robot", ""); err != nil || p.Kind != identity.Robot || p.Name != "puller" || p.Via != identity.ViaMTLS {
		t.Errorf("robot: %+v, %v", p, err)
	}
	// One that no provider knows is as none, and is asked about once.
	for range 2 {
		if p, err := come("stranger", ""); err != nil || p.Kind != identity.Anonymous {
			t.Errorf("stranger: %+v, %v", p, err)
		}
	}
	if asked = o.asked; asked != 3 {
		t.Errorf("asked %d times about three certificates", asked)
	}
	if p, err := b.Authenticate(t.Context(), "", here); err != nil || p.Kind != identity.Anonymous {
		t.Errorf("none: %+v, %v", p, err)
	}
	// A credential that is given and wrong is not made right by a certificate.
	if p, err := come("carol", basic(alice, "wrong")); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("with a wrong password: %+v, %v", p, err)
	}
	if p, err := come("carol", basic(alice, alicePassword)); err != nil || p.Name != alice || p.Via != identity.ViaBasic {
		t.Errorf("with another's password: %+v, %v", p, err)
	}
	// Names of accounts here are not the office's to give.
	if p, err := come("alice", ""); !fault.Is(err, fault.Denied) || !strings.Contains(fault.Of(err).Message, "the client certificate of this connection") || !strings.Contains(fault.Of(err).Message, "not linked") {
		t.Errorf("an account that is not linked: %+v, %v", p, err)
	}
	if p, err := come("nobody", ""); !fault.Is(err, fault.Denied) {
		t.Errorf("a robot that is not there: %+v, %v", p, err)
	}
}

// TestCertificateEnds: what ends a certificate, its account or its robot ends what it is good for, in the time that is promised.
func TestCertificateEnds(t *testing.T) {
	b, o := withOffice(t)
	come := func(leaf string) error {
		t.Helper()
		p, err := b.Authenticate(showing(t, leaf), "", here)
		if err == nil && p.Kind == identity.Anonymous {
			return errors.New("anonymous")
		}
		return err
	}
	for _, leaf := range []string{"carol", "robot"} {
		if err := come(leaf); err != nil {
			t.Fatal(err)
		}
	}
	// The account and the robot are looked at every time.
	yes, no := true, false
	set := func(disabled *bool) {
		t.Helper()
		u, err := b.User(local(t), "carol")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.UpdateUser(local(t), "carol", u.Generation, auth.UserChange{Disabled: disabled}); err != nil {
			t.Fatal(err)
		}
		r, err := b.Robot(local(t), "", "puller")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.UpdateRobot(local(t), "", "puller", r.Generation, auth.RobotChange{Disabled: disabled}); err != nil {
			t.Fatal(err)
		}
	}
	set(&yes)
	for _, leaf := range []string{"carol", "robot"} {
		if err := come(leaf); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%s disabled: %v", leaf, err)
		}
	}
	set(&no)
	for _, leaf := range []string{"carol", "robot"} {
		if err := come(leaf); err != nil {
			t.Errorf("%s able again: %v", leaf, err)
		}
	}
	// What the provider does not say any more holds for half a minute at the most.
	before := o.known["carol"]
	delete(o.known, "carol")
	b.clock.Advance(29 * time.Second)
	if err := come("carol"); err != nil {
		t.Errorf("remembered: %v", err)
	}
	b.clock.Advance(2 * time.Second)
	if err := come("carol"); err == nil || err.Error() != "anonymous" {
		t.Errorf("31 s after the provider dropped it: %v", err)
	}
	// The same for one that is revoked: that is its business, and the answer is no.
	o.known["carol"] = before
	b.clock.Advance(31 * time.Second)
	if err := come("carol"); err != nil {
		t.Fatal(err)
	}
	delete(o.known, "carol")
	o.err = auth.ErrRefused
	b.clock.Advance(31 * time.Second)
	if err := come("carol"); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("revoked: %v", err)
	}
	o.err = errors.New("list of revocations: read /srv/crl.pem")
	if f := fault.Of(come("carol")); f.Kind != fault.Unavailable || f.Message != "identity provider office cannot be asked now; try again later" {
		t.Errorf("a provider that cannot be asked: %+v", f)
	}
	// Its own end does not wait for the half minute.
	o.err = nil
	before.ExpiresAt = b.clock.Now().Add(10 * time.Second)
	o.known["carol"] = before
	if err := come("carol"); err != nil {
		t.Fatal(err)
	}
	delete(o.known, "carol")
	b.clock.Advance(11 * time.Second)
	if err := come("carol"); err == nil || err.Error() != "anonymous" {
		t.Errorf("after its end: %v", err)
	}
	// An account that was deleted, and another one of its name: the certificate is not that one's.
	before.ExpiresAt = time.Time{}
	o.known["carol"] = before
	b.clock.Advance(31 * time.Second)
	if err := come("carol"); err != nil {
		t.Fatal(err)
	}
	if err := b.DeleteUser(local(t), "carol", -1); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.CreateUser(local(t), auth.NewUser{Name: "carol", Password: "a password of carol"}); err != nil {
		t.Fatal(err)
	}
	if err := come("carol"); !fault.Is(err, fault.Denied) {
		t.Errorf("another account of the name: %v", err)
	}
}
