package sip

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Sources of the caller's number, for TrunkConfig.CallerID.
const (
	CallerFromPAI  = "p-asserted-identity"
	CallerFromRPID = "remote-party-id"
	CallerFromFrom = "from"
)

// TrunkConfig is one entry of `trunks:`: a carrier or PBX that we register to
// (Registrar), that is known by address (Peers), or both. One with a registrar
// and no user name is for extensions that register there as themselves.
type TrunkConfig struct {
	Name string `yaml:"name"`

	Registrar    string        `yaml:"registrar"` // sip: URI
	Username     string        `yaml:"username"`
	Password     Secret        `yaml:"password"`
	PasswordFile string        `yaml:"password_file"`
	Expires      time.Duration `yaml:"expires"`

	Peers           []string      `yaml:"peers"`            // see ParsePeer
	OptionsInterval time.Duration `yaml:"options_interval"` // 0: no OPTIONS

	OutboundProxy string `yaml:"outbound_proxy"` // sip: URI
	Transport     string `yaml:"transport"`      // udp, tcp, tls, or "": what the DNS says, else udp
	// GIN registers all numbers of the trunk at once (RFC 6140).
	GIN bool `yaml:"gin"`
	// PEM files that we show a server that asks for a client certificate.
	ClientCertificate string `yaml:"client_certificate"`
	ClientKey         string `yaml:"client_key"`
	RootCA            string `yaml:"root_ca"` // PEM file of further trust anchors for tls

	EarlyMedia *bool    `yaml:"early_media"` // nil: true
	Ringback   string   `yaml:"ringback"`    // what its callers hear while they wait, as media.ringback; "": that
	Tone       string   `yaml:"tone"`        // as media.tone; "": that
	SRTP       string   `yaml:"srtp"`        // off (or ""), optional or required; by TLS only
	MaxCalls   int      `yaml:"max_calls"`   // 0: no limit
	CallerID   []string `yaml:"caller_id"`   // in order of preference
	Verstat    bool     `yaml:"verstat"`     // believe the trunk's verification of the caller's number (RFC 8224)
	Fallback   string   `yaml:"fallback"`    // sip: URI or status; see ParseFallback
	RTPStat    bool     `yaml:"rtp_stat"`    // our BYE and our 200 to the trunk's have X-RTP-Stat
	Transfer   *bool    `yaml:"transfer"`    // nil: true; a device's REFER may be passed to the trunk that made the call
}

// WithDefaults returns the trunk with every absent key filled in.
func (t TrunkConfig) WithDefaults() TrunkConfig {
	if t.Expires == 0 {
		t.Expires = 10 * time.Minute
	}
	if t.EarlyMedia == nil {
		yes := true
		t.EarlyMedia = &yes
	}
	if t.Transfer == nil {
		yes := true
		t.Transfer = &yes
	}
	if len(t.CallerID) == 0 {
		t.CallerID = []string{CallerFromPAI, CallerFromFrom}
	}
	return t
}

// Validate reports every fault of this trunk alone, as Config.Validate does.
func (t TrunkConfig) Validate(report func(path, problem string)) {
	t = t.WithDefaults()
	if !isName(t.Name) {
		report("name", fmt.Sprintf("%q is not a name: use 1 to 64 of letters, digits, '.', '_' and '-'", t.Name))
	}
	if t.Registrar == "" && len(t.Peers) == 0 {
		report("registrar", "neither registrar nor peers is set, so no call could come from this trunk: set registrar to log in there, or peers to the addresses it calls from")
	}
	t.validateLogin(report)
	t.validatePeers(report)
	t.validateTransport(report)
	t.validateClientCertificate(report)
	if t.MaxCalls < 0 {
		report("max_calls", fmt.Sprintf("%d is negative: use 0 for no limit", t.MaxCalls))
	}
	if !slices.Contains([]string{"", "off", "optional", "required"}, t.SRTP) {
		report("srtp", fmt.Sprintf("%q is no way to encrypt: use off, optional or required", t.SRTP))
	}
	t.validateCallerID(report)
	if _, _, err := ParseFallback(t.Fallback); err != nil {
		report("fallback", err.Error())
	}
}

func (t TrunkConfig) validateLogin(report func(path, problem string)) {
	if t.Registrar == "" {
		return
	}
	if problem := uriProblem(t.Registrar); problem != "" {
		report("registrar", problem)
	}
	// Without both it is a registrar for the upstreams of extensions alone.
	if t.Username == "" && t.Password != "" {
		report("username", "is missing: registrar needs the user name to log in as")
	}
	if t.Password == "" && t.Username != "" {
		report("password", "is missing: set password or password_file for the login at registrar")
	}
	if hasControl(t.Username) || strings.ContainsAny(t.Username, " @<>\"") {
		report("username", "has characters that can't stand in a SIP user name: write the user part alone, without @host")
	}
	if hasControl(string(t.Password)) {
		report("password", "has control characters: a line break at its end is often the cause")
	}
	// Shorter than a minute is most registrars' 423; longer than a day hides
	// a lost registration for too long.
	atLeast(report, "expires", t.Expires, time.Minute)
	atMost(report, "expires", t.Expires, 24*time.Hour)
}

