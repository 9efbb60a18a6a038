package config

import "time"

// History says how long it is known where tags pointed.
type History struct {
	Keep time.Duration `yaml:"keep" default:"8760h" check:"natural" doc:"How far back the history of tags reaches: who moved a tag when, and what it was at any time since then. 0 keeps it for ever." zh:"标签历史可回溯的时长：何时由谁移动、任一时刻指向何处。0 表示永久保留。"`
}

// Trash says how long what was deleted can be brought back.
type Trash struct {
	Hold time.Duration `yaml:"hold" default:"168h" check:"natural" doc:"How long a manifest that was deleted can be brought back with its tags (berthd trash restore); its content keeps its space meanwhile. 0: there is no trash, a deletion is final." zh:"已删除的 manifest 及其标签可恢复（berthd trash restore）的时长，期间内容继续占用空间。0 表示不设回收站，删除即为最终。"`
}
