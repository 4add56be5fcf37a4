package sip

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// trunkTLS is the TLS configuration towards the server of a trunk. Its files
// are read for each connection, so that renewed ones need no restart. The
// certificate must name the domain that was configured, whatever host its SRV
// records led to: those may be forged (RFC 5922 §4).
func trunkTLS(cfg TrunkConfig, domain string) (*tls.Config, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if cfg.RootCA != "" {
		pem, err := os.ReadFile(cfg.RootCA)
		if err != nil {
			return nil, fmt.Errorf("root_ca: %w", err)
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("root_ca: %s holds no PEM certificate", cfg.RootCA)
		}
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: domain,
		InsecureSkipVerify: true, // VerifyConnection does it: it knows SIP's names too
		VerifyConnection:   func(state tls.ConnectionState) error { return verifyDomain(state, roots, domain) },
	}
	if cfg.ClientCertificate != "" {
		pair, err := tls.LoadX509KeyPair(cfg.ClientCertificate, cfg.ClientKey)
		if err != nil {
			return nil, fmt.Errorf("client_certificate, client_key: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// verifyDomain checks the chain and then the name, as RFC 5922 §7.1 and §7.2
// have it: sip: URIs of the certificate where it has any, else its DNS names
// (or IP addresses, for a server that is known by one). Unlike there, a
// wildcard will do: large carriers have nothing else.
func verifyDomain(state tls.ConnectionState, roots *x509.CertPool, domain string) error {
	if len(state.PeerCertificates) == 0 {
		return fmt.Errorf("the server shows no certificate")
	}
	leaf := state.PeerCertificates[0]
	between := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		between.AddCert(c)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between}); err != nil {
		return fmt.Errorf("the server's certificate cannot be trusted: %w; root_ca names the authority of a private one", err)
	}
	var names []string
	for _, u := range leaf.URIs {
		if strings.EqualFold(u.Scheme, "sip") {
			host, _, _ := strings.Cut(u.Opaque, ";")
			if strings.EqualFold(host, domain) {
				return nil
			}
			names = append(names, "sip:"+SanitiseText(host, 128))
		}
	}
	if len(names) == 0 {
		if leaf.VerifyHostname(domain) == nil {
			return nil
		}
		for _, name := range leaf.DNSNames {
			names = append(names, SanitiseText(name, 128))
		}
		for _, ip := range leaf.IPAddresses {
			if a, ok := netip.AddrFromSlice(ip); ok {
				names = append(names, a.Unmap().String())
			}
		}
	}
	if len(names) == 0 {
		names = []string{"nobody"}
	}
	return fmt.Errorf("the server's certificate is for %s, not for %s: registrar or outbound_proxy must have a name of the certificate (RFC 5922)",
		strings.Join(names[:min(len(names), 8)], ", "), domain)
}