func (t TrunkConfig) validatePeers(report func(path, problem string)) {
	for i, s := range t.Peers {
		path := fmt.Sprintf("peers[%d]", i)
		if _, _, err := ParsePeer(s); err != nil {
			report(path, err.Error())
		}
		if slices.Index(t.Peers, s) < i {
			report(path, fmt.Sprintf("%q is listed twice: remove one", s))
		}
	}
	if t.OptionsInterval != 0 {
		atLeast(report, "options_interval", t.OptionsInterval, 5*time.Second)
	}
}

func (t TrunkConfig) validateTransport(report func(path, problem string)) {
	if !slices.Contains([]string{"", "udp", "tcp", "tls"}, t.Transport) {
		report("transport", fmt.Sprintf("%q is not a transport: use udp, tcp, tls, or leave it out for what the DNS says", t.Transport))
	}
	if strings.HasPrefix(strings.ToLower(t.Registrar), "sips:") && t.Transport != "tls" && t.Transport != "" {
		report("transport", "a sips: registrar is reached over TLS only: set transport: tls, or write the registrar as sip:")
	}
	if t.OutboundProxy != "" {
		if problem := uriProblem(t.OutboundProxy); problem != "" {
			report("outbound_proxy", problem)
		}
	}
	if byDNS := t.Transport == "" && t.Registrar != ""; t.RootCA != "" && t.Transport != "tls" && !byDNS {
		report("root_ca", "is used with transport: tls only: set that, or remove root_ca")
	}
}

func (t TrunkConfig) validateClientCertificate(report func(path, problem string)) {
	switch {
	case (t.ClientCertificate == "") != (t.ClientKey == ""):
		report("client_certificate", "belongs together with client_key: set both files, or none")
	case t.ClientCertificate != "" && t.Transport != "tls" && t.Transport != "":
		report("client_certificate", "is used with transport: tls only: set that, or remove client_certificate and client_key")
	}
	if t.GIN && t.Registrar == "" {
		report("gin", "is a way to register, and there is no registrar: set registrar, or remove gin; a peer may call any number")
	}
}

func (t TrunkConfig) validateCallerID(report func(path, problem string)) {
	known := []string{CallerFromPAI, CallerFromRPID, CallerFromFrom}
	for i, s := range t.CallerID {
		path := fmt.Sprintf("caller_id[%d]", i)
		if !slices.Contains(known, s) {
			report(path, fmt.Sprintf("%q is not a source of the caller: use %s", s, strings.Join(known, ", ")))
		}
		if slices.Index(t.CallerID, s) < i {
			report(path, fmt.Sprintf("%q is listed twice: remove one", s))
		}
	}
}

// ValidateTrunks reports every fault of the list, with paths such as
// "[1].name", among them names and peers that two trunks share.
func ValidateTrunks(trunks []TrunkConfig, report func(path, problem string)) {
	names, peers := map[string]int{}, map[string]int{}
	for i, t := range trunks {
		at := fmt.Sprintf("[%d].", i)
		t.Validate(func(path, problem string) { report(at+path, problem) })
		if j, taken := names[t.Name]; taken && t.Name != "" {
			report(at+"name", fmt.Sprintf("%q is already the name of trunks[%d]: names must differ", t.Name, j))
		} else {
			names[t.Name] = i
		}
		for k, s := range t.Peers {
			key := peerKey(s)
			if j, taken := peers[key]; taken && j != i {
				report(fmt.Sprintf("%speers[%d]", at, k), fmt.Sprintf("%s is already a peer of trunks[%d]: a call from there could not be told apart, remove one", s, j))
				continue
			}
			peers[key] = i
		}
	}
}

// peerKey makes "192.0.2.1" and "192.0.2.1/32" the same peer.
func peerKey(s string) string {
	prefix, host, err := ParsePeer(s)
	switch {
	case err != nil:
		return s
	case host != "":
		return strings.ToLower(host)
	}
	return prefix.String()
}

// ParseFallback reads where an unanswered call goes: "" (nowhere: the ending's
// own status), a status from 400 to 699, or a sip:, sips: or tel: URI for a 302.
func ParseFallback(s string) (status int, uri string, err error) {
	if s == "" {
		return 0, "", nil
	}
	if n, err := strconv.Atoi(s); err == nil {
		if n < 400 || n > 699 {
			return 0, "", fmt.Errorf("status %d can't end a call: use 400 to 699, such as \"480\", or a sip: URI", n)
		}
		return n, "", nil
	}
	if strings.HasPrefix(strings.ToLower(s), "tel:") && !hasControl(s) && !strings.ContainsAny(s, " <>\"") {
		return 0, s, nil
	}
	if problem := uriProblem(s); problem != "" {
		return 0, "", fmt.Errorf("%s, or a status such as \"480\"", problem)
	}
	return 0, s, nil
}
