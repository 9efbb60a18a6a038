// Command tool measures berth copy and berth sync beside skopeo and crane, in one run and on one machine: time, processor time and
// peak memory of the client process, between two berthd that it starts on 127.0.0.1.
//
// Every client does the same work against a target that starts empty for each measurement; rounds go client after client, and the
// median of the times and the largest of the memories count. It writes to one folder, which it removes, at most three times
// the size of the image, and refuses to begin where twice as much is not free; it ends only processes that it started.
//
//	go run ./test/load/tool -berth bin/berth -berthd bin/berthd [-mib 1024] [-layers 30] [-rounds 3] [-only sync]
//
// Start reading at main, then work.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/berth-registry/berth/image/copy"
	"github.com/berth-registry/berth/image/remote"
	"github.com/berth-registry/berth/internal/testkit/machine"
	"github.com/berth-registry/berth/oci"
	"github.com/berth-registry/berth/oci/ref"
)

type bench struct {
	berthd  string
	clients map[string]string // name: binary
	dir     string
	rounds  int
	only    *regexp.Regexp
	src     string // host of the source
	c       *remote.Client
}

// figure is one run of one client.
type figure struct {
	wall, cpu time.Duration
	rss       int64 // KiB
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == asClient {
		os.Exit(client(os.Args[2], os.Args[3:]))
	}
	berth, berthd := flag.String("berth", "bin/berth", "the tool"), flag.String("berthd", "bin/berthd", "the registry")
	mib, layers, rounds := flag.Int("mib", 1024, "size of the image in MiB"), flag.Int("layers", 30, "its layers"), flag.Int("rounds", 3, "rounds")
	skopeo, crane := flag.String("skopeo", "skopeo", "skopeo; \"\" leaves it out"), flag.String("crane", "crane", "crane; \"\" leaves it out")
	tmp, only := flag.String("dir", os.TempDir(), "where to put the folder"), flag.String("only", "", "regex of the kinds of work; empty is all")
	flag.Parse()
	wanted, err := regexp.Compile(*only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "tool: -only:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b := &bench{berthd: *berthd, rounds: *rounds, clients: map[string]string{"berth": *berth, "skopeo": *skopeo, "crane": *crane}, only: wanted}
	if err := b.run(ctx, *tmp, *mib, *layers); err != nil {
		fmt.Fprintln(os.Stderr, "tool:", err)
		os.Exit(1)
	}
}

// small is what everything but the large image comes to on disk: two registries, and their 200 small images.
const small = 256 << 20

func (b *bench) run(ctx context.Context, tmp string, mib, layers int) (err error) {
	most := 3*int64(mib)<<20 + small
	if _, err := machine.Disk(tmp, 2*most, most); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp(tmp, "berth-tool-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	b.c = remote.New(remote.Options{Endpoint: func(string) remote.Endpoint { return remote.Endpoint{Scheme: "http"} }})
	host, end, err := b.serve(ctx, "source")
	if err != nil {
		return err
	}
	defer end()
	b.src = host
	if err := b.image(ctx, "big/app", "v1", layers, mib<<20/layers); err != nil {
		return err
	}
	for i := range 200 {
		if err := b.image(ctx, "many/app", fmt.Sprintf("v%d", i), 2, 64<<10); err != nil {
			return err
		}
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "work\tclient\tseconds\tcpu s\tpeak MiB")
	for _, what := range []string{"registry to registry", "registry to oci", "oci to registry", "sync, 10 of 200 new"} {
		if !b.only.MatchString(what) {
			continue
		}
		if err := b.work(ctx, w, what); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// work measures one kind of work by all clients, in turns.
func (b *bench) work(ctx context.Context, w io.Writer, what string) error {
	all := map[string][]figure{}
	for range b.rounds {
		for _, client := range []string{"berth", "skopeo", "crane"} {
			if b.clients[client] == "" {
				continue
			}
			f, err := b.once(ctx, what, client)
			if err != nil {
				return fmt.Errorf("%s: %w", client, err)
			}
			all[client] = append(all[client], f)
		}
	}
	for _, client := range []string{"berth", "skopeo", "crane"} {
		fs := all[client]
		if len(fs) == 0 {
			continue
		}
		slices.SortFunc(fs, func(a, b figure) int { return int(a.wall - b.wall) })
		m := fs[len(fs)/2]
		for _, f := range fs {
			m.rss = max(m.rss, f.rss)
		}
		fmt.Fprintf(w, "%s\t%s\t%.2f\t%.2f\t%d\n", what, client, m.wall.Seconds(), m.cpu.Seconds(), m.rss>>10)
	}
	return nil
}

// once lets one client do the work against an empty target.
func (b *bench) once(ctx context.Context, what, client string) (figure, error) {
	dst, end, err := b.serve(ctx, "target")
	if err != nil {
		return figure{}, err
	}
	defer end()
	layout := filepath.Join(b.dir, "layout")
	defer os.RemoveAll(layout) //nolint:errcheck // the whole folder is removed at the end
	big, many := b.src+"/big/app:v1", b.src+"/many/app"
	plain := []string{"--insecure-policy"}
	both := []string{"--src-tls-verify=false", "--dest-tls-verify=false"}
	var args []string
	switch what + "/" + map[bool]string{true: "crane"}[client == "crane"] {
	case "registry to registry/":
		args = slices.Concat(plain, []string{"copy", "-q"}, both, []string{"docker://" + big, "docker://" + dst + "/big/app:v1"})
	case "registry to registry/crane":
		args = []string{"copy", "--insecure", big, dst + "/big/app:v1"}
	case "registry to oci/":
		args = slices.Concat(plain, []string{"copy", "-q", "--src-tls-verify=false", "docker://" + big, "oci:" + layout + ":v1"})
	case "registry to oci/crane":
		args = []string{"pull", "--insecure", "--format=oci", big, layout}
	case "oci to registry/", "oci to registry/crane":
		if err := exec.CommandContext(ctx, b.clients["berth"], "--insecure-policy", "copy", "-q", "--src-tls-verify=false", "docker://"+big, "oci:"+layout+":v1").Run(); err != nil {
			return figure{}, fmt.Errorf("prepare: %w", err)
		}
		args = slices.Concat(plain, []string{"copy", "-q", "--dest-tls-verify=false", "oci:" + layout + ":v1", "docker://" + dst + "/big/app:v1"})
		if client == "crane" {
			args = []string{"push", "--insecure", layout, dst + "/big/app:v1"}
		}
	default:
		if err := b.most(ctx, dst); err != nil {
			return figure{}, err
		}
		args = slices.Concat(plain, []string{"sync", "--src", "docker", "--dest", "docker"}, both, []string{many, dst + "/many"})
		if client == "crane" {
			args = []string{"copy", "--all-tags", "--insecure", many, dst + "/many/app"}
		}
	}
	return measure(ctx, b.clients[client], args)
}

// asClient makes this program start another one and say on standard output what it used. A process begins with the peak of memory
// of who starts it; with the small one of this in between, that is its own.
const asClient = "-as-client"

// used is what asClient says.
type used struct {
	Wall, CPU time.Duration
	RSS       int64 // KiB
	Failed    string
	Said      string
}

func client(program string, args []string) int {
	cmd := exec.Command(program, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	var u used
	if err := cmd.Run(); err != nil {
		u.Failed, u.Said = err.Error(), out.String()
	} else {
		u.Wall, u.CPU = time.Since(began), cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()
		if r, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
			u.RSS = r.Maxrss
		}
	}
	if json.NewEncoder(os.Stdout).Encode(u) != nil {
		return 1
	}
	return 0
}

func measure(ctx context.Context, program string, args []string) (figure, error) {
	self, err := os.Executable()
	if err != nil {
		return figure{}, err
	}
	cmd := exec.CommandContext(ctx, self, append([]string{asClient, program}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return figure{}, err
	}
	var u used
	if err := json.Unmarshal(out, &u); err != nil {
		return figure{}, err
	}
	if u.Failed != "" {
		return figure{}, fmt.Errorf("%s: %s", u.Failed, u.Said)
	}
	return figure{u.Wall, u.CPU, u.RSS}, nil
}

// most copies 190 of the 200 tags, so that 10 are new.
func (b *bench) most(ctx context.Context, dst string) error {
	n, err := ref.ParseName("many/app")
	if err != nil {
		return err
	}
	e := copy.New(copy.Options{})
	for i := range 190 {
		at := ref.Reference{Tag: fmt.Sprintf("v%d", i)}
		if _, err := e.Copy(ctx, copy.Job{From: b.c.Repository(b.src, n), At: at, To: b.c.Repository(dst, n), As: []ref.Reference{at}}); err != nil {
			return err
		}
	}
	return nil
}

// serve starts a berthd with an empty store; end stops it and removes the store.
func (b *bench) serve(ctx context.Context, name string) (host string, end func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	host = l.Addr().String()
	if err := l.Close(); err != nil {
		return "", nil, err
	}
	data, log := filepath.Join(b.dir, name), filepath.Join(b.dir, name+".log")
	out, err := os.Create(log)
	if err != nil {
		return "", nil, err
	}
	defer out.Close()
	cmd := exec.Command(b.berthd, "serve", "--addr", host)
	cmd.Env = append(machine.CleanEnv(), "BERTH_ANONYMOUS=delete", "BERTH_DATA="+data)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }() // how it ended is in its log
	end = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // one that is gone is as good
		select {
		case <-ended:
		case <-time.After(stopWait):
			_ = cmd.Process.Kill()
			<-ended
		}
		_ = os.RemoveAll(data) // the whole folder is removed at the end
	}
	if err := ready(ctx, host, ended); err != nil {
		end()
		return "", nil, fmt.Errorf("berthd %s: %w; it said:\n%s", name, err, tail(log))
	}
	return host, end, nil
}

const (
	readyWait = 30 * time.Second
	stopWait  = 20 * time.Second
)

// ready waits until a server answers, or ended is closed.
func ready(ctx context.Context, host string, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyWait, fmt.Errorf("it is not ready at %s after %s", host, readyWait))
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ended:
			return errors.New("it ended before it was ready")
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// tail is the end of a log.
func tail(file string) string {
	text, _ := os.ReadFile(file) // what is not there says nothing
	return string(text[max(0, len(text)-4000):])
}

// image pushes an image of random layers.
func (b *bench) image(ctx context.Context, name, tag string, layers, size int) error {
	n, err := ref.ParseName(name)
	if err != nil {
		return err
	}
	r := b.c.Repository(b.src, n)
	put := func(mediaType string, body []byte) (oci.Descriptor, error) {
		d := oci.Descriptor{MediaType: mediaType, Digest: oci.FromBytes(oci.SHA256, body), Size: int64(len(body))}
		_, err := r.PutBlob(ctx, d, nil, func(_ context.Context, from int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(body[from:])), nil
		})
		return d, err
	}
	var ds []oci.Descriptor
	random := rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%-32.32s", name+":"+tag))))
	for range layers {
		body := make([]byte, size)
		_, _ = random.Read(body) // never fails
		d, err := put("application/vnd.oci.image.layer.v1.tar+gzip", body)
		if err != nil {
			return err
		}
		ds = append(ds, d)
	}
	config, err := put("application/vnd.oci.image.config.v1+json", fmt.Appendf(nil, `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]},"config":{"Labels":{"tag":%q}}}`, tag))
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": oci.MediaTypeManifest, "config": config, "layers": ds})
	if err != nil {
		return err
	}
	return r.PutManifest(ctx, ref.Reference{Tag: tag}, oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: oci.FromBytes(oci.SHA256, body), Size: int64(len(body))}, body)
}
