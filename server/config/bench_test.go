package config_test

import "testing"

// BenchmarkLoad is a part of every start of berthd.
func BenchmarkLoad(b *testing.B) {
	env := []string{"REGISTRY_HTTP_ADDR=:5000", "REGISTRY_LOG_LEVEL=debug", "BERTH_DATA=/d", "BERTH_ANONYMOUS=pull", "BERTH_ADMIN_PASSWORD=x"}
	for b.Loop() {
		if _, err := load("http: {addr: \":1\"}\n", env...); err != nil {
			b.Fatal(err)
		}
	}
}
