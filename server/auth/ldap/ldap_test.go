package ldap_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/internal/testkit"
	"github.com/berth-registry/berth/server/auth"
	"github.com/berth-registry/berth/server/auth/ldap"
)

const (
	people = "ou=people," + testkit.LDAPBase
	groups = "ou=groups," + testkit.LDAPBase
	reader = "cn=reader," + testkit.LDAPBase
)

// directory starts a slapd with the service account and alice, and makes a driver for it.
func directory(t *testing.T, change func(*ldap.Options)) (*testkit.Slapd, *ldap.Directory, string) {
	t.Helper()
	s := testkit.StartSlapd(t)
	s.Add(t, "dn: "+reader+"\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: reader\nuserPassword: reader-secret\n")
	alice := s.AddPerson(t, "alice", "alice-secret")
	o := options(s)
	if change != nil {
		change(&o)
	}
	return s, open(t, o), alice
}

func options(s *testkit.Slapd) ldap.Options {
	return ldap.Options{
		Name: "corp", Servers: []string{s.URL}, CAFile: s.CAFile, BindDN: reader, BindPassword: "reader-secret",
		Users: ldap.Users{Base: people}, Groups: ldap.Groups{Base: groups}, Timeout: 3 * time.Second,
	}
}

func open(t *testing.T, o ldap.Options) *ldap.Directory {
	t.Helper()
	d, err := ldap.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func login(t *testing.T, d *ldap.Directory, name, password string) auth.External {
	t.Helper()
	e, err := d.Login(t.Context(), name, password)
	if err != nil {
		t.Fatalf("login of %s: %v", name, err)
	}
	return e
}

func TestLogin(t *testing.T) {
	s, d, alice := directory(t, nil)
	s.SetGroup(t, "devs", alice)
	e := login(t, d, "alice", "alice-secret")
	if e.Provider != "corp" || e.Name != "alice" || e.Email != "alice@example.com" || len(e.Subject) != 36 || e.Admin || !slices.Equal(e.Groups, []string{"devs"}) {
		t.Errorf("login says %+v", e)
	}
	if again := login(t, d, " ALICE", "alice-secret"); again.Subject != e.Subject || again.Name != "alice" {
		t.Errorf("another spelling is another account: %+v", again)
	}
	found, err := d.Lookup(t.Context(), e.Subject)
	if err != nil || found.Name != "alice" || !slices.Equal(found.Groups, e.Groups) {
		t.Errorf("lookup says %+v, %v", found, err)
	}
	for _, password := range []string{"", "wrong", "alice-secret ", "alice-secret\x00", strings.Repeat("x", 4096)} {
		if _, err := d.Login(t.Context(), "alice", password); !errors.Is(err, auth.ErrPassword) {
			t.Errorf("login with password %.20q: %v; want ErrPassword", password, err)
		}
	}
	for _, name := range []string{"", "nobody", "alice\x00", "\xff"} {
		if _, err := d.Login(t.Context(), name, "alice-secret"); !errors.Is(err, auth.ErrNoAccount) {
			t.Errorf("login of %q: %v; want ErrNoAccount", name, err)
		}
	}
	for _, subject := range []string{"", "*", "00000000-0000-0000-0000-000000000000", e.Subject[:35] + "*"} {
		if _, err := d.Lookup(t.Context(), subject); !errors.Is(err, auth.ErrNoAccount) {
			t.Errorf("lookup of %q: %v; want ErrNoAccount", subject, err)
		}
	}
}

// A server may take a name without a password for an anonymous bind, so it must not see one.
func TestEmptyPasswordStaysOffTheWire(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	asked := make(chan struct{}, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			asked <- struct{}{}
			_ = c.Close()
		}
	}()
	d := open(t, ldap.Options{Name: "corp", Servers: []string{"ldap://" + l.Addr().String()}, Plain: true, Users: ldap.Users{Base: people}})
	if _, err := d.Login(t.Context(), "alice", ""); !errors.Is(err, auth.ErrPassword) {
		t.Errorf("login without a password: %v; want ErrPassword", err)
	}
	select {
	case <-asked:
		t.Error("the server was connected to")
	case <-time.After(50 * time.Millisecond):
	}
}

