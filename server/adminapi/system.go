package adminapi

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/server/identity"
	"github.com/berth-registry/berth/server/metadb"
	"github.com/berth-registry/berth/server/system"
	"github.com/berth-registry/berth/server/telemetry"
)

// systems is what the face needs of the system room.
type systems interface {
	Settings(ctx context.Context) ([]system.Setting, error)
	Info(ctx context.Context) (system.Info, error)
	Health(ctx context.Context) (telemetry.Report, error)
}

func (h *Handler) declareSystem(f *face) {
	declare(f, operation{
		id: "listSettings", method: http.MethodGet, path: "settings", tag: "system", needs: on(onRegistry, identity.SettingRead),
		summary: "List the configuration that berthd runs with, and where each value comes from",
		text:    "Of a secret it is only said whether it is set. The configuration is changed in its file, the environment or the command line.", answer: "A page of settings, in the order in which they are documented.",
	}, h.listSettings)
	declare(f, operation{
		id: "getSystem", method: http.MethodGet, path: "system", tag: "system", needs: on(onRegistry, identity.SettingRead),
		summary: "Show what this berthd is: version, database, storage, features", answer: "Of the process that has answered; replicas have one each.",
	}, h.getSystem)
	declare(f, operation{
		id: "getHealth", method: http.MethodGet, path: "health", tag: "system", needs: on(onRegistry, identity.SettingRead),
		summary: "Ask every part of this berthd whether it works, as /readyz does, and say why one does not", answer: "The parts, whether they work or not.",
	}, h.getHealth)
}

type settingView struct {
	Name      string `json:"name" doc:"Such as http.tls.minimumtls."`
	Value     any    `json:"value,omitempty" doc:"As JSON; durations and sizes are texts. Absent for secrets, and for what has none. Secrets inside of lists are ***."`
	Set       bool   `json:"set" doc:"There is a value that is not empty."`
	Secret    bool   `json:"secret,omitempty"`
	Source    string `json:"source" enum:"default,file,env,flag,derived" doc:"derived: from another setting."`
	Origin    string `json:"origin,omitempty" doc:"The place in the file, the variable, the flag, or the other setting."`
	Reload    bool   `json:"reload,omitempty" doc:"SIGHUP applies a change."`
	Waits     bool   `json:"waits,omitempty" doc:"The configuration that was loaded last says something else, for which berthd has to be started again."`
	NotActing string `json:"notActing,omitempty" doc:"What it means that this version does not act on it."`
}

func viewSetting(s system.Setting) settingView {
	v := settingView{Name: s.Key, Value: s.Is, Set: s.IsSet, Secret: s.Secret, Source: s.Origin.Source, Reload: s.Reload, Waits: s.Waits, NotActing: s.Effect}
	if s.Origin.Source != "default" {
		v.Origin = s.Origin.String()
	}
	return v
}

type settingsQuery struct {
	Below  string `query:"below" maxLength:"255" doc:"Only the setting of this name, or those of this section, such as http.tls."`
	Source string `query:"source" enum:"default,file,env,flag,derived" doc:"Only settings from there."`
	PageQuery
}

// listSettings cuts pages from the whole: the tree is as large as its documentation.
func (h *Handler) listSettings(ctx context.Context, q *settingsQuery) (*listed[settingView], error) {
	after, err := q.key(ctx)
	if err != nil {
		return nil, err
	}
	all, err := h.System.Settings(ctx)
	if err != nil {
		return nil, err
	}
	if after != "" {
		all = all[1+slices.IndexFunc(all, func(s system.Setting) bool { return s.Key == after }):]
	}
	all = slices.DeleteFunc(all, func(s system.Setting) bool {
		return q.Source != "" && s.Origin.Source != q.Source || q.Below != "" && s.Key != q.Below && !strings.HasPrefix(s.Key, q.Below+".")
	})
	next := ""
	if len(all) > q.Limit {
		all, next = all[:q.Limit], all[q.Limit-1].Key
	}
	return pageUntil(ctx, viewAll(all, viewSetting), next)
}

type systemView struct {
	Version   string          `json:"version"`
	Revision  string          `json:"revision" doc:"Of its source."`
	GoVersion string          `json:"goVersion"`
	StartedAt time.Time       `json:"startedAt"`
	Database  string          `json:"database" enum:"sqlite,postgresql"`
	Storage   string          `json:"storage" doc:"Name of the driver."`
	ReadOnly  bool            `json:"readOnly"`
	Features  map[string]bool `json:"features" doc:"What the configuration switches on."`
	Schema    []migrationView `json:"migrations" doc:"Steps of the database's schema, in their order."`
}

type migrationView struct {
	Version   int64      `json:"version"`
	Name      string     `json:"name" doc:"Empty for one that this berthd does not know."`
	AppliedAt *time.Time `json:"appliedAt,omitempty" doc:"Absent while it is pending."`
}

func (h *Handler) getSystem(ctx context.Context, _ *struct{}) (*shown[systemView], error) {
	i, err := h.System.Info(ctx)
	if err != nil {
		return nil, err
	}
	return show(systemView{
		Version: i.Version, Revision: i.Revision, GoVersion: i.GoVersion, StartedAt: i.StartedAt.UTC(), Database: i.Database, Storage: i.Storage, ReadOnly: i.ReadOnly, Features: i.Features,
		Schema: viewAll(i.Migrations, func(m metadb.Migration) migrationView { return migrationView{m.Version, m.Name, stamp(m.AppliedAt)} }),
	})
}

type healthView struct {
	OK       bool       `json:"ok" doc:"Everything works, and the process is not about to end."`
	Draining bool       `json:"draining" doc:"The process is about to end."`
	Checks   []partView `json:"checks"`
}

type partView struct {
	Name      string    `json:"name"`
	OK        bool      `json:"ok"`
	Cause     string    `json:"cause,omitempty" doc:"Why it does not work."`
	CheckedAt time.Time `json:"checkedAt"`
}

func (h *Handler) getHealth(ctx context.Context, _ *struct{}) (*shown[healthView], error) {
	r, err := h.System.Health(ctx)
	if err != nil {
		return nil, err
	}
	return show(healthView{r.OK, r.Draining, viewAll(r.Checks, func(s telemetry.Status) partView {
		v := partView{Name: s.Name, OK: s.OK, CheckedAt: s.AskedAt.UTC()}
		if s.Err != nil {
			v.Cause = s.Err.Error()
		}
		return v
	})})
}
