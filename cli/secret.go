package cli

import (
	"bytes"
	"crypto/subtle"
	"fmt"
	"os"

	"golang.org/x/term"

	"github.com/berth-registry/berth/cli/output"
)

// passwordVariables hold the password of a key file: ours, then cosign's.
func passwordVariables() []string { return []string{"BERTH_KEY_PASSWORD", "COSIGN_PASSWORD"} }

// keyPassword is the password of a key: the first line of the file, else a variable of the environment, else what is typed at
// the terminal. twice asks for it again, for a key that is being made.
func (a *app) keyPassword(file string, twice bool) ([]byte, error) {
	if file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		line, _, _ := bytes.Cut(b, []byte("\n"))
		return bytes.TrimSuffix(line, []byte("\r")), nil
	}
	for _, name := range passwordVariables() {
		if v, ok := os.LookupEnv(name); ok {
			return []byte(v), nil
		}
	}
	in, ok := a.In.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return nil, output.Usage("%s", a.t("no password of the key was given", "未提供密钥的口令")).WithFix("--passphrase-file FILE, BERTH_KEY_PASSWORD")
	}
	ask := func(en, zh string) ([]byte, error) {
		fmt.Fprint(a.Err, a.t(en, zh))
		b, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(a.Err)
		return b, err
	}
	first, err := ask("Password of the key: ", "密钥口令：")
	if err != nil || !twice {
		return first, err
	}
	second, err := ask("Again: ", "再次输入：")
	if err == nil && subtle.ConstantTimeCompare(first, second) == 0 {
		err = output.Usage("%s", a.t("the two passwords differ", "两次输入的口令不同"))
	}
	return first, err
}
