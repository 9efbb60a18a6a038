package cli

import (
	"context"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.podman.io/image/v5/types"
	"golang.org/x/term"

	"github.com/berth-registry/berth/cli/option"
	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/internal/legible"
)

// Streams are what a run of the tool reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Process returns the streams of this process.
func Process() Streams { return Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr} }

// oneByOne is a writer for whoever works side by side and has a line for people.
type oneByOne struct {
	mu sync.Mutex
	w  io.Writer
}

func (o *oneByOne) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.Write(p)
}

// app is one run of the tool: what its commands share.
type app struct {
	Streams
	name   string // what it was called as: berth, or a tool that it stands in for
	lang   output.Language
	now    func() time.Time
	global option.Global

	context contextView // of --context or the current one; the zero value when there is none

	platform  string                 // of crane: what it wants of an index, of every command
	arguments []string               // of the command that runs
	systems   []*types.SystemContext // that it made: how the images of the command line are reached, in their order
	stay      sync.Map               // hosts that send logins to no other site
}

// frugal is the memory up to which garbage waits until as much again is in use. Beyond it, it goes at once: documents of strangers are bounded,
// and one that is read several times must not add up. What is really needed may be more.
const frugal = 96 << 20

// Main runs the tool with the arguments of a process, the program's name first, and returns the exit code. It ends
// early, and says so, on SIGINT and SIGTERM.
func Main(args []string, s Streams) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	survive()
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(frugal)
	}
	if _, ok := s.Err.(*os.File); !ok { // a file takes one line at a time
		s.Err = &oneByOne{w: s.Err}
	}
	a := &app{Streams: s, now: time.Now, lang: language(args)}
	a.name = strings.TrimSuffix(filepath.Base(args[0]), ".exe")
	root := a.root()
	root.SetArgs(leading(root, args[1:]))
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	f := a.failure(ctx, cmd, a.wrongFlag(cmd, err))
	f.Print(s.Err, a.lang, a.colored(s.Err))
	return a.exit(f)
}

// t picks the text in the user's language. What a flag's value is called stands in backquotes in the English text, and is the same
// in the Chinese one.
func (a *app) t(en, zh string) string {
	text := a.lang.Pick(en, zh)
	_, name, _ := strings.Cut(en, "`")
	name, _, quoted := strings.Cut(name, "`")
	switch {
	case !quoted || a.lang != output.Chinese || strings.Contains(text, "`"):
		return text
	case strings.Contains(text, name):
		return strings.Replace(text, name, "`"+name+"`", 1)
	}
	return text + "（`" + name + "`）"
}

// warn prints a line for people on standard error.
func (a *app) warn(en, zh string) {
	_, _ = io.WriteString(a.Err, a.t("warning: ", "警告：")+legible.Show(a.t(en, zh))+"\n")
}

// colored reports whether w shows colors: --color, then NO_COLOR and CLICOLOR_FORCE, then whether it is a terminal.
func (a *app) colored(w io.Writer) bool {
	switch {
	case a.global.Color == "always":
		return true
	case a.global.Color == "never", os.Getenv("NO_COLOR") != "":
		return false
	case os.Getenv("CLICOLOR_FORCE") != "" && os.Getenv("CLICOLOR_FORCE") != "0":
		return true
	}
	return isTerminal(w)
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// language is that of --lang, BERTH_LANG, or the locale; it is needed before the flags are parsed, because help texts
// are made with it.
func language(args []string) output.Language {
	for i, arg := range args {
		if value, ok := strings.CutPrefix(arg, "--lang="); ok {
			return output.ParseLanguage(value)
		}
		if arg == "--lang" && i+1 < len(args) {
			return output.ParseLanguage(args[i+1])
		}
		if arg == "--" {
			break
		}
	}
	for _, name := range []string{"BERTH_LANG", "LC_ALL", "LC_MESSAGES", "LANG"} {
		if value := os.Getenv(name); value != "" {
			return output.ParseLanguage(value)
		}
	}
	return output.English
}

// run makes the RunE of a command from what it does. It bounds the command by --command-timeout, and refuses what a flag
// asks for that cannot be had.
func (a *app) run(do func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := option.CheckRefused(cmd.Flags()); err != nil {
			return err
		}
		a.arguments = args
		ctx := cmd.Context()
		if a.global.Timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeoutCause(ctx, a.global.Timeout, errTimeout)
			defer cancel()
		}
		return do(ctx, args)
	}
}
