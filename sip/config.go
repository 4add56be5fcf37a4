package sip

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Config is the `sip:` section of the configuration.
type Config struct {
	// Listen holds udp://, tcp://, tls://, ws:// and wss:// addresses; see ParseListen.
	Listen []string `yaml:"listen"`
	// ExternalAddress goes into Via and Contact behind NAT: an IP or a host
	// name, without port. Empty: the address of the socket.
	ExternalAddress string `yaml:"external_address"`
	// Domains are the hosts of the AORs we are registrar for. Empty: any.
	Domains   []string `yaml:"domains"`
	UserAgent string   `yaml:"user_agent"`
	// Resolvers are the DNS servers for SIP (RFC 3263), host or host:port.
	// Empty: those of /etc/resolv.conf.
	Resolvers []string `yaml:"resolvers"`

	TLS TLSConfig `yaml:"tls"`
	// Origins are the web origins whose pages may connect to ws:// and wss://
	// ("https://app.example.com"), besides pages from the host they connect to.
	Origins []string `yaml:"origins"`
	// EdgeProxies are the addresses and prefixes of proxies in front of us: a
	// Path (RFC 3327) is taken from them only.
	EdgeProxies []string `yaml:"edge_proxies"`

	Auth         AuthConfig         `yaml:"auth"`
	Registration RegistrationConfig `yaml:"registration"`
	Limits       LimitsConfig       `yaml:"limits"`
}

// TLSConfig names PEM files. ClientCA, when set, makes client certificates
// mandatory on tls:// and wss:// listeners.
type TLSConfig struct {
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	ClientCA    string `yaml:"client_ca"`
}

// AuthConfig is the digest server (RFC 8760). Challenges are sent in the order
// of Algorithms, so the strongest comes first.
type AuthConfig struct {
	Algorithms    []string      `yaml:"algorithms"`
	NonceLifetime time.Duration `yaml:"nonce_lifetime"`
}

// RegistrationConfig bounds what a REGISTER may ask for (RFC 3261 §10.3).
// Shorter than Min is answered 423, longer than Max is cut to Max.
type RegistrationConfig struct {
	Min         time.Duration `yaml:"min"`
	Default     time.Duration `yaml:"default"`
	Max         time.Duration `yaml:"max"`
	MaxContacts int           `yaml:"max_contacts"` // per AOR
}

// LimitsConfig bounds what a peer may cost us. Sizes are in bytes.
type LimitsConfig struct {
	Connections      int           `yaml:"connections"`
	ConnectionsPerIP int           `yaml:"connections_per_ip"`
	MessageSize      int           `yaml:"message_size"`
	HeaderSize       int           `yaml:"header_size"`
	FirstMessage     time.Duration `yaml:"first_message"` // a new connection that says nothing
	Idle             time.Duration `yaml:"idle"`          // a connection silent for longer is closed

	// For addresses that have not logged in; 0 turns each off.
	RegisterRate    int `yaml:"register_rate"`     // REGISTERs a second of an address
	RegisterBurst   int `yaml:"register_burst"`    // at once
	RegisterRateAll int `yaml:"register_rate_all"` // datagrams a second, of all addresses that are new to us
	AuthFailures    int `yaml:"auth_failures"`     // for a user from one network, in five minutes
	BanAfter        int `yaml:"ban_after"`         // offences within BanTime

	BanTime  time.Duration `yaml:"ban_time"`  // the first ban; each further one is twice as long
	BanMax   time.Duration `yaml:"ban_max"`   // the longest
	NeverBan []string      `yaml:"never_ban"` // IP addresses and prefixes, besides the trunks'
}

// DefaultConfig returns the `sip:` section as it is without a file.
func DefaultConfig() Config {
	return Config{
		Listen:    []string{"udp://0.0.0.0:5060", "tcp://0.0.0.0:5060"},
		UserAgent: "Reveille",
		Auth: AuthConfig{
			Algorithms:    []string{"SHA-256", "MD5"},
			NonceLifetime: 5 * time.Minute,
		},
		Registration: RegistrationConfig{
			Min: time.Minute, Default: time.Hour, Max: 24 * time.Hour, MaxContacts: 10,
		},
		Limits: LimitsConfig{
			Connections: 1000, ConnectionsPerIP: 20,
			MessageSize: 65535, HeaderSize: 16384,
			FirstMessage: 10 * time.Second,
			// Flow-Timer 120 s plus grace (RFC 5626 §4.4.1).
			Idle:         150 * time.Second,
			RegisterRate: 20, RegisterBurst: 40, RegisterRateAll: 1000, AuthFailures: 10,
			BanAfter: 5, BanTime: 10 * time.Minute, BanMax: 24 * time.Hour,
			NeverBan: []string{"127.0.0.1", "::1"},
		},
	}
}

// Validate reports every fault: path is the YAML path below `sip:`, problem
// says what is wrong and how to mend it.
func (c Config) Validate(report func(path, problem string)) {
	c.validateListen(report)
	if c.ExternalAddress != "" && !isHost(c.ExternalAddress) {
		report("external_address", fmt.Sprintf("%q is not an IP address or host name: write it without scheme, port or spaces", c.ExternalAddress))
	}
	c.validateDomains(report)
	c.validateEdges(report)
	if hasControl(c.UserAgent) {
		report("user_agent", "has control characters: use plain text on one line")
	}
	if (c.TLS.Certificate == "") != (c.TLS.Key == "") {
		report("tls", "certificate and key belong together: set both files, or none")
	}
	c.validateOrigins(report)
	c.validateResolvers(report)
	c.Auth.validate(report)
	c.Registration.validate(report)
	c.Limits.validate(report)
}

