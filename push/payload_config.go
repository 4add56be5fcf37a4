package push

import (
	"fmt"
	"maps"
	"net/textproto"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// PayloadConfig is what every app configures of its payload, whichever
// provider carries it. docs/payloads.md describes it.
type PayloadConfig struct {
	// Payload is the preset: what the app's own code reads. "" is reveille.
	Payload string `yaml:"payload"`
	// Template are the fields of the preset custom, or further fields of
	// another one: the path of the field, its steps divided by dots, to a
	// text/template over the call.
	Template map[string]string `yaml:"template"`
	// Encrypt seals what is known of the caller to the device's public key.
	Encrypt bool `yaml:"encrypt"`
	// Headers are the names of headers of the trunk's INVITE that are copied.
	Headers []string `yaml:"headers"`
}

// validate reports every fault of the payload in the forms in which this app
// is pushed, the first form being the one that it must have. The faults are
// reported under the configuration's keys.
func (c PayloadConfig) validate(report func(path, problem string), forms ...form) {
	faulty := false
	tell := func(path, problem string) {
		faulty = true
		report(path, problem)
	}
	c.validateHeaders(tell)
	c.validatePreset(tell, forms[0])
	for i, key := range slices.Sorted(maps.Keys(c.Template)) {
		if i == maxTemplateKeys {
			tell("template", fmt.Sprintf("%d fields: at most %d are sent", len(c.Template), maxTemplateKeys))
			break
		}
		if _, err := parseTemplate(key, c.Template[key]); err != nil {
			tell("template."+keyStep(key), err.Error())
		}
		if problem := c.keyProblem(key, forms); problem != "" {
			tell("template."+keyStep(key), problem)
		}
	}
	if faulty {
		return // what follows needs a layout
	}
	for _, f := range forms {
		if err := c.tooLarge(f); err != nil {
			report("template", err.Error())
			return
		}
	}
}

func (c PayloadConfig) validatePreset(report func(path, problem string), f form) {
	p, known := findPreset(c.Payload)
	if !known {
		report("payload", fmt.Sprintf("%q is unknown: use one of %s", c.Payload, strings.Join(presetNames(), ", ")))
		return
	}
	if _, err := p.items(f); err != nil {
		report("payload", err.Error())
		return
	}
	if p.name == presetCustom && len(c.Template) == 0 {
		report("template", "payload: custom has no fields without it: add some, such as call: \"{{.UUID}}\"")
	}
	if p.closed && c.Encrypt {
		report("encrypt", fmt.Sprintf("the apps that payload: %s is for cannot open what is sealed: remove one of the two lines", p.name))
	}
	for _, key := range slices.Sorted(maps.Keys(p.needs)) {
		if c.Template[key] == "" {
			report("template", fmt.Sprintf("payload: %s needs %s: %s", p.name, key, p.needs[key]))
		}
	}
}

// keyProblem says why a key of template cannot be sent.
func (c PayloadConfig) keyProblem(key string, forms []form) string {
	switch {
	case !isFieldPath(key):
		return fmt.Sprintf("is no field: use letters, digits, - and _, at most %d bytes, and dots between the keys of objects in objects, at most %d deep",
			maxTemplateKey, maxTemplateDepth)
	case slices.Contains(forms, formFCM) && isReservedByFCM(key):
		return "FCM takes no key from, none message_type and none that begins with google or gcm: use another"
	case key == "aps" && (slices.Contains(forms, formVoIP) || slices.Contains(forms, formAlert)):
		return "aps is an object: write its keys, such as aps.sound"
	}
	for other := range c.Template {
		if !slices.Contains(forms, formFCM) && strings.HasPrefix(other, key+".") {
			return fmt.Sprintf("cannot be a text and an object: %s is below it; remove one of the two", other)
		}
	}
	return ""
}

var fieldPath = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)

func isFieldPath(key string) bool {
	return len(key) <= maxTemplateKey && strings.Count(key, ".") < maxTemplateDepth && fieldPath.MatchString(key)
}

// isReservedByFCM: the keys that FCM's HTTP v1 refuses in data.
func isReservedByFCM(key string) bool {
	key = strings.ToLower(key)
	return key == "from" || key == "message_type" || strings.HasPrefix(key, "google") || strings.HasPrefix(key, "gcm")
}

// keyStep is a key of template in a path of the configuration.
func keyStep(key string) string {
	if key == "" || strings.ContainsFunc(key, func(r rune) bool { return r == '.' || r > '~' || !strings.ContainsRune(keyRunes, r) }) {
		return strconv.Quote(key)
	}
	return key
}

