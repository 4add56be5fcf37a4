package sip

import (
	"context"
	"testing"
)

func TestListenOnIPv4IsNotIPv6(t *testing.T) {
	for addr, want := range map[string]string{"0.0.0.0:5060": "udp4", "127.0.0.1:0": "udp4", "[::]:5060": "udp6", "[::1]:5060": "udp6", ":5060": "udp", "pbx.example.com:5060": "udp"} {
		if got := family("udp", addr); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
	conn, err := SystemNetwork().ListenPacket(context.Background(), family("udp", "0.0.0.0:0"), "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := addrPort(conn.LocalAddr()); !got.Addr().Is4() {
		t.Errorf("0.0.0.0 was opened as %v", got)
	}
}
