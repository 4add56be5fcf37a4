package rtp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"reveille/rtp/rtptest"
	"reveille/rtp/sdp"
)

// camera is the video of a peer.
type camera struct{ *peer }

// camera binds a second socket for a peer, which speaks of pictures under number.
func (w *world) camera(p *peer, number uint8) *camera {
	c := &camera{w.peer(netip.AddrPortFrom(p.conn.Addr().Addr(), p.conn.Addr().Port()+10), p.talker.SSRC+1)}
	c.talker = rtptest.Talker{SSRC: c.talker.SSRC, Payload: number, Seq: 7, Timestamp: 9000, Samples: 3000}
	return c
}

// with adds the video line to a description of the peer; the first of numbers is H.264, the second VP8.
func (c *camera) with(body []byte, direction string, numbers ...int) []byte {
	names := []string{"H264", "VP8"}
	lines := fmt.Sprintf("m=video %d RTP/AVPF", c.conn.Addr().Port())
	for _, n := range numbers {
		lines += fmt.Sprint(" ", n)
	}
	lines += " 120\r\na=rtpmap:120 rtx/90000\r\na=fmtp:120 apt=99\r\na=rtcp-fb:* ccm fir\r\na=rtcp-fb:120 nack\r\n"
	for i, n := range numbers {
		lines += fmt.Sprintf("a=rtpmap:%d %s/90000\r\na=rtcp-fb:%d nack pli\r\n", n, names[i], n)
	}
	return append(slices.Clone(body), lines+"a="+direction+"\r\n"...)
}

// learnVideo reads our description of both streams.
func (c *camera) learnVideo(of *peer, ours []byte, err error) {
	c.w.t.Helper()
	of.learn(ours, err)
	c.ours = nil
	if v := of.ours.Video; v != nil {
		c.ours = &sdp.Description{Stream: *v}
	}
}

// videoCall is an answered call with video in both directions: 99 at the trunk, 104 at the device.
func videoCall(t *testing.T) (w *world, trunk, device *camera) {
	w = newWorld(t, nil)
	trunk, device = w.camera(w.trunk, 99), w.camera(w.device, 104)
	w.must(w.session.SetOffer(Trunk, trunk.with(w.trunk.sdp("8 101"), "sendrecv", 99, 100)))
	ours, err := w.session.Answer(Trunk)
	trunk.learnVideo(w.trunk, ours, err)
	offer, err := w.session.Offer(Device)
	device.learnVideo(w.device, offer, err)
	w.must(w.session.SetAnswerTo(Device, offer, device.with(w.device.sdp("8 101"), "sendrecv", 104)))
	w.session.Connect()
	return w, trunk, device
}

func TestVideoIsRelayed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, trunk, device := videoCall(t)
		if c := trunk.ours.Codecs; len(c) != 1 || c[0].Name != "H264" || c[0].PT != 99 || trunk.ours.Direction != sdp.SendRecv {
			t.Errorf("the trunk is answered %+v", trunk.ours)
		}
		if fb := device.ours.Feedback; !slices.Equal(fb, []string{"* ccm fir", "99 nack pli"}) {
			t.Errorf("the device is offered feedback %q", fb)
		}
		sent := trunk.talk(5)
		for _, p := range sent {
			p[1] = p[1]&0x80 | 104
		}
		w.same("to the device", device.heard(), sent)
		sent = device.talk(5)
		for _, p := range sent {
			p[1] = p[1]&0x80 | 99
		}
		w.same("to the trunk", trunk.heard(), sent)
		audio := w.device.talk(2)
		w.same("audio", w.trunk.heard(), audio)

		pli := []byte{0x81, 206, 0, 2, 0, 0, 0, 9, 0, 0, 0, 7}
		device.sendTo(device.ours.Addr, pli) // with rtcp-mux not agreed, RTCP has a port of its own
		w.same("RTCP on the RTP port", trunk.heard(), nil)
		device.sendTo(device.ours.RTCP, pli)
		time.Sleep(time.Millisecond)
		if s := w.session.Stats().Video.Device; s.Packets != 5 || s.MOS != 0 {
			t.Errorf("of the device's video: %+v", s)
		}
		w.session.Close()
		if n := w.net.Open(); n != 4 { // the peers' own
			t.Errorf("%d sockets are open after the end", n)
		}
	})
}

