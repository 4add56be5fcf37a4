package sdp

import (
	"slices"
	"strconv"
	"strings"

	pion "github.com/pion/sdp/v3"
)

// Limits on what is kept of a=rtcp-fb.
const (
	maxFeedback      = 48
	maxFeedbackBytes = 64
)

// video reports whether the line is video in a profile that we relay; DTLS is not among them.
func (l Line) video(kinds Kinds) bool {
	return l.Media == "video" && l.kinds()&kinds&(Plain|Keyed) != 0
}

// video gives the first video line that is protected as the audio is: with keys beside encrypted audio, without beside
// plain, none beside DTLS. A line with a fault is passed over, as a call can do without.
func (d *Description) video(s *pion.SessionDescription, kinds Kinds) *Stream {
	kinds &= d.kind()
	for i, m := range s.MediaDescriptions {
		line := d.Lines[i]
		if !line.video(kinds) || m.MediaName.Port.Value == 0 {
			continue
		}
		v := &Stream{Index: i}
		if why, err := v.secure(s, m, line, kinds); why == "" && err == nil && v.picture(s, m) {
			return v
		}
	}
	return nil
}

// picture fills v from a video line; false if that line cannot be used.
func (v *Stream) picture(s *pion.SessionDescription, m *pion.MediaDescription) bool {
	if port := m.MediaName.Port.Value; port < 0 || port > 65535 {
		return false
	}
	list, err := codecs(m)
	if err != nil {
		return false
	}
	_, v.Mux = m.Attribute("rtcp-mux")
	v.Codecs = slices.DeleteFunc(list, func(c Codec) bool { return c.Rate != videoRate })
	if why, err := v.address(s, m); why != "" || err != nil || len(v.Codecs) == 0 {
		return false
	}
	v.direct(s, m)
	v.feedback(m)
	return true
}

// videoRate is the RTP clock of all video (RFC 3551 §5, RFC 6184, RFC 7741).
const videoRate = 90000

// feedback keeps what is said of RTCP feedback for the codecs of the line, or for all.
func (v *Stream) feedback(m *pion.MediaDescription) {
	for _, a := range m.Attributes {
		if a.Key != "rtcp-fb" || len(v.Feedback) == maxFeedback || len(a.Value) > maxFeedbackBytes || !printable(a.Value) {
			continue
		}
		number, _, _ := strings.Cut(a.Value, " ")
		of := func(c Codec) bool { return strconv.Itoa(int(c.PT)) == number }
		if number == "*" || slices.ContainsFunc(v.Codecs, of) {
			v.Feedback = append(v.Feedback, a.Value)
		}
	}
}

// Picture reports whether c is video by itself, and neither a retransmission (RFC 4588) nor a correction of errors (RFC
// 2198, RFC 5109, RFC 8627).
func (c Codec) Picture() bool {
	return !slices.Contains([]string{"rtx", "red", "ulpfec", "flexfec-03", "flexfec"}, strings.ToLower(c.Name))
}
