package config

import "time"

// Berth holds the settings that distribution does not have.
type Berth struct {
	Data      string    `yaml:"data" default:"./berth-data" check:"path" flag:"data" doc:"Data directory: database, keys, certificates and, with the filesystem driver, content. Not set: storage.filesystem.rootdirectory when that is set." zh:"数据目录：数据库、密钥、证书，以及 filesystem 驱动的内容。未设置时，若设置了 storage.filesystem.rootdirectory 则使用它。"`
	Socket    string    `yaml:"socket" default:"berthd.sock" check:"path" doc:"Unix socket for commands such as berthd gc, open to the user of berthd and to root; relative to the data directory. With PostgreSQL the default has the machine's name and process number in it, so that replicas may share the directory. off: none." zh:"供 berthd gc 等命令使用的 Unix 套接字，仅运行 berthd 的用户与 root 可用；相对路径以数据目录为基准。使用 PostgreSQL 时默认名称带主机名与进程号，以便副本共享数据目录。off：不监听。"`
	Language  string    `yaml:"language" default:"en" oneof:"en|zh-CN" env:"BERTH_LANG" doc:"Language of what berthd prints to people." zh:"berthd 输出给人看的文字的语言。"`
	Database  Database  `yaml:"database" doc:"Where names, tags and accounts are kept." zh:"名称、标签与账号的存放位置。"`
	Admin     Admin     `yaml:"admin" doc:"The first administrator." zh:"首个管理员。"`
	Projects  Projects  `yaml:"projects" doc:"Projects: the first part of a repository's name." zh:"项目：仓库名的第一段。"`
	Token     Tokens    `yaml:"token" doc:"Tokens that berth signs for clients that logged in." zh:"berth 为已登录的客户端签发的令牌。"`
	Sessions  Sessions  `yaml:"sessions" doc:"Logins of browsers." zh:"浏览器登录会话。"`
	ACME      ACME      `yaml:"acme" doc:"Certificates from an ACME authority such as Let's Encrypt, for http.host." zh:"由 ACME 机构（如 Let's Encrypt）为 http.host 签发证书。"`
	GC        GC        `yaml:"gc" doc:"Collection: deleting the bytes that nobody needs any more." zh:"垃圾回收：删除不再需要的内容。"`
	Backup    Backup    `yaml:"backup" doc:"Snapshots of the registry, made while it runs." zh:"在线备份（快照）。"`
	Journal   bool      `yaml:"journal" default:"true" doc:"Keep a journal of names beside the content, from which berthd rebuild makes the metadata again when the database is lost." zh:"在内容旁保存名称日志；数据库丢失时 berthd rebuild 可据此重建元数据。"`
	Integrity Integrity `yaml:"integrity" doc:"Finding out that stored content is not what it was." zh:"发现已存内容损坏的方式。"`
	Limits    Limits    `yaml:"limits" doc:"What one client or one request may cost." zh:"单个客户端或单个请求的开销上限。"`
	History   History   `yaml:"history" doc:"What tags were." zh:"标签的历史。"`
	Trash     Trash     `yaml:"trash" doc:"What was deleted." zh:"已删除的内容。"`
}

// Database says where metadata is kept.
type Database struct {
	URL     Secret        `yaml:"url" check:"database" env:"BERTH_DATABASE" doc:"postgres://user:password@host:port/name?sslmode=require. Not set: SQLite, the file berth.db in the data directory." zh:"postgres://user:password@host:port/name?sslmode=require。未设置时使用数据目录中的 SQLite 文件 berth.db。"`
	MaxOpen int           `yaml:"maxopen" default:"16" check:"positive" doc:"Most connections to PostgreSQL, besides one that listens for changes by other replicas." zh:"PostgreSQL 的最大连接数，另有一个连接用于监听其他副本的变更。"`
	Migrate string        `yaml:"migrate" default:"auto" oneof:"auto|manual" doc:"auto: a start brings the schema up to date; of several replicas one does and the others wait. manual: berthd does not start until berthd migrate up was run." zh:"auto：启动时自动升级数据库结构，多个副本中由一个执行、其余等待。manual：须先执行 berthd migrate up，否则不启动。"`
	Outage  time.Duration `yaml:"outage" default:"5m" check:"positive" doc:"How long pulls go on from memory while PostgreSQL cannot be reached, with accounts and visibility as they were last known." zh:"PostgreSQL 不可达时，以最后已知的账号与可见性从内存继续提供拉取的时长。"`
}

// Admin is the first administrator, account "admin".
type Admin struct {
	Password Secret `yaml:"password" doc:"Password of the account admin. Not set: made once, and written to first-run.txt in the data directory." zh:"账号 admin 的密码。未设置时自动生成一次，写入数据目录的 first-run.txt。"`
}

