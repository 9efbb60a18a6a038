package config

import (
	"strings"
	"time"
)

// GC says when what nobody needs any more is deleted.
type GC struct {
	Grace    time.Duration `yaml:"grace" default:"24h" check:"positive" doc:"How long an answer that a blob is there is a promise: nothing that a client was told so about is deleted before. What loses its last reference is deleted after one and a half times this." zh:"「blob 存在」这一应答的承诺期：在此期间内不会删除。失去最后引用的内容在 1.5 倍此时间后删除。"`
	Untagged time.Duration `yaml:"untagged" default:"0" check:"natural" doc:"Manifests that no tag, index or subject points at go to the trash when they have been so for this long; 0 keeps them. At least grace." zh:"无标签、无 index、无 subject 指向的 manifest 在此时间后移入回收站；0 表示保留。不少于 grace。"`
	Interval time.Duration `yaml:"interval" default:"1m" check:"positive" doc:"Time between two looks at what is due, on every replica." zh:"两次检查到期内容之间的间隔，每个副本各自执行。"`
	Rate     int           `yaml:"rate" default:"0" check:"natural" doc:"Blobs a second that a replica deletes at most; 0 is as fast as it can." zh:"每个副本每秒最多删除的 blob 数；0 表示不限速。"`
	Window   string        `yaml:"window" doc:"Time of day in which it deletes, in the server's time zone, such as 02:00-05:00. Not set: any time. berthd gc run does not wait for it." zh:"每日执行删除的时段（服务器时区），例如 02:00-05:00。未设置时为任何时间；berthd gc run 不受此限。"`
}

// checkGC refuses a window that is none.
func (d *decoder) checkGC(c *Config) {
	w := c.Berth.GC.Window
	if w == "" {
		return
	}
	from, to, ok := strings.Cut(w, "-")
	a, err1 := time.Parse("15:04", strings.TrimSpace(from))
	b, err2 := time.Parse("15:04", strings.TrimSpace(to))
	if !ok || err1 != nil || err2 != nil || a.Equal(b) {
		d.refuse("berth.gc.window", "berth.gc.window: expects a time of day such as 02:00-05:00; got %q", w)
	}
}
