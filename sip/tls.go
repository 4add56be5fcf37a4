package sip

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"
)

// certificateAge is how long loaded files are used before they are looked at
// again, so that a renewed certificate needs no restart.
const certificateAge = time.Minute

// suites are those of TLS 1.2 that we take: ephemeral keys, and ciphers that
// authenticate. TLS 1.3 has no others.
func suites() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
}

// newServerTLS makes the configuration of tls:// and wss:// listeners: TLS 1.2
// or later, the files re-read when they change, client certificates mandatory
// where client_ca is set.
func newServerTLS(cfg TLSConfig) (*tls.Config, error) {
	files := &tlsFiles{cfg: cfg}
	if _, err := files.current(nil); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: files.current}, nil
}

// clientTLS completes the configuration of a connection to a trunk.
func clientTLS(base *tls.Config, serverName string) *tls.Config {
	config := &tls.Config{}
	if base != nil {
		config = base.Clone()
	}
	if config.MinVersion == 0 {
		config.MinVersion = tls.VersionTLS12
	}
	if config.CipherSuites == nil {
		config.CipherSuites = suites()
	}
	if config.ServerName == "" {
		config.ServerName = serverName
	}
	return config
}

// tlsFiles makes the configuration of a handshake from files, and again when one
// of them has changed.
type tlsFiles struct {
	cfg TLSConfig

	mu      sync.Mutex // guards the following
	loaded  *tls.Config
	checked time.Time
	changed [3]time.Time // of certificate, key and client_ca
}

// current is the configuration as the files are now. Files that cannot be used,
// because they are half-written perhaps, leave the last one in service.
func (c *tlsFiles) current(*tls.ClientHelloInfo) (*tls.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loaded != nil && time.Since(c.checked) < certificateAge {
		return c.loaded, nil
	}
	c.checked = time.Now()
	changed := [3]time.Time{modified(c.cfg.Certificate), modified(c.cfg.Key), modified(c.cfg.ClientCA)}
	if c.loaded != nil && changed == c.changed {
		return c.loaded, nil
	}
	fresh, err := c.cfg.load()
	if err != nil {
		if c.loaded != nil {
			return c.loaded, nil
		}
		return nil, err
	}
	c.loaded, c.changed = fresh, changed
	return c.loaded, nil
}

// load reads the files.
func (c TLSConfig) load() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
	if err != nil {
		return nil, fmt.Errorf("sip.tls.certificate, sip.tls.key: %w", err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, CipherSuites: suites(), Certificates: []tls.Certificate{pair}}
	if c.ClientCA == "" {
		return config, nil
	}
	pem, err := os.ReadFile(c.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("sip.tls.client_ca: %w", err)
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("sip.tls.client_ca: %s holds no PEM certificate", c.ClientCA)
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	return config, nil
}

func modified(file string) time.Time {
	info, err := os.Stat(file)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
