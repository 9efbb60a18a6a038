// Package gpgme stands in for the cgo binding of that name, whose functions go.podman.io/image calls for GPG simple
// signing: with it neither the tool nor its tests need cgo, C headers or build tags.
//
// Signatures are checked by go-crypto, in this process, against the keys that were imported; so a policy.json is
// evaluated on a machine without GnuPG. What only GnuPG can know is left to its program gpg: which keys the user has, and
// to sign with one (agent, smart card, passphrase). A machine without gpg says so when it is asked to sign.
//
// It has what go.podman.io/image v5.41 uses and nothing else. The module go.mod names it in a replace line. Start reading
// at Context.
package gpgme

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
)

// Protocol, PinEntryMode, SigMode and Validity have the values that the caller names.
type (
	Protocol     int
	PinEntryMode int
	SigMode      int
	Validity     int
)

// The values that are in use.
const (
	ProtocolOpenPGP  Protocol     = 0
	PinEntryLoopback PinEntryMode = 4
	SigModeNormal    SigMode      = 0
	ValidityNever    Validity     = 2
)

// Callback writes the passphrase and a line feed to its last argument.
type Callback func(uidHint string, prevWasBad bool, f *os.File) error

// Data is bytes to read, or where bytes go.
type Data struct {
	in  []byte
	out io.Writer
}

// NewDataBytes makes data to read.
func NewDataBytes(b []byte) (*Data, error) { return &Data{in: b}, nil }

// NewDataWriter makes data that is written to w.
func NewDataWriter(w io.Writer) (*Data, error) { return &Data{out: w}, nil }

// Key is a key that was found.
type Key struct{ fingerprint string }

// Fingerprint is that of the primary key, in upper case.
func (k *Key) Fingerprint() string { return k.fingerprint }

// Signature is one signature of a message. Status is nil when it is right and its key is known and not expired.
type Signature struct {
	Fingerprint    string // of the primary key
	Status         error
	ValidityReason error
	Validity       Validity
	WrongKeyUsage  bool
}

// GoString is what the library of podman shows of a signature that it does not accept.
func (s Signature) GoString() string {
	why := s.Status
	if why == nil {
		why = s.ValidityReason
	}
	return fmt.Sprintf("by the key %s (%v)", s.Fingerprint, why)
}

// ImportStatus is what became of one key; Result is nil when it is known now.
type ImportStatus struct {
	Fingerprint string
	Result      error
}

// ImportResult lists the keys of a blob.
type ImportResult struct{ Imports []ImportStatus }

// Context is a set of keys: those that were imported, or, when none were, those of GnuPG's directory. Not for concurrent
// use.
type Context struct {
	home     string // GnuPG's directory; "": what gpg itself chooses
	imported openpgp.EntityList
	callback Callback
}

// New makes a context without imported keys.
func New() (*Context, error) { return &Context{}, nil }

// SetProtocol accepts OpenPGP.
func (c *Context) SetProtocol(p Protocol) error {
	if p != ProtocolOpenPGP {
		return fmt.Errorf("protocol %d is not OpenPGP", p)
	}
	return nil
}

// SetEngineInfo names GnuPG's directory.
func (c *Context) SetEngineInfo(_ Protocol, _, home string) error {
	c.home = home
	return nil
}

// SetArmor and SetTextMode accept what is in use: binary.
func (c *Context) SetArmor(bool) {}

// SetTextMode accepts binary, see SetArmor.
func (c *Context) SetTextMode(bool) {}

// SetCallback gives the passphrase for Sign.
func (c *Context) SetCallback(f Callback) error {
	c.callback = f
	return nil
}

// SetPinEntryMode accepts loopback, which Sign uses when there is a callback.
func (c *Context) SetPinEntryMode(PinEntryMode) error { return nil }

// Import makes the public keys of a blob, binary or armored, known to this context, and not to GnuPG.
func (c *Context) Import(d *Data) (*ImportResult, error) {
	keys, err := readKeys(d.in)
	if err != nil {
		return nil, fmt.Errorf("no OpenPGP public key can be read: %w", err)
	}
	res := &ImportResult{}
	for _, k := range keys {
		c.imported = append(c.imported, k)
		res.Imports = append(res.Imports, ImportStatus{Fingerprint: fingerprint(k)})
	}
	return res, nil
}

func readKeys(blob []byte) (openpgp.EntityList, error) {
	keys, err := openpgp.ReadKeyRing(bytes.NewReader(blob))
	if err == nil && len(keys) > 0 {
		return keys, nil
	}
	if armored, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(blob)); err == nil {
		return armored, nil
	}
	return keys, err
}

