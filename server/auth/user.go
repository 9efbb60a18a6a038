package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/internal/legible"
	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
)

// Reasons of this room, besides InvalidToken.
const (
	// PasswordWeak: a new password does not fit the rules.
	PasswordWeak fault.Reason = "PASSWORD_WEAK"
	// PasswordExpired: the password was right and has to be changed before anything else.
	PasswordExpired fault.Reason = "PASSWORD_CHANGE_REQUIRED"
	// NameTaken: an account or robot has the name.
	NameTaken fault.Reason = "NAME_TAKEN"
	// Changed: the object is another one than the caller has read.
	Changed fault.Reason = "CHANGED_MEANWHILE"
	// Absent: there is no such account, group, robot, token or session, or the caller may not know that there is.
	Absent fault.Reason = "NOT_FOUND"
	// LastAdmin: the change would leave nobody who can administer the registry.
	LastAdmin fault.Reason = "LAST_ADMINISTRATOR"
)

// User is a person's account, as those who may know of it see it. No secret is in it.
type User struct {
	ID                     int64
	Name                   string
	DisplayName, Email     string
	Source                 string // "" for an account with a password of berth's, else the provider it came from
	Admin, Auditor         bool
	Disabled, MustChange   bool
	ExpiresAt, LastLoginAt time.Time // zero for never
	CreatedAt, UpdatedAt   time.Time
	Generation             int64 // for changes that must not undo another's
	Failures               int64 // failed logins since one succeeded, within the time of Throttle.Forget; of User alone
	LastFailureAt          time.Time
}

func userOf(a metadb.Account) User {
	return User{
		ID: a.ID, Name: a.Name, DisplayName: a.DisplayName, Email: a.Email, Source: a.Source, Admin: a.Admin, Auditor: a.Auditor,
		Disabled: a.Disabled, MustChange: a.MustChange, ExpiresAt: a.ExpiresAt, LastLoginAt: a.LastLoginAt,
		CreatedAt: a.CreatedAt, UpdatedAt: a.UpdatedAt, Generation: a.Generation,
	}
}

// administrator reports whether the caller may do what would make somebody one.
func administrator(ctx context.Context) bool {
	p := identity.From(ctx)
	switch p.Kind {
	case identity.Local, identity.System:
		return true
	case identity.User, identity.Robot:
		return p.Admin && p.Grants == nil
	}
	return false
}

// Users lists accounts behind the name after, in the order of their names. It asks for user.read.
func (s *Service) Users(ctx context.Context, f metadb.AccountFilter, after string, limit int) ([]User, error) {
	if err := s.o.Access.CheckSystem(ctx, identity.UserRead); err != nil {
		return nil, err
	}
	rows, err := s.o.Store.FindAccounts(ctx, f, after, limit)
	if err != nil {
		return nil, fmt.Errorf("auth: accounts: %w", err)
	}
	users := make([]User, len(rows))
	for i, row := range rows {
		users[i] = userOf(row)
	}
	return users, nil
}

// User finds an account, with its failed logins. It asks for user.read, except of one's own account.
func (s *Service) User(ctx context.Context, name string) (User, error) {
	if me := identity.From(ctx); me.Kind != identity.User || me.Name != name || me.Grants != nil {
		if err := s.o.Access.CheckSystem(ctx, identity.UserRead); err != nil {
			return User{}, err
		}
	}
	a, err := s.account(ctx, name)
	if err != nil {
		return User{}, err
	}
	u := userOf(a)
	switch f, err := s.o.Store.LoginFailure(ctx, name); {
	case err == nil:
		if s.o.Now().Sub(f.LastAt) < s.throttle.Forget {
			u.Failures, u.LastFailureAt = f.Failures, f.LastAt
		}
	case !errors.Is(err, metadb.ErrNotFound):
		return User{}, fmt.Errorf("auth: account %s: %w", name, err)
	}
	return u, nil
}

// account reads a row; that it is not there is a fault.
func (s *Service) account(ctx context.Context, name string) (metadb.Account, error) {
	a, err := s.o.Store.Account(ctx, name)
	if errors.Is(err, metadb.ErrNotFound) {
		return a, absent("account %q is not known to this registry", name)
	}
	if err != nil {
		return a, fmt.Errorf("auth: account %s: %w", name, err)
	}
	return a, nil
}

func absent(format string, args ...any) error {
	return fault.New(fault.NotFound, Absent, format, args...)
}

