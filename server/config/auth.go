package config

// Auth says who may log in, and what everyone else may do.
type Auth struct {
	Htpasswd *Htpasswd `yaml:"htpasswd" choice:"auth provider" doc:"Accounts in an htpasswd file, besides the ones berth keeps itself." zh:"htpasswd 文件中的账号（berth 自己保存的账号之外）。"`
	Token    *Token    `yaml:"token" choice:"auth provider" doc:"Tokens of another server, which clients are sent to and which decides what they may do here. Accounts that berth keeps go on working." zh:"由其他服务器签发的令牌：客户端到该服务器取令牌，权限以令牌为准。berth 自己的账号仍可使用。"`
	Silly    *Silly    `yaml:"silly" choice:"auth provider" unsupported:"refuse" effect:"it admits every request that carries any Authorization header" doc:"Toy provider of distribution." zh:"distribution 的演示用认证。"`
	None     *None     `yaml:"none" choice:"auth provider" doc:"No accounts besides the ones berth keeps itself." zh:"除 berth 自己保存的账号外没有其他账号。"`

	LDAP   []LDAP `yaml:"ldap" doc:"Directories, such as OpenLDAP or Active Directory, that prove names and passwords; all at the same time as the accounts of berth." zh:"用于验证用户名与密码的目录（OpenLDAP、Active Directory 等），与 berth 自己的账号同时有效。"`
	OIDC   []OIDC `yaml:"oidc" doc:"OpenID Connect providers, for logins with a browser and for the device flow." zh:"OpenID Connect 提供方，用于浏览器登录与设备流程。"`
	MTLS   MTLS   `yaml:"mtls" doc:"Client certificates as identities. It is on when cas is set." zh:"以客户端证书作为身份。设置 cas 即启用。"`
	SPIFFE SPIFFE `yaml:"spiffe" doc:"SPIFFE identities of workloads. It is on when workloadapi or bundles is set." zh:"工作负载的 SPIFFE 身份。设置 workloadapi 或 bundles 即启用。"`

	Anonymous string `yaml:"anonymous" default:"pull" oneof:"none|pull|push|delete" env:"BERTH_ANONYMOUS" doc:"What a client without login may do in public projects; each word includes the ones before it. A file of distribution with auth.htpasswd that does not say keeps distribution's rule, none." zh:"未登录的客户端在公开项目中可以做什么，后者包含前者。distribution 的配置文件含 auth.htpasswd 且未写明时沿用其规则 none。"`
	Users     string `yaml:"users" default:"none" oneof:"none|pull|push|delete" doc:"What every account that is no administrator may do in all projects, besides what roles and grants give it; each word includes the ones before it. With auth.htpasswd the default is push, and for a file of distribution its rule, delete." zh:"除角色与授权之外，非管理员账号在所有项目中还可以做什么，后者包含前者。配置了 auth.htpasswd 时默认为 push；distribution 的配置文件沿用其规则 delete。"`
}

// Htpasswd is a file of accounts.
type Htpasswd struct {
	Realm string `yaml:"realm" default:"berth" doc:"Name that clients show when they ask for a password." zh:"客户端询问密码时显示的名称。"`
	Path  string `yaml:"path" check:"path,required" reload:"true" doc:"The file. bcrypt entries are best; apr1 and SHA are read with a warning. Read again when it changes." zh:"文件路径。推荐 bcrypt，apr1 与 SHA 可用但会警告。文件变化时重新读取。"`
}

// Token trusts the tokens of another server.
type Token struct {
	Realm             string   `yaml:"realm" check:"url" doc:"Address of the token server, where challenges send clients. Needed unless autoredirect is set." zh:"令牌服务器地址，质询会将客户端引导至此。未设置 autoredirect 时必填。"`
	Service           string   `yaml:"service" check:"required" doc:"Name of this registry at the token server; the audience that tokens must be for." zh:"本仓库在令牌服务器上的名称，即令牌的受众（aud）。"`
	Issuer            string   `yaml:"issuer" check:"required" doc:"Issuer that must be in a token, compared as it is." zh:"令牌中必须出现的签发者，按原文比较。"`
	RootCertBundle    string   `yaml:"rootcertbundle" check:"path" doc:"Certificates, PEM: keys that sign tokens, or authorities of certificates that tokens bring along." zh:"PEM 证书：签发令牌的密钥，或令牌自带证书链的根。"`
	JWKS              string   `yaml:"jwks" check:"path" doc:"File with a JSON Web Key Set that signs tokens." zh:"签发令牌的 JSON Web Key Set 文件。"`
	SigningAlgorithms []string `yaml:"signingalgorithms" doc:"Signature algorithms that are accepted. Not set: all asymmetric ones, each with keys of its kind." zh:"接受的签名算法。未设置时为所有非对称算法，且须与密钥类型相符。"`
	AutoRedirect      bool     `yaml:"autoredirect" doc:"Send clients to this registry's own address, as they reached it, with autoredirectpath: for a token server behind the same proxy." zh:"质询指向客户端访问本仓库所用的地址加 autoredirectpath，用于令牌服务器位于同一代理之后的情形。"`
	AutoRedirectPath  string   `yaml:"autoredirectpath" doc:"Path for autoredirect. Not set: /auth/token." zh:"autoredirect 的路径。未设置时为 /auth/token。"`
}

// Silly is distribution's toy provider.
type Silly struct {
	Realm   string `yaml:"realm" doc:"Realm." zh:"Realm。"`
	Service string `yaml:"service" doc:"Service." zh:"Service。"`
}

// None is the provider without accounts.
type None struct{}
