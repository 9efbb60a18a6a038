package httpd_test

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
)

// startDNS answers every A question with 127.0.0.1 and everything else with nothing: pebble resolves the names that it
// validates through it (over TCP), so that the test needs neither the network nor /etc/hosts. RFC 1035 section 4.
func startDNS(t *testing.T) string {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tcp.Close() })
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			go answerDNS(c)
		}
	}()
	return tcp.Addr().String()
}

func answerDNS(c net.Conn) {
	defer c.Close()
	for {
		var length [2]byte
		if _, err := io.ReadFull(c, length[:]); err != nil {
			return
		}
		question := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(c, question); err != nil || len(question) < 12 {
			return
		}
		end := 12
		for end < len(question) && question[end] != 0 {
			end += int(question[end]) + 1
		}
		end += 5 // the root label, type and class
		if end > len(question) {
			return
		}
		kind := binary.BigEndian.Uint16(question[end-4:])
		answer := append([]byte{0, 0}, question[:end]...)
		copy(answer[4:], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}) // a recursive answer: one question, no records
		if kind == 1 {
			answer[9] = 1
			answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1)
		}
		binary.BigEndian.PutUint16(answer, uint16(len(answer)-2))
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}
