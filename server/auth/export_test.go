package auth

import (
	"context"
	"time"
)

// For tests in package auth_test.

func (s *Service) Local() Provider { return s.local }

func (s *Service) SetSleep(f func(context.Context, time.Duration) error) { s.throttle.sleep = f }

func (s *Service) Hashing() int { return len(s.gate.slots) }

func (s *Service) Throttled() int {
	s.throttle.entries.CleanUp()
	return s.throttle.entries.EstimatedSize()
}

func HashPassword(password string) (string, error) { return hashPassword(password) }

func VerifyPassword(phc, password string) (bool, error) { return verifyPassword(phc, password) }

const DecoyHash = decoyHash

func (t Throttle) Delay(attempt int) time.Duration { return t.withDefaults().delay(attempt) }

func (s *Service) ForgetTokens() { s.tokens.entries.InvalidateAll() }

func (s *Service) Flush(ctx context.Context) error { return s.flush(ctx, true) }

func (s *Service) Trim(ctx context.Context) error { return s.trim(ctx) }
