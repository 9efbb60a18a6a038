package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// options are what the command line says.
type options struct {
	targets  []string
	only     *regexp.Regexp
	quick    bool
	large    bool
	rounds   int
	jsonFile string
	dir      string
	binaries map[string]string
	profile  string
	list     bool
	seed     string
	seedRows postgresRows
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		if err := serveMain(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "load serve:", err)
			os.Exit(1)
		}
		return
	}
	o, err := parseOptions(os.Args[1:], os.Getenv)
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "load:", err)
		}
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func parseOptions(args []string, getenv func(string) string) (options, error) {
	o := options{binaries: map[string]string{}}
	f := flag.NewFlagSet("load", flag.ContinueOnError)
	targets := f.String("targets", "", "comma-separated targets (default: all whose binary is there): "+strings.Join(targetNames(), ","))
	only := f.String("only", "", "run only the scenarios whose name matches this regular expression")
	f.BoolVar(&o.quick, "quick", false, "small sizes and one round: a look in under 90 seconds, not a measurement")
	f.BoolVar(&o.large, "large", false, "the scenarios of 5 GiB, too: 17 GB of disk at most, some minutes for each round")
	f.IntVar(&o.rounds, "rounds", 0, "rounds per scenario (default 3, with -quick 1)")
	f.StringVar(&o.jsonFile, "json", "", "write every figure to this file as JSON")
	f.StringVar(&o.dir, "dir", "", "parent of the working folder (default: the user's cache folder); a real disk, not tmpfs")
	f.StringVar(&o.profile, "profile", "", "folder for CPU profiles of berthd, one for each scenario")
	f.BoolVar(&o.list, "list", false, "print the scenarios and stop")
	f.StringVar(&o.seed, "seed-postgres", "", "fill this PostgreSQL database, which berthd migrate up was run for, with rows and stop")
	f.IntVar(&o.seedRows.tags, "seed-tags", 1_000_000, "tags that -seed-postgres makes, of one repository")
	f.IntVar(&o.seedRows.repositories, "seed-repositories", 100_000, "repositories that -seed-postgres makes")
	f.IntVar(&o.seedRows.referrers, "seed-referrers", 100_000, "referrers that -seed-postgres makes, of one subject")
	paths := map[string]*string{}
	for _, name := range []string{"berthd", "dist3", "reg2", "zot", "olareg", "nginx"} {
		env := "BERTH_BENCH_" + strings.ToUpper(name)
		paths[name] = f.String(name, getenv(env), "path of the "+name+" binary (environment: "+env+")")
	}
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("argument %q is not expected: everything is a flag", f.Arg(0))
	}
	if *targets != "" {
		o.targets = strings.Split(*targets, ",")
	}
	re, err := regexp.Compile(*only)
	if err != nil {
		return o, fmt.Errorf("-only: %w", err)
	}
	o.only = re
	for name, path := range paths {
		if *path != "" {
			o.binaries[name] = *path
		}
	}
	return o, nil
}

// run measures what the options ask for and prints the tables to out, progress to progress.
func run(ctx context.Context, o options, out, progress io.Writer) error {
	if o.list {
		for _, st := range allStages(fullSize()) {
			for _, sc := range st.scenarios {
				about := sc.about
				if sc.huge {
					about += " (with -large)"
				}
				fmt.Fprintf(out, "%-32s %-8s %s\n", sc.name, sc.unit, about)
			}
		}
		return nil
	}
	if o.seed != "" {
		return fillPostgres(ctx, o.seed, o.seedRows, progress)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return fmt.Errorf("find the cache folder: %w", err)
	}
	cache = filepath.Join(cache, "berth-bench")
	parent := o.dir
	if parent == "" {
		parent = cache
	}
	disk, err := newBudget(parent, o.large && !o.quick)
	if err != nil {
		return err
	}
	defer disk.remove()
	b := &bench{size: fullSize(), only: o.only, profile: o.profile, disk: disk, progress: progress, started: time.Now()}
	if o.quick {
		b.size = quickSize()
	}
	b.size.large = o.large
	if o.rounds > 0 {
		b.size.rounds = o.rounds
	}
	if b.targets, err = findTargets(ctx, o, cache, disk.dir, progress); err != nil {
		return err
	}
	ctx, cancel := disk.watch(ctx)
	defer cancel()
	report, err := b.measure(ctx)
	if err != nil && report == nil {
		return err
	}
	report.print(out)
	if o.jsonFile != "" {
		if jerr := report.writeJSON(o.jsonFile); jerr != nil {
			return errors.Join(err, jerr)
		}
	}
	return err
}
