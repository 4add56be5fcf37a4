package admin

import (
	"slices"
	"strings"
	"time"

	"reveille/bridge"
	"reveille/sip"
	"reveille/sip/location"
)

// Status is GET /api/v1/status.
type Status struct {
	Version  string         `json:"version"`
	Node     string         `json:"node"`
	Phase    Phase          `json:"phase"`
	Started  time.Time      `json:"started"`
	SIP      []string       `json:"sip"`      // addresses listened on
	Push     []string       `json:"push"`     // providers
	Calls    map[string]int `json:"calls"`    // live calls by state
	Trunks   TrunkCounts    `json:"trunks"`   //
	Devices  map[string]int `json:"devices"`  // by push provider; "none" has no target
	Bindings map[string]int `json:"bindings"` // by transport
	Banned   int            `json:"banned"`   // addresses that are banned (sip.limits)
	Engines  []Engine       `json:"engines"`  // rtpengine daemons; none with media.engine: builtin
}

// Engine is an rtpengine daemon.
type Engine struct {
	URL   string    `json:"url"`
	Up    bool      `json:"up"`
	Drain bool      `json:"drain"` // it gets no new calls
	Calls int       `json:"calls"` // of ours
	Since time.Time `json:"since"` // it is up, or not
	Cause string    `json:"cause,omitempty"`
}

func (e Engine) takesCalls() bool { return e.Up && !e.Drain }

// TrunkCounts says how many trunks are up, and which are not.
type TrunkCounts struct {
	Up   int      `json:"up"`
	Down []string `json:"down"` // names
}

// CallList is GET /api/v1/calls: live calls, then ended ones, newest first in each.
type CallList struct {
	Calls []CallSummary `json:"calls"`
}

// CallSummary is a call without its timeline.
type CallSummary struct {
	bridge.Record
	Timeline *struct{} `json:"timeline,omitempty"` // hides that of Record
	Why      string    `json:"why"`
}

// CallDetail is GET /api/v1/calls/{uuid}.
type CallDetail struct {
	bridge.Record
	Why string `json:"why"` // one line: what became of the call, or what it waits for
}

// TrunkList is GET /api/v1/trunks.
type TrunkList struct {
	Trunks []Trunk `json:"trunks"`
}

// Trunk is a trunk's state and its live calls.
type Trunk struct {
	sip.TrunkState
	Calls int `json:"calls"`
}

// ExtensionList is GET /api/v1/extensions.
type ExtensionList struct {
	Extensions []Extension `json:"extensions"`
}

// Extension is an extension without its credentials.
type Extension struct {
	Name        string   `json:"name"`
	DisplayName string   `json:"display_name,omitempty"`
	Numbers     []string `json:"numbers"`
	Fallback    string   `json:"fallback,omitempty"`
	Devices     int      `json:"devices"`
	Bindings    int      `json:"bindings"`

	Upstream *sip.UpstreamState `json:"upstream,omitempty"` // its own registration at a PBX
}

// DeviceList is GET /api/v1/devices.
type DeviceList struct {
	Devices []Device `json:"devices"`
}

// Device is a device and its bindings. The push token (pn-prid) is not in it.
type Device struct {
	ID        string    `json:"id"`
	Extension string    `json:"extension"`
	Instance  string    `json:"instance,omitempty"`
	UserAgent string    `json:"user_agent,omitempty"`
	Seen      time.Time `json:"seen"` // last REGISTER or PUT
	Push      *Target   `json:"push,omitempty"`
	LastPush  *LastPush `json:"last_push,omitempty"`
	WakeMS    []float64 `json:"wake_ms,omitempty"` // its last wakes, the newest first
	Bindings  []Binding `json:"bindings"`
}

// LastPush is what became of the last push to a device since the start.
type LastPush struct {
	At      time.Time `json:"at"`
	Outcome string    `json:"outcome"`
	Reason  string    `json:"reason,omitempty"`
}

// Target is where a device is pushed.
type Target struct {
	Provider    string    `json:"provider"`
	Param       string    `json:"param"`
	Kinds       []string  `json:"kinds,omitempty"`       // of APNs tokens: voip, alert
	Key         bool      `json:"key"`                   // the device gave its public key
	Environment string    `json:"environment,omitempty"` // the one that took the token last
	Registered  time.Time `json:"registered"`
	Confirmed   time.Time `json:"confirmed"` // last REGISTER that had the token, or the PUT that brought it
}

// Binding is a live Contact of a device.
type Binding struct {
	Contact    string    `json:"contact"` // without its parameters: the push token is one
	Transport  string    `json:"transport"`
	Remote     string    `json:"remote"`
	Registered time.Time `json:"registered"`
	Expires    time.Time `json:"expires"`
}

// PushTest is the answer to POST /api/v1/extensions/{name}/push-test.
type PushTest struct {
	Pushes []bridge.PushRecord `json:"pushes"` // one for each device with a push target
}

// deviceView is what the API shows of a device.
func (s *server) deviceView(d location.Device, bindings []location.Binding) Device {
	v := Device{ID: d.ID, Extension: d.AOR, Instance: d.Instance, UserAgent: d.UserAgent, Seen: d.Seen, Bindings: []Binding{}}
	if t := d.Target; !t.IsZero() {
		v.Push = &Target{Provider: t.Provider, Param: t.Param, Kinds: t.Kinds(), Key: t.Key != "", Environment: t.Environment,
			Registered: d.Registered, Confirmed: d.Confirmed}
	}
	if p, ok := s.Devices.LastPush(d.AOR, d.ID); ok {
		v.LastPush = &LastPush{p.At, p.Outcome, p.Reason}
	}
	for _, took := range d.Wakes.List() {
		v.WakeMS = append(v.WakeMS, float64(took.Milliseconds()))
	}
	for _, b := range bindings {
		if b.DeviceID == d.ID {
			v.Bindings = append(v.Bindings, Binding{Contact: bareContact(b.Contact), Transport: b.Transport, Remote: b.Remote,
				Registered: b.Registered, Expires: b.Expires})
		}
	}
	slices.SortFunc(v.Bindings, func(a, b Binding) int { return b.Registered.Compare(a.Registered) })
	return v
}

// bareContact cuts a Contact URI before its first parameter or header: RFC
// 8599 has devices put their push token there.
func bareContact(uri string) string {
	if i := strings.IndexAny(uri, ";?"); i >= 0 {
		return uri[:i]
	}
	return uri
}
