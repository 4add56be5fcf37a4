package sdp

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// text joins lines as SDP does.
func text(lines ...string) []byte { return []byte(strings.Join(lines, "\r\n") + "\r\n") }

// head is a session part without a c= line.
func head(more ...string) []byte {
	return text(append([]string{"v=0", "o=alice 2890844526 2890844526 IN IP4 host.example.com", "s=-", "t=0 0"}, more...)...)
}

func TestParse(t *testing.T) {
	d, err := Parse(text("v=0", "o=- 1 2 IN IP4 192.0.2.9", "s=call", "c=IN IP4 192.0.2.1", "t=0 0", "a=sendonly",
		"m=audio 4000 RTP/AVP 8 0 96 101 13 97",
		"a=rtpmap:96 opus/48000/2", "a=fmtp:96 useinbandfec=1", "a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-16",
		"a=ptime:20", "a=maxptime:150", "a=rtcp:4010",
		"m=video 5000 RTP/AVP 99", "a=rtpmap:99 H264/90000"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Codec{
		{8, "PCMA", 8000, 1, ""}, {0, "PCMU", 8000, 1, ""}, {96, "opus", 48000, 2, "useinbandfec=1"},
		{101, "telephone-event", 8000, 1, "0-16"}, {13, "CN", 8000, 1, ""}, // 97 has no rtpmap
	}
	if len(d.Codecs) != len(want) {
		t.Fatalf("codecs %+v", d.Codecs)
	}
	for i := range want {
		if d.Codecs[i] != want[i] {
			t.Errorf("codec %d is %+v, want %+v", i, d.Codecs[i], want[i])
		}
	}
	if d.Addr != netip.MustParseAddrPort("192.0.2.1:4000") || d.RTCP != netip.MustParseAddrPort("192.0.2.1:4010") {
		t.Errorf("addresses %v %v", d.Addr, d.RTCP)
	}
	if d.Direction != SendOnly || d.Ptime != 20 || d.MaxPtime != 150 || d.Mux || d.Index != 0 || len(d.Lines) != 2 {
		t.Errorf("%+v", d)
	}
}

func TestParseChoosesLine(t *testing.T) {
	d, err := Parse(head("m=video 5000 RTP/AVP 99", "c=IN IP4 192.0.2.1", "m=audio 0 RTP/AVP 0",
		"m=audio 6000 RTP/SAVP 0", "c=IN IP4 192.0.2.1", "m=audio 7000 RTP/AVP 0", "c=IN IP6 2001:db8::1", "a=rtcp-mux", "a=inactive"))
	if err != nil {
		t.Fatal(err)
	}
	if d.Index != 3 || d.Lines[2].Proto != "RTP/SAVP" || d.Addr != netip.MustParseAddrPort("[2001:db8::1]:7000") || d.RTCP.Port() != 7001 || !d.Mux || d.Direction != Inactive {
		t.Errorf("%+v", d)
	}
}

func TestParseRefuses(t *testing.T) {
	c := "c=IN IP4 192.0.2.1"
	for name, test := range map[string]struct {
		body []byte
		want error
	}{
		"empty":             {nil, ErrBad},
		"blank":             {[]byte("\r\n"), ErrBad},
		"text":              {[]byte("hello"), ErrBad},
		"no origin":         {text("v=0"), ErrBad},
		"huge":              {head(c, "a="+strings.Repeat("x", MaxSize)), ErrBad},
		"control character": {head(c, "a=x:\x00"), ErrBad},
		"lone CR":           {head(c, "m=audio 4000 RTP/AVP 0\ra=evil"), ErrBad},
		"short origin":      {text("v=0", "o=- 1 IN IP4 192.0.2.9", "s=-", c, "t=0 0", "m=audio 4000 RTP/AVP 0"), ErrBad},
		"short line":        {head(c, "m=audio 4000 RTP/AVP"), ErrBad},
		"no address":        {head("m=audio 4000 RTP/AVP 0"), ErrBad},
		"bad address":       {head("m=audio 4000 RTP/AVP 0", "c=IN IP6 20:zz"), ErrBad},
		"bad port":          {head("m=audio 70000 RTP/AVP 0", c), ErrBad},
		"bad payload type":  {head("m=audio 4000 RTP/AVP 0 300", c), ErrBad},
		"bad rtcp":          {head("m=audio 4000 RTP/AVP 0", c, "a=rtcp:x"), ErrBad},
		"many lines":        {head(strings.Repeat("m=audio 4000 RTP/AVP 0\r\n", maxLines) + "m=audio 0 RTP/AVP 0"), ErrBad},
		"no media":          {head(), ErrNotAcceptable},
		"video only":        {head("m=video 4000 RTP/AVP 99", c), ErrNotAcceptable},
		"declined":          {head("m=audio 0 RTP/AVP 0", c), ErrNotAcceptable},
		"encrypted":         {head("m=audio 4000 RTP/SAVP 0", c), ErrNotAcceptable},
		"no codec":          {head("m=audio 4000 RTP/AVP 99 101", c, "a=rtpmap:101 telephone-event/8000"), ErrNotAcceptable},
		"host name":         {head("m=audio 4000 RTP/AVP 0", "c=IN IP4 media.example"), ErrNotAcceptable},
		"broadcast":         {head("m=audio 4000 RTP/AVP 0", "c=IN IP4 255.255.255.255"), ErrNotAcceptable},
		"multicast":         {head("m=audio 4000 RTP/AVP 0", "c=IN IP4 224.2.1.1/127"), ErrNotAcceptable},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := Parse(test.body)
			if !errors.Is(err, test.want) || d != nil {
				t.Fatalf("got %v, %v, want %v", d, err, test.want)
			}
			if strings.TrimPrefix(err.Error(), test.want.Error()) == "" {
				t.Error("no reason given")
			}
		})
	}
}

