package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-registry/berth/server"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/project"
)

// projectCommand is for namespaces and who is a member of them.
func projectCommand() *cobra.Command {
	c := &cobra.Command{Use: "project", Short: "make, list, change and remove projects, the namespaces of repositories", Args: cobra.NoArgs}
	c.AddCommand(projectAdd(), projectList(), projectMembers(), projectSet(), projectRemove())
	return c
}

// projectFlags are the settings of a project as flags.
type projectFlags struct {
	public, private bool
	description     string
	labels          map[string]string
	members         []string
	asJSON          bool
}

func (p *projectFlags) declare(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&p.public, "public", false, "everybody may see and pull what is in it")
	f.BoolVar(&p.private, "private", false, "only members, and whom a grant names")
	f.StringVar(&p.description, "description", "", "what it is for")
	f.StringToStringVar(&p.labels, "label", nil, "KEY=VALUE for people and programs; may be repeated")
	f.StringArrayVar(&p.members, "member", nil, "KIND:NAME=ROLE, such as user:alice=developer or group:builders=maintainer; may be repeated")
	f.BoolVar(&p.asJSON, "json", false, "print JSON")
	c.MarkFlagsMutuallyExclusive("public", "private")
}

// settings are what the flags say, nil where they say nothing.
func (p *projectFlags) settings(f *pflag.FlagSet) (set project.Settings) {
	if p.public || p.private {
		set.Public = &p.public
	}
	if f.Changed("description") {
		set.Description = &p.description
	}
	if len(p.labels) > 0 {
		set.Labels = p.labels
	}
	return set
}

// member is a flag taken apart.
type member struct {
	kind       metadb.SubjectKind
	name, role string
}

// parseMember reads KIND:NAME=ROLE, or KIND:NAME without a role.
func parseMember(flag, text string, withRole bool) (m member, err error) {
	subject, role, hasRole := strings.Cut(text, "=")
	kind, name, _ := strings.Cut(subject, ":")
	for _, k := range []metadb.SubjectKind{metadb.AccountSubject, metadb.GroupSubject, metadb.RobotSubject} {
		if k.String() == kind {
			m = member{k, name, role}
		}
	}
	if m.name == "" || hasRole != withRole || withRole && role == "" {
		want := "KIND:NAME with user, group or robot as KIND"
		if withRole {
			want = "KIND:NAME=ROLE with user, group or robot as KIND"
		}
		return m, fmt.Errorf("%s expects %s; got %q", flag, want, text)
	}
	return m, nil
}

