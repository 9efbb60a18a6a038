package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// LDAP is a directory that proves names and passwords.
type LDAP struct {
	Name         string        `yaml:"name" check:"required" doc:"Name of the provider: lower-case letters, digits and dashes. Links of accounts are kept under it." zh:"身份提供方的名称：小写字母、数字与连字符。账号关联以此名保存。"`
	Label        string        `yaml:"label" doc:"What people read where they log in. Not set: the name." zh:"登录页上显示的名称。未设置时为 name。"`
	Servers      []string      `yaml:"servers" doc:"Addresses, asked in this order: ldaps://dc1.example.com or ldap://dc1.example.com, which goes on with StartTLS." zh:"服务器地址，按顺序尝试：ldaps://dc1.example.com，或 ldap://dc1.example.com（随后使用 StartTLS）。"`
	Plain        bool          `yaml:"plain" doc:"Speak to ldap:// without StartTLS. Anyone on the way can read the passwords." zh:"对 ldap:// 不使用 StartTLS，途经者可窃取密码。"`
	CA           string        `yaml:"ca" check:"path" doc:"PEM file of the authorities of the servers' certificates; read for every new connection. Not set: those of the system." zh:"服务器证书的 CA 文件（PEM），每次新建连接时读取。未设置时使用系统的 CA。"`
	ServerName   string        `yaml:"servername" doc:"Name that the certificates must be for. Not set: the host of the address." zh:"证书须匹配的主机名。未设置时取自地址。"`
	BindDN       string        `yaml:"binddn" doc:"DN of the account that searches. Not set: anonymous." zh:"用于搜索的账号 DN。未设置时匿名搜索。"`
	BindPassword Secret        `yaml:"bindpassword" doc:"Its password." zh:"其密码。"`
	Timeout      time.Duration `yaml:"timeout" check:"natural" doc:"Of a connect and of each request. Not set: 5s." zh:"连接与每个请求的时限。未设置时为 5s。"`
	Connections  int           `yaml:"connections" check:"natural" doc:"Most connections. Not set: 8." zh:"最大连接数。未设置时为 8。"`
	Users        LDAPUsers     `yaml:"users" doc:"Where people are." zh:"用户所在位置。"`
	Groups       LDAPGroups    `yaml:"groups" doc:"Where groups are. Without a base, nothing is said of groups." zh:"组所在位置。未设置 base 时不读取组。"`
	Required     []string      `yaml:"required" doc:"Groups, by name or DN, one of which a caller must be in. Not set: none." zh:"调用者须属于其中之一的组（名称或 DN）。未设置时不要求。"`
	Admins       []string      `yaml:"admins" doc:"Groups, by name or DN, whose members are administrators." zh:"其成员为管理员的组（名称或 DN）。"`
	Accounts     string        `yaml:"accounts" oneof:"create|adopt|existing" doc:"A first login makes an account (create, the default), takes over the one of the same name if there is one (adopt), or needs one that an administrator has linked (existing)." zh:"首次登录时：新建账号（create，默认）；若已有同名账号则接管（adopt）；必须已有管理员关联的账号（existing）。"`
}

// LDAPUsers says where people are.
type LDAPUsers struct {
	Base        string `yaml:"base" doc:"DN below which they are." zh:"用户所在的基准 DN。"`
	Filter      string `yaml:"filter" doc:"Filter with {name} where the user name goes. Not set: (uid={name}). Active Directory: (&(objectClass=user)(sAMAccountName={name})(!(userAccountControl:1.2.840.113556.1.4.803:=2)))." zh:"过滤器，{name} 处填入用户名。未设置时为 (uid={name})。Active Directory：(&(objectClass=user)(sAMAccountName={name})(!(userAccountControl:1.2.840.113556.1.4.803:=2)))。"`
	ID          string `yaml:"id" doc:"Attribute that never changes: entryUUID (not set), objectGUID of Active Directory, or dn." zh:"永不变化的属性：entryUUID（未设置时）、Active Directory 的 objectGUID，或 dn。"`
	Name        string `yaml:"name" doc:"Attribute of the account's name. Not set: uid. Active Directory: sAMAccountName." zh:"账号名的属性。未设置时为 uid。Active Directory：sAMAccountName。"`
	Email       string `yaml:"email" doc:"Attribute of the mail address. Not set: mail." zh:"邮箱的属性。未设置时为 mail。"`
	DisplayName string `yaml:"displayname" doc:"Attribute of the name to show. Not set: displayName, else cn." zh:"显示名的属性。未设置时为 displayName，其次 cn。"`
}

