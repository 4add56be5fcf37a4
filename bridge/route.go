package bridge

import (
	"regexp"
	"strings"

	"reveille/sip"
)

// routes leads from a dialled number to an extension. It is built once per
// configuration and never changed.
type routes struct {
	extensions map[string]*Extension // by name
	numbers    map[string]*Extension // by canonical number
	patterns   []pattern             // in the order of the configuration
}

type pattern struct {
	re  *regexp.Regexp
	ext *Extension
}

func newRoutes(list []Extension) (*routes, error) {
	r := &routes{extensions: map[string]*Extension{}, numbers: map[string]*Extension{}}
	for i := range list {
		e := &list[i]
		r.extensions[e.Name] = e
		for _, n := range e.Numbers {
			re, err := parsePattern(n)
			if err != nil {
				return nil, err
			}
			if re != nil {
				r.patterns = append(r.patterns, pattern{re, e})
				continue
			}
			r.numbers[canonical(n)] = e
		}
	}
	return r, nil
}

// calleeOf is the extension of a call. One that came to the Contact that an
// extension has at its PBX is that extension's, whatever was dialled.
func (r *routes) calleeOf(in *sip.Inbound) *Extension {
	if name := in.Extension(); name != "" {
		return r.extensions[name]
	}
	return r.find(in.Dialled())
}

// find takes the first dialled number that leads anywhere: a number in any
// spelling of E.164, then a regular expression, then an extension's name.
func (r *routes) find(dialled []string) *Extension {
	for _, n := range dialled {
		if e := r.lookup(n); e != nil {
			return e
		}
	}
	return nil
}

func (r *routes) lookup(number string) *Extension {
	if e := r.numbers[canonical(number)]; e != nil {
		return e
	}
	for _, p := range r.patterns {
		if p.re.MatchString(number) {
			return p.ext
		}
	}
	return r.extensions[number]
}

// named finds an extension by one of its numbers or its name, not by a pattern:
// one that takes all that a trunk dials must not take all transfers too.
func (r *routes) named(number string) *Extension {
	if e := r.numbers[canonical(number)]; e != nil {
		return e
	}
	return r.extensions[number]
}

// canonical makes "+4930123456", "004930123456" and "4930123456" one; what is
// no number stays as it is. A short number such as "1001" is itself.
func canonical(number string) string {
	n, ok := sip.SanitiseNumber(number)
	if !ok {
		return number
	}
	n = strings.TrimPrefix(n, "+")
	if len(n) > 7 { // an international prefix makes sense before a full number only
		n = strings.TrimPrefix(n, "00")
	}
	return n
}

// HA1 implements sip.Accounts.
func (r *routes) HA1(user, realm, algorithm string) (string, bool) {
	e := r.extensions[user]
	if e == nil {
		e = &Extension{}
	}
	// Also for a user that does not exist or has a hash: all must take as long.
	computed := sip.HA1(algorithm, user, realm, e.Password.Reveal())
	if h, ok := e.HA1[algorithm]; ok {
		return strings.ToLower(h), true
	}
	return computed, e.Password != ""
}

// KeepsPush implements sip.Sleepers.
func (r *routes) KeepsPush(user string) bool {
	e := r.extensions[user]
	return e != nil && e.Unregister == "keep"
}

// NewAccounts makes the extensions known to the registrar.
func NewAccounts(list []Extension) (sip.Accounts, error) { return newRoutes(list) }