// NewUser is an account to be made.
type NewUser struct {
	Name               string
	Password           string // "" to have one made up, unless Source says that it has none
	DisplayName, Email string
	Admin, Auditor     bool
	MustChange         bool
	ExpiresAt          time.Time
	// Source is the identity provider, or "htpasswd", that proves the account; "" for a password of berth's.
	Source string
}

// CreateUser makes an account; generated is the password that was made up, to be shown once. It asks for user.write, and an
// administrator to make another. A name that is in use is a Conflict.
func (s *Service) CreateUser(ctx context.Context, u NewUser) (made User, generated string, err error) {
	if err := s.o.Access.CheckSystem(ctx, identity.UserWrite); err != nil {
		return User{}, "", err
	}
	if (u.Admin || u.Auditor) && !administrator(ctx) {
		return User{}, "", fault.New(fault.Denied, fault.DeniedReason, "only an administrator makes administrators and auditors").At(map[bool]string{true: "admin", false: "auditor"}[u.Admin])
	}
	if err := checkName(u.Name); err != nil {
		return User{}, "", err
	}
	if err := cmp.Or(checkText("displayName", &u.DisplayName, false), checkText("email", &u.Email, false), s.checkEnd(u.ExpiresAt), s.checkSource(u.Source)); err != nil {
		return User{}, "", err
	}
	a := metadb.Account{
		Name: u.Name, Admin: u.Admin, Auditor: u.Auditor, DisplayName: u.DisplayName, Email: u.Email, Source: u.Source,
		MustChange: u.MustChange, ExpiresAt: u.ExpiresAt,
	}
	switch {
	case u.Source == "":
		if a.PasswordHash, generated, err = s.newPassword(ctx, u.Name, u.Password); err != nil {
			return User{}, "", err
		}
	case u.Password != "" || u.MustChange:
		return User{}, "", fault.New(fault.Invalid, PasswordWeak, "account %q is proved by %s; it has no password here", u.Name, u.Source).At("password")
	}
	if owner, err := s.foreignOwner(ctx, u.Name); err != nil {
		return User{}, "", unavailableError(err)
	} else if owner != "" && owner != u.Source {
		return User{}, "", fault.New(fault.Conflict, NameTaken, "name %q belongs to the %s accounts; choose another, or make the account with source %s", u.Name, owner, owner).At("name")
	}
	want := a
	err = s.o.Store.Update(ctx, func(tx *metadb.Tx) (err error) {
		if err := lookalike(ctx, tx, u.Name); err != nil {
			return err
		}
		a, err = tx.CreateAccount(want)
		return err
	})
	if err != nil {
		return User{}, "", fmt.Errorf("auth: make account %s: %w", u.Name, taken(err, u.Name))
	}
	s.local.forget(u.Name)
	return userOf(a), generated, nil
}

// checkSource wants an identity provider that is in use here, or "" for a password of berth's.
func (s *Service) checkSource(name string) error {
	if name == "" || name == fileSource {
		return nil
	}
	if _, ok := s.idp(name); !ok {
		return fault.New(fault.Invalid, fault.UnsupportedReason, "source %.80q is no identity provider of this registry", name).At("source")
	}
	return nil
}

// checkText refuses control characters, which would act upon the terminal of whoever lists it; with lines it may have several.
func checkText(field string, text *string, lines bool) error {
	if text == nil {
		return nil
	}
	if why := legible.Trouble(*text, lines); why != "" {
		return fault.New(fault.Invalid, fault.UnsupportedReason, "%s %s", field, why).At(field)
	}
	return nil
}

// lookalike refuses a new name that differs from one that is there in its case alone, or that mixes scripts whose letters look
// alike: people would take one for the other. Names that identity providers give are theirs.
func lookalike(ctx context.Context, tx *metadb.Tx, name string) error {
	if scripts := scriptsOf(name); len(scripts) > 1 {
		return fault.New(fault.Invalid, fault.NameInvalid, "name %.80q has letters of %s, which can be taken for each other; use those of one script", name, strings.Join(scripts, " and ")).At("name")
	}
	other, err := tx.SameNameInAnyCase(ctx, name)
	if err != nil || other == "" || other == name { // the same name is found by who makes it
		return err
	}
	return fault.New(fault.Conflict, NameTaken, "name %q differs from %q, which is an account or robot, in its case alone; choose another", name, other).At("name")
}

// taken gives a Conflict about a name its reason.
func taken(err error, name string) error {
	if fault.Is(err, fault.Conflict) && !fault.Has(err, NameTaken) {
		return fault.New(fault.Conflict, NameTaken, "name %q is in use by an account or robot; choose another", name).At("name").Because(err)
	}
	return err
}

