package auth_test

import (
	"testing"
	"time"

	"github.com/berth-registry/berth/server/auth"
)

func BenchmarkBearerCached(b *testing.B) {
	s := open(b, func(o *auth.Options) { o.Now = time.Now })
	header := "Bearer " + s.token(b, asAlice, "repository:team/app:pull,push").Access
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Authenticate(b.Context(), header, here); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBearerCachedParallel(b *testing.B) {
	s := open(b, func(o *auth.Options) { o.Now = time.Now })
	header := "Bearer " + s.token(b, asAlice, "repository:team/app:pull,push").Access
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Authenticate(b.Context(), header, here); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkBearerVerify(b *testing.B) {
	s := open(b, func(o *auth.Options) { o.Now = time.Now })
	header := "Bearer " + s.token(b, asAlice, "repository:team/app:pull,push").Access
	b.ReportAllocs()
	for b.Loop() {
		s.ForgetTokens()
		if _, err := s.Authenticate(b.Context(), header, here); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBasicCached(b *testing.B) {
	s := open(b, func(o *auth.Options) { o.Now = time.Now })
	header := basic(alice, alicePassword)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Authenticate(b.Context(), header, here); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBasicHash(b *testing.B) {
	s := open(b)
	for b.Loop() {
		s.clock.Advance(2 * time.Minute)
		if _, err := s.Authenticate(b.Context(), basic(alice, alicePassword), here); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkToken(b *testing.B) {
	s := open(b, func(o *auth.Options) { o.Now = time.Now })
	for b.Loop() {
		s.token(b, asAlice, "repository:team/app:pull,push")
	}
}
