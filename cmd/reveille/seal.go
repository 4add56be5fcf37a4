package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"

	"reveille/push"
)

func sealCommand() *command {
	return &command{
		name: "seal", args: "IN OUT", summary: "encrypt a credential file under a master key",
		help: `Encrypts a push service's credential (APNs .p8 or .p12, an FCM service account, a webhook's secret) with AES-256-GCM, so
that neither a backup nor the disk gives it away. The configuration then names OUT in the place of IN. No file is ever
overwritten, all are written with mode 0600, and nothing secret is printed.

The master key is 32 random bytes in base64 or hexadecimal. serve, check and doctor look for it in this order:
  push.master_key_file of the configuration
  the environment variable REVEILLE_MASTER_KEY
  systemd's credential reveille-master-key (LoadCredentialEncrypted= in the unit)
This command takes -k FILE in the place of the first.

With --verify IN it only tells whether IN can be opened. With --open, IN is a sealed file and OUT gets what is in it.

Examples:
  reveille seal --new-key /root/reveille-master-key
  reveille seal -k /root/reveille-master-key AuthKey_ABC123DEFG.p8 /etc/reveille/AuthKey_ABC123DEFG.sealed
  reveille seal -k /root/reveille-master-key --verify /etc/reveille/AuthKey_ABC123DEFG.sealed
  systemd-creds encrypt /root/reveille-master-key /etc/credstore.encrypted/reveille-master-key`,
		run: seal,
	}
}

// sealing is what a `reveille seal` was asked for.
type sealing struct {
	*process
	newKey, key  *string
	verify, open *bool
}

func seal(_ context.Context, p *process, c *command, args []string) int {
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	s := sealing{
		process: p,
		key:     flags.String("k", "", "the `FILE` with the master key; without it, the environment's or systemd's"),
		newKey:  flags.String("new-key", "", "make a master key and write it to `FILE`"),
		verify:  flags.Bool("verify", false, "only tell whether IN can be opened"),
		open:    flags.Bool("open", false, "the reverse: decrypt IN to OUT"),
	}
	files, err := p.parse(c, flags, args, 0, 2)
	if err == nil {
		if err = s.usage(len(files)); err != nil {
			err = p.badFlags(c, flags, err)
		}
	}
	if err != nil {
		return code(err)
	}
	if err := s.run(files); err != nil {
		return p.fail(c, err)
	}
	return exitOK
}

// usage checks what was asked for.
func (s sealing) usage(files int) error {
	switch {
	case *s.verify && *s.open, *s.newKey != "" && (*s.key != "" || *s.verify || *s.open):
		return errors.New("--new-key, --verify and --open exclude one another, and -k excludes --new-key")
	case *s.verify && files != 1:
		return errors.New("--verify takes one argument, the sealed file")
	case *s.newKey != "" && files == 1, *s.newKey == "" && !*s.verify && files != 2:
		return errors.New("it takes two arguments, IN and OUT")
	}
	return nil
}

func (s sealing) run(files []string) error {
	if *s.verify {
		return s.verified(files[0])
	}
	if *s.newKey != "" {
		if err := writeNew(*s.newKey, push.NewMasterKey()); err != nil {
			return err
		}
		fmt.Fprintf(s.stdout, "%s holds a new master key. Keep a copy away from this machine: without it, sealed files are lost.\n", *s.newKey)
		*s.key = *s.newKey
	}
	switch {
	case len(files) == 0:
		return nil
	case *s.open:
		return s.opened(files[0], files[1])
	}
	return s.sealed(files[0], files[1])
}

func (s sealing) sealed(in, out string) error {
	plain, err := s.read(in)
	if err != nil {
		return err
	}
	defer clear(plain)
	text, id, err := push.SealCredential(plain, *s.key)
	if errors.Is(err, push.ErrSealed) || errors.Is(err, push.ErrTooLarge) {
		return fmt.Errorf("%s %w", in, err)
	} else if err != nil && *s.key == "" {
		return fmt.Errorf("%w; here, -k FILE names it", err)
	} else if err != nil {
		return err
	}
	if err := writeNew(out, text); err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "%s is %s, sealed with the master key %s. Name it in the configuration, run: reveille check; then keep %s offline and remove it here: shred -u %s\n",
		out, in, id, in, in)
	return nil
}

// maxSealed keeps a wrong file name from being read into memory.
const maxSealed = 1 << 20

// read reads the file that is to be sealed. One that others can read has to be
// sealed all the more.
func (s sealing) read(in string) ([]byte, error) {
	info, err := os.Stat(in)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file", in)
	case info.Size() > maxSealed:
		return nil, fmt.Errorf("%s %w", in, push.ErrTooLarge)
	case info.Mode().Perm()&0o077 != 0:
		fmt.Fprintf(s.stderr, "reveille seal: %s is open to others (mode %04o): who can log in here may have it already\n", in, info.Mode().Perm())
	}
	plain, err := os.ReadFile(in)
	if err == nil && len(bytes.TrimSpace(plain)) == 0 {
		err = fmt.Errorf("%s is empty", in)
	}
	return plain, err
}

func (s sealing) opened(in, out string) error {
	plain, id, err := push.OpenCredential(in, *s.key)
	if err != nil {
		return err
	}
	defer clear(plain)
	if err := writeNew(out, plain); err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "%s is what was in %s (master key %s). It is not encrypted: remove it when you are done: shred -u %s\n", out, in, id, out)
	return nil
}

func (s sealing) verified(in string) error {
	plain, id, err := push.OpenCredential(in, *s.key)
	if err != nil {
		return err
	}
	defer clear(plain)
	fmt.Fprintf(s.stdout, "%s can be opened with the master key %s: %d bytes\n", in, id, len(plain))
	return nil
}

// writeNew writes a private file that is not there yet, whole or not at all.
func writeNew(name string, content []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already and is not overwritten: choose another name, or remove it", name)
	} else if err != nil {
		return err
	}
	n, err := f.Write(content)
	if err == nil && n < len(content) {
		err = io.ErrShortWrite
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}