// changed says that what the caller changes is not what the caller has read.
func changed(err error, what, name string) error {
	switch {
	case errors.Is(err, metadb.ErrNotFound):
		return absent("%s %q is not known to this registry", what, name)
	case errors.Is(err, metadb.ErrChanged):
		return fault.New(fault.Conflict, Changed, "%s %q was changed meanwhile; read it again, then repeat the change if it is still wanted", what, name).At("If-Match").Because(err)
	}
	return err
}

// checkName says what names an account, robot or group may be given. Accounts that are there already may have others.
func checkName(name string) error {
	bad := func(why string, args ...any) error {
		return fault.New(fault.Invalid, fault.NameInvalid, "name %.80q %s", name, fmt.Sprintf(why, args...)).At("name")
	}
	switch {
	case name == "":
		return bad("is empty")
	case len(name) > 128 || !utf8.ValidString(name):
		return bad("is not text of at most 128 bytes")
	case strings.ContainsFunc(name, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-@+$", r)
	}):
		return bad("has a character that names cannot have; use letters, digits and . _ - @ + $")
	case !unicode.IsLetter([]rune(name)[0]) && !unicode.IsDigit([]rune(name)[0]):
		return bad("begins with %q; begin with a letter or digit", []rune(name)[0])
	}
	switch strings.ToLower(name) {
	case "anonymous", "system", "local", "nobody", "everyone", "signed-in":
		return bad("is a word of this registry; choose another")
	}
	return nil
}

// scriptsOf are the scripts of the letters in a name, of those whose letters look like those of another.
//
// Spec: UTS 39, section 5.1, mixed-script detection, kept to the scripts with Latin's shapes.
func scriptsOf(name string) (names []string) {
	for _, s := range []struct {
		name  string
		table *unicode.RangeTable
	}{{"Latin", unicode.Latin}, {"Cyrillic", unicode.Cyrillic}, {"Greek", unicode.Greek}, {"Armenian", unicode.Armenian}, {"Cherokee", unicode.Cherokee}, {"Coptic", unicode.Coptic}, {"Lisu", unicode.Lisu}} {
		if strings.ContainsFunc(name, func(r rune) bool { return unicode.Is(s.table, r) }) {
			names = append(names, s.name)
		}
	}
	return names
}

func (s *Service) checkEnd(t time.Time) error {
	if past(t, s.o.Now()) {
		return fault.New(fault.Invalid, fault.UnsupportedReason, "the end %s is over already", t.UTC().Format(time.RFC3339)).At("expiresAt")
	}
	return nil
}

// newPassword is the hash of a password that fits the rules, or of one that is made up.
func (s *Service) newPassword(ctx context.Context, name, password string) (hash, generated string, err error) {
	if password == "" {
		if generated, err = generatePassword(); err != nil {
			return "", "", err
		}
		password = generated
	} else if err := s.checkPassword(name, password); err != nil {
		return "", "", err
	}
	if err := s.gate.enter(ctx); err != nil {
		return "", "", err
	}
	defer s.gate.leave()
	hash, err = hashPassword(password)
	return hash, generated, err
}

// checkPassword is CheckNewPassword with the configured least length.
func (s *Service) checkPassword(name, password string) error {
	if err := CheckNewPassword(name, password); err != nil {
		return fault.New(fault.Invalid, PasswordWeak, "%s", err).At("password")
	}
	if n := utf8.RuneCountInString(password); n < s.o.MinPassword {
		return fault.New(fault.Invalid, PasswordWeak, "password of %s has %d characters; use at least %d", name, n, s.o.MinPassword).At("password")
	}
	return nil
}

// UserChange is what to change of an account; nil is to be left.
type UserChange struct {
	DisplayName, Email   *string
	Admin, Auditor       *bool
	Disabled, MustChange *bool
	ExpiresAt            *time.Time // to the zero time: never
}

