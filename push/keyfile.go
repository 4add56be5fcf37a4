package push

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// A sealed credential file is text: a header line that names the master key it
// was sealed with, and base64 of nonce, ciphertext and tag (AES-256-GCM, NIST
// SP 800-38D). The header is authenticated with it. Neither the file's name nor
// its purpose is: files are renamed, and a key in the place of a service
// account is refused by its own form.
//
//	reveille-sealed-v1 3f9a01c4
//	base64, in lines of 76
const (
	keyFilePrefix = "reveille-sealed-"
	keyFileMagic  = keyFilePrefix + "v1 "
	masterBytes   = 32
	// maxCredential: a .p8 has 250 bytes, a service account 2.4 kB, a .p12 with
	// its chain some 10 kB; sealed, a third more.
	maxCredential = 64 << 10
)

// Where the master key comes from when push.master_key_file is "".
const (
	masterVariable   = "REVEILLE_MASTER_KEY"
	masterCredential = "reveille-master-key" // of systemd: LoadCredential=, LoadCredentialEncrypted=
)

// readCredential reads a provider's credential file: plain, or sealed under
// the master key. Either must be closed to others. masterKeyFile is
// push.master_key_file; "" is the environment's or systemd's key. Errors say
// how to mend it and hold nothing of any file's content. Who has taken what it
// needs from the bytes clears them.
func readCredential(file, masterKeyFile string) ([]byte, error) {
	raw, err := readPrivate(file)
	if err != nil || !bytes.HasPrefix(raw, []byte(keyFilePrefix)) {
		return raw, err
	}
	plain, err := openKeyFile(raw, masterKeyFile)
	if err != nil {
		return nil, fmt.Errorf("%s %w", file, err)
	}
	return plain, nil
}

// readPrivate reads a small file that only its owner, or its group for
// reading, may open.
func readPrivate(file string) ([]byte, error) {
	f, info, err := openRegular(file)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%s may not be read by user %d: chown %d %s", file, os.Getuid(), os.Getuid(), file)
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	switch mode := info.Mode(); {
	case mode.Perm()&0o007 != 0:
		return nil, fmt.Errorf("%s can be read by others (mode %04o): chmod o= %s", file, mode.Perm(), file)
	case info.Size() > maxCredential:
		return nil, fmt.Errorf("%s has %d bytes: a key has a few hundred", file, info.Size())
	}
	raw := make([]byte, info.Size()) // at once: a buffer that grows leaves copies behind
	n, err := io.ReadFull(f, raw)
	if err != nil {
		return nil, fmt.Errorf("%s could not be read whole: %w", file, err)
	}
	return raw[:n], nil
}

// openRegular opens a file for reading that is one: a named pipe would hold the
// reload until somebody writes to it, and a device has no end.
func openRegular(file string) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", file)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// maxAnchors: a system's whole bundle of trust anchors has some 250 kB.
const maxAnchors = 4 << 20

// readPublic reads a file of which nothing is secret.
func readPublic(file string) ([]byte, error) {
	f, info, err := openRegular(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info.Size() > maxAnchors {
		return nil, fmt.Errorf("%s has %d bytes: at most %d are read", file, info.Size(), maxAnchors)
	}
	return io.ReadAll(io.LimitReader(f, maxAnchors))
}

// openKeyFile opens the content of a sealed file. Its errors follow the file's name.
func openKeyFile(text []byte, masterKeyFile string) ([]byte, error) {
	sealed, err := parseKeyFile(text)
	if err != nil {
		return nil, err
	}
	master, err := loadMasterKey(masterKeyFile)
	if err != nil {
		return nil, fmt.Errorf("is sealed with the master key %s: %w", sealed.keyID, err)
	}
	defer master.forget()
	return master.open(sealed)
}

// keyFile is the content of a sealed file, still closed.
type keyFile struct {
	header string // the first line, without its end
	keyID  string
	box    []byte // nonce, ciphertext, tag
}

// newerForm is the first word of a form that is still to be invented.
var newerForm = regexp.MustCompile(`^reveille-sealed-v([2-9]|[1-9][0-9])$`)

const errDamaged = "is damaged: it was cut off or changed after it was sealed; copy it anew, or seal the original again"

func parseKeyFile(text []byte) (keyFile, error) {
	header, body, whole := strings.Cut(string(text), "\n")
	header = strings.TrimSuffix(header, "\r")
	keyID, ours := strings.CutPrefix(header, keyFileMagic)
	if version, _, _ := strings.Cut(header, " "); !ours && whole && newerForm.MatchString(version) {
		return keyFile{}, fmt.Errorf("is sealed in a form that this version of Reveille does not know (%s): update it, or seal the original again", version)
	}
	if id, err := hex.DecodeString(keyID); !ours || !whole || err != nil || len(id) != keyIDBytes || keyID != strings.ToLower(keyID) {
		return keyFile{}, errors.New(errDamaged)
	}
	box, err := base64.StdEncoding.Strict().DecodeString(strings.TrimRight(body, " \t\r\n"))
	if err != nil {
		return keyFile{}, errors.New(errDamaged)
	}
	return keyFile{header, keyID, box}, nil
}

// keyIDBytes of the key's id are enough to tell a few keys apart.
const keyIDBytes = 4

// masterKey opens and makes sealed files.
type masterKey struct {
	key    []byte
	source string // where it is from, for errors
}

// forget overwrites the key.
func (m *masterKey) forget() { clear(m.key) }

// id names a key without telling anything of it.
func (m *masterKey) id() string {
	mac := hmac.New(sha256.New, m.key)
	mac.Write([]byte("reveille master key id"))
	return hex.EncodeToString(mac.Sum(nil)[:keyIDBytes])
}

func (m *masterKey) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(m.key)
	if err != nil {
		return nil, err
	}
	// The nonce of 96 random bits stands in front of the ciphertext. One key
	// seals a handful of files, far from the 2^32 that it would bear.
	return cipher.NewGCMWithRandomNonce(block)
}