// LDAPGroups says where groups are.
type LDAPGroups struct {
	Base   string `yaml:"base" doc:"DN below which they are." zh:"组所在的基准 DN。"`
	Filter string `yaml:"filter" doc:"Filter with {dn} of a member, and {name}. Not set: member, uniqueMember, or memberUid of a posixGroup." zh:"过滤器，{dn} 为成员的 DN，也可用 {name}。未设置时匹配 member、uniqueMember 或 posixGroup 的 memberUid。"`
	Name   string `yaml:"name" doc:"Attribute of the group's name, or dn. Not set: cn." zh:"组名的属性，或 dn。未设置时为 cn。"`
	Nested string `yaml:"nested" oneof:"no|walk|chain" doc:"Groups in groups: not (no), found level by level (walk), or by Active Directory's matching rule (chain). Not set: no." zh:"嵌套组：不处理（no）、逐层查找（walk）、由 Active Directory 的匹配规则查找（chain）。未设置时为 no。"`
	Depth  int    `yaml:"depth" check:"natural" doc:"Most levels of walk; deeper is an error. Not set: 10." zh:"walk 的最大层数，超过则报错。未设置时为 10。"`
	Prefix string `yaml:"prefix" doc:"Text before every name, such as corp-, so that groups of two providers are told apart." zh:"加在组名前的文字，例如 corp-，以区分不同提供方的组。"`
	Create bool   `yaml:"create" doc:"Make groups that do not exist here. Otherwise only existing groups get members." zh:"自动创建本地不存在的组。否则只向已有的组加入成员。"`
}

// OIDC is an OpenID Connect provider.
type OIDC struct {
	Name         string        `yaml:"name" check:"required" doc:"Name of the provider: lower-case letters, digits and dashes. Links of accounts are kept under it, and it is part of the redirect address, https://HOST/api/v1/login/NAME/callback." zh:"身份提供方的名称：小写字母、数字与连字符。账号关联以此名保存；也是回调地址的一部分：https://HOST/api/v1/login/NAME/callback。"`
	Label        string        `yaml:"label" doc:"What people read where they log in. Not set: the name." zh:"登录页上显示的名称。未设置时为 name。"`
	Issuer       string        `yaml:"issuer" check:"url" doc:"Issuer, letter by letter as the provider writes it." zh:"签发者（issuer），须与提供方的写法逐字相同。"`
	Hosts        []string      `yaml:"hosts" doc:"Hosts besides the issuer's that it may name for keys and tokens, such as www.googleapis.com." zh:"除签发者主机外，允许其密钥与令牌地址使用的主机，例如 www.googleapis.com。"`
	CA           string        `yaml:"ca" check:"path" doc:"PEM file of the authorities of its certificate. Not set: those of the system." zh:"其证书的 CA 文件（PEM）。未设置时使用系统的 CA。"`
	ClientID     string        `yaml:"clientid" doc:"Client id of this registry there." zh:"本仓库在提供方的 client id。"`
	ClientSecret Secret        `yaml:"clientsecret" doc:"Its secret. Not set: a public client." zh:"其密钥。未设置时为公共客户端。"`
	SecretInForm bool          `yaml:"secretinform" doc:"Send the secret in the form (client_secret_post) instead of the header." zh:"在表单中（client_secret_post）而非请求头中发送密钥。"`
	Scopes       []string      `yaml:"scopes" doc:"Scopes besides openid. Not set: [profile, email]." zh:"除 openid 外的 scope。未设置时为 [profile, email]。"`
	Algorithms   []string      `yaml:"algorithms" doc:"Signatures that are accepted, such as RS256. Not set: those that the provider announces and that have a public key." zh:"接受的签名算法，例如 RS256。未设置时为提供方公布的非对称算法。"`
	Username     string        `yaml:"username" doc:"Claim of the account's name. Not set: preferred_username." zh:"账号名的 claim。未设置时为 preferred_username。"`
	UserInfo     bool          `yaml:"userinfo" doc:"Ask the user-information endpoint for claims that the ID token does not have." zh:"对 ID 令牌中没有的 claim，查询 userinfo 端点。"`
	Groups       OIDCGroups    `yaml:"groups" doc:"Where groups are. Without a claim, nothing is said of groups." zh:"组所在位置。未设置 claim 时不读取组。"`
	Required     []OIDCClaim   `yaml:"required" doc:"Claims that a caller must have, all of them." zh:"调用者必须具备的全部 claim。"`
	Admins       []string      `yaml:"admins" doc:"Groups, as the provider names them, whose members are administrators." zh:"其成员为管理员的组（提供方的组名）。"`
	Lifetime     time.Duration `yaml:"lifetime" check:"natural" doc:"How long a statement of the provider holds; a session ends after it and people log in again. Not set: 12h." zh:"提供方陈述的有效时长，之后会话结束并需重新登录。未设置时为 12h。"`
	Accounts     string        `yaml:"accounts" oneof:"create|adopt|existing" doc:"As of auth.ldap. adopt is for providers in which people cannot choose their names." zh:"同 auth.ldap。adopt 仅用于用户不能自选名称的提供方。"`
}

