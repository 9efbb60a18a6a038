package config_test

import (
	"strings"
	"testing"
)

// TestS3 holds what a file of distribution for its S3 driver becomes.
func TestS3(t *testing.T) {
	l := mustLoad(t, "version: 0.1\nstorage:\n  s3:\n    accesskey: a\n    secretkey: s\n    region: us-east-1\n    regionendpoint: http://minio:9000\n"+
		"    bucket: b\n    encrypt: false\n    secure: false\n    v4auth: true\n    chunksize: 10485760\n    rootdirectory: /some/prefix\n    loglevel: debug\n")
	s := l.Config.Storage.S3
	if s == nil || l.Config.Storage.Driver() != "s3" {
		t.Fatalf("driver is %s", l.Config.Storage.Driver())
	}
	if s.AccessKey.Reveal() != "a" || s.SecretKey.Reveal() != "s" || s.ChunkSize != 10<<20 || s.Secure || !s.ForcePathStyle || s.RootDirectory != "/some/prefix" {
		t.Errorf("%+v", s)
	}
	if l := mustLoad(t, "storage: {s3: {bucket: b, regionendpoint: s3.example.com, forcepathstyle: false}}\n"); l.Config.Storage.S3.ForcePathStyle {
		t.Error("forcepathstyle: false is not kept with a regionendpoint")
	}
	if l := mustLoad(t, "storage: {s3: {bucket: b, region: eu-west-1}}\n"); l.Config.Storage.S3.ForcePathStyle || l.Config.Storage.S3.ChunkSize != 5<<20 {
		t.Errorf("without an endpoint: %+v", l.Config.Storage.S3)
	}
	for _, test := range []struct{ name, file, want string }{
		{"copy settings", "{bucket: b, multipartcopychunksize: 33554432}", "config.yml:1:51: storage.s3.multipartcopychunksize is not supported in this version: parts are copied as they were uploaded; chunksize is their size"},
		{"skipverify", "{bucket: b, skipverify: true}", "config.yml:1:39: storage.s3.skipverify: whoever is between here and the service can read and change content; add its CA to the system, or to AWS_CA_BUNDLE, instead"},
	} {
		l := mustLoad(t, "storage: {s3: "+test.file+"}\n")
		if len(l.Warnings) != 1 || l.Warnings[0].String() != test.want {
			t.Errorf("%s:\n got %v\nwant %s", test.name, l.Warnings, test.want)
		}
	}
}

func TestS3Mistakes(t *testing.T) {
	for _, test := range []struct{ name, file, want string }{
		{"no bucket", "{region: r}", "config.yml:1:11: storage.s3.bucket is missing; name the bucket that content is kept in"},
		{"half of a key", "{bucket: b, accesskey: a}", "config.yml:1:11: storage.s3.accesskey and storage.s3.secretkey belong together; set both, or none to use the role of the machine"},
		{"token alone", "{bucket: b, sessiontoken: a}", "config.yml:1:41: storage.s3.sessiontoken is of an accesskey and a secretkey, which are not set"},
		{"small parts", "{bucket: b, chunksize: 1MiB}", "config.yml:1:38: storage.s3.chunksize: 1MiB is outside of what S3 takes as a part, 5MiB to 5GiB"},
		{"signature 2", "{bucket: b, v4auth: false}", "config.yml:1:35: storage.s3.v4auth: false asks for signature version 2, which is not offered; every current service takes version 4"},
		{"key without encryption", "{bucket: b, keyid: k}", "config.yml:1:34: storage.s3.keyid has no effect without storage.s3.encrypt: true"},
		{"path in the endpoint", "{bucket: b, regionendpoint: \"http://h/b\"}", `config.yml:1:43: storage.s3.regionendpoint "http://h/b" has more than a host and a port; the bucket and the prefix go to storage.s3.bucket and storage.s3.rootdirectory`},
		{"password in the endpoint", "{bucket: b, regionendpoint: \"http://u:hunter2@h\"}", `config.yml:1:43: storage.s3.regionendpoint has a name or password in it; use accesskey and secretkey`},
		{"no address", "{bucket: b, redirectendpoint: \"ftp://h\"}", `config.yml:1:45: storage.s3.redirectendpoint is not an address such as https://s3.example.com or minio:9000`},
		{"class", "{bucket: b, storageclass: GLACIER}", `config.yml:1:41: storage.s3.storageclass: unknown value "GLACIER" (NONE, STANDARD, REDUCED_REDUNDANCY, STANDARD_IA, ONEZONE_IA, INTELLIGENT_TIERING, OUTPOSTS, GLACIER_IR, EXPRESS_ONEZONE)`},
		{"typo", "{bucket: b, regionendpint: x}", `config.yml:1:27: unknown key "regionendpint" in storage.s3; did you mean "regionendpoint"?`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := load("storage: {s3: " + test.file + "}\n"); err == nil || err.Error() != test.want {
				t.Errorf("\n got %v\nwant %s", err, test.want)
			}
		})
	}
}

// TestEverythingAtOnce: a mistake hides what follows from it, and nothing else.
func TestEverythingAtOnce(t *testing.T) {
	for name, test := range map[string]struct {
		file string
		env  []string
		want string
	}{
		"grammar and rules": {
			file: "loglevel: blah\nstorage:\n  s3:\n    chunksize: 1MiB\n    accesskey: a\n    bla: 2\n    secure: perhaps\n    keyid: x\n" +
				"notifications:\n  endpoints:\n  - {name: a, url: 'http://h'}\n  - {name: a, timeout: abc}\n",
			want: "config.yml:1:11: loglevel: unknown value \"blah\"\n" +
				"config.yml:3:3: storage.s3.bucket is missing\n" +
				"config.yml:3:3: storage.s3.accesskey and storage.s3.secretkey belong together\n" +
				"config.yml:4:16: storage.s3.chunksize: 1MiB is outside\n" +
				"config.yml:6:5: unknown key \"bla\"\n" +
				"config.yml:7:13: storage.s3.secure expects\n" +
				"config.yml:8:12: storage.s3.keyid has no effect\n" +
				"config.yml:12:5: notifications.endpoints: two endpoints are called\n" +
				"config.yml:12:5: notifications.endpoints: endpoint \"a\" has no url\n" +
				"config.yml:12:24: notifications.endpoints[1].timeout expects",
		},
		"misspelt": {
			file: "storage:\n  s3: {buckt: b, accesskey: a, secretkee: c, chunksize: many}\n",
			want: "config.yml:2:8: unknown key \"buckt\"\nconfig.yml:2:32: unknown key \"secretkee\"\nconfig.yml:2:57: storage.s3.chunksize expects",
		},
		"secret that cannot be read": {
			file: "storage:\n  s3: {bucket: b, accesskey: a, chunksize: 1MiB}\n", env: []string{"REGISTRY_STORAGE_S3_SECRETKEY_FILE=/absent"},
			want: "config.yml:2:44: storage.s3.chunksize: 1MiB is outside\nREGISTRY_STORAGE_S3_SECRETKEY_FILE: cannot read the file of the secret",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(test.file, test.env...)
			if err == nil {
				t.Fatal("accepted")
			}
			got, want := strings.Split(err.Error(), "\n"), strings.Split(test.want, "\n")
			if len(got) != len(want) {
				t.Fatalf("got\n%v\nwant the beginnings\n%s", err, test.want)
			}
			for i := range want {
				if !strings.HasPrefix(got[i], want[i]) {
					t.Errorf("got\n%s\nwant the beginning\n%s", got[i], want[i])
				}
			}
		})
	}
}
