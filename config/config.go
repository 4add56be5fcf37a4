// Package config reads the configuration: the packages' own Config structs, first at their defaults, then overlaid by one strict
// YAML file with ${ENV} and *_file secrets, then validated. Every fault is told at once, with file, line and mend.
package config

import (
	"crypto/rand"
	_ "embed"
	"log/slog"
	"os"
	"reflect"
	"time"

	"gopkg.in/yaml.v3"

	"reveille/bridge"
	"reveille/push"
	"reveille/rtp"
	"reveille/sip"
	"reveille/sip/location"
)

// Example is the commented configuration with every key at its default: the manual.
//
//go:embed example.yml
var Example []byte

// Config is a whole configuration. A key that is absent keeps the value of Default.
type Config struct {
	StateDir     string        `yaml:"state_dir"` // "" keeps everything in memory
	Node         string        `yaml:"node"`      // "" in a file; Load and Embedded fill in the host name
	DrainTimeout time.Duration `yaml:"drain_timeout"`

	SIP            sip.Config         `yaml:"sip"`
	Trunks         []sip.TrunkConfig  `yaml:"trunks"`
	Extensions     []bridge.Extension `yaml:"extensions"`      // those of ExtensionFiles included
	ExtensionFiles []string           `yaml:"extension_files"` // each a YAML list of extensions
	Calls          bridge.Config      `yaml:"calls"`
	Push           push.Config        `yaml:"push"`
	Media          rtp.Config         `yaml:"media"`
	Location       LocationConfig     `yaml:"location"`
	HTTP           HTTPConfig         `yaml:"http"`
	Telemetry      TelemetryConfig    `yaml:"telemetry"`
}

// LocationConfig says where bindings, devices and tombstones are kept.
type LocationConfig struct {
	Engine string `yaml:"engine"` // "embedded": in Config.StateDir
	// DeviceLifetime is how long a device that can be pushed is kept after its
	// last REGISTER.
	DeviceLifetime time.Duration `yaml:"device_lifetime"`
}

// HTTPConfig is the listener of the API, /metrics, /healthz and /readyz.
type HTTPConfig struct {
	Listen    string     `yaml:"listen"` // host:port; "" listens nowhere
	Token     sip.Secret `yaml:"token"`  // bearer token; needed where Listen is not on loopback
	TokenFile string     `yaml:"token_file"`
}

// TelemetryConfig says where the records of calls go.
type TelemetryConfig struct {
	CDR string `yaml:"cdr"` // a file that gets one JSON line for each call; "" writes none
}

// Default is what an empty file means.
func Default() *Config {
	return &Config{
		StateDir:     "./reveille-state",
		DrainTimeout: 60 * time.Second,
		SIP:          sip.DefaultConfig(),
		Calls:        bridge.DefaultConfig(),
		Push:         push.DefaultConfig(),
		Media:        rtp.DefaultConfig(),
		Location:     LocationConfig{Engine: "embedded", DeviceLifetime: location.DeviceLifetime},
		HTTP:         HTTPConfig{Listen: "127.0.0.1:8060"},
	}
}

// Embedded is what runs without any file: the defaults, a trunk "local" that is whoever calls from this machine, and the extension
// 1001 with a new password, which the caller shows once.
func Embedded() (cfg *Config, extension, password string) {
	cfg = Default()
	password = rand.Text()
	cfg.Trunks = []sip.TrunkConfig{sip.TrunkConfig{Name: "local", Peers: []string{"127.0.0.0/8", "::1"}}.WithDefaults()}
	cfg.Extensions = []bridge.Extension{{Name: "1001", Password: sip.Secret(password), Numbers: []string{"1001"}}}
	cfg.nameNode()
	return cfg, "1001", password
}

func (c *Config) nameNode() {
	if c.Node == "" {
		c.Node, _ = os.Hostname()
	}
	if c.Node == "" {
		c.Node = "reveille"
	}
}

// Redacted is a copy without the secrets.
func (c *Config) Redacted() *Config {
	clone := deepCopy(reflect.ValueOf(*c))
	redact(clone)
	return clone.Addr().Interface().(*Config)
}

// Dump is the configuration as YAML without the secrets.
func (c *Config) Dump() []byte {
	out, err := yaml.Marshal(c.Redacted())
	if err != nil {
		return []byte("# " + err.Error() + "\n")
	}
	return out
}

// String is Dump, so that no verb of fmt shows a secret.
func (c *Config) String() string { return string(c.Dump()) }

// GoString is Dump as well.
func (c *Config) GoString() string { return string(c.Dump()) }

// LogValue is Dump as well.
func (c *Config) LogValue() slog.Value { return slog.StringValue(string(c.Dump())) }

// deepCopy gives an addressable copy that shares no list, table or pointer with v.
func deepCopy(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	switch {
	case isSection(v.Type()):
		for _, f := range fieldsOf(v.Type()) {
			out.FieldByIndex(f.index).Set(deepCopy(v.FieldByIndex(f.index)))
		}
	case v.Kind() == reflect.Pointer && !v.IsNil():
		out.Set(deepCopy(v.Elem()).Addr())
	case v.Kind() == reflect.Slice && !v.IsNil():
		out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		for i := range v.Len() {
			out.Index(i).Set(deepCopy(v.Index(i)))
		}
	case v.Kind() == reflect.Map && !v.IsNil():
		out.Set(reflect.MakeMap(v.Type()))
		for _, key := range v.MapKeys() {
			out.SetMapIndex(key, deepCopy(v.MapIndex(key)))
		}
	}
	return out
}
