package auth

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/berth-registry/berth/fault"
	"github.com/berth-registry/berth/server/identity"
)

// ProviderInfo is a source of identities as it is configured, without its addresses and secrets, and how it answers.
type ProviderInfo struct {
	IdentityProvider
	// AnsweredAt is when this process had an answer of the provider last, whatever it said; FailedAt when it had none. Zero: not
	// since the start. What is kept here, such as local accounts, is not asked and has neither.
	AnsweredAt, FailedAt time.Time
}

// Providers are the sources of identities in the order in which they are asked. It asks for provider.read.
func (s *Service) Providers(ctx context.Context) ([]ProviderInfo, error) {
	if err := s.o.Access.CheckSystem(ctx, identity.ProviderRead); err != nil {
		return nil, err
	}
	var list []ProviderInfo
	for _, p := range s.providers {
		list = append(list, ProviderInfo{IdentityProvider: IdentityProvider{Name: p.Source(), Kind: p.Source(), Create: p != Provider(s.local)}})
	}
	for _, p := range s.IdentityProviders() {
		info := ProviderInfo{IdentityProvider: p}
		info.AnsweredAt, info.FailedAt = s.heard.of(p.Name)
		list = append(list, info)
	}
	return list, nil
}

// heard is when each identity provider answered last, and when it did not.
type heard struct {
	mu               sync.Mutex
	answered, failed map[string]time.Time
}

func (h *heard) of(provider string) (answered, failed time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.answered[provider], h.failed[provider]
}

// note keeps what became of a question. A no is an answer, and so is what berth refuses afterwards; a caller who has not waited
// says nothing of the provider.
func (h *heard) note(ctx context.Context, provider string, err error, now time.Time) {
	var f *fault.Error
	answer := err == nil || errors.As(err, &f)
	for _, no := range []error{ErrRefused, ErrNoAccount, ErrPassword, ErrExpired, ErrPending, ErrSlowDown} {
		answer = answer || errors.Is(err, no)
	}
	if !answer && ctx.Err() != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.answered == nil {
		h.answered, h.failed = map[string]time.Time{}, map[string]time.Time{}
	}
	if answer {
		h.answered[provider] = now
	} else {
		h.failed[provider] = now
	}
}