// What is typed can end neither the filter nor its place in it.
func TestEscaping(t *testing.T) {
	s, d, alice := directory(t, nil)
	s.Add(t, "dn: uid=o\\2Cbrien \\28x\\29,"+people+"\nobjectClass: inetOrgPerson\nuid: o,brien (x)\ncn: x\nsn: x\nuserPassword: odd-secret\n")
	s.SetGroup(t, "odd", "uid=o\\2Cbrien (x),"+people)
	s.SetGroup(t, "devs", alice)
	if e := login(t, d, "o,brien (x)", "odd-secret"); !slices.Equal(e.Groups, []string{"odd"}) {
		t.Errorf("groups of an entry with odd characters: %q", e.Groups)
	}
	for _, name := range []string{
		"*", "a*", "ali?e", "alice)(objectClass=*", "*)(uid=*", "alice)(|(uid=*", "x)(uid=alice", `\2a`, `al\69ce`, "{name}", "{dn}", "alice)(userPassword=*",
	} {
		if e, err := d.Login(t.Context(), name, "alice-secret"); !errors.Is(err, auth.ErrNoAccount) {
			t.Errorf("login of %q: %+v, %v; want ErrNoAccount", name, e, err)
		}
	}
}

func TestNameOfSeveralEntries(t *testing.T) {
	s, d, _ := directory(t, nil)
	s.Add(t, "dn: ou=more,"+people+"\nobjectClass: organizationalUnit\n\ndn: uid=alice,ou=more,"+people+
		"\nobjectClass: inetOrgPerson\nuid: alice\ncn: a\nsn: a\nuserPassword: alice-secret\n")
	if _, err := d.Login(t.Context(), "alice", "alice-secret"); !errors.Is(err, auth.ErrNoAccount) {
		t.Errorf("login of a name that two entries have: %v; want ErrNoAccount", err)
	}
}

func TestNestedGroups(t *testing.T) {
	s, direct, alice := directory(t, nil)
	devs := s.SetGroup(t, "devs", alice)
	all := s.SetGroup(t, "all", devs)
	s.SetGroup(t, "ring", all)
	s.SetGroup(t, "devs", alice, "cn=ring,"+groups) // devs ⊂ all ⊂ ring ⊂ devs
	s.Add(t, "dn: cn=unix,"+groups+"\nobjectClass: posixGroup\ncn: unix\ngidNumber: 7\nmemberUid: alice\n")
	if e := login(t, direct, "alice", "alice-secret"); !slices.Equal(e.Groups, []string{"devs", "unix"}) {
		t.Errorf("direct groups: %q", e.Groups)
	}
	o := options(s)
	o.Groups.Nested, o.Groups.Prefix, o.Admins = ldap.Walk, "corp:", []string{"ring"}
	if e := login(t, open(t, o), "alice", "alice-secret"); !e.Admin || !slices.Equal(e.Groups, []string{"corp:all", "corp:devs", "corp:ring", "corp:unix"}) {
		t.Errorf("nested groups: %+v", e)
	}
	o.Groups.Depth = 1
	if e, err := open(t, o).Login(t.Context(), "alice", "alice-secret"); err == nil || errors.Is(err, auth.ErrNoAccount) || errors.Is(err, auth.ErrPassword) {
		t.Errorf("groups deeper than allowed: %+v, %v; a part of the groups is no answer", e, err)
	}
}

func TestManyGroups(t *testing.T) {
	s, d, alice := directory(t, nil)
	var ldif strings.Builder
	for i := range 620 {
		name := "g" + strings.Repeat("0", 4-len(itoa(i))) + itoa(i)
		ldif.WriteString("dn: cn=" + name + "," + groups + "\nobjectClass: groupOfNames\ncn: " + name + "\nmember: " + alice + "\n\n")
	}
	s.Add(t, ldif.String())
	if e := login(t, d, "alice", "alice-secret"); len(e.Groups) != 620 {
		t.Errorf("%d groups; want all 620, over the pages of the server", len(e.Groups))
	}
}

func itoa(i int) string {
	if i < 10 {
		return string(rune('0' + i))
	}
	return itoa(i/10) + string(rune('0'+i%10))
}

// A right that a group gave is gone with the membership; an account with its entry.
func TestGroupRemoved(t *testing.T) {
	s, d, alice := directory(t, func(o *ldap.Options) {
		o.Required, o.Admins = []string{"berth"}, []string{"cn=Ops, " + groups}
	})
	bob := s.AddPerson(t, "bob", "bob-secret")
	s.SetGroup(t, "berth", alice)
	s.SetGroup(t, "ops", alice, bob)
	e := login(t, d, "alice", "alice-secret")
	if !e.Admin || !slices.Equal(e.Groups, []string{"berth", "ops"}) {
		t.Fatalf("login says %+v", e)
	}
	if _, err := d.Login(t.Context(), "bob", "bob-secret"); !errors.Is(err, auth.ErrNoAccount) {
		t.Errorf("login of bob, who is not in the required group: %v; want ErrNoAccount", err)
	}
	s.SetGroup(t, "ops", bob)
	if e, err := d.Lookup(t.Context(), e.Subject); err != nil || e.Admin || !slices.Equal(e.Groups, []string{"berth"}) {
		t.Errorf("after the end of a membership: %+v, %v", e, err)
	}
	s.SetGroup(t, "berth", bob)
	if e, err := d.Lookup(t.Context(), e.Subject); !errors.Is(err, auth.ErrNoAccount) {
		t.Errorf("after the end of the required membership: %+v, %v; want ErrNoAccount", e, err)
	}
	s.Modify(t, "dn: "+alice+"\nchangetype: delete\n")
	if e, err := d.Lookup(t.Context(), e.Subject); !errors.Is(err, auth.ErrNoAccount) {
		t.Errorf("lookup of a deleted entry: %+v, %v; want ErrNoAccount", e, err)
	}
}

