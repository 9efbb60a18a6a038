package testkit

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// SQL asks a PostgreSQL what an administrator would, beside a berthd. It connects when it has to, and again after a
// failure. It is for one goroutine at a time.
type SQL struct {
	DSN  string
	conn *pgconn.PgConn // nil until it is needed, and after a failure
}

// Query returns the rows of a statement as text, NULL as "".
func (s *SQL) Query(query string, args ...string) ([][]string, error) {
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	if s.conn == nil {
		conn, err := pgconn.Connect(ctx, s.DSN)
		if err != nil {
			return nil, fmt.Errorf("testkit: connect to PostgreSQL: %w", err)
		}
		s.conn = conn
	}
	values := make([][]byte, len(args))
	for i, a := range args {
		values[i] = []byte(a)
	}
	result := s.conn.ExecParams(ctx, query, values, nil, nil, nil).Read()
	if result.Err != nil {
		s.Close()
		return nil, fmt.Errorf("testkit: %s: %w", query, result.Err)
	}
	rows := make([][]string, len(result.Rows))
	for i, row := range result.Rows {
		for _, value := range row {
			rows[i] = append(rows[i], string(value))
		}
	}
	return rows, nil
}

// Close ends the connection, if there is one.
func (s *SQL) Close() {
	if s.conn == nil {
		return
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	_ = s.conn.Close(ctx) // nothing is lost with it
	s.conn = nil
}
