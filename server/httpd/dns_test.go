package httpd_test

import (
	"encoding/binary"
	"net"
	"testing"
)

// startDNS answers every A question with 127.0.0.1 and everything else with nothing: pebble resolves the names that it
// validates through it, so that the test needs neither the network nor /etc/hosts. RFC 1035 section 4.1.
func startDNS(t *testing.T) string {
	t.Helper()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = udp.Close() })
	go func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := udp.ReadFrom(buffer)
			if err != nil {
				return
			}
			if n < 12 {
				continue
			}
			end := 12
			for end < n && buffer[end] != 0 {
				end += int(buffer[end]) + 1
			}
			end += 5 // the root label, type and class
			if end > n {
				continue
			}
			kind := binary.BigEndian.Uint16(buffer[end-4:])
			answer := append([]byte(nil), buffer[:end]...)
			copy(answer[2:], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}) // a recursive answer: one question, no records
			if kind == 1 {
				answer[7] = 1
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1)
			}
			_, _ = udp.WriteTo(answer, from)
		}
	}()
	return udp.LocalAddr().String()
}
