package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-registry/berth/cli/output"
	"github.com/berth-registry/berth/image/sign/gpg"
	"github.com/berth-registry/berth/image/sign/key"
)

func keysCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "keys", Short: a.t("make, import and show the keys that sign images", "创建、导入和查看镜像签名密钥"),
		Example: "berth keys new\nberth keys import --key openssl.pem\nberth keys show cosign.pub",
		Args:    a.args(1, 0), RunE: func(*cobra.Command, []string) error { return errUnknownCommand },
	}
	c.AddCommand(keysNewCommand(a), keysImportCommand(a), keysShowCommand(a))
	return c
}

// keyFiles are the flags of where a key pair is written.
type keyFiles struct {
	prefix, passphrase string
	force              bool
}

func (k *keyFiles) add(a *app, c *cobra.Command, prefix string) {
	f := c.Flags()
	f.StringVar(&k.prefix, "output-key-prefix", prefix, a.t("write `PREFIX`.key and PREFIX.pub", "写入 PREFIX.key 与 PREFIX.pub"))
	f.StringVar(&k.passphrase, "passphrase-file", "", a.t("`FILE` whose first line is the password of the private key; else BERTH_KEY_PASSWORD or COSIGN_PASSWORD, else it is asked", "首行为私钥口令的文件；否则取 BERTH_KEY_PASSWORD 或 COSIGN_PASSWORD，再否则询问"))
	f.BoolVar(&k.force, "force", false, a.t("replace keys that are there", "覆盖已有的密钥"))
}

// write encrypts the private key and writes both halves; nothing that is there is replaced.
func (k *keyFiles) write(a *app, p *key.Private) error {
	private, public := k.prefix+".key", k.prefix+".pub"
	if !k.force {
		for _, name := range []string{private, public} {
			if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
				return output.Usage(a.t("%s is there; it is not replaced", "%s 已存在，不会覆盖"), name).WithFix("--output-key-prefix NAME, --force")
			}
		}
	}
	password, err := a.keyPassword(k.passphrase, true)
	if err != nil {
		return err
	}
	secret, err := p.Encrypted(password)
	if err != nil {
		return err
	}
	open, err := p.Public().PEM()
	if err != nil {
		return err
	}
	if err := replaceFile(private, secret, 0o600); err != nil {
		return err
	}
	if err := replaceFile(public, open, 0o644); err != nil {
		return err
	}
	fmt.Fprintf(a.Err, a.t("private key in %s, public key in %s\n", "私钥写入 %s，公钥写入 %s\n"), private, public)
	return nil
}

// replaceFile writes a file whole or not at all.
func replaceFile(name string, content []byte, mode fs.FileMode) error {
	t, err := os.CreateTemp(dirOf(name), ".berth-*")
	if err != nil {
		return err
	}
	defer os.Remove(t.Name()) //nolint:errcheck // it was renamed, or is not wanted
	_, err = t.Write(content)
	if err = errors.Join(err, t.Chmod(mode), t.Sync(), t.Close()); err != nil {
		return err
	}
	return os.Rename(t.Name(), name)
}

func dirOf(name string) string {
	if i := strings.LastIndexByte(name, os.PathSeparator); i >= 0 {
		return name[:i+1]
	}
	return "."
}

func keysNewCommand(a *app) *cobra.Command {
	var files keyFiles
	algorithm := string(key.P256)
	var names []string
	for _, k := range key.Algorithms() {
		names = append(names, string(k))
	}
	c := &cobra.Command{
		Use: "new [flags]", Aliases: []string{"generate"}, Short: a.t("make a key pair, in the files of cosign", "创建密钥对，文件格式与 cosign 相同"),
		Example: "berth keys new\nberth keys new --output-key-prefix release --algorithm ecdsa-p384",
		Args:    a.args(0, 0),
	}
	files.add(a, c, "cosign")
	c.Flags().StringVar(&algorithm, "algorithm", algorithm, a.t("`KIND` of key: ", "密钥类型：")+strings.Join(names, ", "))
	c.RunE = a.run(func(context.Context, []string) error {
		p, err := key.New(key.Algorithm(algorithm))
		if err == nil {
			err = files.write(a, p)
		}
		return failed(err, "%s", a.t("cannot make a key", "无法创建密钥"))
	})
	return c
}