func (c Config) validateListen(report func(path, problem string)) {
	if len(c.Listen) == 0 {
		report("listen", "is empty, so no one could reach us: name at least one address, such as udp://0.0.0.0:5060")
	}
	seen := map[string]bool{}
	for i, s := range c.Listen {
		path := fmt.Sprintf("listen[%d]", i)
		network, addr, err := ParseListen(s)
		if err != nil {
			report(path, err.Error())
			continue
		}
		key := network + "://" + addr
		if seen[key] && !strings.HasSuffix(addr, ":0") {
			report(path, fmt.Sprintf("%s is listed twice: remove one", key))
		}
		seen[key] = true
		if secure(network) && c.TLS.Certificate == "" {
			report(path, "needs a certificate: set sip.tls.certificate and sip.tls.key")
		}
	}
}

func (c Config) validateDomains(report func(path, problem string)) {
	seen := map[string]bool{}
	for i, d := range c.Domains {
		path := fmt.Sprintf("domains[%d]", i)
		if !isHost(d) {
			report(path, fmt.Sprintf("%q is not a host name: write it as in sip:user@HOST, without scheme or port", d))
		}
		if seen[strings.ToLower(d)] {
			report(path, fmt.Sprintf("%q is listed twice: remove one", d))
		}
		seen[strings.ToLower(d)] = true
	}
}

func (a AuthConfig) validate(report func(path, problem string)) {
	if len(a.Algorithms) == 0 {
		report("auth.algorithms", "is empty, so no device could log in: name SHA-256, MD5 or both")
	}
	seen := map[string]bool{}
	for i, name := range a.Algorithms {
		path := fmt.Sprintf("auth.algorithms[%d]", i)
		if canonicalAlgorithm(name) != name {
			report(path, fmt.Sprintf("%q is not an algorithm we serve: use SHA-256 or MD5", name))
		}
		if seen[name] {
			report(path, fmt.Sprintf("%q is listed twice: remove one", name))
		}
		seen[name] = true
	}
	atLeast(report, "auth.nonce_lifetime", a.NonceLifetime, 10*time.Second)
	atMost(report, "auth.nonce_lifetime", a.NonceLifetime, 24*time.Hour)
}

func (r RegistrationConfig) validate(report func(path, problem string)) {
	atLeast(report, "registration.min", r.Min, time.Second)
	if r.Default < r.Min {
		report("registration.default", fmt.Sprintf("%s is shorter than registration.min (%s): raise it, or lower min", r.Default, r.Min))
	}
	if r.Max < r.Default {
		report("registration.max", fmt.Sprintf("%s is shorter than registration.default (%s): raise it, or lower default", r.Max, r.Default))
	}
	// Expires is a 32-bit number of seconds (RFC 3261 §20.19); a year is ample.
	atMost(report, "registration.max", r.Max, 366*24*time.Hour)
	positive(report, "registration.max_contacts", r.MaxContacts)
}

func (l LimitsConfig) validate(report func(path, problem string)) {
	positive(report, "limits.connections", l.Connections)
	positive(report, "limits.connections_per_ip", l.ConnectionsPerIP)
	if l.HeaderSize < 1024 {
		report("limits.header_size", fmt.Sprintf("%d bytes would refuse ordinary messages: use 1024 or more (16384 is the default)", l.HeaderSize))
	}
	if l.MessageSize < l.HeaderSize {
		report("limits.message_size", fmt.Sprintf("%d is less than limits.header_size (%d): a message contains its header, raise it", l.MessageSize, l.HeaderSize))
	}
	atLeast(report, "limits.first_message", l.FirstMessage, time.Second)
	atLeast(report, "limits.idle", l.Idle, 10*time.Second)
	l.validateGuard(report)
}

// ParseListen splits a listen URL such as "tls://[::1]:5061" into the network
// ("udp", "tcp", "tls", "ws" or "wss") and the host:port that net.Listen takes.
// A missing port becomes 5060, 5061 for tls, 80 for ws and 443 for wss (RFC 7118
// §5.3); port 0 lets the system choose.
func ParseListen(s string) (network, addr string, err error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return "", "", fmt.Errorf("%q has no scheme: write it as udp://0.0.0.0:5060", s)
	}
	port, known := map[string]string{"udp": "5060", "tcp": "5060", "tls": "5061", "ws": "80", "wss": "443"}[scheme]
	if !known {
		return "", "", fmt.Errorf("scheme %q is not one we listen on: use udp://, tcp://, tls://, ws:// or wss://", scheme)
	}
	addr, err = hostPort(rest, port)
	if err != nil {
		return "", "", fmt.Errorf("%q: %w", s, err)
	}
	return scheme, addr, nil
}

// ParsePeer reads one entry of a trunk's `peers`: an IP address, a CIDR prefix
// or a host name. Exactly one of prefix and host is set; an address becomes a
// prefix of full length.
func ParsePeer(s string) (prefix netip.Prefix, host string, err error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return netip.Prefix{}, "", fmt.Errorf("%q is not a CIDR prefix: write it as 192.0.2.0/28", s)
		}
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if p != p.Masked() {
			return netip.Prefix{}, "", fmt.Errorf("%q has host bits set: write %s for the network, or the address alone", s, p.Masked())
		}
		return p, "", nil
	}
	if ip, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		ip = ip.Unmap()
		return netip.PrefixFrom(ip, ip.BitLen()), "", nil
	}
	if !isHost(s) || looksNumeric(s) {
		return netip.Prefix{}, "", fmt.Errorf("%q is not an IP address, CIDR prefix or host name: write it without scheme and port", s)
	}
	return netip.Prefix{}, s, nil
}
