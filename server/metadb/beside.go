package metadb

import (
	"context"
	"time"
)

// What an operator's command changes in a SQLite file beside the berthd that serves it.
//
// SQLite counts, for each connection, the commits that others made. All commits of a process come from its writer's
// connection, so when the count of that one has moved, another process has written. It does not say what; all that caches
// remember is forgotten, which costs the reads that fill them again, once for each command of an operator.

// lookBeside is how often the count is read. A look takes its turn among the writes and costs microseconds, so that another
// process's commit is known to every cache well within TrustFor, and no request pays for that.
const lookBeside = time.Second

// lookLoop tells who watches when another process has committed something since the count was seen.
func (l *lite) lookLoop(seen int64) {
	tick := time.NewTicker(lookBeside)
	defer tick.Stop()
	for {
		select {
		case <-l.quit:
			return
		case <-tick.C:
		}
		count, err := l.commitsOfOthers()
		switch {
		case err != nil:
			l.log.Warn("metadata could not be asked whether another process has changed it; what is remembered is forgotten", "err", err)
		case count == seen:
			continue
		}
		seen = count
		l.others.tell(Change{Kind: Everything})
	}
}

// commitsOfOthers is SQLite's count for the writer's connection. It is good only to be compared.
func (l *lite) commitsOfOthers() (count int64, err error) {
	l.writer.chore(func(c *conn) {
		count, err = one(context.Background(), c, column[int64], `PRAGMA data_version`)
	})
	return count, l.d.fail(err)
}
