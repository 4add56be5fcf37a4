package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"reveille/config"
)

// unusable lists what only shows when the files that a sound configuration
// names are used: serve would fail over it.
func unusable(file string, cfg *config.Config) config.Faults {
	var faults config.Faults
	report := func(path, value string, err error) {
		if err != nil {
			faults = append(faults, config.Fault{File: file, Line: lineOf(file, path, value), Path: path, Problem: err.Error()})
		}
	}
	t := cfg.SIP.TLS
	if t.Certificate != "" {
		report("sip.tls.certificate", t.Certificate, certificate(t.Certificate, t.Key))
	}
	report("sip.tls.client_ca", t.ClientCA, anchors(t.ClientCA))
	for i, trunk := range cfg.Trunks {
		report(fmt.Sprintf("trunks[%d].root_ca", i), trunk.RootCA, anchors(trunk.RootCA))
		if trunk.ClientCertificate != "" {
			report(fmt.Sprintf("trunks[%d].client_certificate", i), trunk.ClientCertificate, certificate(trunk.ClientCertificate, trunk.ClientKey))
		}
	}
	for _, e := range cfg.Push.Expiries() {
		if e.NotAfter.Before(time.Now()) {
			report("push."+e.Path, e.File, fmt.Errorf("the certificate in %s has ended on %s: %s", e.File, e.NotAfter.UTC().Format(time.DateOnly), e.Mend))
		}
	}
	if cdr := cfg.Telemetry.CDR; cdr != "" {
		report("telemetry.cdr", cdr, directory(filepath.Dir(cdr)))
	}
	return faults
}

func certificate(cert, key string) error {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("certificate %s and key %s cannot be used: %w", cert, key, err)
	}
	if end := pair.Leaf.NotAfter; end.Before(time.Now()) {
		return fmt.Errorf("the certificate in %s has expired on %s; renew it", cert, end.Format(time.DateOnly))
	}
	return nil
}

func anchors(file string) error {
	if file == "" {
		return nil
	}
	pem, err := os.ReadFile(file)
	if err == nil && !x509.NewCertPool().AppendCertsFromPEM(pem) {
		err = fmt.Errorf("%s holds no certificate: need PEM (-----BEGIN CERTIFICATE-----)", file)
	}
	return err
}

func directory(name string) error {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return fmt.Errorf("its directory: %w; make it", errors.Unwrap(err))
	case !info.IsDir():
		return fmt.Errorf("%s is no directory", name)
	}
	return nil
}

// lineOf finds the line that has the last key of path and the file's name.
func lineOf(file, path, value string) int {
	text, err := os.ReadFile(file)
	if err != nil {
		return 1
	}
	key := []byte(path[strings.LastIndexByte(path, '.')+1:] + ":")
	for i, line := range bytes.Split(text, []byte("\n")) {
		if bytes.Contains(line, key) && bytes.Contains(line, []byte(filepath.Base(value))) {
			return i + 1
		}
	}
	return 1
}