// Projects says how projects come to be.
type Projects struct {
	Default    string   `yaml:"default" default:"private" oneof:"private|public" doc:"Visibility of a project that a push by an administrator or user makes." zh:"登录用户推送时自动创建的项目的可见性。"`
	AutoCreate string   `yaml:"autocreate" default:"admins" oneof:"admins|users|nobody" doc:"Whose push makes a project that does not exist: of administrators and of who was granted project.create, of everyone who may push there, or of nobody. Where auth.users or auth.anonymous lets everyone push, the default is users. Who makes a project is its administrator." zh:"谁的推送可以自动创建不存在的项目：管理员和获得 project.create 的账号（admins）、所有有推送权限者（users）或任何人都不行（nobody）。auth.users 或 auth.anonymous 允许推送时默认为 users。创建者成为该项目的管理员。"`
	Public     []string `yaml:"public" check:"glob" doc:"Projects that are public when they are made, by name; * stands for any characters, such as oss-*." zh:"创建时即为公开的项目名，* 代表任意字符，例如 oss-*。"`
}

// Tokens says how long tokens live.
type Tokens struct {
	Lifetime        time.Duration `yaml:"lifetime" default:"5m" check:"minute" doc:"Lifetime of an access token, at least 60s, which is what clients assume." zh:"访问令牌的有效期，不少于 60s（客户端的假定值）。"`
	RefreshLifetime time.Duration `yaml:"refresh_lifetime" default:"720h" check:"positive" doc:"Lifetime of a refresh token." zh:"刷新令牌的有效期。"`
}

// Sessions says how long a browser stays logged in.
type Sessions struct {
	Idle     time.Duration `yaml:"idle" default:"12h" check:"minute" doc:"After how long without a request a session ends." zh:"会话无请求多久后结束。"`
	Lifetime time.Duration `yaml:"lifetime" default:"168h" check:"minute" doc:"After how long every session ends." zh:"会话的最长有效期。"`
}

// ACME gets certificates from an authority. It is on when Email is set.
type ACME struct {
	Email     string   `yaml:"email" check:"email" flag:"acme" doc:"Contact that the authority may write to; setting it switches ACME on and accepts the authority's terms." zh:"证书机构的联系邮箱；设置即启用 ACME 并接受其条款。"`
	Directory string   `yaml:"directory" check:"url" doc:"ACME directory. Not set: Let's Encrypt." zh:"ACME 目录地址。未设置时使用 Let's Encrypt。"`
	Hosts     []string `yaml:"hosts" doc:"Names to ask certificates for. Not set: http.host." zh:"要申请证书的主机名。未设置时使用 http.host。"`
}

// Limits bounds what one client or one request may cost.
type Limits struct {
	ManifestBytes Bytes         `yaml:"manifest_bytes" reload:"true" default:"4MiB" check:"positive" doc:"Largest manifest or index; a larger one is answered with 413." zh:"manifest 或 index 的最大尺寸，超过返回 413。"`
	InlineBytes   Bytes         `yaml:"inline_bytes" reload:"true" default:"32KiB" check:"natural" doc:"Content up to this size is kept in the database, larger content in the store." zh:"不超过此大小的内容存于数据库，更大的存于存储后端。"`
	CacheBytes    Bytes         `yaml:"cache_bytes" default:"32MiB" check:"natural" doc:"Memory for manifests and small blobs that are read often." zh:"缓存常用 manifest 与小 blob 的内存。"`
	HeaderTimeout time.Duration `yaml:"header_timeout" default:"10s" check:"positive" doc:"How long a client may take to send the header of a request." zh:"客户端发送请求头的时限。"`
	BodyTimeout   time.Duration `yaml:"body_timeout" default:"60s" check:"positive" doc:"How long a transfer may stand still; one that moves may take as long as it needs." zh:"传输可停滞的时间；持续传输则不限时。"`
	IdleTimeout   time.Duration `yaml:"idle_timeout" default:"2m" check:"positive" doc:"How long a connection without a request stays open." zh:"空闲连接的保持时间。"`
	Connections   int           `yaml:"connections" default:"16384" check:"positive" doc:"Most open connections; more wait until one is closed." zh:"最多同时打开的连接数，超出的连接需等待。"`
	LoginFailures int           `yaml:"login_failures" default:"20" check:"positive" doc:"Failed logins of one account or address after which only one attempt per login_pause is heard; the others are answered with 429." zh:"同一账号或地址登录失败达到此次数后，每个 login_pause 内只接受一次尝试，其余返回 429。"`
	LoginPause    time.Duration `yaml:"login_pause" default:"30s" check:"positive" doc:"Pause between attempts after login_failures." zh:"达到 login_failures 后两次尝试的间隔。"`
	PasswordMin   int           `yaml:"password_min" default:"8" check:"positive" doc:"Least characters of a new password, never fewer than 8. Passwords that are set already go on working." zh:"新密码的最少字符数，不少于 8。已有密码不受影响。"`
	LoginWindow   time.Duration `yaml:"login_window" default:"15m" check:"positive" doc:"How long after the last attempt failed logins are forgotten." zh:"最后一次尝试后多久忘记登录失败。"`
}
