package config

import (
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Integrity says how it is found out that stored content is not what it was.
type Integrity struct {
	Reads string `yaml:"reads" default:"sampled" oneof:"sampled|always|never" doc:"How often a blob of the store is verified while it is pulled whole: one in 16 (sampled), always, or never. A blob whose digest is wrong is put aside, and the connection is broken before its last bytes. Manifests and content in the database are always verified. always takes a second of a processor per GB and bounds a pull to what one processor hashes; sampled takes a sixteenth of that, and what is not verified leaves by sendfile." zh:"整体拉取存储中的 blob 时校验的频率：每 16 次一次（sampled）、总是（always）或从不（never）。摘要不符的 blob 会被隔离，并在发送最后字节前断开连接。manifest 与数据库中的内容始终校验。always 每 GB 约需一秒处理器时间，单次拉取受单核哈希速度限制；sampled 约为其十六分之一，未校验的内容经 sendfile 发送。"`
	Scrub Scrub  `yaml:"scrub" doc:"The check of all stored content in the background." zh:"后台检查全部已存内容。"`

	RepairFrom []RepairSource `yaml:"repair_from" doc:"Other registries that have the same content under the same names, such as a replica of this one or where its images come from; asked in this order. What a check or a pull finds to be damaged is taken from them by its digest and verified, as a push of it would be; what none of them has is asked for again at the next check." zh:"以相同名称保存相同内容的其他仓库，例如本仓库的副本或镜像的来源，按顺序查询。检查或拉取发现的损坏内容按摘要从中取回，并像推送一样校验；都没有的内容在下次检查时再查询。"`
}

// RepairSource is another registry with the same content.
type RepairSource struct {
	URL      string   `yaml:"url" check:"url" doc:"Address of the registry, such as https://registry.example.com. Over http only without a password, except on this machine." zh:"仓库地址，例如 https://registry.example.com。除本机外，http 仅用于没有密码时。"`
	Username string   `yaml:"username" doc:"Account that pulls there; the name of a robot with a secret of its as password, too. Not set: nobody." zh:"在该处拉取的账号，也可为机器人（密码为其密钥）。未设置时不登录。"`
	Password Secret   `yaml:"password" doc:"Its password or token." zh:"其密码或令牌。"`
	CA       string   `yaml:"ca" check:"path" doc:"PEM file of the authorities of its certificate, read at the start. Not set: those of the system." zh:"其证书的 CA 文件（PEM），启动时读取。未设置时使用系统的 CA。"`
	Hosts    []string `yaml:"hosts" doc:"Hosts besides its own that it may send us to, with their ports: of its token server, and of the storage that it redirects downloads to. The password goes to none of another site." zh:"除其自身外，允许它指向的主机（含端口）：令牌服务器，以及下载重定向到的存储。密码不会发往其他站点。"`
}

// Scrub is the check of all stored content in the background.
type Scrub struct {
	Interval time.Duration `yaml:"interval" default:"168h" check:"natural" doc:"Time between the beginnings of two checks of all content, on one replica at a time; 0 is never. berthd fsck checks at once." zh:"两次全量检查开始之间的时间，同一时间只在一个副本上执行；0 表示不检查。berthd fsck 立即检查。"`
	Rate     Bytes         `yaml:"rate" default:"64MiB" check:"natural" doc:"Bytes a second that it reads; 0 is as fast as it can. A terabyte takes four and a half hours at the default." zh:"每秒读取的字节数；0 表示不限速。默认速率下 1 TB 约需四个半小时。"`
}

// checkRepairs refuses registries that cannot be asked, and passwords that anyone on the way could read.
func (d *decoder) checkRepairs(c *Config) {
	seen := map[string]string{}
	for i, r := range c.Berth.Integrity.RepairFrom {
		key := fmt.Sprintf("berth.integrity.repair_from[%d]", i)
		u, err := url.Parse(r.URL)
		switch {
		case r.URL == "" && !d.misspelt("url", key):
			d.refuse(key, "%s has no url", key)
			continue
		case err != nil, d.failed(key + ".url"), r.URL == "":
			continue
		case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
			d.refuse(key+".url", "%s.url expects the address of a registry alone, such as https://registry.example.com, got %q", key, u.Redacted())
			continue
		case seen[u.Host] != "":
			d.refuse(key+".url", "%s.url names the registry of %s, too; once is enough", key, seen[u.Host])
		}
		seen[u.Host] = key
		if (r.Username == "") != !r.Password.IsSet() {
			d.refuse(key, "%s: username and password go together; leave both out to pull without a login", key)
		}
		if u.Scheme == "http" && r.Password.IsSet() && !isLoopback(u.Hostname()) {
			d.refuse(key+".url", "%s.url %q must begin with https://: whoever is on the way could read the password", key, r.URL)
		}
	}
}
