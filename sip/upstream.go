package sip

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
	"github.com/prometheus/client_golang/prometheus"
)

// UpstreamConfig is `upstream:` of an extension: its own account at a PBX. The
// bridge registers there in its place, so that the PBX sends its calls here as
// to any telephone.
type UpstreamConfig struct {
	Trunk        string `yaml:"trunk"`         // whose registrar it is
	Username     string `yaml:"username"`      // user part of the AOR
	AuthUsername string `yaml:"auth_username"` // of the digest, where that differs; "": Username
	Password     Secret `yaml:"password"`
	PasswordFile string `yaml:"password_file"`
}

// IsZero reports whether the extension has no upstream.
func (c UpstreamConfig) IsZero() bool { return c == UpstreamConfig{} }

// Validate reports every fault of the entry alone; whether the trunk exists is
// for ValidateUpstreamTrunk.
func (c UpstreamConfig) Validate(report func(path, problem string)) {
	if c.IsZero() {
		return
	}
	if c.Trunk == "" {
		report("trunk", "is missing: name the trunk at whose registrar the extension has an account")
	}
	if c.Username == "" {
		report("username", "is missing: the user name of the extension at the PBX")
	}
	for path, name := range map[string]string{"username": c.Username, "auth_username": c.AuthUsername} {
		if hasControl(name) || strings.ContainsAny(name, " @<>\"") {
			report(path, "has characters that can't stand in a SIP user name: write the user part alone, without @host")
		}
	}
	if c.Password == "" {
		report("password", "is missing: set password or password_file for the login at the PBX")
	}
	if hasControl(string(c.Password)) {
		report("password", "has control characters: a line break at its end is often the cause")
	}
}

// Upstream is an extension that registers at a trunk as itself.
type Upstream struct {
	Extension string
	UpstreamConfig
}

// UpstreamState is how the registration of an extension at its PBX stands.
type UpstreamState struct {
	Trunk    string    `json:"trunk"`
	Username string    `json:"username"`
	State    string    `json:"state"` // registering | registered | failed
	Expires  time.Time `json:"expires,omitzero"`
	NextTry  time.Time `json:"next_try,omitzero"`
	LastCode int       `json:"last_code,omitempty"`
	Problem  string    `json:"problem,omitempty"`
}

// UpstreamCounts are the registrations of extensions at one trunk, by state.
type UpstreamCounts struct {
	Registered  int `json:"registered"`
	Registering int `json:"registering"` // not tried yet, or under way
	Failed      int `json:"failed"`
}

// upstreams are all registrations of extensions at one trunk. One goroutine
// makes them all (upstream_run.go), over the trunk's one connection; a
// registration that waits is an entry in a heap.
type upstreams struct {
	trunk  *Trunk
	callID string        // what the Call-IDs of this process begin with (RFC 3261 §10.2.4)
	wake   chan struct{} // there is something new for the goroutine
	least  int           // registrations a second that may always begin

	mu          sync.Mutex           // guards the following
	byExtension map[string]*upstream // without those that leave
	byToken     map[string]*upstream
	due         dueHeap       // those that are not under way
	answering   []*attempt    // under way, and to be sent once more
	flying      int           // attempts under way
	slot        time.Time     // when the next attempt may begin
	granted     time.Duration // what the PBX gave last
	minimum     time.Duration // what a 423 asked for
	www, proxy  *answerable   // the PBX's last challenge: a nonce serves all
	flow        *flow         // that the last REGISTER went by
	outage      outage
	heard       bool // the PBX has answered some REGISTER
	ending      int  // above 0: the process ends, so many are unregistered
}

// upstream is one registration. It has no goroutine and no timer.
type upstream struct {
	Upstream
	token string // user part of its Contact

	// guarded by upstreams.mu:
	seq      uint32
	failures uint32
	code     int
	problem  string
	due      time.Time
	expires  time.Time
	index    int  // in the heap, else nowhere or underWay
	changed  bool // while it was under way
	leaving  bool // to be unregistered, and then forgotten
}

func newUpstreams(t *Trunk) *upstreams {
	return &upstreams{trunk: t, callID: newTag() + newTag(), wake: make(chan struct{}, 1), least: upstreamRate,
		byExtension: map[string]*upstream{}, byToken: map[string]*upstream{}}
}

// CheckUpstreams says what keeps SetUpstreams from taking the list.
func (s *Server) CheckUpstreams(list []Upstream) error {
	for _, up := range list {
		if t := s.trunkNamed(up.Trunk); t == nil || t.cfg.Registrar == "" {
			return fmt.Errorf("extension %s: upstream.trunk: no running trunk %q with a registrar; a trunk that was added needs a restart", up.Extension, up.Trunk)
		}
	}
	return nil
}

// SetUpstreams replaces the extensions that register at a trunk as themselves.
// Those that stay as they were are not touched; new ones register, spread over
// time; those that went are unregistered. On error nothing changes.
func (s *Server) SetUpstreams(list []Upstream) error {
	if err := s.CheckUpstreams(list); err != nil {
		return err
	}
	byTrunk := map[string][]Upstream{}
	for _, i := range rand.Perm(len(list)) { // no order of names or numbers in what the PBX sees
		byTrunk[list[i].Trunk] = append(byTrunk[list[i].Trunk], list[i])
	}
	for _, t := range s.Trunks() {
		t.upstreams.set(byTrunk[t.cfg.Name])
	}
	return nil
}

func (s *Server) trunkNamed(name string) *Trunk {
	for _, t := range s.Trunks() {
		if t.cfg.Name == name {
			return t
		}
	}
	return nil
}

