package push

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Sizes of a secret in bytes, from the Standard Webhooks specification.
const (
	minSecret    = 24
	maxSecret    = 64
	secretPrefix = "whsec_"
	mostSecrets  = 2 // the old and the new one, while a receiver changes over
)

// signer signs requests as Standard Webhooks says (standardwebhooks.com), so
// that receivers can verify them with the libraries that exist for it.
type signer struct{ secrets [][]byte }

// loadSigner reads the secrets of a file: one on each line, at most two, either
// whsec_ and base64, or at least 24 characters as they are.
func loadSigner(file, masterKeyFile string) (*signer, error) {
	raw, err := readCredential(file, masterKeyFile)
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	s := &signer{}
	for i, line := range bytes.Split(raw, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		secret, err := parseSecret(string(line))
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", file, i+1, err)
		}
		s.secrets = append(s.secrets, secret)
	}
	switch n := len(s.secrets); {
	case n == 0:
		return nil, fmt.Errorf("%s is empty: write a secret to it: (umask 077; echo whsec_$(openssl rand -base64 32) > %s)", file, file)
	case n > mostSecrets:
		return nil, fmt.Errorf("%s holds %d secrets: at most two, the old and the new one, one on each line", file, n)
	}
	return s, nil
}

// parseSecret gives the key of one line. Its errors do not show the line.
func parseSecret(line string) ([]byte, error) {
	encoded, whsec := strings.CutPrefix(line, secretPrefix)
	if !whsec {
		if len(line) < minSecret {
			return nil, fmt.Errorf("a secret of %d characters: need %d or more, or whsec_ and base64", len(line), minSecret)
		}
		return []byte(line), nil
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, errors.New("what follows whsec_ is no base64: copy the secret again, with its = signs")
	}
	if len(key) < minSecret || len(key) > maxSecret {
		return nil, fmt.Errorf("a secret of %d bytes: need %d to %d; make one with: echo whsec_$(openssl rand -base64 32)", len(key), minSecret, maxSecret)
	}
	return key, nil
}

// sign sets the three headers. With two secrets there are two signatures, of
// which the receiver needs to know one.
func (s *signer) sign(h http.Header, id string, now time.Time, body []byte) {
	stamp := strconv.FormatInt(now.Unix(), 10)
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", stamp)
	if s == nil {
		return
	}
	signatures := make([]string, len(s.secrets))
	for i, secret := range s.secrets {
		signatures[i] = signature(secret, id, stamp, body)
	}
	h.Set("Webhook-Signature", strings.Join(signatures, " "))
}

// signature is "v1," and the base64 of HMAC-SHA256 over id.timestamp.body.
func signature(secret []byte, id, stamp string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(id + "." + stamp + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// wakeID names one wake, whoever asks and however often: the same call, device
// and target have the same id. Nothing of the token can be read from it.
func wakeID(t Target, m Message) string {
	h := sha256.New()
	for _, part := range []string{m.UUID, t.Provider, t.Param, t.PRID} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		h.Write([]byte(part))
	}
	if m.Again {
		h.Write([]byte("again"))
	}
	return "wake_" + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:18])
}
