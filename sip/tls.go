package sip

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"
)

// certificateAge is how long a loaded certificate is used before its files are
// looked at again, so that a renewed one needs no restart.
const certificateAge = time.Minute

// newServerTLS makes the configuration of tls:// listeners: TLS 1.2 or later
// (Go's suites for 1.2 are ECDHE with AEAD first), the certificate re-read when
// its files change, client certificates mandatory where client_ca is set.
func newServerTLS(cfg TLSConfig) (*tls.Config, error) {
	files := &certificateFiles{cfg: cfg}
	if _, err := files.get(nil); err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: files.get}
	if cfg.ClientCA != "" {
		pem, err := os.ReadFile(cfg.ClientCA)
		if err != nil {
			return nil, fmt.Errorf("sip.tls.client_ca: %w", err)
		}
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("sip.tls.client_ca: %s holds no PEM certificate", cfg.ClientCA)
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return config, nil
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
	if config.ServerName == "" {
		config.ServerName = serverName
	}
	return config
}

// certificateFiles serves a certificate and re-reads it when a file is newer.
type certificateFiles struct {
	cfg TLSConfig

	mu      sync.Mutex // guards the following
	loaded  *tls.Certificate
	checked time.Time
	changed [2]time.Time // of certificate and key
}

func (c *certificateFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loaded != nil && time.Since(c.checked) < certificateAge {
		return c.loaded, nil
	}
	c.checked = time.Now()
	changed := [2]time.Time{modified(c.cfg.Certificate), modified(c.cfg.Key)}
	if c.loaded != nil && changed == c.changed {
		return c.loaded, nil
	}
	pair, err := tls.LoadX509KeyPair(c.cfg.Certificate, c.cfg.Key)
	if err != nil {
		if c.loaded != nil {
			return c.loaded, nil // half-written: the old one serves until the next look
		}
		return nil, fmt.Errorf("sip.tls.certificate, sip.tls.key: %w", err)
	}
	c.loaded, c.changed = &pair, changed
	return c.loaded, nil
}

func modified(file string) time.Time {
	info, err := os.Stat(file)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