// Upstreams tells how each extension's registration stands, by its name.
func (s *Server) Upstreams() map[string]UpstreamState {
	out := map[string]UpstreamState{}
	for _, t := range s.Trunks() {
		t.upstreams.states(out)
	}
	return out
}

func (u *upstreams) set(list []Upstream) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	stays := map[string]bool{}
	for _, want := range list {
		e := u.byExtension[want.Extension]
		if e != nil && e.Username != want.Username { // another account
			u.dismiss(e, now)
			e = nil
		}
		stays[want.Extension] = true
		switch {
		case e == nil:
			u.add(want, now)
		case e.UpstreamConfig != want.UpstreamConfig: // other credentials of the same account
			e.UpstreamConfig, e.failures = want.UpstreamConfig, 0
			u.reschedule(e, now)
		}
	}
	for name, e := range u.byExtension {
		if !stays[name] {
			u.dismiss(e, now)
		}
	}
	u.rouse()
}

// add begins a registration; one that was about to leave stays instead.
func (u *upstreams) add(want Upstream, now time.Time) {
	token := contactToken(want)
	e := u.byToken[token]
	if e == nil {
		e = &upstream{token: token, index: nowhere}
	}
	e.Upstream, e.leaving = want, false
	u.byExtension[want.Extension], u.byToken[token] = e, e
	u.reschedule(e, now)
}

// dismiss has a registration removed. The caller holds u.mu.
func (u *upstreams) dismiss(e *upstream, now time.Time) {
	delete(u.byExtension, e.Extension)
	e.leaving = true
	if e.index >= 0 && !e.expires.After(now) { // nothing to be removed
		u.forget(e)
		return
	}
	u.reschedule(e, now)
}

// forget drops an entry that is done. The caller holds u.mu.
func (u *upstreams) forget(e *upstream) {
	u.due.remove(e)
	if u.byToken[e.token] == e {
		delete(u.byToken, e.token)
	}
}

func (u *upstreams) rouse() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// dial notes what was dialled. A call to the Contact of an extension's
// registration is that extension's; what the caller dialled is in the To header.
func (in *Inbound) dial(t *Trunk, req *sipgo.Request) {
	up, ok := t.upstreams.find(req.Recipient.User)
	if !ok {
		in.dialled = dialledBy(req)
		return
	}
	in.extension, in.dialled = up.Extension, []string{up.Username}
	in.account = up.client()
	if to := req.To(); to != nil {
		if n, _, _ := strings.Cut(handleOf(to.Address), "@"); n != "" && n != req.Recipient.User {
			in.dialled = []string{n}
		}
	}
}

// find gives the extension whose Contact has this user part.
func (u *upstreams) find(user string) (Upstream, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if e := u.byToken[user]; e != nil && !e.leaving {
		return e.Upstream, true
	}
	return Upstream{}, false
}

// client answers the challenges that the PBX has for the extension.
func (up Upstream) client() *digestClient {
	return newDigestClient(cmp.Or(up.AuthUsername, up.Username), up.Password)
}

func (u *upstreams) states(into map[string]UpstreamState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	for name, e := range u.byExtension {
		s := UpstreamState{Trunk: e.Trunk, Username: e.Username, State: u.stateOf(e, now), NextTry: e.due, LastCode: e.code, Problem: e.problem}
		if s.State == "registered" {
			s.Expires = e.expires
		}
		if u.outage.down {
			s.Problem, s.NextTry = u.outage.problem, u.outage.until
		}
		into[name] = s
	}
}

// stateOf is computed, not kept: a registration that expires does so by itself.
func (u *upstreams) stateOf(e *upstream, now time.Time) string {
	switch {
	case e.expires.After(now):
		return "registered"
	case e.problem != "", u.outage.down:
		return "failed"
	}
	return "registering"
}

// counts gives nil where no extension registers at the trunk.
func (u *upstreams) counts() *UpstreamCounts {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.byExtension) == 0 {
		return nil
	}
	now, c := time.Now(), UpstreamCounts{}
	for _, e := range u.byExtension {
		switch u.stateOf(e, now) {
		case "registered":
			c.Registered++
		case "failed":
			c.Failed++
		default:
			c.Registering++
		}
	}
	return &c
}

// contactToken is the user part of a Contact. Nobody but the PBX can know it:
// it is made with the password. It is the same after a restart, so that the
// PBX sees its old binding again and not one too many.
func contactToken(up Upstream) string {
	mac := hmac.New(sha256.New, []byte(up.Password.Reveal()))
	fmt.Fprintf(mac, "reveille contact\x00%s\x00%s\x00%s", up.Trunk, up.Username, up.Extension)
	return strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(mac.Sum(nil)[:15]))
}

// upstreamCollector counts the registrations when they are asked for.
type upstreamCollector struct {
	desc *prometheus.Desc

	mu  sync.Mutex // guards the following
	all []*upstreams
}

func newUpstreamCollector() *upstreamCollector {
	return &upstreamCollector{desc: prometheus.NewDesc("reveille_upstream_registrations",
		"Registrations of extensions at their PBX, by trunk and state.", []string{"trunk", "state"}, nil)}
}

func (c *upstreamCollector) add(u *upstreams) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, u)
}

// Describe implements prometheus.Collector.
func (c *upstreamCollector) Describe(out chan<- *prometheus.Desc) { out <- c.desc }

// Collect implements prometheus.Collector.
func (c *upstreamCollector) Collect(out chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range c.all {
		n := u.counts()
		if n == nil {
			continue
		}
		for state, count := range map[string]int{"registered": n.Registered, "registering": n.Registering, "failed": n.Failed} {
			out <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(count), u.trunk.cfg.Name, state)
		}
	}
}
