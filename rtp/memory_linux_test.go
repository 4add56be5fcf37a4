package rtp

import (
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"reveille/rtp/rtptest"
)

// callMemory is what the sockets' side of a talking call may take of our memory.
const callMemory = 9 << 10

// A call in which both sides talk takes little memory, and no goroutine.
func TestMemoryOfACall(t *testing.T) {
	const calls = 500
	ip := netip.MustParseAddr("127.0.0.1")
	r, err := NewRelay(DefaultConfig(), Options{LocalAddress: ip})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	trunk, device := udp(t, ip), udp(t, ip)
	first := talking(t, r, trunk, device) // what there is once: workers, the reporter
	before, routines := heldMemory(), runtime.NumGoroutine()
	sessions := make([]*Session, calls)
	for i := range sessions {
		sessions[i] = talking(t, r, trunk, device)
	}
	per := (heldMemory() - before) / calls
	t.Logf("%d bytes a call", per)
	if per > callMemory {
		t.Errorf("%d bytes a call, the limit is %d", per, callMemory)
	}
	n := runtime.NumGoroutine()
	for end := time.Now().Add(10 * time.Second); n > routines && time.Now().Before(end); n = runtime.NumGoroutine() {
		<-time.After(10 * time.Millisecond) // the one that looks for calm moments of new streams is about to end
	}
	if n > routines {
		t.Errorf("%d goroutines with %d calls, %d without", n, calls, routines)
	}
	for i, s := range append(sessions, first) {
		if st := s.Stats(); st.Trunk.Packets != 5 || st.Device.Packets != 5 {
			t.Fatalf("call %d: %d and %d packets", i, st.Trunk.Packets, st.Device.Packets)
		}
	}
}

// talking is a call in which each side has said something.
func talking(t *testing.T, r *Relay, trunk, device *net.UDPConn) *Session {
	t.Helper()
	s, err := r.Open(SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	at := callOver(t, s, trunk, device)
	a, b := rtptest.Talker{SSRC: 1, Payload: 8}, rtptest.Talker{SSRC: 2, Payload: 8}
	for range 5 {
		carry(t, &a, trunk, at[Trunk], device, at[Device])
		carry(t, &b, device, at[Device], trunk, at[Trunk])
	}
	return s
}

// heldMemory is this process's memory.
func heldMemory() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse + m.StackInuse)
}
