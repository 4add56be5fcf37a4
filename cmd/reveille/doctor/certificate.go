package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"reveille/sip"
)

// renewBy is how long before its end a certificate is worth a word.
const renewBy = 30 * 24 * time.Hour

// certificates looks at those that we show, and at those that the push
// services know us by.
func (e *examination) certificates(context.Context) (out []Finding) {
	if c := e.SIP.TLS; c.Certificate != "" {
		out = append(out, e.serverCertificate("sip.tls.certificate "+c.Certificate, c.Certificate, c.Key))
	}
	for i, t := range e.Trunks {
		if t.ClientCertificate != "" {
			name := fmt.Sprintf("trunks[%d].client_certificate %s", i, t.ClientCertificate)
			f, _ := pair(name, t.ClientCertificate, t.ClientKey)
			out = append(out, f)
		}
	}
	for _, x := range e.Push.Expiries() {
		out = append(out, ending("push."+x.Path+" "+x.File, x.NotAfter, x.Mend))
	}
	return out
}

// pair reads a certificate and its key.
func pair(name, certificate, key string) (Finding, *x509.Certificate) {
	p, err := tls.LoadX509KeyPair(certificate, key)
	switch {
	case err != nil && strings.Contains(err.Error(), "does not match"):
		return fail(name, "the key %s is not the certificate's; take the two that were made together", key), nil
	case err != nil:
		return fail(name, "it cannot be used with the key %s: %v; both are PEM files", key, err), nil
	case time.Now().Before(p.Leaf.NotBefore):
		return fail(name, "it holds from %s on; set this machine's clock, or wait", p.Leaf.NotBefore.Format(time.DateTime)), nil
	}
	return ending(name, p.Leaf.NotAfter, "renew it; the bridge takes the new file within a minute"), p.Leaf
}

// ending judges when a certificate ends.
func ending(name string, at time.Time, mend string) Finding {
	left := time.Until(at)
	switch day := at.Format(time.DateOnly); {
	case left <= 0:
		return fail(name, "it has ended on %s; %s", day, mend)
	case left < renewBy:
		return warn(name, "it ends on %s, in %d days; %s", day, int(left/(24*time.Hour)), mend)
	default:
		return good(name, "it is good until %s", day)
	}
}

// serverCertificate also looks whether phones will take the certificate: its
// names, and its chain.
func (e *examination) serverCertificate(name, certificate, key string) Finding {
	f, leaf := pair(name, certificate, key)
	if f.Status != OK {
		return f
	}
	if missing := e.unnamed(leaf); len(missing) > 0 {
		return warn(name, "%s, but it is for %s and not for %s: phones that connect to that name refuse it; add it to the certificate",
			f.Detail, strings.Join(append(leaf.DNSNames, addresses(leaf)...), ", "), strings.Join(missing, ", "))
	}
	if err := chain(certificate, key); err != nil {
		return warn(name, "%s, but %v", f.Detail, err)
	}
	return f
}

// unnamed are the names that phones are likely to connect to and that the
// certificate does not have. One of sip.domains is enough: the others may be
// found by SRV.
func (e *examination) unnamed(leaf *x509.Certificate) []string {
	if host := e.SIP.ExternalAddress; host != "" && net.ParseIP(host) == nil && leaf.VerifyHostname(host) != nil {
		return []string{host}
	}
	for _, d := range e.SIP.Domains {
		if leaf.VerifyHostname(d) == nil {
			return nil
		}
	}
	return e.SIP.Domains
}

func addresses(leaf *x509.Certificate) (out []string) {
	for _, ip := range leaf.IPAddresses {
		out = append(out, ip.String())
	}
	return out
}

// chain looks whether this machine would trust the certificate by what is in
// the file.
func chain(certificate, key string) error {
	p, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return err
	}
	between := x509.NewCertPool()
	for _, der := range p.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(c)
		}
	}
	_, err = p.Leaf.Verify(x509.VerifyOptions{Intermediates: between})
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		return fmt.Errorf("it leads to no authority that this machine knows (it is signed by %q): phones refuse it, unless they know that one; put the whole chain into the file (fullchain.pem)", p.Leaf.Issuer.CommonName)
	}
	return err
}

// names looks up the names of our own that others are told.
func (e *examination) names(ctx context.Context) []Finding {
	host := e.SIP.ExternalAddress
	if host == "" || net.ParseIP(host) != nil {
		return nil
	}
	ips, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return []Finding{fail("sip.external_address "+host, "the DNS does not know it: nobody can answer us there; correct it, or write the IP address")}
	}
	return []Finding{good("sip.external_address "+host, "it is %s", strings.Join(ips[:min(len(ips), 4)], ", "))}
}

// trunks tries the trunks; see sip.TryTrunks.
func (e *examination) trunks(ctx context.Context) (out []Finding) {
	if len(e.Trunks) == 0 {
		return []Finding{warn("trunks", "there are none: nobody can call; add one under trunks:")}
	}
	trials, err := sip.TryTrunks(ctx, e.SIP, e.Trunks, e.upstreams(), sip.Options{Network: e.Network})
	if err != nil {
		return []Finding{fail("trunks", "they could not be tried: %v", err)}
	}
	for _, t := range trials {
		out = append(out, judged("trunk "+t.Trunk+" "+t.What, t.Proved, t.Err, t.Doubtful))
	}
	return out
}