// The filter of users holds for a look-up, too: a disabled entry is no account.
func TestFilterOfUsers(t *testing.T) {
	s, d, alice := directory(t, func(o *ldap.Options) {
		o.Users.Filter = "(&(objectClass=inetOrgPerson)(uid={name})(!(employeeType=left)))"
	})
	e := login(t, d, "alice", "alice-secret")
	s.Modify(t, "dn: "+alice+"\nchangetype: modify\nadd: employeeType\nemployeeType: left\n")
	if _, err := d.Lookup(t.Context(), e.Subject); !errors.Is(err, auth.ErrNoAccount) {
		t.Errorf("lookup: %v; want ErrNoAccount", err)
	}
	if _, err := d.Login(t.Context(), "alice", "alice-secret"); !errors.Is(err, auth.ErrNoAccount) {
		t.Errorf("login: %v; want ErrNoAccount", err)
	}
}

func TestSubjectIsDN(t *testing.T) {
	s, d, _ := directory(t, func(o *ldap.Options) { o.Users.ID, o.Groups.Name = "dn", "dn" })
	s.SetGroup(t, "devs", "uid=alice,"+people)
	e := login(t, d, "alice", "alice-secret")
	if e.Subject != "uid=alice,"+people || !slices.Equal(e.Groups, []string{"cn=devs," + groups}) {
		t.Errorf("login says %+v", e)
	}
	if again, err := d.Lookup(t.Context(), e.Subject); err != nil || again.Subject != e.Subject {
		t.Errorf("lookup: %+v, %v", again, err)
	}
	for _, subject := range []string{reader, "uid=alice", "uid=nobody," + people, "no dn", people} {
		if _, err := d.Lookup(t.Context(), subject); !errors.Is(err, auth.ErrNoAccount) {
			t.Errorf("lookup of %q: %v; want ErrNoAccount", subject, err)
		}
	}
}

