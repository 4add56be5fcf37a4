package sdp

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	pion "github.com/pion/sdp/v3"
)

// Writer writes our descriptions towards one side. They share a session id, and their version goes up by one whenever
// the content differs from the one before, never otherwise (RFC 3264 §8).
type Writer struct {
	ID uint64 // session id, random; must fit into 63 bits

	version uint64
	last    []byte
}

// Resume gives the writer that has written body, which is one of ours.
func Resume(body []byte) (Writer, error) {
	var w Writer
	for row := range strings.Lines(string(body)) {
		if _, err := fmt.Sscanf(row, "o=- %d %d IN ", &w.ID, &w.version); err == nil {
			w.last = bytes.Clone(body)
			return w, nil
		}
	}
	return w, fmt.Errorf("%w: not one of ours", ErrBad)
}

// Write gives d as a body. The same content gives the same bytes.
func (w *Writer) Write(d *Description) ([]byte, error) {
	body, err := marshal(w.ID, w.version, d)
	if err != nil {
		return nil, err
	}
	if w.last != nil && !bytes.Equal(body, w.last) {
		w.version++
		if body, err = marshal(w.ID, w.version, d); err != nil {
			return nil, err
		}
	}
	w.last = body
	return body, nil
}

// marshal builds the whole body.
func marshal(id, version uint64, d *Description) ([]byte, error) {
	kind := addressType(d.Addr.Addr())
	s := pion.SessionDescription{
		Origin: pion.Origin{
			Username: "-", SessionID: id, SessionVersion: version,
			NetworkType: "IN", AddressType: kind, UnicastAddress: d.Addr.Addr().String(),
		},
		SessionName: "-",
		ConnectionInformation: &pion.ConnectionInformation{
			NetworkType: "IN", AddressType: kind, Address: &pion.Address{Address: d.Addr.Addr().String()},
		},
		TimeDescriptions: []pion.TimeDescription{{}},
	}
	if d.ICE != nil {
		s.WithPropertyAttribute("ice-lite")
	}
	if d.Bundle {
		s.WithValueAttribute("group", "BUNDLE "+d.Mid)
	}
	for i, line := range d.Lines {
		m := declined(line)
		switch {
		case i == d.Index:
			m = flowing(line, &d.Stream)
		case d.Video != nil && i == d.Video.Index:
			m = flowing(line, d.Video)
		}
		s.MediaDescriptions = append(s.MediaDescriptions, m)
	}
	body, err := s.Marshal()
	if err != nil {
		return nil, fmt.Errorf("write session description: %w", err)
	}
	return bytes.Clone(body), nil // without its spare room: it is kept
}

// declined is a line refused in place: as it was, with port 0 (RFC 3264 §6).
func declined(line Line) *pion.MediaDescription {
	return &pion.MediaDescription{MediaName: pion.MediaName{
		Media: line.Media, Protos: strings.Split(line.Proto, "/"), Formats: line.Formats,
	}}
}

// flowing is the line of a stream of ours.
func flowing(line Line, d *Stream) *pion.MediaDescription {
	m := declined(line)
	m.MediaName.Port.Value = int(d.Addr.Port())
	m.MediaName.Formats = nil
	if d.Mid != "" {
		m.WithValueAttribute("mid", d.Mid)
	}
	for _, c := range d.Codecs {
		number := strconv.Itoa(int(c.PT))
		m.MediaName.Formats = append(m.MediaName.Formats, number)
		value := number + " " + c.Name + "/" + strconv.Itoa(c.Rate)
		if c.Channels > 1 {
			value += "/" + strconv.Itoa(c.Channels)
		}
		m.WithValueAttribute("rtpmap", value)
		if c.Fmtp != "" {
			m.WithValueAttribute("fmtp", number+" "+c.Fmtp)
		}
	}
	for _, value := range d.Feedback {
		m.WithValueAttribute("rtcp-fb", value)
	}
	for _, c := range d.Crypto {
		m.WithValueAttribute("crypto", c.attribute())
	}
	if d.DTLS != nil {
		d.writeDTLS(m)
	}
	if d.Ptime > 0 {
		m.WithValueAttribute("ptime", strconv.Itoa(d.Ptime))
	}
	if d.MaxPtime > 0 {
		m.WithValueAttribute("maxptime", strconv.Itoa(d.MaxPtime))
	}
	if d.RTCP.IsValid() {
		m.WithValueAttribute("rtcp", strconv.Itoa(int(d.RTCP.Port())))
	}
	if d.Mux {
		m.WithPropertyAttribute("rtcp-mux")
	}
	return m.WithPropertyAttribute(d.Direction.String())
}

// addressType is the addrtype of o= and c=.
func addressType(a netip.Addr) string {
	if a.Is4() {
		return "IP4"
	}
	return "IP6"
}