func (m *masterKey) open(s keyFile) ([]byte, error) {
	if have := m.id(); have != s.keyID {
		return nil, fmt.Errorf("is sealed with the master key %s, and %s is the master key %s: use the right one, or seal the original again with: reveille seal",
			s.keyID, m.source, have)
	}
	aead, err := m.aead()
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, nil, s.box, []byte(s.header))
	if err != nil {
		return nil, errors.New(errDamaged)
	}
	return plain, nil
}

// base64Line is the length of a line of base64 (RFC 2045 §6.8).
const base64Line = 76

func (m *masterKey) seal(plain []byte) ([]byte, error) {
	aead, err := m.aead()
	if err != nil {
		return nil, err
	}
	header := keyFileMagic + m.id()
	box := base64.StdEncoding.EncodeToString(aead.Seal(nil, nil, plain, []byte(header)))
	out := append([]byte(header), '\n')
	for len(box) > base64Line {
		out = append(append(out, box[:base64Line]...), '\n')
		box = box[base64Line:]
	}
	return append(append(out, box...), '\n'), nil
}

const makeMasterKey = "make one with: reveille seal --new-key FILE"

// loadMasterKey finds the master key: in file (push.master_key_file), else in
// the environment, else among systemd's credentials.
func loadMasterKey(file string) (*masterKey, error) {
	if file != "" {
		return masterKeyFrom(file)
	}
	if text, ok := os.LookupEnv(masterVariable); ok {
		return parseMasterKey([]byte(text), masterVariable)
	}
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		m, err := masterKeyFrom(filepath.Join(dir, masterCredential))
		if !errors.Is(err, fs.ErrNotExist) {
			return m, err
		}
	}
	return nil, fmt.Errorf("there is no master key: name its file in push.master_key_file, or give it as %s or as systemd's credential %s", masterVariable, masterCredential)
}

func masterKeyFrom(file string) (*masterKey, error) {
	text, err := readPrivate(file)
	if err != nil {
		return nil, fmt.Errorf("the master key: %w", err)
	}
	defer clear(text)
	return parseMasterKey(text, file)
}

// parseMasterKey takes 32 bytes in base64 or hexadecimal. A passphrase is
// none: whoever steals the sealed file could guess it at leisure.
func parseMasterKey(text []byte, source string) (*masterKey, error) {
	text = bytes.TrimSpace(text)
	key := make([]byte, max(base64.StdEncoding.DecodedLen(len(text)), len(text)))
	n, err := 0, errors.New("empty")
	switch len(text) {
	case hex.EncodedLen(masterBytes):
		n, err = hex.Decode(key, text)
	case base64.StdEncoding.EncodedLen(masterBytes):
		n, err = base64.StdEncoding.Strict().Decode(key, text)
	case base64.RawStdEncoding.EncodedLen(masterBytes):
		n, err = base64.RawStdEncoding.Strict().Decode(key, text)
	}
	if err != nil || n != masterBytes {
		clear(key)
		return nil, fmt.Errorf("%s holds no master key: need 32 random bytes in base64 or hexadecimal, no passphrase; %s", source, makeMasterKey)
	}
	return &masterKey{key[:masterBytes], source}, nil
}

// NewMasterKey makes a master key in the form that its file has: base64 of 32
// random bytes, and a line end.
func NewMasterKey() []byte {
	key := make([]byte, masterBytes)
	defer clear(key)
	_, _ = rand.Read(key) // never fails: it ends the program instead
	return append(base64.StdEncoding.AppendEncode(nil, key), '\n')
}

// What SealCredential does not seal. The texts follow a file's name.
var (
	ErrSealed   = errors.New("is sealed already")
	ErrTooLarge = errors.New("has too many bytes for a credential")
)

// SealCredential seals the content of a credential file under the master key
// of masterKeyFile, "" being the environment's or systemd's. keyID names that
// key. Errors are
// ErrSealed, ErrTooLarge, or what is wrong with the master key.
func SealCredential(plain []byte, masterKeyFile string) (sealed []byte, keyID string, err error) {
	if bytes.HasPrefix(plain, []byte(keyFilePrefix)) {
		return nil, "", ErrSealed
	}
	m, err := loadMasterKey(masterKeyFile)
	if err != nil {
		return nil, "", err
	}
	defer m.forget()
	if sealed, err = m.seal(plain); len(sealed) > maxCredential {
		return nil, "", ErrTooLarge
	}
	return sealed, m.id(), err
}

// OpenCredential gives the content of a sealed file, for who has lost the
// original or changes the master key. The bytes are secret.
func OpenCredential(file, masterKeyFile string) (plain []byte, keyID string, err error) {
	raw, err := readPrivate(file)
	if err != nil {
		return nil, "", err
	}
	if !bytes.HasPrefix(raw, []byte(keyFilePrefix)) {
		clear(raw)
		return nil, "", fmt.Errorf("%s is no sealed file: its first line is not %s", file, keyFileMagic+"…")
	}
	if plain, err = openKeyFile(raw, masterKeyFile); err != nil {
		return nil, "", fmt.Errorf("%s %w", file, err)
	}
	sealed, _ := parseKeyFile(raw)
	return plain, sealed.keyID, nil
}