// Passwords go over encrypted connections to a server that proves its name, or not at all.
func TestEncryption(t *testing.T) {
	s, _, _ := directory(t, nil)
	for name, change := range map[string]func(*ldap.Options){
		"ldaps":                 func(o *ldap.Options) { o.Servers = []string{s.TLSURL} },
		"plain where allowed":   func(o *ldap.Options) { o.Plain, o.CAFile = true, "" },
		"name of a certificate": func(o *ldap.Options) { o.ServerName = "localhost" },
	} {
		o := options(s)
		change(&o)
		if _, err := open(t, o).Login(t.Context(), "alice", "alice-secret"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(*ldap.Options){
		"StartTLS, authority unknown": func(o *ldap.Options) { o.CAFile = "" },
		"ldaps, authority unknown":    func(o *ldap.Options) { o.CAFile, o.Servers = "", []string{s.TLSURL} },
		"another name":                func(o *ldap.Options) { o.ServerName = "ldap.example.com" },
	} {
		o := options(s)
		change(&o)
		_, err := open(t, o).Login(t.Context(), "alice", "alice-secret")
		if err == nil || errors.Is(err, auth.ErrPassword) || errors.Is(err, auth.ErrNoAccount) {
			t.Errorf("%s: %v; want an error of the connection", name, err)
		}
	}
}

// A server that does not speak StartTLS is not spoken to in plain.
func TestStartTLSIsNotOptional(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	received := make(chan []byte, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, 4096)
		n, _ := c.Read(buf)
		// ExtendedResponse, message 1, protocolError: "unsupported extended operation"
		_, _ = c.Write([]byte{0x30, 0x0c, 0x02, 0x01, 0x01, 0x78, 0x07, 0x0a, 0x01, 0x02, 0x04, 0x00, 0x04, 0x00})
		_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
		more, _ := c.Read(buf[n:])
		received <- buf[:n+more]
	}()
	d := open(t, ldap.Options{Name: "corp", Servers: []string{"ldap://" + l.Addr().String()}, Users: ldap.Users{Base: people}, BindDN: reader, BindPassword: "reader-secret"})
	if _, err := d.Login(t.Context(), "alice", "alice-secret"); err == nil || !strings.Contains(err.Error(), "StartTLS") {
		t.Errorf("login: %v; want a refusal that names StartTLS", err)
	}
	if sent := <-received; strings.Contains(string(sent), "secret") {
		t.Errorf("a password went over a plain connection: %q", sent)
	}
}

// Of several servers the first that answers is asked; one that comes back is found again without a restart.
func TestServerAwayAndBack(t *testing.T) {
	s, _, _ := directory(t, nil)
	hung, err := net.Listen("tcp", "127.0.0.1:0") // accepts and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	dead := net.JoinHostPort("127.0.0.1", itoa(testkit.FreePort(t)))
	now := time.Now()
	o := options(s)
	o.Servers = []string{"ldap://" + dead, "ldap://" + hung.Addr().String(), s.URL}
	o.Timeout = 500 * time.Millisecond
	o.Now = func() time.Time { return now }
	d := open(t, o)
	login(t, d, "alice", "alice-secret")
	start := time.Now()
	login(t, d, "alice", "alice-secret")
	if took := time.Since(start); took > o.Timeout {
		t.Errorf("a second login took %s: servers that do not answer are tried last", took)
	}
	s.Stop()
	start = time.Now()
	if _, err := d.Login(t.Context(), "alice", "alice-secret"); err == nil || errors.Is(err, auth.ErrPassword) || errors.Is(err, auth.ErrNoAccount) {
		t.Errorf("login without a server: %v; want an error that is no answer", err)
	}
	if took := time.Since(start); took > 10*o.Timeout {
		t.Errorf("that took %s", took)
	}
	s.Start(t)
	now = now.Add(time.Minute)
	login(t, d, "alice", "alice-secret")
}

func TestCallerGoesAway(t *testing.T) {
	hung, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	d := open(t, ldap.Options{Name: "corp", Servers: []string{"ldap://" + hung.Addr().String()}, Plain: true, Timeout: time.Minute, Users: ldap.Users{Base: people}})
	ctx, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	start := time.Now()
	if _, err := d.Login(ctx, "alice", "x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("login: %v; want the caller's deadline", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestServiceAccountRefused(t *testing.T) {
	_, d, _ := directory(t, func(o *ldap.Options) { o.BindPassword = "wrong" })
	_, err := d.Login(t.Context(), "alice", "alice-secret")
	if err == nil || errors.Is(err, auth.ErrPassword) || !strings.Contains(err.Error(), "service account") || strings.Contains(err.Error(), "wrong") {
		t.Errorf("login: %v; want an error that names the service account and no password", err)
	}
}

func TestConcurrentLogins(t *testing.T) {
	s, d, alice := directory(t, func(o *ldap.Options) { o.Connections = 2 })
	s.SetGroup(t, "devs", alice)
	done := make(chan error, 40)
	for i := range 40 {
		go func() {
			password, want := "alice-secret", error(nil)
			if i%2 == 1 {
				password, want = "wrong", auth.ErrPassword
			}
			e, err := d.Login(context.Background(), "alice", password)
			if !errors.Is(err, want) || want == nil && !slices.Equal(e.Groups, []string{"devs"}) {
				done <- errors.Join(errors.New("a login of many got another's answer"), err)
				return
			}
			done <- nil
		}()
	}
	for range 40 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*ldap.Options){
		"no base":                  func(o *ldap.Options) { o.Users.Base = "" },
		"no server":                func(o *ldap.Options) { o.Servers = nil },
		"http":                     func(o *ldap.Options) { o.Servers = []string{"http://ldap.example.com"} },
		"filter without a place":   func(o *ldap.Options) { o.Users.Filter = "(uid=alice)" },
		"unknown place":            func(o *ldap.Options) { o.Users.Filter = "(uid={name}{user})" },
		"no filter":                func(o *ldap.Options) { o.Users.Filter = "(uid={name}" },
		"group filter without dn":  func(o *ldap.Options) { o.Groups.Filter = "(cn={name})" },
		"admins without a base":    func(o *ldap.Options) { o.Groups.Base, o.Admins = "", []string{"ops"} },
		"authorities without any":  func(o *ldap.Options) { o.CAFile = empty },
		"authorities that are not": func(o *ldap.Options) { o.CAFile = empty + ".gone" },
	} {
		o := ldap.Options{Name: "corp", Servers: []string{"ldaps://ldap.example.com"}, Users: ldap.Users{Base: people}, Groups: ldap.Groups{Base: groups}}
		change(&o)
		if _, err := ldap.New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
