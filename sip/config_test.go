package sip

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

func faults(validate func(func(path, problem string))) string {
	var paths []string
	validate(func(path, problem string) {
		if !strings.Contains(problem, ":") && !strings.Contains(problem, ",") {
			path += " (no mend: " + problem + ")"
		}
		paths = append(paths, path)
	})
	return strings.Join(paths, " ")
}

func TestConfigDefaultIsValid(t *testing.T) {
	if got := faults(DefaultConfig().Validate); got != "" {
		t.Error(got)
	}
}

func TestConfigFaults(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"listen":                                func(c *Config) { c.Listen = nil },
		"listen[0] listen[1] listen[2]":         func(c *Config) { c.Listen = []string{"sctp://0.0.0.0", "0.0.0.0:5060", "udp://0.0.0.0:70000"} },
		"listen[1]":                             func(c *Config) { c.Listen = []string{"udp://0.0.0.0", "udp://0.0.0.0:5060"} },
		"listen[0]":                             func(c *Config) { c.Listen = []string{"tls://0.0.0.0:5061"} },
		"listen[0] ":                            func(c *Config) { c.Listen = []string{"udp://::1:5060"} },
		"external_address":                      func(c *Config) { c.ExternalAddress = "sip.example.com:5060" },
		"domains[0] domains[2]":                 func(c *Config) { c.Domains = []string{"sip:a", "b.example", "B.example"} },
		"user_agent":                            func(c *Config) { c.UserAgent = "a\r\nVia: b" },
		"tls":                                   func(c *Config) { c.TLS.Key = "k.pem" },
		"auth.algorithms":                       func(c *Config) { c.Auth.Algorithms = nil },
		"auth.algorithms[0] auth.algorithms[2]": func(c *Config) { c.Auth.Algorithms = []string{"sha-256", "MD5", "MD5"} },
		"auth.nonce_lifetime":                   func(c *Config) { c.Auth.NonceLifetime = time.Second },
		"registration.min registration.max_contacts":        func(c *Config) { c.Registration.Min = 0; c.Registration.MaxContacts = 0 },
		"registration.default":                              func(c *Config) { c.Registration.Default = time.Second },
		"registration.max":                                  func(c *Config) { c.Registration.Max = time.Minute },
		"limits.connections limits.header_size limits.idle": func(c *Config) { c.Limits.Connections = 0; c.Limits.HeaderSize = 10; c.Limits.Idle = 1 },
		"limits.message_size limits.first_message":          func(c *Config) { c.Limits.MessageSize = 1500; c.Limits.FirstMessage = 0 },
	} {
		c := DefaultConfig()
		change(&c)
		if got := faults(c.Validate); got != strings.TrimSpace(want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestParseListen(t *testing.T) {
	for in, want := range map[string]string{
		"udp://0.0.0.0":          "udp 0.0.0.0:5060",
		"tls://[::1]":            "tls [::1]:5061",
		"tcp://:0":               "tcp :0",
		"tcp://sip.example:5080": "tcp sip.example:5080",
	} {
		network, addr, err := ParseListen(in)
		if got := network + " " + addr; err != nil || got != want {
			t.Errorf("%s: %s, %v", in, got, err)
		}
	}
}

func TestTrunkFaults(t *testing.T) {
	for want, trunk := range map[string]TrunkConfig{
		"":                                    {Name: "pbx", Peers: []string{"192.0.2.10", "192.0.2.0/28", "2001:db8::/32", "pbx.example"}, Fallback: "480"},
		" ":                                   {Name: "c", Registrar: "sip:sip.carrier.example", Username: "49301234", Password: "x", Fallback: "sip:1@h", Transport: "tls", RootCA: "ca.pem"},
		"name registrar":                      {Name: "a b"},
		"registrar":                           {Name: "c", Registrar: "http://x", Username: "u", Password: "p"},
		"registrar ":                          {Name: "c", Registrar: "sip:a b", Username: "u", Password: "p"},
		"  ":                                  {Name: "c", Registrar: "sip:h"}, // for the upstreams of extensions
		"username ":                           {Name: "c", Registrar: "sip:h", Password: "p"},
		"password ":                           {Name: "c", Registrar: "sip:h", Username: "u"},
		"username":                            {Name: "c", Registrar: "sip:h", Username: "u@h", Password: "p"},
		"password":                            {Name: "c", Registrar: "sip:h", Username: "u", Password: "p\n"},
		"expires":                             {Name: "c", Registrar: "sip:h", Username: "u", Password: "p", Expires: time.Second},
		"peers[0] peers[1] peers[2] peers[4]": {Name: "p", Peers: []string{"192.0.2.1/28", "sip:h", "192.0.2.300", "10.0.0.1", "10.0.0.1"}},
		"options_interval":                    {Name: "p", Peers: []string{"h"}, OptionsInterval: time.Second},
		"transport":                           {Name: "p", Peers: []string{"h"}, Transport: "sctp"},
		"transport ":                          {Name: "c", Registrar: "sips:h", Username: "u", Password: "p", Transport: "tcp"},
		"outbound_proxy":                      {Name: "p", Peers: []string{"h"}, OutboundProxy: "sip://h"},
		"root_ca":                             {Name: "p", Peers: []string{"h"}, RootCA: "ca.pem"},
		"gin":                                 {Name: "p", Peers: []string{"h"}, GIN: true},
		"client_certificate":                  {Name: "p", Peers: []string{"h"}, ClientCertificate: "c.pem"},
		"client_certificate ":                 {Name: "p", Peers: []string{"h"}, Transport: "udp", ClientCertificate: "c.pem", ClientKey: "k.pem"},
		"max_calls":                           {Name: "p", Peers: []string{"h"}, MaxCalls: -1},
		"caller_id[0] caller_id[2]":           {Name: "p", Peers: []string{"h"}, CallerID: []string{"pai", "from", "from"}},
		"fallback":                            {Name: "p", Peers: []string{"h"}, Fallback: "200"},
		"fallback ":                           {Name: "p", Peers: []string{"h"}, Fallback: "voicemail"},
	} {
		if got := faults(trunk.Validate); got != strings.TrimSpace(want) {
			t.Errorf("%+v: got %q, want %q", trunk, got, want)
		}
	}
	list := []TrunkConfig{
		{Name: "a", Peers: []string{"192.0.2.1", "PBX.example"}},
		{Name: "a", Peers: []string{"192.0.2.1/32", "pbx.example", "192.0.2.2"}},
	}
	got := faults(func(report func(string, string)) { ValidateTrunks(list, report) })
	if got != "[1].name [1].peers[0] [1].peers[1]" {
		t.Error(got)
	}
}

func TestTrunkDefaults(t *testing.T) {
	no := false
	got := TrunkConfig{EarlyMedia: &no}.WithDefaults()
	if *got.EarlyMedia || got.Transport != "" || got.Expires != 10*time.Minute || len(got.CallerID) != 2 {
		t.Errorf("%+v", got)
	}
	if !*(TrunkConfig{}).WithDefaults().EarlyMedia {
		t.Error("early media is not the default")
	}
}

func TestSecretNeverShows(t *testing.T) {
	c := TrunkConfig{Name: "c", Password: "hunter2"}
	var out bytes.Buffer
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X"} {
		fmt.Fprintf(&out, format+" "+format+"\n", c, c.Password)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "trunk", c, "password", c.Password)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "trunk", c, "password", c.Password)
	for _, marshal := range []func(any) ([]byte, error){json.Marshal, yaml.Marshal} {
		b, err := marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
	}
	for _, leak := range []string{"hunter2", "68756e74657232", "68756E74657232", "104 117"} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%s in %s", leak, out.String())
		}
	}
	if Secret("").String() != "" || Secret("hunter2").Reveal() != "hunter2" {
		t.Error("an empty secret must look empty, a revealed one be itself")
	}
	var back TrunkConfig
	if err := yaml.Unmarshal([]byte("password: hunter2"), &back); err != nil || back.Password != "hunter2" {
		t.Error(err)
	}
}
