package server

import (
	"net/http"
	"sync/atomic"
	"time"
)

// traffic knows whether clients are being served, for what is to keep out of their way.
type traffic struct {
	requests atomic.Int64 // being served
	ended    atomic.Int64 // when the last one was, nanoseconds by the process's clock
}

// quietAfter is how long after a request the next one of the same client may still be on its way.
const quietAfter = 50 * time.Millisecond

func (t *traffic) count(next http.Handler, now func() time.Time) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.requests.Add(1)
		defer func() {
			t.ended.Store(now().UnixNano())
			t.requests.Add(-1)
		}()
		next.ServeHTTP(w, r)
	})
}

func (t *traffic) busy(now time.Time) bool {
	since := now.UnixNano() - t.ended.Load()
	return t.requests.Load() > 0 || since >= 0 && since < int64(quietAfter)
}
