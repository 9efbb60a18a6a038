package config

import "time"

// Integrity says how it is found out that stored content is not what it was.
type Integrity struct {
	Reads string `yaml:"reads" default:"sampled" oneof:"sampled|always|never" doc:"How often a blob of the store is verified while it is pulled whole: one in 16 (sampled), always, or never. A blob whose digest is wrong is put aside, and the connection is broken before its last bytes. Manifests and content in the database are always verified. always takes a second of a processor per GB and bounds a pull to what one processor hashes; sampled takes a sixteenth of that, and what is not verified leaves by sendfile." zh:"整体拉取存储中的 blob 时校验的频率：每 16 次一次（sampled）、总是（always）或从不（never）。摘要不符的 blob 会被隔离，并在发送最后字节前断开连接。manifest 与数据库中的内容始终校验。always 每 GB 约需一秒处理器时间，单次拉取受单核哈希速度限制；sampled 约为其十六分之一，未校验的内容经 sendfile 发送。"`
	Scrub Scrub  `yaml:"scrub" doc:"The check of all stored content in the background." zh:"后台检查全部已存内容。"`
}

// Scrub is the check of all stored content in the background.
type Scrub struct {
	Interval time.Duration `yaml:"interval" default:"168h" check:"natural" doc:"Time between the beginnings of two checks of all content, on one replica at a time; 0 is never. berthd fsck checks at once." zh:"两次全量检查开始之间的时间，同一时间只在一个副本上执行；0 表示不检查。berthd fsck 立即检查。"`
	Rate     Bytes         `yaml:"rate" default:"64MiB" check:"natural" doc:"Bytes a second that it reads; 0 is as fast as it can. A terabyte takes four and a half hours at the default." zh:"每秒读取的字节数；0 表示不限速。默认速率下 1 TB 约需四个半小时。"`
}