// The trunk has its answer before the device declines the video: it is told by Follow.
func TestVideoDeclinedByTheDevice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		trunk := w.camera(w.trunk, 99)
		w.must(w.session.SetOffer(Trunk, trunk.with(w.trunk.sdp("8 101"), "sendrecv", 99)))
		ours, err := w.session.Answer(Trunk)
		trunk.learnVideo(w.trunk, ours, err)
		w.device.learn(w.session.Offer(Device))
		w.must(w.session.SetAnswer(Device, w.device.sdp("8 101")))
		w.session.Connect()
		if !w.session.VideoLeft(Trunk) {
			t.Fatal("nobody misses the video")
		}
		trunk.talk(3)
		p := w.session.Follow(Device)
		offer, err := p.Offer()
		w.must(err)
		if lines := mediaLines(offer); len(lines) != 2 || !strings.HasPrefix(lines[1], "m=video 0 ") {
			t.Fatalf("the trunk is offered %q", lines)
		}
		w.must(p.AcceptAlone(w.trunk.sdp("8 101")))
		if w.session.VideoLeft(Trunk) || w.session.Follow(Device) != nil {
			t.Error("the video is still missed")
		}
		sent := w.trunk.talk(3)
		w.same("audio", w.device.heard(), sent)
	})
}

// A video line may come, be turned off and go in the middle of a call.
func TestVideoComesAndGoes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.connect()
		trunk, device := w.camera(w.trunk, 99), w.camera(w.device, 99)
		change := func(what string, from, to *peer, fromCam, toCam *camera, offer, answer []byte, lines int) {
			t.Helper()
			p, err := w.session.Propose(map[bool]Side{true: Trunk, false: Device}[from == w.trunk], offer)
			w.must(err)
			if !p.Carry() {
				t.Fatalf("%s: the other side is not asked", what)
			}
			ours, err := p.Offer()
			toCam.learnVideo(to, ours, err)
			if n := len(mediaLines(ours)); n != lines {
				t.Fatalf("%s: %d lines are offered, want %d", what, n, lines)
			}
			ours, err = p.Accept(answer)
			fromCam.learnVideo(from, ours, err)
		}
		both := func(body []byte, c *camera, direction string) []byte { return c.with(body, direction, 99) }
		change("video comes", w.device, w.trunk, device, trunk,
			both(w.device.sdp("8 101"), device, "sendrecv"), both(w.trunk.sdp("8 101"), trunk, "sendrecv"), 2)
		sent := device.talk(4)
		w.same("to the trunk", trunk.heard(), sent)
		sent = trunk.talk(4)
		w.same("to the device", device.heard(), sent)

		change("camera off", w.trunk, w.device, trunk, device,
			both(w.trunk.sdp("8 101"), trunk, "recvonly"), both(w.device.sdp("8 101"), device, "sendonly"), 2)
		if trunk.ours.Direction != sdp.SendOnly || device.ours.Direction != sdp.RecvOnly {
			t.Errorf("directions %v, %v", trunk.ours.Direction, device.ours.Direction)
		}

		change("video goes", w.device, w.trunk, device, trunk,
			append(w.device.sdp("8 101"), "m=video 0 RTP/AVPF 99\r\n"...), append(w.trunk.sdp("8 101"), "m=video 0 RTP/AVPF 99\r\n"...), 2)
		if trunk.ours != nil || device.ours != nil {
			t.Error("there is video left")
		}
		device.sendTo(netip.AddrPortFrom(relayIP, w.session.video.sockets[Device].port), device.talker.Next(make([]byte, 10)))
		w.same("to the trunk after the end", trunk.heard(), nil)
		audio := w.device.talk(2)
		w.same("audio", w.trunk.heard(), audio)
	})
}

