package peertest

import (
	"math"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtp"
)

// ear is the carrier's media port where a test wants to know what the caller hears: SIPp can send and echo, but not
// record. It keeps the A-law of each packet in the order they came.
type ear struct {
	conn *net.UDPConn

	mu     sync.Mutex // guards the following
	alaw   []byte
	others int // packets that are no PCMA RTP
}

func newEar(t testing.TB) *ear {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(carrierIP), Port: freePort(t, carrierIP, 2)})
	must(t, err)
	e, done := &ear{conn: conn}, make(chan struct{})
	go func() {
		defer close(done)
		e.listen()
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return e
}

func (e *ear) listen() {
	for buf := make([]byte, 2048); ; {
		n, _, err := e.conn.ReadFromUDP(buf)
		if err != nil {
			return
		}
		e.take(buf[:n])
	}
}

func (e *ear) take(packet []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var p rtp.Packet
	if err := p.Unmarshal(packet); err != nil || p.PayloadType != 8 { // PCMA, RFC 3551 §6
		e.others++
		return
	}
	e.alaw = append(e.alaw, p.Payload...)
}

// heard returns the decoded audio so far, and how many packets were something else.
func (e *ear) heard() ([]int16, int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return samples(e.alaw), e.others
}

// toneSeconds returns for how long the audio was mostly a tone of that frequency: in how many stretches of 50 ms it
// holds more than nine tenths of the energy (Goertzel), silence not counted.
func toneSeconds(pcm []int16, hz float64) float64 {
	const stretch = rate / 20
	found := 0
	for ; len(pcm) >= stretch; pcm = pcm[stretch:] {
		var re, im, energy float64
		for i, s := range pcm[:stretch] {
			v, angle := float64(s), 2*math.Pi*hz*float64(i)/rate
			re, im, energy = re+v*math.Cos(angle), im+v*math.Sin(angle), energy+v*v
		}
		if energy > stretch*100*100 && 2*(re*re+im*im)/stretch > 0.9*energy {
			found++
		}
	}
	return float64(found) / 20
}

func TestPeersToneSeconds(t *testing.T) {
	wave := func(hz float64) []int16 {
		pcm := make([]int16, 2*rate)
		for i := range pcm[:rate] { // one second of tone, one of silence
			pcm[i] = int16(4000 * math.Sin(2*math.Pi*hz*float64(i)/rate))
		}
		return pcm
	}
	for hz, want := range map[float64]float64{425: 1, 350: 0, 480: 0, 1000: 0} {
		if got := toneSeconds(wave(hz), 425); got != want {
			t.Errorf("%v Hz: %v s of 425 Hz found, want %v", hz, got, want)
		}
	}
	if got := toneSeconds(samples(source(1, 2*time.Second)), 425); got > 0.1 {
		t.Errorf("speech-like noise: %v s of 425 Hz found", got)
	}
}