const keyRunes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

// tooLarge says that a payload does not fit even where all is left out that
// can be.
func (c PayloadConfig) tooLarge(f form) error {
	l, err := c.layout(f)
	if err != nil {
		return nil // this form is not for the app
	}
	for _, m := range []Message{{}, sampleMessage()} {
		c, room := newCall(m, nil), l.limit
		if l.outer != nil {
			room = l.roomToSeal(c)
		}
		if _, _, err := l.fit(c, room); err != nil {
			return err
		}
	}
	return nil
}

func (c PayloadConfig) validateHeaders(report func(path, problem string)) {
	if len(c.Headers) > maxHeaders {
		report("headers", fmt.Sprintf("%d names: at most %d headers are copied", len(c.Headers), maxHeaders))
	}
	for i, name := range c.Headers {
		at := fmt.Sprintf("headers[%d]", i)
		switch {
		case !isHeaderName(name):
			report(at, fmt.Sprintf("%q is no SIP header name: use letters, digits and hyphens, such as X-Customer", name))
		case len(name) > maxHeaderName:
			report(at, fmt.Sprintf("%q is too long: at most %d characters are sent", name[:maxHeaderName]+"…", maxHeaderName))
		case isWithheld(name):
			report(at, fmt.Sprintf("%q never leaves this machine in a push: it holds credentials, addresses of the network or who calls; "+
				"of the caller the payload has what may be told", name))
		}
	}
}

// maxHeaderName is in characters.
const maxHeaderName = 64

// isWithheld: headers that hold credentials, a signed identity, where messages
// go, the dialog that a call is to take over (RFC 3891 §5), or who calls or has
// diverted the call although they asked for privacy (RFC 3323 §4, RFC 3325
// §9.1, RFC 5806 §9). In their compact forms too (RFC 3261 §7.3.3).
func isWithheld(name string) bool {
	return slices.Contains([]string{
		"Authorization", "Proxy-Authorization", "Www-Authenticate", "Proxy-Authenticate", "Authentication-Info", "Proxy-Authentication-Info",
		"Authentication-Results", "Identity", "Y", "Identity-Info", "N", "Encryption", "Security-Client", "Security-Server", "Security-Verify",
		"Via", "V", "Route", "Record-Route", "Path", "Service-Route", "Contact", "M", "From", "F", "Call-Id", "I",
		"P-Asserted-Identity", "P-Preferred-Identity", "Remote-Party-Id", "P-Access-Network-Info", "P-Charging-Vector", "P-Charging-Function-Addresses",
		"Geolocation", "History-Info", "Diversion", "Referred-By", "B", "Reply-To", "In-Reply-To",
		"Cellular-Network-Info", "P-Visited-Network-Id", "Replaces", "Join", "Target-Dialog", "Content-Length", "L", "Content-Type", "C",
	}, canonicalHeader(name))
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

// items are the fields of the preset and its frame, without those of template.
func (c PayloadConfig) items(f form) ([]item, error) {
	p, known := findPreset(c.Payload)
	if !known {
		return nil, fmt.Errorf("payload: %q is unknown", c.Payload)
	}
	return p.items(f)
}

// templates are the fields of template.
func (c PayloadConfig) templates() ([]item, error) {
	var items []item
	for _, key := range slices.Sorted(maps.Keys(c.Template)) {
		p, err := parseTemplate(key, c.Template[key])
		if err != nil {
			return nil, fmt.Errorf("template.%s: %w", keyStep(key), err)
		}
		items = append(items, item{path: key, put: p.put})
	}
	return items, nil
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

// Headers are the names of the headers of a trunk's INVITE that apps want to
// know of: what may go into Message.Headers, under these very names.
func (s *Sender) Headers() []string { return s.current().headers }

// headers are those of all apps.
func (c Config) headers() []string {
	var names []string
	for _, p := range c.payloads() {
		for _, a := range allowList(p.Headers) {
			names = append(names, a.canonical)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// payloads are the payloads of all apps, whatever their provider.
func (c Config) payloads() []PayloadConfig {
	var all []PayloadConfig
	for _, a := range c.APNs {
		all = append(all, a.PayloadConfig)
	}
	for _, f := range c.FCM {
		all = append(all, f.PayloadConfig)
	}
	for _, w := range c.Webhook {
		all = append(all, w.PayloadConfig)
	}
	return all
}

// canonicalHeader is the form of a header's name in Message.Headers.
func canonicalHeader(name string) string { return textproto.CanonicalMIMEHeaderKey(name) }