// What the parser does not know is no reason to refuse the call.
func TestParseUnknownMedia(t *testing.T) {
	d, err := Parse(text("v=0", "o=- 123456789012345678901234567890 1 IN IP4 192.0.2.9", "s=-", "c=IN IP4 192.0.2.1", "t=0 0",
		"m=image 4004 udptl t38", "a=T38FaxVersion:0", "m=audio 4000 RTP/AVP 0", "m=x-game 70000 FOO/BAR a b"))
	if err != nil {
		t.Fatal(err)
	}
	if d.Index != 1 || len(d.Lines) != 3 || d.Lines[0].Proto != "udptl" || d.Lines[2].Formats[1] != "b" {
		t.Errorf("%+v", d)
	}
}

func TestOldHold(t *testing.T) {
	for dir, want := range map[string]Direction{"sendrecv": SendOnly, "recvonly": Inactive, "sendonly": SendOnly} {
		d, err := Parse(head("m=audio 4000 RTP/AVP 0", "c=IN IP4 0.0.0.0", "a="+dir))
		if err != nil || d.Direction != want || !d.Addr.Addr().IsUnspecified() {
			t.Errorf("%s: %+v %v", dir, d, err)
		}
	}
}

func TestDirections(t *testing.T) {
	all := []Direction{SendRecv, SendOnly, RecvOnly, Inactive}
	mirror := []Direction{SendRecv, RecvOnly, SendOnly, Inactive}
	for i, d := range all {
		if d.Mirror() != mirror[i] || d.And(SendRecv) != d || d.And(Inactive) != Inactive {
			t.Errorf("%v", d)
		}
		if got, ok := parseDirection(d.String()); !ok || got != d {
			t.Errorf("%v is read as %v", d, got)
		}
	}
	if SendOnly.And(RecvOnly) != Inactive {
		t.Error("sendonly and recvonly leave something")
	}
}

// ours is a description to write.
func ours() *Description {
	return &Description{
		Lines: []Line{{"video", "RTP/AVP", []string{"99", "100"}}, {"audio", "RTP/AVP", []string{"8", "3"}},
			{"application", "UDP/DTLS/SCTP", []string{"webrtc-datachannel"}}},
		Stream: Stream{
			Index: 1,
			Addr:  netip.MustParseAddrPort("203.0.113.5:20000"), RTCP: netip.MustParseAddrPort("203.0.113.5:20001"),
			Codecs: []Codec{PCMA(), TelephoneEvent(), {96, "opus", 48000, 2, "useinbandfec=1"}}, Ptime: 20, Direction: RecvOnly,
		},
	}
}

func TestWrite(t *testing.T) {
	w := Writer{ID: 77}
	body, err := w.Write(ours())
	if err != nil {
		t.Fatal(err)
	}
	want := text("v=0", "o=- 77 0 IN IP4 203.0.113.5", "s=-", "c=IN IP4 203.0.113.5", "t=0 0",
		"m=video 0 RTP/AVP 99 100",
		"m=audio 20000 RTP/AVP 8 101 96", "a=rtpmap:8 PCMA/8000", "a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-15",
		"a=rtpmap:96 opus/48000/2", "a=fmtp:96 useinbandfec=1", "a=ptime:20", "a=rtcp:20001", "a=recvonly",
		"m=application 0 UDP/DTLS/SCTP webrtc-datachannel")
	if string(body) != string(want) {
		t.Errorf("got\n%s\nwant\n%s", body, want)
	}
}

