package rtp

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Config is the media section of the configuration.
type Config struct {
	Engine          string        `yaml:"engine"`           // what relays: "builtin" or "rtpengine"
	Ports           string        `yaml:"ports"`            // UDP ports for calls, "first-last"; a call takes two pairs
	ExternalAddress string        `yaml:"external_address"` // IP address in our SDP when behind NAT; "" for that of the socket
	Ringback        string        `yaml:"ringback"`         // "tone", "none", or a file: WAV, or raw G.711 or 16-bit PCM, 8 kHz mono
	Tone            string        `yaml:"tone"`             // country of the tone, one of ToneNames
	DeviceSRTP      string        `yaml:"device_srtp"`      // off, optional or required; by TLS and WSS only
	FastPath        string        `yaml:"fast_path"`        // auto: the kernel relays plain RTP where it can; off: sockets only
	Video           bool          `yaml:"video"`            // relay video lines too; else they are declined
	Timeout         time.Duration `yaml:"timeout"`          // no RTP at all for this long, not on hold, is the Idle event
	RTPEngine       EngineConfig  `yaml:"rtpengine"`        // with the engine of that name
}

// DefaultConfig is what holds where the file is silent.
func DefaultConfig() Config {
	return Config{
		Engine:     builtin,
		Ports:      "20000-29999",
		Ringback:   "tone",
		Tone:       "eu",
		DeviceSRTP: "optional",
		FastPath:   "auto",
		Video:      true,
		Timeout:    time.Minute,
		RTPEngine:  EngineConfig{Address: Addresses{"udp://127.0.0.1:2223"}},
	}
}

// Validate reports every fault with its key and how to mend it. A ringback file is read.
func (c Config) Validate(report func(path, problem string)) {
	switch c.Engine {
	case builtin:
	case rtpengine:
		if c.ExternalAddress != "" {
			report("external_address", "does nothing with the engine rtpengine, whose own option interface=LOCAL!PUBLIC says it; remove the key")
		}
	default:
		report("engine", fmt.Sprintf("%q is no media engine; use builtin or rtpengine", c.Engine))
	}
	c.RTPEngine.validate(func(path, problem string) { report("rtpengine."+path, problem) })
	if _, _, err := parsePorts(c.Ports); err != nil {
		report("ports", err.Error())
	}
	if _, err := parseExternal(c.ExternalAddress); err != nil {
		report("external_address", err.Error())
	}
	if _, ok := tones()[c.Tone]; !ok {
		report("tone", fmt.Sprintf("%q is no known tone; use one of %s", c.Tone, strings.Join(ToneNames(), ", ")))
	}
	if _, err := ParseSecurity(c.DeviceSRTP); err != nil {
		report("device_srtp", err.Error())
	}
	if err := checkFastPath(c.FastPath); err != nil {
		report("fast_path", err.Error())
	}
	if c.Timeout < time.Second {
		report("timeout", fmt.Sprintf("%v is too short; use at least 1s, such as 60s", c.Timeout))
	}
	if c.Ringback == "" {
		report("ringback", "is empty; write tone, none or the name of a file")
	}
	Sound{Ringback: c.Ringback}.Validate(report)
}

// parsePorts reads "first-last" and gives the even ports of the first and last whole pair in it.
func parsePorts(text string) (first, last uint16, err error) {
	a, b, ok := strings.Cut(text, "-")
	lo, errLo := strconv.ParseUint(strings.TrimSpace(a), 10, 16)
	hi, errHi := strconv.ParseUint(strings.TrimSpace(b), 10, 16)
	if !ok || errLo != nil || errHi != nil {
		return 0, 0, fmt.Errorf("%q is no port range; write first-last, 65535 at most, such as 20000-29999", text)
	}
	if lo < 1024 {
		return 0, 0, fmt.Errorf("ports below 1024 are reserved; begin at 1024 or above, such as 20000-29999")
	}
	lo += lo & 1
	hi -= 1 - hi&1 // the last pair ends on an odd port
	if hi < lo+3 {
		return 0, 0, fmt.Errorf("%q has no room for one call (two pairs of ports); widen it, such as 20000-29999", text)
	}
	return uint16(lo), uint16(hi - 1), nil
}

// parseExternal reads the external address; "" gives the zero Addr.
func parseExternal(text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%q is no IP address that peers could send to; write the public one, such as 203.0.113.5", text)
	}
	return a.Unmap(), nil
}
