package sip

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// trunkTLS is the TLS configuration towards a trunk: its own trust anchors
// besides the system's. nil: the defaults.
func trunkTLS(cfg TrunkConfig) (*tls.Config, error) {
	if cfg.RootCA == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(cfg.RootCA)
	if err != nil {
		return nil, fmt.Errorf("root_ca: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("root_ca: %s holds no PEM certificate", cfg.RootCA)
	}
	return &tls.Config{RootCAs: pool}, nil
}