// UpdateUser changes an account that still has the generation; a negative one is any. It asks for user.write; what concerns
// administrators and auditors asks for an administrator. Credentials and tokens that were made before stop working.
func (s *Service) UpdateUser(ctx context.Context, name string, generation int64, c UserChange) (User, error) {
	if err := s.o.Access.CheckSystem(ctx, identity.UserWrite); err != nil {
		return User{}, err
	}
	if err := cmp.Or(checkText("displayName", c.DisplayName, false), checkText("email", c.Email, false)); err != nil {
		return User{}, err
	}
	if c.ExpiresAt != nil {
		if err := s.checkEnd(*c.ExpiresAt); err != nil {
			return User{}, err
		}
	}
	a, err := s.change(ctx, name, generation, func(a *metadb.Account) error {
		set(&a.DisplayName, c.DisplayName)
		set(&a.Email, c.Email)
		set(&a.Admin, c.Admin)
		set(&a.Auditor, c.Auditor)
		set(&a.Disabled, c.Disabled)
		set(&a.ExpiresAt, c.ExpiresAt)
		if c.MustChange != nil && *c.MustChange && a.Source != "" {
			return fault.New(fault.Invalid, PasswordWeak, "account %q is proved by %s; it has no password here to change", name, a.Source).At("mustChange")
		}
		set(&a.MustChange, c.MustChange)
		return nil
	})
	return userOf(a), err
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// change changes an account in one transaction, if the caller is one who may change such an account, and if an administrator
// is left.
func (s *Service) change(ctx context.Context, name string, generation int64, edit func(*metadb.Account) error) (metadb.Account, error) {
	var after metadb.Account
	err := s.o.Store.Update(ctx, func(tx *metadb.Tx) error {
		before, err := tx.Account(ctx, name)
		if err != nil {
			return err
		}
		after = before
		if err := edit(&after); err != nil {
			return err
		}
		if (before.Admin || before.Auditor || after.Admin || after.Auditor) && !administrator(ctx) {
			return fault.New(fault.Denied, fault.DeniedReason, "account %q is an administrator or auditor, or would become one; only an administrator may do that", name)
		}
		if able(before) && !able(after) {
			if err := anotherAdmin(ctx, tx, name); err != nil {
				return err
			}
		}
		if after.Disabled && !before.Disabled {
			if _, err := tx.DeleteSessions(metadb.SessionFilter{Account: before.ID}); err != nil {
				return err
			}
		}
		after, err = tx.UpdateAccount(after, generation)
		return err
	})
	if err != nil {
		return metadb.Account{}, fmt.Errorf("auth: change account %s: %w", name, changed(err, "account", name))
	}
	s.local.forget(name)
	return after, nil
}

// able reports whether the account can administer the registry.
func able(a metadb.Account) bool { return a.Admin && !a.Disabled && a.ExpiresAt.IsZero() }

// anotherAdmin is nil when somebody besides the account of that name can administer the registry.
func anotherAdmin(ctx context.Context, tx *metadb.Tx, name string) error {
	yes, no := true, false
	for after := ""; ; {
		list, err := tx.FindAccounts(ctx, metadb.AccountFilter{Admin: &yes, Disabled: &no}, after, 100)
		if err != nil {
			return err
		}
		for _, a := range list {
			if after = a.Name; a.Name != name && able(a) {
				return nil
			}
		}
		if len(list) < 100 {
			return fault.New(fault.Conflict, LastAdmin, "account %q is the last administrator of this registry; make another one first", name)
		}
	}
}

// DeleteUser removes an account that still has the generation, a negative one is any, with everything that is its own: grants,
// memberships, links, tokens and sessions. It asks for user.write, and for all that is denied to the account, which the person may
// come back without.
func (s *Service) DeleteUser(ctx context.Context, name string, generation int64) error {
	if err := s.o.Access.CheckSystem(ctx, identity.UserWrite); err != nil {
		return err
	}
	switch a, err := s.o.Store.Account(ctx, name); {
	case err == nil:
		if err := s.o.Access.CheckTakeAll(ctx, metadb.Subject{Kind: metadb.AccountSubject, ID: a.ID}); err != nil {
			return err
		}
	case !errors.Is(err, metadb.ErrNotFound):
		return fmt.Errorf("auth: account %s: %w", name, err)
	}
	err := s.o.Store.Update(ctx, func(tx *metadb.Tx) error {
		a, err := tx.Account(ctx, name)
		if err != nil {
			return err
		}
		if (a.Admin || a.Auditor) && !administrator(ctx) {
			return fault.New(fault.Denied, fault.DeniedReason, "account %q is an administrator or auditor; only an administrator removes it", name)
		}
		if generation >= 0 && a.Generation != generation {
			return metadb.ErrChanged
		}
		if able(a) {
			if err := anotherAdmin(ctx, tx, name); err != nil {
				return err
			}
		}
		if _, err := tx.ForgetLoginFailures(name); err != nil {
			return err
		}
		_, err = tx.DeleteAccount(name)
		return err
	})
	if err != nil {
		return fmt.Errorf("auth: remove account %s: %w", name, changed(err, "account", name))
	}
	s.local.forget(name)
	return nil
}

// SetPassword gives a local account a new password; an empty one is made up and returned. It asks for user.write, and for all
// that the account may do: an administrator for an administrator's. Credentials, tokens and sessions that were made under the old one stop working; what
// failed logins delayed is forgotten.
func (s *Service) SetPassword(ctx context.Context, name, password string, mustChange bool) (generated string, err error) {
	if err := s.o.Access.CheckSystem(ctx, identity.UserWrite); err != nil {
		return "", err
	}
	a, err := s.account(ctx, name)
	if err != nil {
		return "", err
	}
	if err := s.mayActAs(ctx, a); err != nil {
		return "", err
	}
	hash, generated, err := s.newPassword(ctx, name, password)
	if err != nil {
		return "", err
	}
	return generated, s.putPassword(ctx, a, hash, mustChange, 0)
}

// mayActAs asks for all that an account may do, before the caller is given what proves it.
func (s *Service) mayActAs(ctx context.Context, a metadb.Account) error {
	groups, err := s.o.Store.GroupsOf(ctx, a.ID)
	if err != nil {
		return fmt.Errorf("auth: groups of %s: %w", a.Name, err)
	}
	return s.o.Access.CheckActAs(ctx, identity.Principal{Kind: identity.User, ID: a.ID, Name: a.Name, Admin: a.Admin, Auditor: a.Auditor, Groups: groups})
}

// putPassword stores a hash, ends sessions except one, and forgets failures.
func (s *Service) putPassword(ctx context.Context, a metadb.Account, hash string, mustChange bool, except int64) error {
	if a.Source != "" {
		return fault.New(fault.Conflict, fault.UnsupportedReason, "account %q is proved by %s; change the password there", a.Name, a.Source).At("password")
	}
	if _, err := s.change(ctx, a.Name, a.Generation, func(a *metadb.Account) error {
		a.PasswordHash, a.MustChange = hash, mustChange
		return nil
	}); err != nil {
		return err
	}
	err := s.o.Store.Update(ctx, func(tx *metadb.Tx) error {
		if _, err := tx.DeleteSessions(metadb.SessionFilter{Account: a.ID, Except: except}); err != nil {
			return err
		}
		_, err := tx.ForgetLoginFailures(a.Name)
		return err
	})
	if err != nil {
		return fmt.Errorf("auth: sessions of %s: %w", a.Name, err)
	}
	s.throttle.forget(a.Name)
	return nil
}

// ChangePassword is for who knows the old password, and needs no other login: it is the way out of MustChange. Errors are
// those of Login, and of the rules for passwords.
func (s *Service) ChangePassword(ctx context.Context, name, old, password, addr string) error {
	acc, err := s.prove(ctx, name, old, addr)
	if err != nil {
		return err
	}
	if old == password {
		return fault.New(fault.Invalid, PasswordWeak, "password of %s is the old one; choose another", name).At("newPassword")
	}
	if password == "" {
		return fault.New(fault.Invalid, PasswordWeak, "password of %s is empty; choose one", name).At("newPassword")
	}
	hash, _, err := s.newPassword(ctx, name, password)
	if fault.Has(err, PasswordWeak) {
		return fault.Of(err).At("newPassword")
	}
	if err != nil {
		return err
	}
	a, err := s.account(ctx, acc.Name)
	if err != nil {
		return err
	}
	// In the name of the one whose password was right just now.
	return s.putPassword(identity.With(ctx, identity.Principal{Kind: identity.System}), a, hash, false, 0)
}

// Unlock forgets the failed logins of an account, so that its next login is not delayed. It asks for user.write.
func (s *Service) Unlock(ctx context.Context, name string) error {
	if err := s.o.Access.CheckSystem(ctx, identity.UserWrite); err != nil {
		return err
	}
	if _, _, err := s.owner(ctx, name); errors.Is(err, ErrNoAccount) {
		return absent("account %q is not known to this registry", name)
	} else if err != nil {
		return unavailableError(err)
	}
	err := s.o.Store.Update(ctx, func(tx *metadb.Tx) error {
		_, err := tx.ForgetLoginFailures(name)
		return err
	})
	if err != nil {
		return fmt.Errorf("auth: unlock %s: %w", name, err)
	}
	s.throttle.forget(name)
	return nil
}
