package bridge

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"reveille/sip"
)

// Config is the `calls:` section of the configuration: the timers of a call.
type Config struct {
	PushTimeout time.Duration `yaml:"push_timeout"` // the push provider must answer
	WakeTimeout time.Duration `yaml:"wake_timeout"` // push accepted -> REGISTER, at most
	// WakeTimeoutMin is what a device gets at least of WakeTimeout, however fast it
	// has woken before; WakeTimeout or more: each device always gets all of it.
	WakeTimeoutMin time.Duration `yaml:"wake_timeout_min"`
	RingTimeout    time.Duration `yaml:"ring_timeout"`  // first device INVITE -> answer
	ProbeTimeout   time.Duration `yaml:"probe_timeout"` // a live flow that gives no 1xx in this time counts as asleep
	LateWindow     time.Duration `yaml:"late_window"`   // how long a tombstone is kept
	MaxDuration    time.Duration `yaml:"max_duration"`  // longest call
	Limits         LimitsConfig  `yaml:"limits"`
}

// DefaultConfig returns the timers a bridge runs with when nothing is configured.
func DefaultConfig() Config {
	return Config{
		PushTimeout: 5 * time.Second,
		WakeTimeout: 20 * time.Second,
		// A phone that has to give up a Wi-Fi which it hardly hears takes 2 to 5 s for
		// that, and only then gets its push; an app that was not running takes another
		// 2 to 3 s on mobile data for DNS, TLS and its REGISTER.
		WakeTimeoutMin: 8 * time.Second,
		RingTimeout:    45 * time.Second,
		ProbeTimeout:   2 * time.Second,
		LateWindow:     60 * time.Second,
		MaxDuration:    4 * time.Hour,
		Limits:         defaultLimits(),
	}
}

// Validate reports every timer that cannot work, with the mend.
func (c Config) Validate(report func(path, problem string)) {
	c.Limits.validate(report)
	timers := []struct {
		path     string
		value    time.Duration
		min, max time.Duration
	}{
		{"push_timeout", c.PushTimeout, 100 * time.Millisecond, 30 * time.Second},
		{"wake_timeout", c.WakeTimeout, time.Second, 3 * time.Minute},
		{"wake_timeout_min", c.WakeTimeoutMin, time.Second, 3 * time.Minute},
		{"ring_timeout", c.RingTimeout, time.Second, 10 * time.Minute},
		{"probe_timeout", c.ProbeTimeout, 100 * time.Millisecond, 30 * time.Second},
		{"late_window", c.LateWindow, 0, 30 * time.Minute},
		{"max_duration", c.MaxDuration, time.Minute, 7 * 24 * time.Hour},
	}
	for _, t := range timers {
		if t.value < t.min || t.value > t.max {
			report(t.path, fmt.Sprintf("%s is out of range; use a duration from %s to %s", t.value, t.min, t.max))
		}
	}
}

// Extension is a callee: an address-of-record with a password, numbers and devices.
type Extension struct {
	Name         string            `yaml:"name"` // user part of the address-of-record
	Password     sip.Secret        `yaml:"password"`
	PasswordFile string            `yaml:"password_file"`
	HA1          map[string]string `yaml:"ha1"` // algorithm -> hash of user:realm:password, in place of a password
	DisplayName  string            `yaml:"display_name"`
	Numbers      []string          `yaml:"numbers"`  // what a trunk dials: E.164, plain, or /regular expression/
	Fallback     string            `yaml:"fallback"` // sip: URI (302) or a status such as "480"
	// Unregister is what it means when an app removes its binding: "logout" (or
	// ""), no more pushes; "keep", it only goes to sleep.
	Unregister string `yaml:"unregister"`

	RejectAnonymous bool `yaml:"reject_anonymous"` // callers that withhold their number get 433 (RFC 5079)
	// Upstream also registers the extension at a PBX, as itself.
	Upstream sip.UpstreamConfig `yaml:"upstream"`
}

// ValidateExtensions reports every fault in the list; paths are relative to it ("[2].numbers[0]").
func ValidateExtensions(list []Extension, report func(path, problem string)) {
	names := map[string]int{}
	numbers := map[string]string{}
	for i, e := range list {
		at := func(key string) string { return fmt.Sprintf("[%d].%s", i, key) }
		switch first, twice := names[e.Name]; {
		case e.Name == "":
			report(at("name"), "an extension needs a name: the user part of its SIP address, such as \"1001\"")
		case strings.ContainsAny(e.Name, " \t\r\n\"<>@:;?/"):
			report(at("name"), fmt.Sprintf("%q is no user part of a SIP address; use letters, digits, and - _ . ! ~ * ' ( ) & = + $ ,", e.Name))
		case twice:
			report(at("name"), fmt.Sprintf("%q stands twice; entry %d has it already", e.Name, first+1))
		}
		names[e.Name] = i
		validateCredentials(e, at, report)
		for j, n := range e.Numbers {
			path := at(fmt.Sprintf("numbers[%d]", j))
			if _, err := parsePattern(n); err != nil {
				report(path, err.Error())
			} else if other, taken := numbers[n]; taken && other != e.Name {
				report(path, fmt.Sprintf("%q already leads to extension %q; a number can have one extension", n, other))
			}
			numbers[n] = e.Name
		}
		if _, _, err := sip.ParseFallback(e.Fallback); err != nil {
			report(at("fallback"), err.Error())
		}
		if e.Unregister != "" && e.Unregister != "logout" && e.Unregister != "keep" {
			report(at("unregister"), fmt.Sprintf("%q is not what an app can mean; use logout, or keep for an app that unregisters when it goes to the background", e.Unregister))
		}
	}
	validateUpstreams(list, report)
}

func validateCredentials(e Extension, at func(string) string, report func(path, problem string)) {
	if e.Password == "" && len(e.HA1) == 0 {
		report(at("password"), "the extension has no credentials; set password, password_file or ha1")
	}
	for alg, h := range e.HA1 {
		want, known := map[string]int{"MD5": 32, "SHA-256": 64}[alg]
		if !known {
			report(at("ha1"), fmt.Sprintf("%q is no algorithm of ours; use MD5 or SHA-256", alg))
		} else if len(h) != want || strings.Trim(strings.ToLower(h), "0123456789abcdef") != "" {
			report(at("ha1."+alg), fmt.Sprintf("not a %s hash: %d hexadecimal digits are needed", alg, want))
		}
	}
}

// parsePattern compiles /…/ as an anchored regular expression; plain numbers give nil.
func parsePattern(number string) (*regexp.Regexp, error) {
	if body, ok := strings.CutPrefix(number, "/"); ok {
		body, ok = strings.CutSuffix(body, "/")
		if !ok || body == "" {
			return nil, fmt.Errorf("%q begins like a regular expression but has no closing slash; write /…/", number)
		}
		re, err := regexp.Compile("^(?:" + body + ")$")
		if err != nil {
			return nil, fmt.Errorf("%q is no regular expression: %w", number, err)
		}
		return re, nil
	}
	if number == "" {
		return nil, fmt.Errorf("an empty number; remove the line or write the number a trunk dials")
	}
	return nil, nil
}
