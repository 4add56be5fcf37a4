package location

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// Binding is one Contact of an AOR and the flow it is reached on.
type Binding struct {
	AOR, DeviceID string
	Contact       string // the Contact URI as registered
	Instance      string // +sip.instance without brackets, "" if none
	RegID         int    // reg-id, 0 if none

	FlowID, Transport, Remote string // where the REGISTER came in
	// Path is the way over proxies (RFC 3327), as the header had it: "<sip:a;lr>,
	// <sip:b;lr>". "": there is none, the flow is the device's own.
	Path string

	CallID              string
	CSeq                uint32
	UserAgent           string
	Registered, Expires time.Time
	Q                   float32
}

// Target is where a push goes: pn-provider, pn-param and pn-prid (RFC 8599 §6).
// Environment is the provider's environment that worked last ("" unknown).
// Printed in any way, the token does not show.
type Target struct {
	Provider, Param, PRID, Environment string
	// Key is the device's public key, to which caller data is sealed: see
	// CheckKey. "": it gave none.
	Key string
}

// IsZero reports whether there is no target.
func (t Target) IsZero() bool { return t.PRID == "" }

// String names the provider and topic, never the token.
func (t Target) String() string {
	if t.IsZero() {
		return "none"
	}
	return t.Provider + "/" + t.Param + "/[redacted]"
}

// GoString covers the %#v of a struct that holds a Target.
func (t Target) GoString() string { return t.String() }

// LogValue implements slog.LogValuer.
func (t Target) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalJSON leaves the token out.
func (t Target) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{
		"provider": t.Provider, "param": t.Param, "environment": t.Environment,
	})
}

// Device is one app installation of an AOR. It outlives its bindings.
type Device struct {
	ID         string // stable: the same instance always has the same one
	AOR        string
	Instance   string
	Target     Target
	UserAgent  string
	Registered time.Time // when Target was set
	// Confirmed is when the device itself last said that Target is its own, in a
	// REGISTER: a backend that repeats itself knows nothing new. A push service
	// that has found the token dead before then is out of date.
	Confirmed time.Time
	Seen      time.Time // last REGISTER or Provision
	Wakes     Wakes     // how long it took to wake, see Woke
	// Doubt is whether Wakes may tell no more how long it takes, above 0: see
	// Overslept. It is not stored.
	Doubt int8
}

// DeviceKey names a device among those of all AORs.
type DeviceKey struct{ AOR, ID string }

func (d Device) key() DeviceKey { return DeviceKey{d.AOR, d.ID} }

// Tombstone is what is kept of an ended call so that a device that registers
// too late is told, with INVITE and CANCEL.
type Tombstone struct {
	CallUUID, AOR, DeviceID string
	CallID                  string // of the device's leg
	Cause                   int    // for Reason; 0: none
	CauseText               string
	From, FromName, To      string
	Expires                 time.Time
	// Pushed is when the push left that the device has not woken by yet; zero if
	// there is none.
	Pushed time.Time `json:",omitzero"`
}

// TombstoneKey names a tombstone: there is one per call and device.
type TombstoneKey struct{ CallUUID, DeviceID string }

// Key returns the tombstone's name.
func (t Tombstone) Key() TombstoneKey { return TombstoneKey{t.CallUUID, t.DeviceID} }

// Update is what one authenticated REGISTER asks for. It is applied as a whole
// or not at all.
type Update struct {
	AOR                       string
	CallID                    string
	CSeq                      uint32
	FlowID, Transport, Remote string
	Path                      string
	UserAgent                 string
	RemoveAll                 bool // Contact: *
	KeepTargets               bool // who is removed only sleeps: targets stay
	Contacts                  []Contact
	MaxContacts               int // per AOR; 0: no limit
}

// Contact is one Contact of an Update.
type Contact struct {
	URI      string
	Key      string // the URI in canonical form: equal keys are equal URIs; "": URI itself
	Instance string
	RegID    int
	Q        float32
	Expires  time.Duration // 0 removes the binding and, unless Update.KeepTargets, a device's target
	Target   Target        // zero: the device keeps the target it has
	// NoPush takes the device's target away but not its binding: the Contact
	// names a push service without a token (RFC 8599 §4.1.2).
	NoPush bool
}

// bindingKey is the identity of a binding within its AOR: instance and reg-id
// (RFC 5626 §6), else the push token, else the Contact URI (RFC 3261 §10.3).
func (c Contact) bindingKey() string {
	switch {
	case c.Instance != "":
		return "i" + strconv.Itoa(c.RegID) + " " + strings.ToLower(c.Instance)
	case !c.Target.IsZero():
		return "p" + c.Target.tokens().name()
	}
	return "c" + c.uriKey()
}

func (c Contact) uriKey() string {
	if c.Key != "" {
		return c.Key
	}
	return c.URI
}

// DeviceID returns the id of the device that a Contact belongs to: a hash of
// its instance, else of its push token, else of its URI. 80 bits keep chance
// collisions away, and no token can be read back from it.
func (c Contact) DeviceID() string {
	id := "c" + c.uriKey()
	switch {
	case c.Instance != "":
		id = "i" + strings.ToLower(c.Instance)
	case !c.Target.IsZero():
		id = "p" + c.Target.tokens().name()
	}
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:10])
}
