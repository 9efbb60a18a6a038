package testkit

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// poolerKeeper runs PgBouncer $1 with configuration $2 until this process or the test ends.
const poolerKeeper = `
"$1" -q "$2" </dev/null &
pid=$!
read _
kill -TERM $pid
wait $pid`

// PgBouncer starts a pooler in front of the server of a DSN, in transaction mode and with few connections to the server,
// and returns the DSN through it. Without PgBouncer on this machine the test is skipped, or fails where the package
// comment says so.
func PgBouncer(t testing.TB, dsn string) string {
	t.Helper()
	const bin = "/usr/sbin/pgbouncer"
	if _, err := os.Stat(bin); err != nil {
		Missing(t, "testkit: no PgBouncer here: apt-get install -y pgbouncer")
	}
	server, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "berth-pgbouncer-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cred, err := postgresUser(dir)
	if err != nil {
		t.Fatal(err)
	}
	port := FreePort(t)
	conf := fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%s user=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
auth_type = any
pool_mode = transaction
default_pool_size = 6
max_client_conn = 300
unix_socket_dir =
`, server.Port(), server.User.Username(), port)
	file := filepath.Join(dir, "pgbouncer.ini")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	release, err := keep(cred, log, poolerKeeper, bin, file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		release()
		_ = log.Close()
	})
	through := *server
	through.Host = "127.0.0.1:" + strconv.Itoa(port)
	if err := awaitPostgres(through.String(), file); err != nil {
		text, _ := os.ReadFile(log.Name())
		t.Fatalf("testkit: PgBouncer: %v\n%s", err, text)
	}
	return through.String()
}
