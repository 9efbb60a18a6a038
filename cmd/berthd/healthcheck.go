package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/server/config"
)

// healthcheckCommand is for container images, which have no shell and no curl.
func healthcheckCommand() *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "healthcheck [URL]",
		Short: "ask the registry on this machine whether it is ready; exit code 1 when it is not",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			url := ""
			if len(args) > 0 {
				url = args[0]
			} else {
				loaded, err := config.Load(loadOptions(cmd.Flags(), nil))
				if err != nil {
					return err
				}
				host, port, err := net.SplitHostPort(loaded.Config.HTTP.Addr)
				if err != nil {
					return err
				}
				if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
					host = "127.0.0.1"
				}
				url = "http://" + net.JoinHostPort(host, port) + "/healthz"
			}
			ctx, stop := context.WithTimeout(cmd.Context(), timeout)
			defer stop()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				return err
			}
			answer, err := http.DefaultClient.Do(req)
			if err != nil {
				return fmt.Errorf("the registry does not answer: %w", err)
			}
			defer func() { _ = answer.Body.Close() }()
			body, _ := io.ReadAll(io.LimitReader(answer.Body, 4<<10))
			if answer.StatusCode != http.StatusOK {
				return fmt.Errorf("the registry at %s is not ready: %s %s", url, answer.Status, body)
			}
			_, err = cmd.OutOrStdout().Write(body)
			return err
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 5*time.Second, "how long to wait for the answer")
	return c
}
