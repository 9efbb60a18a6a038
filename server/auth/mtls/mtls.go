// Package mtls proves callers by client certificates of the operator's own authorities: rules say which certificate is
// which account or robot.
//
// That the peer has the certificate's key, the handshake has shown. Here the chain is verified against this provider's
// authorities and against the revocation lists that are configured; both are files that are read again when they change.
// A list that is too old refuses the certificates of its authority: nobody can say that they are still good.
//
// Start reading at [Provider.Identify], then rule.go.
package mtls

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/berth-registry/berth/internal/reread"
	"github.com/berth-registry/berth/server/auth"
)

// Options describe the provider.
type Options struct {
	Name     string
	CAFiles  []string // authorities, PEM
	CRLFiles []string // revocation lists of these authorities or of those below them, PEM or DER
	Rules    []Rule   // the first that fits decides
	Now      func() time.Time
	Log      *slog.Logger
}

// Provider is an auth.Certificate. Safe for concurrent use.
type Provider struct {
	o           Options
	rules       []rule
	authorities *reread.Value[*pool]
	revoked     *reread.Value[lists]
}

// pool is authorities and what they are made of.
type pool struct {
	roots *x509.CertPool
	all   []*x509.Certificate
}

// New reads the files and checks the rules.
func New(o Options) (*Provider, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if len(o.CAFiles) == 0 || len(o.Rules) == 0 {
		return nil, fmt.Errorf("client certificates (%s): authorities and rules are needed", o.Name)
	}
	p := &Provider{o: o}
	for i, text := range o.Rules {
		r, err := text.compile()
		if err != nil {
			return nil, fmt.Errorf("client certificates (%s): rule %d: %w", o.Name, i+1, err)
		}
		p.rules = append(p.rules, r)
	}
	var err error
	if p.authorities, err = reread.Open(o.CAFiles, parsePool, o.Now, o.Log); err != nil {
		return nil, fmt.Errorf("client certificates (%s): authorities: %w", o.Name, err)
	}
	if p.revoked, err = reread.Open(o.CRLFiles, parseLists, o.Now, o.Log); err != nil {
		return nil, fmt.Errorf("client certificates (%s): revocation lists: %w", o.Name, err)
	}
	return p, nil
}

func parsePool(contents [][]byte) (*pool, error) {
	p := &pool{roots: x509.NewCertPool()}
	for _, rest := range contents {
		for {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			if block.Type != "CERTIFICATE" {
				continue
			}
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, err
			}
			p.roots.AddCert(c)
			p.all = append(p.all, c)
		}
	}
	if len(p.all) == 0 {
		return nil, errors.New("no PEM certificate in the files")
	}
	return p, nil
}

// Name implements auth.Certificate.
func (p *Provider) Name() string { return p.o.Name }

// Authorities are what a listener names to clients, so that they choose a fitting certificate.
func (p *Provider) Authorities() []*x509.Certificate { return p.authorities.Get().all }

// Identify implements auth.Certificate.
func (p *Provider) Identify(_ context.Context, chain []*x509.Certificate) (auth.External, error) {
	if len(chain) == 0 {
		return auth.External{}, auth.ErrNoAccount
	}
	leaf, now := chain[0], p.o.Now()
	options := x509.VerifyOptions{
		Roots: p.authorities.Get().roots, Intermediates: x509.NewCertPool(), CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	verified, err := leaf.Verify(options)
	if err != nil {
		// Of another authority, or of ours and not valid? Asked again for a moment and a use that suit the certificate.
		options.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
		if now.After(leaf.NotAfter) {
			options.CurrentTime = leaf.NotAfter
		} else if now.Before(leaf.NotBefore) {
			options.CurrentTime = leaf.NotBefore
		}
		if _, other := leaf.Verify(options); other != nil {
			return auth.External{}, fmt.Errorf("%w: %w", auth.ErrNoAccount, err)
		}
		return auth.External{}, fmt.Errorf("%w: client certificate %s: %w", auth.ErrRefused, leaf.Subject, err)
	}
	if err := p.revoked.Get().check(verified, now); err != nil {
		return auth.External{}, fmt.Errorf("%w: client certificate %s: %w", auth.ErrRefused, leaf.Subject, err)
	}
	for i := range p.rules {
		name, ok := p.rules[i].match(leaf)
		if !ok {
			continue
		}
		return p.external(&p.rules[i], name, leaf)
	}
	return auth.External{}, fmt.Errorf("%w: no rule of %s fits certificate %s", auth.ErrNoAccount, p.o.Name, leaf.Subject)
}

// external is what a rule says of a certificate. The subject of an account is the account itself and not the certificate:
// rules are the operator's, and one that is changed holds from then on.
func (p *Provider) external(r *rule, name string, leaf *x509.Certificate) (auth.External, error) {
	e := auth.External{Provider: p.o.Name, ExpiresAt: leaf.NotAfter}
	if r.Robot != "" {
		e.Robot, e.Subject = name, leaf.Subject.String()
		return e, nil
	}
	var err error
	if e.Name, err = auth.AccountName(name); err != nil {
		return auth.External{}, fmt.Errorf("%w: certificate %s: %w", auth.ErrRefused, leaf.Subject, err)
	}
	e.Subject = "account:" + e.Name
	if r.Groups != nil {
		e.Groups = append([]string{}, r.Groups...)
	}
	return e, nil
}

// lists are revocation lists.
type lists []*x509.RevocationList

func parseLists(contents [][]byte) (lists, error) {
	var all lists
	for _, rest := range contents {
		der := [][]byte{rest}
		if bytes.Contains(rest, []byte("-----BEGIN")) {
			der = nil
			for {
				var block *pem.Block
				if block, rest = pem.Decode(rest); block == nil {
					break
				}
				if block.Type == "X509 CRL" {
					der = append(der, block.Bytes)
				}
			}
		}
		if len(der) == 0 {
			return nil, errors.New("no revocation list (X509 CRL) in a file")
		}
		for _, b := range der {
			l, err := x509.ParseRevocationList(b)
			if err != nil {
				return nil, err
			}
			all = append(all, l)
		}
	}
	return all, nil
}

// check refuses certificates when every chain to an authority has a revoked one in it. An authority without a list is not
// asked about.
//
// Spec: RFC 5280 section 6.3; without delta and indirect lists.
func (l lists) check(chains [][]*x509.Certificate, now time.Time) error {
	var err error
	for _, chain := range chains {
		if err = l.checkChain(chain, now); err == nil {
			return nil
		}
	}
	return err
}

func (l lists) checkChain(chain []*x509.Certificate, now time.Time) error {
	for i := range len(chain) - 1 {
		c, by := chain[i], chain[i+1]
		stale, current := false, false
		for _, list := range l {
			if !bytes.Equal(list.RawIssuer, by.RawSubject) || list.CheckSignatureFrom(by) != nil {
				continue
			}
			for _, r := range list.RevokedCertificateEntries {
				// Also by a list that is too old: what it revoked stays revoked. Reason 8 takes an entry of a delta list back.
				if r.SerialNumber.Cmp(c.SerialNumber) == 0 && r.ReasonCode != 8 {
					return fmt.Errorf("certificate %x was revoked on %s", c.SerialNumber, r.RevocationTime.UTC().Format(time.DateOnly))
				}
			}
			if !list.NextUpdate.IsZero() && now.After(list.NextUpdate) {
				stale = true
			} else {
				current = true
			}
		}
		if stale && !current {
			return fmt.Errorf("the revocation list of %s is too old; put the next one in its place", by.Subject)
		}
	}
	return nil
}
