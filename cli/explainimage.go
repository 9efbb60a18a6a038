package cli

// usageExplanations are the codes of what the user names and that is wrong in itself. They end with the exit code of a wrong
// command line.
func usageExplanations() map[string]explanation {
	return map[string]explanation{
		"KEY_INVALID":       {"a key file cannot be read or is of a kind that is not used here, or its password is wrong", "berth keys show FILE says what a key file is; the password comes from --passphrase-file, BERTH_KEY_PASSWORD or the terminal", "密钥文件无法读取、类型不受支持，或口令错误", "用 berth keys show FILE 查看密钥文件；口令来自 --passphrase-file、BERTH_KEY_PASSWORD 或终端"},
		"PLATFORM_INVALID":  {"a platform is written wrong", "write os/architecture or os/architecture/variant: linux/amd64, linux/arm/v7", "平台写法有误", "写作 os/architecture 或 os/architecture/variant：linux/amd64、linux/arm/v7"},
		"RULE_INVALID":      {"a rule of sync is wrong: its file, a regular expression or a range of versions", "the message says where; berth sync --dry-run shows what a rule would copy", "同步规则有误：文件、正则表达式或版本范围", "见错误信息；用 berth sync --dry-run 查看规则会复制的内容"},
		"STATEMENT_INVALID": {"what is to be attested is no statement: not JSON, too large, or of an unknown type", "write the predicate as JSON, and name its type by a URI or one of the short names", "声明内容无效：不是 JSON、过大或类型未知", "谓词须为 JSON，类型用 URI 或简称"},
		"TRUST_INVALID":     {"whom to believe is not said, is contradictory, or stands in a file that cannot be read", "name one: --key FILE, or --trusted-root FILE with --certificate-identity and --certificate-oidc-issuer, or --policy FILE", "信任对象未指定、互相矛盾，或其文件无法读取", "指定其一：--key FILE；--trusted-root FILE 与 --certificate-identity、--certificate-oidc-issuer；或 --policy FILE"},
	}
}

// imageExplanations are the codes of what is found inside of images, archives and lists.
func imageExplanations() map[string]explanation {
	return map[string]explanation{
		"ARCHIVE_COMPRESSED": {"an archive is compressed in a way that is not read here", "unpack it first: gunzip, zstd -d, xz -d", "归档的压缩方式在此不受支持", "请先解压：gunzip、zstd -d、xz -d"},
		"ARCHIVE_TOO_LARGE":  {"an archive unpacks to more than the bounds, as an archive bomb does", "when you trust it, unpack it yourself first", "归档解压后超出限制，类似压缩炸弹", "若信任该归档，请先自行解压"},
		"BUNDLE_DAMAGED":     {"a bundle is not what its list says, or has none", "carry it over again; nothing of it was used", "离线包与其列表不符，或没有列表", "请重新传送；其内容未被使用"},
		"BUNDLE_LACKING":     {"a bundle leaves out something that the other side should have and has not", "make it again without --against, or with the newest receipt", "离线包略去了对方应有而没有的内容", "去掉 --against 或使用最新回执重新制作"},
		"BUNDLE_UNSIGNED":    {"a bundle is not signed, or not by a key that is trusted here", "name the key of who made it: --key FILE; do not use a bundle of unknown origin", "离线包未签名，或签名密钥不受信任", "用 --key FILE 指定制作者的公钥；请勿使用来源不明的离线包"},
		"CHANGE_INVALID":     {"the change makes no sense, or not for this image", "the message says which; docker manifests have no annotations, for instance", "修改无意义，或不适用于该镜像", "见错误信息；例如 docker 清单不支持注解"},
		"FILE_EXISTS":        {"a file is there already and was to be kept", "pull without --keep-old-files, or into another directory", "文件已存在且要求保留", "去掉 --keep-old-files，或使用其他目录"},
		"FILE_UNKNOWN":       {"the image or artifact has no such file, or it is of another kind", "berth file ls IMAGE DIRECTORY, berth artifact inspect ARTIFACT show what is there", "镜像或制品中没有此文件，或类型不符", "用 berth file ls IMAGE DIRECTORY、berth artifact inspect ARTIFACT 查看"},
		"LAYER_DAMAGED":      {"a layer is cut short, is no archive, or has another digest than its manifest says", "berth validate IMAGE finds all of it; push the image again", "层被截断、不是归档，或摘要不符", "用 berth validate IMAGE 检查，并重新推送镜像"},
		"LAYER_TOO_LARGE":    {"layers unpack to more than the bounds, as an archive bomb does", "when you trust the image: --max-bytes, --max-ratio, --max-files", "层解压后超出限制，类似压缩炸弹", "若信任该镜像：--max-bytes、--max-ratio、--max-files"},
		"LAYER_UNSAFE":       {"a layer has a path or a link that leaves the image", "do not use the image, and ask who made it", "层中的路径或链接越出镜像", "请勿使用该镜像，并询问其制作者"},
		"LAYOUT_INVALID":     {"a folder or archive is no OCI layout, is damaged, or has links that lead out of it", "the message says what; copy it again from where it came", "目录或归档不是 OCI 布局、已损坏，或含有指向外部的链接", "见错误信息；请从来源重新复制"},
		"LIST_CONFLICT":      {"what was asked contradicts what the list has", "the message says what; berth manifest inspect LIST shows the list", "请求与列表内容冲突", "见错误信息；用 berth manifest inspect LIST 查看"},
		"LIST_EXISTS":        {"a list of this name is there already", "berth manifest create --amend LIST, or berth manifest rm LIST", "同名列表已存在", "berth manifest create --amend LIST 或 berth manifest rm LIST"},
		"LIST_UNKNOWN":       {"there is no such list on this machine, or no such image in it", "berth manifest ls shows the lists, berth manifest inspect LIST its images", "本机没有此列表，或其中没有此镜像", "用 berth manifest ls 与 berth manifest inspect LIST 查看"},
		"NAME_UNSAFE":        {"an artifact would write outside of the directory it is pulled into", "do not use the artifact, and ask who made it", "制品会写到目标目录之外", "请勿使用该制品，并询问其制作者"},
		"NOT_AN_IMAGE":       {"an image was needed and this is an artifact or an index, or the other way round", "berth manifest inspect shows what it is; --platform chooses an image of an index", "需要镜像，而得到的是制品或索引（或相反）", "用 berth manifest inspect 查看；用 --platform 选择索引中的镜像"},
		"NOT_BASED":          {"the image is not built on what was said to be its base", "name the base it was built on, by digest when its tag has moved", "镜像不是基于所给的基础镜像构建", "指定其真正的基础镜像；标签移动过时请用摘要"},
		"PACK_EMPTY":         {"an artifact has neither files nor a type", "name files, or --artifact-type TYPE", "制品既无文件也无类型", "指定文件或 --artifact-type TYPE"},
		"PLATFORM_UNKNOWN":   {"the index has no image for the platform", "--platform OS/ARCH chooses another; the message lists them", "索引中没有该平台的镜像", "用 --platform OS/ARCH 选择其他平台；错误信息中列出了可选项"},
	}
}
