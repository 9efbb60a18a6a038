package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/berth-registry/berth/server"
	"github.com/berth-registry/berth/server/config"
	"github.com/berth-registry/berth/server/telemetry"
)

func serveCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "serve [CONFIG]",
		Short: "run the registry (also without this word)",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return serve(cmd.Context(), loadOptions(cmd.Flags(), args))
		},
	}
	settingFlags(c.Flags())
	c.Flags().String("acme", "", "e-mail address; gets certificates for --host from Let's Encrypt")
	return c
}

// settingFlags are the settings that have a flag. Their values go to the config room under their names.
func settingFlags(f *pflag.FlagSet) {
	f.String("addr", "", "address to listen on (default 127.0.0.1:5000)")
	f.String("host", "", "name by which clients reach this registry, such as registry.example.com")
	f.String("data", "", "data directory (default ./berth-data)")
	f.String("log-format", "", "text or json")
}

// loadOptions gathers what says how to configure: the file, the flags that were given, and the environment.
func loadOptions(f *pflag.FlagSet, args []string) config.LoadOptions {
	o := config.LoadOptions{Env: os.Environ(), Flags: map[string]string{}}
	if len(args) > 0 {
		o.File = args[0]
	}
	// The files of distribution are for whoever changes the image of a container and nothing else. On a machine of its
	// own, berthd must not take up what another package left in /etc.
	if os.Getpid() != 1 {
		o.Fallback = []string{}
	}
	f.Visit(func(flag *pflag.Flag) {
		switch flag.Name {
		case "addr", "host", "data", "log-format", "acme":
			o.Flags[flag.Name] = flag.Value.String()
		}
	})
	return o
}

func serve(ctx context.Context, o config.LoadOptions) error {
	loaded, err := config.Load(o)
	if err != nil {
		return err
	}
	var s *server.Server
	manager := notifier{os.Getenv("NOTIFY_SOCKET")}
	tell := func(state string) {
		if err := manager.tell(state); err != nil {
			s.Log().Warn("service manager was not told", "state", state, "err", err)
		}
	}
	s, err = server.New(ctx, server.Options{
		Config: loaded, Stderr: os.Stderr, Getenv: os.Getenv, Build: build(), Now: time.Now,
		Console:   loaded.Config.Log.Formatter != telemetry.JSON && someoneReads(),
		Listening: func() { tell(stateReady) },
	})
	if err != nil {
		return err
	}
	hups := make(chan os.Signal, 1)
	signal.Notify(hups, syscall.SIGHUP)
	defer signal.Stop(hups)
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		stopping := ctx.Done()
		for {
			select {
			case <-hups:
				tell(stateReloading)
				reload(s, o)
				tell(stateReady)
			case <-stopping:
				tell(stateStopping)
				stopping = nil
			case <-done:
				if stopping != nil && ctx.Err() != nil {
					tell(stateStopping)
				}
				return
			}
		}
	})
	err = s.Run(ctx)
	close(done)
	watching.Wait()
	return errors.Join(err, s.Close())
}

// someoneReads reports whether standard error is looked at by a person: a terminal, or the log of a container, which
// people read for the first password.
func someoneReads() bool {
	return term.IsTerminal(int(os.Stderr.Fd())) || os.Getpid() == 1
}

func reload(s *server.Server, o config.LoadOptions) {
	next, err := config.Load(o)
	if err == nil {
		err = s.Reload(next)
	}
	if err != nil {
		s.Log().Error("reload refused, the old configuration stays in use", "err", err)
	}
}