func keysImportCommand(a *app) *cobra.Command {
	var files keyFiles
	var from string
	c := &cobra.Command{
		Use: "import [flags] --key FILE", Short: a.t("make key files of cosign from an unencrypted key of openssl", "由 openssl 的未加密密钥生成 cosign 密钥文件"),
		Example: "berth keys import --key openssl.pem --output-key-prefix release",
		Args:    a.args(0, 0),
	}
	files.add(a, c, "import-cosign")
	c.Flags().StringVarP(&from, "key", "k", "", a.t("`FILE` with a private key in PEM: PKCS #8, PKCS #1 or SEC 1", "PEM 私钥文件：PKCS #8、PKCS #1 或 SEC 1"))
	c.RunE = a.run(func(context.Context, []string) error {
		if from == "" {
			return output.Usage("keys import needs --key FILE")
		}
		b, err := readFile(from, key.MaxFile)
		if err != nil {
			return failed(err, "%s", a.t("cannot import a key", "无法导入密钥"))
		}
		if key.IsEncrypted(b) {
			return output.Usage(a.t("%s is a key of cosign already", "%s 已是 cosign 密钥"), from)
		}
		p, err := key.ParsePrivate(b, nil)
		if err == nil {
			err = files.write(a, p)
		}
		return failed(err, a.t("cannot import %s", "无法导入 %s"), from)
	})
	return c
}

// shownKey is what keys show prints.
type shownKey struct {
	File   string   `json:"file"`
	Kind   string   `json:"kind"`
	ID     string   `json:"id,omitempty"`
	Keys   []string `json:"fingerprints,omitempty"`
	Secret bool     `json:"secret"`
	Public string   `json:"public,omitempty"`
}

func keysShowCommand(a *app) *cobra.Command {
	var passphrase string
	c := &cobra.Command{
		Use: "show [flags] FILE", Short: a.t("say what a key file has, and print its public key", "显示密钥文件的内容与公钥"),
		Example: "berth keys show cosign.key\nberth keys show -o json keys.gpg",
		Args:    a.args(1, 1),
	}
	c.Flags().StringVar(&passphrase, "passphrase-file", "", a.t("`FILE` whose first line is the password of a private key", "首行为私钥口令的文件"))
	format := a.formatFlag(c.Flags(), output.TableKind)
	c.RunE = a.run(func(_ context.Context, args []string) error {
		k, err := a.showKey(args[0], passphrase)
		if err != nil {
			return failed(err, a.t("cannot show %s", "无法显示 %s"), args[0])
		}
		if format.Tables() && k.Public != "" {
			fmt.Fprintf(a.Err, "%s  %s\n", k.Kind, k.ID)
			_, err := fmt.Fprint(a.Out, k.Public)
			return err
		}
		t := output.Table{Header: []string{"ID", "KIND", "SECRET"}}
		for _, id := range append(k.Keys, k.ID) {
			if id != "" {
				t.Rows = append(t.Rows, []string{id, k.Kind, fmt.Sprint(k.Secret)})
			}
		}
		return format.Print(a.Out, k, t)
	})
	return c
}

func (a *app) showKey(file, passphrase string) (shownKey, error) {
	k := shownKey{File: file}
	b, err := readFile(file, gpg.MaxFile)
	if err != nil {
		return k, err
	}
	var pub *key.Public
	switch {
	case key.IsEncrypted(b):
		password, err := a.keyPassword(passphrase, false)
		if err != nil {
			return k, err
		}
		p, err := key.ParsePrivate(b, password)
		if err != nil {
			return k, err
		}
		pub, k.Secret = p.Public(), true
	default:
		if ring, err := gpg.ParseKeyring(b, a.now); err == nil {
			k.Kind, k.Keys, k.Secret = "gpg", ring.Fingerprints(), ring.Secret()
			return k, nil
		}
		if pub, err = key.ParsePublic(b); err != nil {
			return k, err
		}
		_, err := key.ParsePrivate(b, nil)
		k.Secret = err == nil
	}
	text, err := pub.PEM()
	k.Kind, k.ID, k.Public = pub.Kind(), pub.ID(), string(text)
	return k, err
}
