package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"gopkg.in/yaml.v3"
)

// maxSecret bounds a secret file; the largest kind is a service account's JSON of some 3 kB.
const maxSecret = 64 << 10

// redacted stands for a secret wherever a configuration is shown.
const redacted = "[redacted]"

// hashesKey holds digest hashes (HA1): whoever has them can log in, so that they count as secrets.
const hashesKey = "ha1"

// maxMedia bounds files that other packages read: certificates, and the ringback (64 MB of it play for an hour).
const maxMedia = 64 << 20

// namesFile tells keys without _file at the end whose value names a file all the same, and whether that file holds a private key.
func namesFile(key, value string) (isFile, private bool) {
	switch key {
	case "key", "client_key":
		return true, true
	case "certificate", "client_ca", "root_ca", "client_certificate":
		return true, false
	case "ringback":
		return value != "" && value != "tone" && value != "none", false
	}
	return false, false
}

// files follows the keys of a section that name files: the content of NAME_file goes into NAME where the section has one; the others
// are checked to be there, and to be private where they hold a secret. It also notes secrets that stand in the document itself.
func (d *document) files(path string, v reflect.Value, fields []field, written map[string]*yaml.Node) {
	for _, f := range fields {
		at := join(path, f.key)
		if isSecret(f, fields) {
			d.noteInline(at, written[f.key])
		}
		if f.key == hashesKey && d.faulty(at) {
			d.bad[join(path, "password")] = true // hashes were meant: that the password is missing is no second fault
		}
		target := v.FieldByIndex(f.index)
		if target.Kind() != reflect.String || target.String() == "" || d.faulty(at) {
			continue
		}
		if base, ok := strings.CutSuffix(f.key, "_file"); ok {
			d.secretFile(path, f, fieldNamed(fields, base), v)
		} else if isFile, private := namesFile(f.key, target.String()); isFile {
			d.plainFile(at, target, private)
		}
	}
}

func (d *document) secretFile(path string, from field, into *field, v reflect.Value) {
	name := v.FieldByIndex(from.index)
	name.SetString(d.resolve(name.String()))
	at := join(path, from.key)
	if into != nil && v.FieldByIndex(into.index).String() != "" {
		d.fault(at, fmt.Sprintf("%s and %s are both set; remove one", into.key, from.key))
		return
	}
	secret, err := readSecret(name.String())
	if into != nil && err == nil {
		v.FieldByIndex(into.index).SetString(secret)
	}
	if err != nil {
		d.fault(at, err.Error())
		name.SetString("") // nobody is to read what was refused
		if into != nil {
			d.bad[join(path, into.key)] = true // that it is missing is no second fault
		}
	}
}

func (d *document) plainFile(at string, name reflect.Value, private bool) {
	name.SetString(d.resolve(name.String()))
	mode, err := checkFile(name.String(), maxMedia)
	problem := ""
	if err != nil {
		problem = err.Error()
	} else if private {
		problem = tooOpen(name.String(), mode)
	}
	if problem != "" {
		d.fault(at, problem)
		name.SetString("")
	}
}

// resolve makes a file name that is relative to the document's directory one that can be opened.
func (d *document) resolve(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(d.dir, name)
}

func (d *document) noteInline(path string, n *yaml.Node) {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch {
	case n == nil || d.inline != "":
	case n.Kind == yaml.MappingNode && len(n.Content) > 0:
		for i := 1; i < len(n.Content); i += 2 {
			d.noteInline(path, n.Content[i])
		}
	case n.Kind == yaml.ScalarNode && n.Value != "" && n.Tag != "!!null" && !onlyVariables(n.Value):
		d.inline = path
	}
}

// isSecret holds for the fields whose type says so, for those a NAME_file stands beside, and for hashes.
func isSecret(f field, fields []field) bool {
	return f.key == hashesKey || f.typ.Name() == "Secret" || f.typ.Kind() == reflect.String && fieldNamed(fields, f.key+"_file") != nil
}

func fieldNamed(fields []field, key string) *field {
	for i := range fields {
		if fields[i].key == key && fields[i].typ.Kind() == reflect.String {
			return &fields[i]
		}
	}
	return nil
}

// readSecret gives the content of a private file without its last line end.
func readSecret(name string) (string, error) {
	data, mode, err := readFile(name, maxSecret)
	if err != nil {
		return "", err
	}
	if problem := tooOpen(name, mode); problem != "" {
		return "", errors.New(problem)
	}
	secret := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if secret == "" {
		return "", fmt.Errorf("%s is empty; write the secret into it", name)
	}
	return secret, nil
}

// tooOpen says how a file is too accessible for a secret, and the command that mends it. Write access is as bad as read access:
// whoever can write a password can choose it.
func tooOpen(name string, mode fs.FileMode) string {
	who := ""
	switch {
	case mode&0o060 != 0 && mode&0o006 != 0:
		who = "its group and others"
	case mode&0o006 != 0:
		who = "others"
	case mode&0o060 != 0:
		who = "its group"
	default:
		return ""
	}
	return fmt.Sprintf("%s is open to %s (mode %04o); run: chmod 600 %s", name, who, mode.Perm(), name)
}

// checkFile says what keeps a file from being read: a device or a pipe, which could block or never end, is refused unopened.
func checkFile(name string, limit int64) (fs.FileMode, error) {
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, fmt.Errorf("%s does not exist; create it or correct the name", name)
	case err != nil:
		return 0, fmt.Errorf("cannot read %s: %w", name, errors.Unwrap(err))
	case info.IsDir():
		return 0, fmt.Errorf("%s is a directory; name a file", name)
	case !info.Mode().IsRegular():
		return 0, fmt.Errorf("%s is no regular file; name a file", name)
	case info.Size() > limit:
		return 0, fmt.Errorf("%s has %d bytes; at most %d are read", name, info.Size(), limit)
	}
	return info.Mode(), nil
}

func readFile(name string, limit int64) ([]byte, fs.FileMode, error) {
	mode, err := checkFile(name, limit)
	if err != nil {
		return nil, 0, err
	}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrPermission) {
		return nil, 0, fmt.Errorf("%s may not be read by user %d; run: chown %d %s", name, os.Getuid(), os.Getuid(), name)
	} else if err != nil {
		return nil, 0, fmt.Errorf("cannot read %s: %w", name, errors.Unwrap(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit))
	return data, mode, err
}

// redact overwrites every secret under v, which must be a copy of its own.
func redact(v reflect.Value) {
	switch {
	case isSection(v.Type()):
		fields := fieldsOf(v.Type())
		for _, f := range fields {
			hide(v.FieldByIndex(f.index), isSecret(f, fields))
		}
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			redact(v.Index(i))
		}
	}
}

func hide(v reflect.Value, secret bool) {
	switch {
	case !secret:
		redact(v)
	case v.Kind() == reflect.String && v.String() != "":
		v.SetString(redacted)
	case v.Kind() == reflect.Map:
		for _, key := range v.MapKeys() {
			v.SetMapIndex(key, reflect.ValueOf(redacted).Convert(v.Type().Elem()))
		}
	}
}
