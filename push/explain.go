package push

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// way is how to get to a push service, as a probe tries it and as it is told.
type way struct {
	base         string            // https URL, or http
	roots        *x509.CertPool    // nil: the system's
	certificates []tls.Certificate // to show; none: nobody asks for one
	dial         DialFunc          // nil: the real network
	rootCA       string            // the configuration key of the roots
}

// host is the host:port of the URL.
func (w way) host() string {
	u, err := url.Parse(w.base)
	if err != nil {
		return ""
	}
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), map[string]string{"http": "80"}[u.Scheme], "443"))
}

// explain says in plain words why there is no connection; nil: err says it
// best itself.
func (w way) explain(err error) error {
	addr := w.host()
	name, port, _ := net.SplitHostPort(addr)
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return explainDNS(name, err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%s refuses connections: nothing listens on that port, or a firewall rejects it; check the endpoint, and let TCP %s out", addr, port)
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return fmt.Errorf("there is no route to %s; check this machine's network (ip route)", addr)
	}
	return w.untrusted(name, err)
}

func explainDNS(name string, err error) error {
	var missing *net.DNSError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &missing) && missing.IsNotFound:
		return fmt.Errorf("DNS: there is no host %s; check the spelling of the name, and the name servers in /etc/resolv.conf", name)
	}
	return fmt.Errorf("DNS: %s could not be looked up, the name server does not answer; check /etc/resolv.conf, and that port 53 is let out", name)
}

// untrusted tells what is wrong with a certificate; nil: something else is.
func (w way) untrusted(name string, err error) error {
	var bad *tls.CertificateVerificationError
	if !errors.As(err, &bad) || len(bad.UnverifiedCertificates) == 0 {
		return nil
	}
	leaf := bad.UnverifiedCertificates[0]
	issuer := clean(cmp.Or(leaf.Issuer.CommonName, leaf.Issuer.String()), 64)
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("the certificate of %s is signed by %q, which this machine does not trust; install its CA certificates (package ca-certificates), or name that authority in %s", w.host(), issuer, w.rootCA)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("the certificate of %s holds from %s to %s, and this machine says that it is %s; set the clock, or renew the certificate",
			w.host(), leaf.NotBefore.Format(time.DateOnly), leaf.NotAfter.Format(time.DateOnly), time.Now().Format(time.DateOnly))
	case errors.As(err, &host):
		return fmt.Errorf("the certificate of %s is not for the name %s (it is by %q); check the endpoint, and whether a proxy sits in between", w.host(), name, issuer)
	}
	return fmt.Errorf("the certificate of %s cannot be trusted: %w; check %s", w.host(), bad.Err, w.rootCA)
}

// inWords is an error in plain words.
type inWords struct {
	text  string
	cause error
}

func (e inWords) Error() string { return e.text }
func (e inWords) Unwrap() error { return e.cause }

// aheadOf is how far this machine's clock is ahead of the service that gave
// the answer; 0 where it is near, or nobody knows.
func (a *answer) aheadOf() time.Duration {
	at := a.date()
	if off := time.Since(at).Round(time.Second); !at.IsZero() && off.Abs() > skewTold {
		return off
	}
	return 0
}

// skewTold: a clock that is off by less is no cause of anything.
const skewTold = time.Minute

// setClock is the advice where the clock is at fault.
func setClock(ahead time.Duration, of string) string {
	if ahead < 0 {
		return fmt.Sprintf("this machine's clock is %v behind that of %s: set it (timedatectl set-ntp true)", -ahead, of)
	}
	return fmt.Sprintf("this machine's clock is %v ahead of that of %s: set it (timedatectl set-ntp true)", ahead, of)
}

// refusal is an answer of APNs with the advice, and with what the app's
// configuration and the answer's own date add to that.
func (a APNsConfig) refusal(x *apnsExchange, advice string) error {
	ahead := x.aheadOf()
	switch {
	case ahead != 0 && (advice == adviceClock || x.reason == "InvalidProviderToken"):
		advice = setClock(ahead, "APNs")
	case advice == adviceKey && a.Certificate == "":
		if hint := a.keyHint(); hint != "" {
			advice = hint
			break
		}
		return fmt.Errorf("%w, to key %s of team %s: %s", answerError(x, ""), a.KeyID, a.TeamID, advice)
	}
	return answerError(x, advice)
}

// keyName is what Apple calls a key's file.
var keyName = regexp.MustCompile(`AuthKey_([A-Z0-9]{10})\b`)

// keyHint tells of a key_id that is not the one in the name of the key's file:
// the commonest way to give a wrong one.
func (a APNsConfig) keyHint() string {
	name := keyName.FindStringSubmatch(filepath.Base(a.KeyFile))
	if name == nil || name[1] == a.KeyID {
		return ""
	}
	return fmt.Sprintf("push.apns.key_id is %s, and key_file is %s: set key_id to %s, or take the right file", a.KeyID, filepath.Base(a.KeyFile), name[1])
}

// unknownTopic says what the device has asked for, and what there is.
func (a *apns) unknownTopic(param string) error {
	var have []string
	for _, apps := range a.apps {
		for _, app := range apps {
			have = append(have, strings.TrimPrefix(app.team+".", ".")+app.bundle)
		}
	}
	return foreignApp(param, have, "push.apns.topic and team_id")
}

// foreignApp: a device's pn-param is that of no configured app. Such a name is
// the client's own word, and no secret.
func foreignApp(param string, have []string, keys string) error {
	slices.Sort(have)
	if len(have) > foreignMost {
		have = append(have[:foreignMost], "others")
	}
	return fmt.Errorf("the device's pn-param is %q, and configured are %s: correct %s, or what the app registers", clean(param, 100), strings.Join(have, ", "), keys)
}

const foreignMost = 5
