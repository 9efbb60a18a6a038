package deploy_test

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"testing"
)

// profile writes the restrictions of the systemd unit in the form that container runtimes take: SystemCallFilter, and
// MemoryDenyWriteExecute, which systemd implements as system call rules about memory that is writable and executable.
// There is no systemd to start services in most test environments; the kernel's filter is the same.
func profile(t *testing.T) string {
	t.Helper()
	type arg struct {
		Index    int    `json:"index"`
		Value    uint64 `json:"value"`
		ValueTwo uint64 `json:"valueTwo"`
		Op       string `json:"op"`
	}
	type rule struct {
		Names  []string `json:"names"`
		Action string   `json:"action"`
		Args   []arg    `json:"args,omitempty"`
	}
	const (
		allow                = "SCMP_ACT_ALLOW"
		writable, executable = 2, 4
		protection           = 2 // the argument of mmap, mprotect and pkey_mprotect
		maskedEquals         = "SCMP_CMP_MASKED_EQ"
	)
	calls := filter(t)
	guarded := []string{"mmap", "mprotect", "pkey_mprotect"}
	calls = slices.DeleteFunc(calls, func(name string) bool { return slices.Contains(guarded, name) })
	slices.Sort(calls)
	rules := []rule{
		{Names: calls, Action: allow},
		{Names: []string{"mmap"}, Action: allow, Args: []arg{{protection, writable, 0, maskedEquals}}},
		{Names: []string{"mmap"}, Action: allow, Args: []arg{{protection, executable, 0, maskedEquals}}},
		{Names: []string{"mprotect", "pkey_mprotect"}, Action: allow, Args: []arg{{protection, executable, 0, maskedEquals}}},
	}
	text, err := json.Marshal(map[string]any{
		"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures": []string{"SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"}, "syscalls": rules,
	})
	if err != nil {
		t.Fatal(err)
	}
	return write(t, filepath.Join(t.TempDir(), "seccomp.json"), string(text))
}