func TestWriteVersion(t *testing.T) {
	w := Writer{ID: 77}
	first, _ := w.Write(ours())
	same, _ := w.Write(ours())
	changed := ours()
	changed.Direction = SendRecv
	second, _ := w.Write(changed)
	third, _ := w.Write(changed)
	if string(first) != string(same) || string(second) != string(third) || string(first) == string(second) {
		t.Error("bytes differ without a change, or do not with one")
	}
	if !strings.Contains(string(second), "o=- 77 1 IN") {
		t.Errorf("version of\n%s", second)
	}
}

func TestWriteReadsBack(t *testing.T) {
	d := ours()
	d.Addr, d.RTCP = netip.MustParseAddrPort("[2001:db8::5]:20000"), netip.MustParseAddrPort("[2001:db8::5]:20001")
	w := Writer{ID: 1}
	body, err := w.Write(d)
	if err != nil {
		t.Fatal(err)
	}
	back, err := Parse(body)
	if err != nil {
		t.Fatal(err)
	}
	if back.Addr != d.Addr || back.RTCP != d.RTCP || back.Direction != d.Direction || len(back.Codecs) != len(d.Codecs) || len(back.Lines) != 3 {
		t.Errorf("%+v", back)
	}
}

func TestFind(t *testing.T) {
	list := []Codec{{96, "AMR", 8000, 1, "octet-align=1"}, {97, "amr", 8000, 1, ""}, {98, "telephone-event", 8000, 1, ""},
		{99, "telephone-event", 48000, 1, ""}}
	for _, test := range []struct {
		c    Codec
		want uint8
	}{
		{Codec{97, "AMR", 8000, 1, "octet-align=1"}, 97}, // the number counts most
		{Codec{110, "AMR", 8000, 1, ""}, 97},
		{Codec{110, "AMR", 8000, 1, "octet-align=1"}, 96},
		{Codec{110, "AMR", 8000, 1, "mode-set=7"}, 96},
		{Codec{98, "telephone-event", 48000, 1, "0-15"}, 99},
	} {
		if got, ok := Find(list, test.c); !ok || got.PT != test.want {
			t.Errorf("%+v is found as %+v", test.c, got)
		}
	}
	if c, ok := Find(list, PCMA()); ok {
		t.Errorf("PCMA is found as %+v", c)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(head("m=audio 4000 RTP/AVP 0 8 101", "c=IN IP4 192.0.2.1", "a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-15")))
	f.Add([]byte(head("m=audio 4000/2 RTP/AVPF 96", "c=IN IP6 ::1", "a=rtpmap:96 opus/48000/2", "a=rtcp:5 IN IP6 ::2", "m=image 0 udptl t38")))
	f.Add([]byte(head("c=IN IP4 0.0.0.0", "m=audio 1 RTP/AVP 13 0", "a=inactive", "a=rtcp-mux")))
	f.Add([]byte(head("c=IN IP4 192.0.2.1", "m=video 9 RTP/AVPF 99 31", "a=rtpmap:99 H264/90000", "a=fmtp:99 packetization-mode=1", "a=rtcp-fb:* nack pli",
		"a=rtcp-fb:99 ccm fir", "a=recvonly", "m=audio 1 RTP/AVP 0")))
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := Parse(body)
		if err != nil {
			if !errors.Is(err, ErrBad) && !errors.Is(err, ErrNotAcceptable) {
				t.Fatalf("an error of neither kind: %v", err)
			}
			return
		}
		// What was read must be writable, and read back as the same stream.
		w := Writer{ID: 1}
		out, err := w.Write(d)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse(out)
		if err != nil {
			t.Fatalf("%v\n%q\nfrom\n%q", err, out, body)
		}
		if back.Addr != d.Addr || back.Direction != d.Direction || len(back.Codecs) != len(d.Codecs) || len(back.Lines) != len(d.Lines) {
			t.Fatalf("%+v became %+v", d, back)
		}
		if a, b := d.Video, back.Video; (a == nil) != (b == nil) || a != nil && (len(a.Codecs) != len(b.Codecs) || a.Direction != b.Direction || a.Mux != b.Mux || !slices.Equal(a.Feedback, b.Feedback)) {
			t.Fatalf("the video %+v became %+v", a, b)
		}
	})
}