// OIDCGroups says where groups are.
type OIDCGroups struct {
	Claim   string `yaml:"claim" doc:"Claim with the groups, or a path with dots into nested claims: groups, resource_access.berth.roles." zh:"含组的 claim，或用点号表示嵌套路径：groups、resource_access.berth.roles。"`
	Parents bool   `yaml:"parents" doc:"Who is in a/b is in a, too." zh:"属于 a/b 者也属于 a。"`
	Prefix  string `yaml:"prefix" doc:"Text before every name." zh:"加在组名前的文字。"`
	Create  bool   `yaml:"create" doc:"Make groups that do not exist here. Otherwise only existing groups get members." zh:"自动创建本地不存在的组。否则只向已有的组加入成员。"`
}

// OIDCClaim is a claim that must have one of the values.
type OIDCClaim struct {
	Claim  string   `yaml:"claim" check:"required" doc:"The claim, or a path into nested ones." zh:"claim 名或嵌套路径。"`
	Values []string `yaml:"values" doc:"Values, one of which it must have. Not set: it must be true." zh:"须等于其中之一的值。未设置时须为 true。"`
}

// MTLS proves callers by client certificates. It is on when CAs are set.
type MTLS struct {
	Name     string     `yaml:"name" default:"mtls" doc:"Name of the provider." zh:"身份提供方的名称。"`
	CAs      []string   `yaml:"cas" check:"path" doc:"PEM files of the authorities whose certificates are taken for identities; read again when they change. Clients without a certificate go on as before." zh:"其证书被视为身份的 CA 文件（PEM），变化时重新读取。没有证书的客户端不受影响。"`
	CRLs     []string   `yaml:"crls" check:"path" doc:"Files of revocation lists of these authorities; read again when they change. One that is too old refuses the certificates of its authority." zh:"这些 CA 的吊销列表文件，变化时重新读取。过期的列表会使该 CA 的证书被拒绝。"`
	Rules    []MTLSRule `yaml:"rules" doc:"Which certificate is whom; the first that fits decides." zh:"证书与身份的对应规则，取第一条匹配的。"`
	Accounts string     `yaml:"accounts" default:"adopt" oneof:"create|adopt|existing" doc:"As of auth.ldap; the names are those of the rules, so adopt is the default." zh:"同 auth.ldap；名称由规则决定，因此默认为 adopt。"`
}