// Without a port for it the video is declined, and the call goes on.
func TestVideoWithoutPorts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config, _ *Options) { c.Ports = "20000-20003" })
		trunk := w.camera(w.trunk, 99)
		w.must(w.session.SetOffer(Trunk, trunk.with(w.trunk.sdp("8 101"), "sendrecv", 99)))
		ours, err := w.session.Answer(Trunk)
		trunk.learnVideo(w.trunk, ours, err)
		if lines := mediaLines(ours); trunk.ours != nil || len(lines) != 2 || !strings.HasPrefix(lines[1], "m=video 0 ") {
			t.Errorf("answered %q", lines)
		}
	})
}

// Beside encrypted audio there is no video but with keys of its own.
func TestVideoIsProtectedAsTheAudioIs(t *testing.T) {
	key := "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNk\r\n"
	head := "v=0\r\no=- 1 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n"
	audio, video := "m=audio 4000 RTP/SAVP 8\r\n"+key, "m=video 4002 RTP/SAVP 99\r\na=rtpmap:99 H264/90000\r\n"
	for name, test := range map[string]struct {
		body string
		want bool
	}{
		"both":       {head + audio + video + key, true},
		"audio only": {head + audio + strings.Replace(video, "SAVP", "AVP", 1), false},
		"video only": {head + "m=audio 4000 RTP/AVP 8\r\n" + video + key, false},
	} {
		d, err := sdp.ParseSecure([]byte(test.body), sdp.Optional)
		if err != nil || (d.Video != nil) != test.want {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
	bubble(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.session.Secret(Device, true)
		camera := w.camera(w.trunk, 99)
		w.must(w.session.SetOffer(Trunk, camera.with(w.trunk.sdp("8 101"), "sendrecv", 99)))
		_, err := w.session.Answer(Trunk)
		w.must(err)
		offer, err := w.session.Offer(Device)
		w.must(err)
		if n := strings.Count(string(offer), "a=crypto:"); n != 6 {
			t.Errorf("%d keys are offered, want 3 for each stream:\n%s", n, offer)
		}
		keys := map[string]bool{}
		for line := range strings.Lines(string(offer)) {
			if strings.HasPrefix(line, "a=crypto") {
				keys[line] = true
			}
		}
		if len(keys) != 6 {
			t.Error("the streams share a key (RFC 4568 §6.1)")
		}
	})
}

// Video that is described at a port of our own, or in the other IP version, is declined; it would go round and round.
func TestVideoAtAPortOfOurOwnIsDeclined(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, trunk, device := videoCall(t)
		if !w.session.HasVideo(Trunk) {
			t.Fatal("no video")
		}
		describe := func(p *peer, line string) []byte {
			return append(p.sdp("8 101"), line+"a=rtpmap:99 H264/90000\r\n"...)
		}
		line := func(to netip.AddrPort) string {
			return fmt.Sprintf("m=video %d RTP/AVP 99\r\nc=IN IP4 %v\r\n", to.Port(), to.Addr())
		}
		for what, text := range map[string]string{
			"RTP":  line(device.ours.Addr),
			"RTCP": line(netip.AddrPortFrom(trunkIP, 4010)) + fmt.Sprintf("a=rtcp:%d IN IP4 %v\r\n", device.ours.RTCP.Port(), relayIP),
			"IPv6": "m=video 4010 RTP/AVP 99\r\nc=IN IP6 2001:db8::1\r\n",
		} {
			answer, err := w.session.Reoffer(Trunk, describe(w.trunk, text))
			w.must(err)
			if trunk.learnVideo(w.trunk, answer, nil); trunk.ours != nil || w.session.HasVideo(Trunk) {
				t.Errorf("%s: video is taken\n%s", what, answer)
			}
		}
	})
}
