package rtp

import (
	"net/netip"
	"testing"
	"time"
)

// While the relay stands still, some packets wait, and the others are dropped: those that wait are not much late when
// it goes on. A picture of video waits whole.
func TestOverloadDrops(t *testing.T) {
	speech := &stream{session: &Session{}}
	speech.session.audio = speech
	pictures := &stream{session: speech.session}
	for _, c := range []struct {
		name                       string
		of                         *stream
		size, packets, least, most int
	}{
		{"a pause of 200 ms of G.711", speech, 172, 10, 10, 10},
		{"a pause of 200 ms of G.711 in 60 ms packets", speech, 492, 4, 4, 4},
		{"200 ms of wideband, 5 ms packets", speech, 60, 20, 20, 20},
		{"two seconds of G.711", speech, 172, 100, 10, 40},
		{"a picture", pictures, 1200, 60, 60, 60},
		{"a second of video, 10 Mbit/s", pictures, 1200, 1000, 60, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			heard := backlog(t, &waiter{ear: ear{stream: c.of}}, c.size, c.packets)
			if heard < c.least || heard > c.most {
				t.Errorf("%d of %d packets waited, want %d to %d", heard, c.packets, c.least, c.most)
			}
		})
	}
}

// waiter is an ear that holds the first packet until it is let go, and counts.
type waiter struct {
	ear
	begun, held chan struct{}
	sizes       chan int
}

func (w *waiter) receive(packet []byte, _ netip.AddrPort) {
	if len(packet) == 1 { // the first
		close(w.begun)
		<-w.held
		return
	}
	w.sizes <- len(packet)
}

// backlog sends packets to a socket whose worker stands still, and gives how many it gets when it goes on.
func backlog(t *testing.T, w *waiter, size, packets int) (heard int) {
	t.Helper()
	w.begun, w.held, w.sizes = make(chan struct{}), make(chan struct{}), make(chan int, packets+1)
	o := openOn(t, testEngine(t), "127.0.0.1", w)
	defer o.close()
	conn := udp(t, netip.MustParseAddr("127.0.0.1"))
	send := func(size int) {
		if _, err := conn.WriteToUDPAddrPort(make([]byte, size), o.local()); err != nil {
			t.Error(err)
		}
	}
	send(1)
	<-w.begun
	for range packets {
		send(size)
	}
	close(w.held)
	for {
		send(2) // the last; it may be dropped as long as the socket is full
		for waiting := true; waiting; {
			select {
			case n := <-w.sizes:
				if n == 2 {
					return heard
				}
				heard++
			case <-time.After(20 * time.Millisecond):
				waiting = false
			}
		}
	}
}