func parseMembers(flag string, texts []string, withRole bool) (out []member, err error) {
	for _, text := range texts {
		m, err := parseMember(flag, text, withRole)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

func projectAdd() *cobra.Command {
	var flags projectFlags
	c := &cobra.Command{
		Use:   "add NAME [CONFIG]",
		Short: "make a project",
		Long: `Make a project. Without --public or --private it is what berth.projects says. Repositories come by pushing to NAME/…, and who may
do so is a member, or an administrator of the registry.
` + beside,
		Example: "  berthd project add team --private --member user:alice=admin\n  berthd project add mirror --public --description \"copies of what others publish\"",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			members, err := parseMembers("--member", flags.members, true)
			if err != nil {
				return err
			}
			return withOperator(cmd, args[1:], func(ctx context.Context, o *server.Operator) error {
				p, err := o.Projects.Create(ctx, args[0], flags.settings(cmd.Flags()))
				if err != nil {
					return err
				}
				if err := setMembers(ctx, o, p.Name, members, nil); err != nil {
					return fmt.Errorf("project %s is made, but not all of its members: %w", p.Name, plain(err))
				}
				if flags.asJSON {
					return printJSON(cmd.OutOrStdout(), viewProject(p))
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s added, %s\n", p.Name, visibility(p))
				return err
			})
		},
	}
	flags.declare(c)
	settingFlags(c.Flags())
	return c
}

func projectSet() *cobra.Command {
	var flags projectFlags
	var noLabels, noMembers []string
	c := &cobra.Command{
		Use:   "set NAME [CONFIG]",
		Short: "change a project and who is a member of it",
		Long: `Change a project and who is a member of it. What is not named stays as it is; --member gives a member that is there another role.
` + beside,
		Example: "  berthd project set team --public\n  berthd project set team --member robot:ci-app=developer --remove-member user:alice",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			members, err := parseMembers("--member", flags.members, true)
			if err != nil {
				return err
			}
			leave, err := parseMembers("--remove-member", noMembers, false)
			if err != nil {
				return err
			}
			set := flags.settings(cmd.Flags())
			if set.Public == nil && set.Description == nil && set.Labels == nil && len(noLabels)+len(members)+len(leave) == 0 {
				return errors.New("nothing is to be changed; name it with --public, --private, --description, --label, --remove-label, --member or --remove-member")
			}
			return withOperator(cmd, args[1:], func(ctx context.Context, o *server.Operator) error {
				p, err := o.Projects.Get(ctx, args[0])
				if err != nil {
					return err
				}
				if set.Labels != nil || len(noLabels) > 0 {
					labels := map[string]string{}
					maps.Copy(labels, p.Labels)
					for _, key := range noLabels {
						delete(labels, key)
					}
					maps.Copy(labels, set.Labels)
					set.Labels = labels
				}
				if set.Public != nil || set.Description != nil || set.Labels != nil {
					if p, err = o.Projects.Update(ctx, p.Name, set, p.Generation); err != nil {
						return err
					}
				}
				if err := setMembers(ctx, o, p.Name, members, leave); err != nil {
					return err
				}
				if flags.asJSON {
					return printJSON(cmd.OutOrStdout(), viewProject(p))
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s changed, %s\n", p.Name, visibility(p))
				return err
			})
		},
	}
	flags.declare(c)
	c.Flags().StringArrayVar(&noLabels, "remove-label", nil, "KEY of a label to take away; may be repeated")
	c.Flags().StringArrayVar(&noMembers, "remove-member", nil, "KIND:NAME of a member to take away; may be repeated")
	settingFlags(c.Flags())
	return c
}

// setMembers gives roles in a project, and takes all of those who leave.
func setMembers(ctx context.Context, o *server.Operator, name string, members, leave []member) error {
	if len(members)+len(leave) == 0 {
		return nil
	}
	there, err := membersOf(ctx, o, name)
	if err != nil {
		return err
	}
	for _, m := range members {
		grants := ofMember(there, m)
		switch {
		case len(grants) == 0:
			_, err = o.Projects.CreateGrant(ctx, project.Grant{Project: name, SubjectKind: m.kind, Subject: m.name, Role: m.role})
		case grants[0].Role != m.role:
			g := grants[0]
			g.Role = m.role
			_, err = o.Projects.UpdateGrant(ctx, g, g.Generation)
		}
		if err != nil {
			return err
		}
	}
	for _, m := range leave {
		grants := ofMember(there, m)
		if len(grants) == 0 {
			return fmt.Errorf("%s %s is not a member of project %s", m.kind, m.name, name)
		}
		for _, g := range grants {
			if err := o.Projects.DeleteGrant(ctx, name, g.ID, g.Generation); err != nil {
				return err
			}
		}
	}
	return nil
}

// ofMember are the grants that make the same one a member; there is mostly one.
func ofMember(all []project.Grant, m member) (out []project.Grant) {
	for _, g := range all {
		if g.SubjectKind == m.kind && g.Subject == m.name {
			out = append(out, g)
		}
	}
	return out
}

func membersOf(ctx context.Context, o *server.Operator, name string) (out []project.Grant, err error) {
	const page = 500
	for after := int64(0); ; {
		list, err := o.Projects.Grants(ctx, name, project.GrantFilter{Members: true}, after, page)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
		if len(list) < page {
			return out, nil
		}
		after = list[page-1].ID
	}
}

func projectList() *cobra.Command {
	var f project.Filter
	var asJSON bool
	c := &cobra.Command{
		Use: "ls [CONFIG]", Short: "list projects", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withOperator(cmd, args, func(ctx context.Context, o *server.Operator) error {
				const page = 500
				all := []metadb.Project{}
				for after := ""; ; {
					list, err := o.Projects.List(ctx, f, after, page)
					if err != nil {
						return err
					}
					all = append(all, list...)
					if len(list) < page {
						return showProjects(cmd.OutOrStdout(), all, asJSON)
					}
					after = list[page-1].Name
				}
			})
		},
	}
	c.Flags().StringVar(&f.Contains, "contains", "", "only those with this text in their name")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	settingFlags(c.Flags())
	return c
}

func showProjects(w io.Writer, all []metadb.Project, asJSON bool) error {
	if asJSON {
		views := make([]projectView, 0, len(all))
		for _, p := range all {
			views = append(views, viewProject(p))
		}
		return printJSON(w, views)
	}
	rows := make([][]string, 0, len(all))
	for _, p := range all {
		rows = append(rows, []string{p.Name, visibility(p), day(p.CreatedAt), p.CreatedBy, p.Description})
	}
	return table(w, "NAME\tVISIBILITY\tMADE\tBY\tDESCRIPTION", rows)
}

func projectMembers() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "members NAME [CONFIG]", Short: "list who is a member of a project, and in which role", Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withOperator(cmd, args[1:], func(ctx context.Context, o *server.Operator) error {
				all, err := membersOf(ctx, o, args[0])
				if err != nil {
					return err
				}
				if asJSON {
					views := make([]memberView, 0, len(all))
					for _, g := range all {
						views = append(views, memberView{g.SubjectKind.String(), g.Subject, g.Role, g.From, g.Until})
					}
					return printJSON(cmd.OutOrStdout(), views)
				}
				var rows [][]string
				for _, g := range all {
					rows = append(rows, []string{g.SubjectKind.String(), g.Subject, g.Role, day(g.Until), g.CreatedBy})
				}
				return table(cmd.OutOrStdout(), "KIND\tNAME\tROLE\tUNTIL\tBY", rows)
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	settingFlags(c.Flags())
	return c
}

func projectRemove() *cobra.Command {
	force := false
	c := &cobra.Command{
		Use: "rm NAME [CONFIG]", Short: "remove a project, with its members, grants and robots",
		Long: `Remove a project in which there is nothing, neither manifests nor deleted ones that can be restored, with its members, grants and
robots. Tokens that were made for it are worthless, also when one of the same name is made later. ` + beside + `

With --force what is in it is deleted first, for good. That is a job of the running berthd, which begins in about a minute, or of the next
one that starts; "berthd job ls" shows how it goes.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withOperator(cmd, args[1:], func(ctx context.Context, o *server.Operator) error {
				if force {
					id, err := o.Projects.DeleteWithContent(ctx, args[0], -1)
					if err != nil {
						return err
					}
					_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is removed with what is in it, by job %d\n", args[0], id)
					return err
				}
				if err := o.Projects.Delete(ctx, args[0], -1); err != nil {
					return err
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s removed\n", args[0])
				return err
			})
		},
	}
	c.Flags().BoolVar(&force, "force", false, "delete what is in it, too, for good")
	settingFlags(c.Flags())
	return c
}

func visibility(p metadb.Project) string {
	if p.Public {
		return "public"
	}
	return "private"
}

// projectView is a project as the management API shows it.
type projectView struct {
	Name        string            `json:"name"`
	Public      bool              `json:"public"`
	Description string            `json:"description"`
	Labels      map[string]string `json:"labels"`
	CreatedAt   time.Time         `json:"createdAt"`
	CreatedBy   string            `json:"createdBy,omitempty"`
	UpdatedAt   time.Time         `json:"updatedAt,omitzero"`
	Generation  int64             `json:"generation"`
}

func viewProject(p metadb.Project) projectView {
	v := projectView{p.Name, p.Public, p.Description, p.Labels, p.CreatedAt.UTC(), p.CreatedBy, p.UpdatedAt, p.Generation}
	if v.Labels == nil {
		v.Labels = map[string]string{}
	}
	return v
}

type memberView struct {
	Kind  string    `json:"kind"`
	Name  string    `json:"name,omitempty"`
	Role  string    `json:"role"`
	From  time.Time `json:"from,omitzero"`
	Until time.Time `json:"until,omitzero"`
}
