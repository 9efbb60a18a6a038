package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/server/adminapi"
)

// openapiCommand prints the contract of the management API.
func openapiCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "openapi",
		Short: "Print the contract of the management API",
		Long: `Prints the OpenAPI 3.1 document of this version, from which clients can be generated. A running berthd serves the same
at /api/v1/openapi.yaml and /api/openapi.json.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			yaml, json, err := adminapi.Document()
			if err != nil {
				return err
			}
			text := yaml
			switch format {
			case "yaml":
			case "json":
				text = append(json, '\n')
			default:
				return fmt.Errorf("--format expects yaml or json; got %q", format)
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	cmd.Flags().StringVar(&format, "format", "yaml", "yaml or json")
	return cmd
}
