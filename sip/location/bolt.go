package location

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// FileName is the embedded database's name within the state directory.
const FileName = "reveille.db"

// schema is the version of the rows below. Raise it when an older reveille
// could not read what a newer one writes.
const schema = "1"

var (
	metaBucket      = []byte("meta")
	deviceBucket    = []byte("devices")
	tombstoneBucket = []byte("tombstones")
	schemaKey       = []byte("schema")
)

// Bolt is the embedded Store: one file, crash-safe, no service beside us.
type Bolt struct {
	path string
	db   *bbolt.DB
}

// OpenBolt opens dir/reveille.db, made if need be. Only its owner may read it:
// push tokens are secrets.
func OpenBolt(dir string) (*Bolt, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state_dir: %w: choose a directory this user may write", err)
	}
	b := &Bolt{path: filepath.Join(dir, FileName)}
	if err := b.guarded(b.open); err != nil {
		if b.db != nil {
			b.db.Close()
		}
		return nil, b.explain(err)
	}
	return b, nil
}

func (b *Bolt) open() error {
	// The free list stays in the file: bbolt would rebuild it in a goroutine
	// of its own, whose panic over a damaged page no one can catch.
	db, err := bbolt.Open(b.path, 0o600, &bbolt.Options{
		Timeout:      time.Second,
		FreelistType: bbolt.FreelistMapType,
	})
	if err != nil {
		return err
	}
	b.db = db
	if err := os.Chmod(b.path, 0o600); err != nil {
		return err
	}
	return db.Update(b.prepare)
}

// prepare checks that the file is whole and of our schema, and makes the buckets.
func (b *Bolt) prepare(tx *bbolt.Tx) error {
	info, err := os.Stat(b.path)
	if err != nil {
		return err
	}
	if info.Size() < tx.Size() {
		return fmt.Errorf("%w: %d of %d bytes are missing", errCorrupt, tx.Size()-info.Size(), tx.Size())
	}
	meta, err := tx.CreateBucketIfNotExists(metaBucket)
	if err != nil {
		return err
	}
	switch have := string(meta.Get(schemaKey)); have {
	case schema:
	case "":
		if err := meta.Put(schemaKey, []byte(schema)); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%w: schema %q, this version reads %q", errSchema, have, schema)
	}
	if _, err := tx.CreateBucketIfNotExists(deviceBucket); err != nil {
		return err
	}
	_, err = tx.CreateBucketIfNotExists(tombstoneBucket)
	return err
}

var (
	errCorrupt = errors.New("damaged")
	errSchema  = errors.New("written by another version")
)

// guarded turns the panics and memory faults by which bbolt meets a damaged
// file into errors.
func (b *Bolt) guarded(f func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errCorrupt, r)
		}
	}()
	return f()
}

// explain adds the file and the mend to an error.
func (b *Bolt) explain(err error) error {
	mend := "check the disk and the permissions"
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("%s is in use by another process: stop the other reveille, or give this one its own state_dir", b.path)
	case errors.Is(err, errSchema):
		mend = "run the version that wrote it, or move the file away (devices come back as they register)"
	case errors.Is(err, errCorrupt), errors.Is(err, bolterrors.ErrInvalid),
		errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		mend = "restore it from a backup, or move it away (devices come back as they register)"
	}
	return fmt.Errorf("%s: %w: %s", b.path, err, mend)
}

// Load implements Store.
func (b *Bolt) Load() (Snapshot, error) {
	var s Snapshot
	err := b.guarded(func() error {
		return b.db.View(func(tx *bbolt.Tx) error {
			return errors.Join(
				rows(tx, deviceBucket, func(r deviceRow) { s.Devices = append(s.Devices, r.device()) }),
				rows(tx, tombstoneBucket, func(t Tombstone) { s.Tombstones = append(s.Tombstones, t) }),
			)
		})
	})
	if err != nil {
		return Snapshot{}, b.explain(err)
	}
	return s, nil
}

func rows[R any](tx *bbolt.Tx, bucket []byte, add func(R)) error {
	return tx.Bucket(bucket).ForEach(func(_, v []byte) error {
		var r R
		if err := json.Unmarshal(v, &r); err != nil {
			return fmt.Errorf("%w: a row of %s can't be read", errCorrupt, bucket)
		}
		add(r)
		return nil
	})
}

// Apply implements Store.
func (b *Bolt) Apply(batch Batch) error {
	err := b.guarded(func() error {
		return b.db.Update(func(tx *bbolt.Tx) error {
			devices, tombs := tx.Bucket(deviceBucket), tx.Bucket(tombstoneBucket)
			for k, d := range batch.Devices {
				if err := write(devices, joinKey(k.AOR, k.ID), d, toRow); err != nil {
					return err
				}
			}
			for k, t := range batch.Tombstones {
				if err := write(tombs, joinKey(k.CallUUID, k.DeviceID), t, func(t Tombstone) any { return t }); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return b.explain(err)
	}
	return nil
}

func write[V any](bucket *bbolt.Bucket, key []byte, v *V, row func(V) any) error {
	if v == nil {
		return bucket.Delete(key)
	}
	data, err := json.Marshal(row(*v))
	if err != nil {
		return err
	}
	return bucket.Put(key, data)
}

// joinKey puts a NUL between the parts: neither a SIP user nor an id has one.
func joinKey(parts ...string) []byte { return []byte(strings.Join(parts, "\x00")) }

// Close implements Store.
func (b *Bolt) Close() error { return b.db.Close() }

// deviceRow is a device as stored; unlike Target's own JSON it holds the token.
type deviceRow struct {
	ID, AOR, Instance, UserAgent       string
	Provider, Param, PRID, Environment string
	Key                                string `json:",omitempty"` // since 0.2; rows without it are older
	Registered, Seen                   time.Time
	Confirmed                          time.Time `json:",omitzero"` // older rows have none
	Wakes                              Wakes     `json:",omitzero"`
}

func toRow(d Device) any {
	t := d.Target
	return deviceRow{
		ID: d.ID, AOR: d.AOR, Instance: d.Instance, UserAgent: d.UserAgent,
		Provider: t.Provider, Param: t.Param, PRID: t.PRID, Environment: t.Environment, Key: t.Key,
		Registered: d.Registered, Confirmed: d.Confirmed, Seen: d.Seen, Wakes: d.Wakes,
	}
}

func (r deviceRow) device() Device {
	if r.Confirmed.IsZero() {
		r.Confirmed = r.Registered
	}
	return Device{
		ID: r.ID, AOR: r.AOR, Instance: r.Instance, UserAgent: r.UserAgent,
		Target:     Target{Provider: r.Provider, Param: r.Param, PRID: r.PRID, Environment: r.Environment, Key: r.Key},
		Registered: r.Registered, Confirmed: r.Confirmed, Seen: r.Seen, Wakes: r.Wakes,
	}
}
