package oidc

import (
	"sync"
	"time"
)

// logouts remembers the ids of logout tokens for as long as one could be taken again. Only tokens with the provider's
// signature come here.
type logouts struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

// first reports whether the id was not seen before. When the memory is full, none is new.
func (l *logouts) first(id string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.seen[id]; ok {
		return false
	}
	if len(l.seen) >= maxLogouts {
		for id, at := range l.seen {
			if now.Sub(at) > maxLogoutAge+skew {
				delete(l.seen, id)
			}
		}
		if len(l.seen) >= maxLogouts {
			return false
		}
	}
	l.seen[id] = now
	return true
}