// MTLSRule says which certificate is whom.
type MTLSRule struct {
	CN      string   `yaml:"cn" doc:"Pattern of the common name; * stands for any characters. All patterns that are set must fit." zh:"通用名（CN）的模式，* 代表任意字符。所设模式须全部匹配。"`
	Email   string   `yaml:"email" doc:"Pattern of a mail address in the certificate." zh:"证书中邮箱的模式。"`
	DNS     string   `yaml:"dns" doc:"Pattern of a host name in the certificate." zh:"证书中主机名的模式。"`
	URI     string   `yaml:"uri" doc:"Pattern of a URI in the certificate." zh:"证书中 URI 的模式。"`
	Subject string   `yaml:"subject" doc:"Attributes of the subject, each of which must be there: OU=ci,O=Example." zh:"主题中必须出现的属性：OU=ci,O=Example。"`
	Account string   `yaml:"account" doc:"Name of the account; {cn}, {email}, {dns} and {uri} are what the pattern has met." zh:"账号名；{cn}、{email}、{dns}、{uri} 为模式匹配到的值。"`
	Robot   string   `yaml:"robot" doc:"Name of the robot, instead of an account." zh:"机器人名（代替账号）。"`
	Groups  []string `yaml:"groups" doc:"Groups of the account, by name. Not set: nothing is said of groups." zh:"账号所属的组名。未设置时不涉及组。"`
}

// SPIFFE proves workloads. It is on when WorkloadAPI or Bundles are set.
type SPIFFE struct {
	Name        string         `yaml:"name" default:"spiffe" doc:"Name of the provider." zh:"身份提供方的名称。"`
	WorkloadAPI string         `yaml:"workloadapi" doc:"Address of the agent: unix:///run/spire/sockets/agent.sock. It gives trust bundles and berthd's own identity, and says when they change." zh:"agent 的地址：unix:///run/spire/sockets/agent.sock。提供信任包与 berthd 自身的身份，并在变化时通知。"`
	Bundles     []SPIFFEBundle `yaml:"bundles" doc:"Trust domains whose authorities are in files." zh:"以文件提供 CA 的信任域。"`
	Rules       []SPIFFERule   `yaml:"rules" doc:"Which SPIFFE ID is whom; the first that fits decides." zh:"SPIFFE ID 与身份的对应规则，取第一条匹配的。"`
	Audience    string         `yaml:"audience" doc:"Audience of JWT-SVIDs that are exchanged for tokens. Not set: none are accepted." zh:"用于换取令牌的 JWT-SVID 的受众。未设置时不接受。"`
	Certificate bool           `yaml:"certificate" default:"false" doc:"Serve TLS with the certificate that the agent gives, instead of http.tls, ACME or a self-made one." zh:"使用 agent 签发的证书提供 TLS，代替 http.tls、ACME 或自签证书。"`
	Accounts    string         `yaml:"accounts" default:"adopt" oneof:"create|adopt|existing" doc:"As of auth.mtls." zh:"同 auth.mtls。"`
}

// SPIFFEBundle is a trust domain and the file of its authorities.
type SPIFFEBundle struct {
	TrustDomain string `yaml:"trustdomain" check:"required" doc:"The trust domain, such as example.org." zh:"信任域，例如 example.org。"`
	File        string `yaml:"file" check:"path,required" doc:"Certificates in PEM or a SPIFFE bundle in JSON; read again when it changes." zh:"PEM 证书或 JSON 格式的 SPIFFE 信任包，变化时重新读取。"`
}

// SPIFFERule says which SPIFFE ID is whom.
type SPIFFERule struct {
	ID      string   `yaml:"id" check:"required" doc:"spiffe://example.org/ns/*/sa/builder: * is one segment, ** at the end any number." zh:"spiffe://example.org/ns/*/sa/builder：* 代表一段，末尾的 ** 代表任意多段。"`
	Account string   `yaml:"account" doc:"Name of the account." zh:"账号名。"`
	Robot   string   `yaml:"robot" doc:"Name of the robot, instead of an account." zh:"机器人名（代替账号）。"`
	Groups  []string `yaml:"groups" doc:"Groups of the account, by name. Not set: nothing is said of groups." zh:"账号所属的组名。未设置时不涉及组。"`
}

