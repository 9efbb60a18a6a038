// Package gc is a room of a fixture.
package gc

import (
	"log"
	"os"
	stdos "os"
	"time"
)

type service struct{ now func() time.Time }

func f(s *service) {
	s.now = time.Now
	_ = s.now()
	_ = time.Now()                              // want "time.Now is called"
	_ = time.Since(s.now())                     // want "time.Since is called"
	_ = os.Getenv("HOME")                       // want "os.Getenv belongs to the programs"
	_ = stdos.Args                              // want "os.Args belongs to the programs"
	if getenv := os.Getenv; getenv("X") == "" { // want "os.Getenv belongs"
		os.Exit(1) // want "os.Exit belongs to the programs"
	}
	log.Fatal("x") // want "log.Fatal belongs to the programs"
	_, _ = os.Open("x")
}
