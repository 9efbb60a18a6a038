package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/cli/output"
)

// explanation says what a code means and what to do, in both languages.
type explanation struct{ meaning, do, zhMeaning, zhDo string }

// explanations are the codes that registries answer with, and berth's own. Spec: OCI distribution v1.1.1, "Error Codes".
func explanations() map[string]explanation {
	return map[string]explanation{
		"BLOB_UNKNOWN":             {"the registry has no blob with this digest in this repository", "push the image again; it sends what is missing", "仓库中没有此摘要的 blob", "重新推送镜像，会补传缺失的内容"},
		"BLOB_UPLOAD_INVALID":      {"an upload cannot go on: a chunk does not fit, or too little came for too long", "try again; look for a proxy between you and the registry that cuts or buffers", "上传无法继续：分块不匹配或长时间没有数据", "重试；检查中间的代理是否截断或缓冲"},
		"BLOB_UPLOAD_UNKNOWN":      {"the upload has ended, or was never begun here", "try again from the start; behind a load balancer, do all replicas share their data?", "上传已结束，或不在此处", "从头重试；若有负载均衡，检查各副本是否共享数据"},
		"DENIED":                   {"the registry knows who you are, and you may not do this; a public read was allowed perhaps, and this is a write", "berth login HOST as somebody who may, or ask an administrator for the right", "仓库知道你的身份，但不允许此操作", "以有权限的用户 berth login HOST，或向管理员申请"},
		"DIGEST_INVALID":           {"the bytes have another digest than was said", "the source is damaged, or somebody changes bytes on the way: copy again, then look at the source", "内容的摘要与声明不符", "来源损坏或传输被篡改：重新复制并检查来源"},
		"MANIFEST_BLOB_UNKNOWN":    {"a manifest names a blob that the repository does not have", "push the layers first; tools do that, so look for one that failed", "清单引用了仓库中不存在的 blob", "先推送各层；检查之前失败的步骤"},
		"MANIFEST_INVALID":         {"the registry cannot read the manifest, or it is too large", "berth copy --format oci (or v2s2) writes another form", "仓库无法读取清单，或清单过大", "使用 berth copy --format oci（或 v2s2）"},
		"MANIFEST_UNKNOWN":         {"there is no such tag or digest in the repository", "berth list-tags docker://HOST/REPOSITORY shows what is there", "仓库中没有此标签或摘要", "用 berth list-tags docker://HOST/REPOSITORY 查看"},
		"NAME_INVALID":             {"the name of the repository breaks the rules: lowercase letters, digits, and . _ - / between them", "correct the name", "仓库名称不合规则：小写字母、数字，中间可用 . _ - /", "修改名称"},
		"NAME_UNKNOWN":             {"there is no such repository, or you may not know of it", "look at the name; berth login HOST when it is private", "没有此仓库，或你无权知道它", "检查名称；若为私有请先 berth login HOST"},
		"NETWORK":                  {"no connection came about, or it broke", "berth doctor HOST says where it ends", "无法建立连接或连接中断", "用 berth doctor HOST 查找原因"},
		"PASSWORD_CHANGE_REQUIRED": {"the password is right, and has to be changed before it can be used", `curl -X POST https://HOST/api/v1/password -H 'Content-Type: application/json' -d '{"name":"…","oldPassword":"…","newPassword":"…"}' changes it, without another login`, "密码正确，但使用前必须先更改", `用 curl -X POST https://HOST/api/v1/password -H 'Content-Type: application/json' -d '{"name":"…","oldPassword":"…","newPassword":"…"}' 更改，无需另外登录`},
		"SIZE_INVALID":             {"more or fewer bytes came than were said", "try again; look for a proxy between you and the registry", "收到的字节数与声明不符", "重试；检查中间的代理"},
		"STORAGE_FULL":             {"the registry has no space left; pulls and deletes still work", "tell its operator: berthd gc preview shows what could be freed", "仓库空间已满；仍可拉取和删除", "通知运维：berthd gc preview 可查看可释放的空间"},
		"TAG_INVALID":              {"a tag is letters, digits, _ . -, at most 128, and begins with none of . -", "correct the tag", "标签由字母、数字、_ . - 组成，最长 128，且不以 . - 开头", "修改标签"},
		"TOOMANYREQUESTS":          {"too many requests came from you, or too many wrong passwords", "wait; --retry-times 3 waits for you", "请求过多，或密码错误次数过多", "稍候；--retry-times 3 会自动等待"},
		"UNAUTHORIZED":             {"the registry does not know who you are, or does not believe it", "berth login HOST; berth doctor HOST says which credentials are used", "仓库不知道你的身份，或凭据无效", "berth login HOST；berth doctor HOST 会说明使用了哪些凭据"},
		"UNAVAILABLE":              {"the registry cannot reach its database or its storage, or it is stopping", "try again; tell its operator when it stays so", "仓库无法访问数据库或存储，或正在停止", "稍后重试；若持续请通知运维"},
		"UNKNOWN":                  {"a fault of the registry", "tell its operator the request id; the log has the cause under it", "仓库内部错误", "将请求 ID 告知运维，日志中有原因"},
		"UNSUPPORTED":              {"the registry does not offer this, or its operator switched it off (deleting, writing)", "ask its operator", "仓库不提供此操作，或已被关闭（删除、写入）", "询问运维"},
	}
}

// explained are all codes.
func explained() map[string]explanation {
	all := explanations()
	maps.Copy(all, imageExplanations())
	maps.Copy(all, usageExplanations())
	return all
}

func explainCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "explain [CODE]", Short: a.t("say what an error code means, and what to do", "解释错误代码及处理办法"),
		Example: "berth explain DENIED", Args: a.args(0, 1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return slices.Sorted(maps.Keys(explained())), cobra.ShellCompDirectiveNoFileComp
		},
	}
	format := a.formatFlag(c.Flags(), output.TableKind)
	c.RunE = a.run(func(_ context.Context, args []string) error {
		all := explained()
		codes := slices.Sorted(maps.Keys(all))
		if len(args) == 1 {
			code := strings.ToUpper(args[0])
			if _, ok := all[code]; !ok {
				f := &output.Failure{What: fmt.Sprintf(a.t("there is no code %s", "没有代码 %s"), args[0]), Exit: output.ExitNotFound}
				if near := output.Closest(code, codes); near != "" {
					f.Fix = a.meant(near)
				}
				return f
			}
			codes = []string{code}
		}
		type row struct{ Code, Meaning, Do string }
		var rows []row
		table := output.Table{Header: []string{"CODE", a.t("MEANING", "含义")}}
		for _, code := range codes {
			e := all[code]
			rows = append(rows, row{code, a.t(e.meaning, e.zhMeaning), a.t(e.do, e.zhDo)})
			table.Rows = append(table.Rows, []string{code, a.t(e.meaning, e.zhMeaning)})
		}
		if len(args) == 1 && format.Tables() {
			_, err := fmt.Fprintf(a.Out, "%s\n  %s\n  %s%s\n", rows[0].Code, rows[0].Meaning, a.t("what to do: ", "处理办法："), rows[0].Do)
			return err
		}
		return format.Print(a.Out, rows, table)
	})
	return c
}