// IsOn reports whether client certificates are taken for identities.
func (m MTLS) IsOn() bool { return len(m.CAs) > 0 }

// IsOn reports whether SPIFFE identities are taken.
func (s SPIFFE) IsOn() bool { return s.WorkloadAPI != "" || len(s.Bundles) > 0 }

// checkIdentities refuses identity providers that cannot be told from each other, or that could prove nobody.
func (d *decoder) checkIdentities(c *Config) {
	names := map[string]string{"local": "the accounts of berth", "htpasswd": "the accounts of auth.htpasswd"}
	name := func(key, name string) {
		switch other := names[name]; {
		case name == "" || d.failed(key):
		case !regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`).MatchString(name):
			d.refuse(key, "%s.name %q: a name has lower-case letters, digits and dashes", key, name)
		case other != "":
			d.refuse(key, "%s.name %q is that of %s; give each provider its own", key, name, other)
		default:
			names[name] = key
		}
	}
	for i, l := range c.Auth.LDAP {
		key := fmt.Sprintf("auth.ldap[%d]", i)
		name(key, l.Name)
		d.checkLDAP(key, l)
	}
	for i, o := range c.Auth.OIDC {
		key := fmt.Sprintf("auth.oidc[%d]", i)
		name(key, o.Name)
		d.checkOIDC(key, o)
	}
	if m := c.Auth.MTLS; m.IsOn() {
		name("auth.mtls", m.Name)
		if len(m.Rules) == 0 {
			d.refuse("auth.mtls", "auth.mtls has authorities and no rules: no certificate would be anybody; add rules such as {cn: \"*\", account: \"{cn}\"}")
		}
		for i, r := range m.Rules {
			key := fmt.Sprintf("auth.mtls.rules[%d]", i)
			d.checkWhom(key, r.Account, r.Robot)
			if r.CN+r.Email+r.DNS+r.URI+r.Subject == "" && !d.failed(key) {
				d.refuse(key, "%s fits every certificate; set at least one of cn, email, dns, uri and subject", key)
			}
		}
	} else if len(m.Rules)+len(m.CRLs) > 0 && !d.misspelt("cas", "auth.mtls") {
		d.refuse("auth.mtls", "auth.mtls has rules or revocation lists and no authorities; name their files in cas")
	}
	d.checkSPIFFE(c, name)
}

func (d *decoder) checkLDAP(key string, l LDAP) {
	if len(l.Servers) == 0 && !d.misspelt("servers", key) {
		d.refuse(key, "%s has no servers; name one such as ldaps://ldap.example.com", key)
	}
	for i, s := range l.Servers {
		at := fmt.Sprintf("%s.servers[%d]", key, i)
		u, err := url.Parse(s)
		if err != nil || u.Hostname() == "" || u.Scheme != "ldap" && u.Scheme != "ldaps" || u.User != nil {
			d.refuse(at, "%s expects an address such as ldaps://ldap.example.com, got %q", at, s)
		} else if l.Plain && u.Scheme == "ldap" && !isLoopback(u.Hostname()) {
			d.warn(at, "%s: with plain, whoever is between here and %s reads every password", at, u.Hostname())
		}
	}
	if l.Users.Base == "" && !d.misspelt("base", key+".users") && !d.misspelt("users", key) {
		d.refuse(key, "%s has no users.base, the DN below which people are", key)
	}
	if (l.BindDN == "") != !l.BindPassword.IsSet() {
		d.refuse(key, "%s: binddn and bindpassword go together; leave both out to search anonymously", key)
	}
	if l.Groups.Base == "" && len(l.Required)+len(l.Admins) > 0 && !d.misspelt("groups", key) {
		d.refuse(key, "%s: required and admins name groups, and there is no groups.base to find them below", key)
	}
}

func (d *decoder) checkOIDC(key string, o OIDC) {
	u, err := url.Parse(o.Issuer)
	switch {
	case o.Issuer == "" && !d.misspelt("issuer", key):
		d.refuse(key, "%s has no issuer", key)
	case d.failed(key + ".issuer"):
	case err == nil && u.Scheme == "http" && !isLoopback(u.Hostname()):
		d.refuse(key+".issuer", "%s.issuer %q must begin with https://; plain HTTP is for this machine alone", key, o.Issuer)
	}
	if o.ClientID == "" && !d.misspelt("clientid", key) {
		d.refuse(key, "%s has no clientid", key)
	}
	if len(o.Admins) > 0 && o.Groups.Claim == "" && !d.misspelt("groups", key) {
		d.refuse(key, "%s: admins name groups, and there is no groups.claim to read them from", key)
	}
	known := []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
	for i, a := range o.Algorithms {
		if !slices.Contains(known, a) {
			at := fmt.Sprintf("%s.algorithms[%d]", key, i)
			d.refuse(at, "%s: %q is not offered; use some of %s", at, a, strings.Join(known, ", "))
		}
	}
	if o.Accounts == "adopt" {
		d.warn(key, "%s: accounts: adopt gives an account to whoever has its name at %s; be sure that people cannot choose their names there", key, o.Name)
	}
}

func (d *decoder) checkSPIFFE(c *Config, name func(key, name string)) {
	s := c.Auth.SPIFFE
	if !s.IsOn() {
		if (len(s.Rules) > 0 || s.Certificate || s.Audience != "") && !d.misspelt("workloadapi", "auth.spiffe") && !d.misspelt("bundles", "auth.spiffe") {
			d.refuse("auth.spiffe", "auth.spiffe trusts nobody; set workloadapi or bundles")
		}
		return
	}
	name("auth.spiffe", s.Name)
	for i, r := range s.Rules {
		key := fmt.Sprintf("auth.spiffe.rules[%d]", i)
		d.checkWhom(key, r.Account, r.Robot)
		if !strings.HasPrefix(r.ID, "spiffe://") && !d.failed(key) {
			d.refuse(key, "%s.id %q is not written as spiffe://example.org/ns/*/sa/builder", key, r.ID)
		}
	}
	switch {
	case s.Certificate && s.WorkloadAPI == "":
		d.refuse("auth.spiffe.certificate", "auth.spiffe.certificate needs auth.spiffe.workloadapi, which gives the certificate")
	case s.Certificate && (c.HTTP.TLS.Certificate != "" || c.Berth.ACME.Email != ""):
		d.refuse("auth.spiffe.certificate", "auth.spiffe.certificate and http.tls.certificate or ACME are two certificates for one listener; keep one")
	}
}

// checkWhom refuses a rule that says nobody, or two.
func (d *decoder) checkWhom(key, account, robot string) {
	if (account == "") == (robot == "") && !d.failed(key) {
		d.refuse(key, "%s needs either an account or a robot", key)
	}
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.IsLoopback() || net.ParseIP(host).IsLoopback()
}

// identities looks at the files that identity providers and other registries name.
func (c *check) identities() {
	a := c.loaded.Config.Auth
	certs := func(key, file string) {
		if file == "" {
			return
		}
		if content := c.read(key, file); content != nil {
			if _, err := parseChain(content); err != nil {
				c.fail(key, "%s: %v", file, err)
			}
		}
	}
	for i, l := range a.LDAP {
		certs(fmt.Sprintf("auth.ldap[%d].ca", i), l.CA)
	}
	for i, o := range a.OIDC {
		certs(fmt.Sprintf("auth.oidc[%d].ca", i), o.CA)
	}
	for i, r := range c.loaded.Config.Berth.Integrity.RepairFrom {
		certs(fmt.Sprintf("berth.integrity.repair_from[%d].ca", i), r.CA)
	}
	for i, file := range a.MTLS.CAs {
		certs(fmt.Sprintf("auth.mtls.cas[%d]", i), file)
	}
	for i, file := range a.MTLS.CRLs {
		c.read(fmt.Sprintf("auth.mtls.crls[%d]", i), file)
	}
	for i, b := range a.SPIFFE.Bundles {
		c.read(fmt.Sprintf("auth.spiffe.bundles[%d].file", i), b.File)
	}
}