func fingerprint(e *openpgp.Entity) string { return fmt.Sprintf("%X", e.PrimaryKey.Fingerprint) }

// GetKey finds a key by the fingerprint of itself or of a subkey, or, in GnuPG's directory, by anything gpg understands.
func (c *Context) GetKey(id string, secret bool) (*Key, error) {
	if len(c.imported) > 0 {
		for _, e := range c.imported {
			if strings.EqualFold(fingerprint(e), id) {
				return &Key{fingerprint(e)}, nil
			}
			for _, s := range e.Subkeys {
				if strings.EqualFold(fmt.Sprintf("%X", s.PublicKey.Fingerprint), id) {
					return &Key{fingerprint(e)}, nil
				}
			}
		}
		return nil, fmt.Errorf("key %s is not among the imported keys", id)
	}
	list, record := "--list-keys", "pub:"
	if secret {
		list, record = "--list-secret-keys", "sec:"
	}
	out, err := c.gpg(nil, nil, "--with-colons", "--fingerprint", list, "--", id)
	if err != nil {
		return nil, err
	}
	primary := false
	for line := range strings.Lines(string(out)) {
		field := strings.Split(line, ":")
		switch {
		case strings.HasPrefix(line, record):
			primary = true
		case primary && field[0] == "fpr" && len(field) > 9: // the tenth field of the first after the primary key
			return &Key{field[9]}, nil
		}
	}
	return nil, fmt.Errorf("gpg has no key %q", id)
}

// Sign writes a message with its signature by the one key of keys, made by gpg.
func (c *Context) Sign(keys []*Key, plain, sig *Data, _ SigMode) error {
	if len(keys) != 1 {
		return fmt.Errorf("%d keys to sign with, want one", len(keys))
	}
	out, err := c.gpg(plain.in, c.callback, "--local-user", keys[0].fingerprint, "--sign")
	if err != nil {
		return err
	}
	_, err = sig.out.Write(out)
	return err
}

// Verify checks a message that carries its signature and writes what was signed to plain. A wrong signature is a
// Signature with a Status, a message that is none an error.
func (c *Context) Verify(sig, _, plain *Data) (string, []Signature, error) {
	keys := c.imported
	if len(keys) == 0 {
		ring, err := c.gpg(nil, nil, "--export")
		if err != nil {
			return "", nil, err
		}
		if keys, err = readKeys(ring); err != nil {
			return "", nil, fmt.Errorf("public keys of gpg: %w", err)
		}
	}
	md, err := openpgp.ReadMessage(bytes.NewReader(sig.in), keys, nil, nil)
	if err != nil {
		return "", nil, fmt.Errorf("not a signed OpenPGP message: %w", err)
	}
	if !md.IsSigned {
		return "", nil, errors.New("the OpenPGP message is not signed")
	}
	content, err := io.ReadAll(md.UnverifiedBody) // its end is where the signature is checked
	if err != nil {
		return "", nil, fmt.Errorf("signed OpenPGP message: %w", err)
	}
	s := Signature{Status: md.SignatureError}
	if md.SignedBy == nil {
		s.Fingerprint = fmt.Sprintf("%016X", md.SignedByKeyId)
		if s.Status == nil {
			s.Status = fmt.Errorf("no public key %s", s.Fingerprint)
		}
	} else {
		s.Fingerprint = fingerprint(md.SignedBy.Entity)
	}
	if s.Status == nil {
		if _, err := plain.out.Write(content); err != nil {
			return "", nil, err
		}
	}
	return "", []Signature{s}, nil
}

// gpg runs the program with a message on its standard input and a passphrase on a descriptor of its own.
func (c *Context) gpg(in []byte, passphrase Callback, args ...string) ([]byte, error) {
	path, err := exec.LookPath("gpg")
	if err != nil {
		return nil, errors.New("the program gpg is not on this machine, and the user's keys are only known to it; install GnuPG")
	}
	flags := []string{"--batch", "--no-tty", "--quiet"}
	if c.home != "" {
		flags = append(flags, "--homedir", c.home)
	}
	cmd := exec.Command(path)
	if passphrase != nil {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		defer r.Close()
		err = passphrase("", false, w) // some dozen bytes: a pipe takes them before anybody reads
		if cerr := w.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return nil, err
		}
		cmd.ExtraFiles = []*os.File{r}
		flags = append(flags, "--pinentry-mode", "loopback", "--passphrase-fd", "3")
	}
	cmd.Args = append(cmd.Args, append(flags, args...)...)
	cmd.Stdin = bytes.NewReader(in)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("gpg: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return stdout.Bytes(), nil
}
