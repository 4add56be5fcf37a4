package push

import (
	"fmt"
	"net/textproto"
	"slices"
	"strings"
)

// PayloadConfig is what every app configures of its payload, whichever
// provider carries it.
type PayloadConfig struct {
	// Payload is the preset: what the app's own code reads. "" is reveille.
	Payload string `yaml:"payload"`
	// Template are the fields of the preset custom: key to text template.
	Template map[string]string `yaml:"template"`
	// Encrypt seals what is known of the caller to the device's public key.
	Encrypt bool `yaml:"encrypt"`
	// Headers are the names of headers of the trunk's INVITE that are copied.
	Headers []string `yaml:"headers"`
}

// validate reports every fault of the payload in the forms in which this app
// is pushed. The faults are reported under the configuration's keys.
func (c PayloadConfig) validate(report func(path, problem string), forms ...form) {
	for i, f := range forms {
		_, known, err := presetItems(c.Payload, f)
		if !known {
			report("payload", fmt.Sprintf("%q is unknown: use one of %s", c.Payload, strings.Join(presetNames(), ", ")))
			break
		}
		if err != nil && i == 0 {
			report("payload", err.Error())
			break
		}
	}
	c.validateHeaders(report)
}

func (c PayloadConfig) validateHeaders(report func(path, problem string)) {
	if len(c.Headers) > maxHeaders {
		report("headers", fmt.Sprintf("%d names: at most %d headers are copied", len(c.Headers), maxHeaders))
	}
	for i, name := range c.Headers {
		if !isHeaderName(name) {
			report(fmt.Sprintf("headers[%d]", i), fmt.Sprintf("%q is no SIP header name: use letters, digits and hyphens, such as X-Customer", name))
		}
	}
}

// first is the first fault of the payload in a form, as an error.
func (c PayloadConfig) first(f form) (err error) {
	c.validate(func(path, problem string) {
		if err == nil {
			err = fmt.Errorf("%s: %s", path, problem)
		}
	}, f)
	return err
}

// items are the fields of the payload.
func (c PayloadConfig) items(f form) ([]item, error) {
	items, _, err := presetItems(c.Payload, f)
	return items, err
}

// allowList is how a layout knows its headers.
func allowList(names []string) []allowed {
	var out []allowed
	for _, name := range names {
		a := allowed{name, canonicalHeader(name)}
		if !slices.ContainsFunc(out, func(b allowed) bool { return a.canonical == b.canonical }) {
			out = append(out, a)
		}
	}
	return out
}

// canonicalHeader is the form of a header's name in Message.Headers.
func canonicalHeader(name string) string { return textproto.CanonicalMIMEHeaderKey(name) }
