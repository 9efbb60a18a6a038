package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/server"
	"github.com/berth-registry/berth/server/config"
	"github.com/berth-registry/berth/server/httpd"
)

// certCommand shows and makes the certificates that berthd makes for itself.
func certCommand() *cobra.Command {
	c := &cobra.Command{Use: "cert", Short: "show, make and renew the server's certificate", Args: cobra.NoArgs}
	var asJSON bool
	show := certVerb("show [CONFIG]", "show the certificates in use", func(o httpd.CertOptions) ([]httpd.CertInfo, error) {
		if o.CertFile != "" {
			info, warning, err := httpd.ShowFiles(o.CertFile, o.KeyFile, o.Now())
			if warning != "" {
				err = errors.Join(err, errors.New(warning))
			}
			return []httpd.CertInfo{info}, err
		}
		infos, err := httpd.ShowSelfMade(o.Dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no certificate in %s yet; berthd makes one at its first start, and berthd cert new makes one now", o.Dir)
		}
		return infos, err
	}, &asJSON)
	renew := certVerb("renew [CONFIG]", "make a new server certificate from the same CA; clients notice nothing", func(o httpd.CertOptions) ([]httpd.CertInfo, error) {
		return httpd.RenewSelfMade(o.Dir, o.Hosts, o.Now())
	}, &asJSON)
	fresh := certVerb("new [CONFIG]", "make a new CA and server certificate; clients have to trust the new CA", func(o httpd.CertOptions) ([]httpd.CertInfo, error) {
		return httpd.NewSelfMade(o.Dir, o.Hosts, o.Now())
	}, &asJSON)
	c.AddCommand(show, fresh, renew)
	return c
}

func certVerb(use, short string, do func(httpd.CertOptions) ([]httpd.CertInfo, error), asJSON *bool) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			loaded, err := config.Load(loadOptions(cmd.Flags(), args))
			if err != nil {
				return err
			}
			infos, err := do(server.CertOptions(loaded.Config, nil, time.Now))
			if perr := printCerts(cmd.OutOrStdout(), infos, *asJSON); perr != nil {
				return perr
			}
			return err
		},
	}
	settingFlags(c.Flags())
	c.Flags().BoolVar(asJSON, "json", false, "print JSON")
	return c
}

func printCerts(w io.Writer, infos []httpd.CertInfo, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(infos)
	}
	for _, i := range infos {
		kind := "certificate"
		if i.CA {
			kind = "CA"
		}
		names := ""
		if len(i.Names) > 0 {
			names = "\n  names    " + strings.Join(i.Names, ", ")
		}
		if _, err := fmt.Fprintf(w, "%s %s\n  subject  %s%s\n  valid    %s to %s\n  SHA256   %s\n", kind, i.File, i.Subject, names,
			i.NotBefore.Format(time.DateOnly), i.NotAfter.Format(time.DateOnly), i.Fingerprint); err != nil {
			return err
		}
	}
	return nil
}
