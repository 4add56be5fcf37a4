package location

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// storeKinds is every Store: reopen returns one over the same state, as after
// a restart.
var storeKinds = map[string]func(t *testing.T) (reopen func() Store){
	"memory": func(t *testing.T) func() Store {
		m := NewMemory()
		return func() Store { return m }
	},
	"bolt": func(t *testing.T) func() Store {
		dir := filepath.Join(t.TempDir(), "state")
		return func() Store {
			b, err := OpenBolt(dir)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	},
}

func someDevice(n int) Device {
	at := time.Date(2025, 3, 1, 12, 0, n%60, 123000, time.UTC)
	return Device{
		ID: fmt.Sprintf("dev%05d", n), AOR: fmt.Sprintf("%d", 1000+n),
		Instance:  fmt.Sprintf("urn:uuid:00000000-0000-0000-0000-%012d", n),
		Target:    Target{"apns", "ABCDE12345.com.example.phone.voip", fmt.Sprintf("%064x", n), "sandbox", someKey(byte(n + 1))},
		UserAgent: "Phone/1.0", Registered: at, Confirmed: at.Add(time.Second), Seen: at.Add(time.Minute), Wakes: Wakes{uint16(n), 87},
	}
}

func someTombstone(n int) Tombstone {
	return Tombstone{
		CallUUID: fmt.Sprintf("uuid-%d", n), AOR: "1001", DeviceID: "dev", CallID: "c@host",
		Cause: 487, CauseText: "gone", From: "+49301234", FromName: "Ada \"x\"\n", To: "1001",
		Expires: time.Date(2025, 3, 1, 12, 1, 0, 0, time.UTC), Pushed: time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC),
	}
}

func load(t *testing.T, s Store) Snapshot {
	t.Helper()
	snap, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(snap.Devices, func(x, y Device) int { return strings.Compare(x.AOR+x.ID, y.AOR+y.ID) })
	slices.SortFunc(snap.Tombstones, func(x, y Tombstone) int { return strings.Compare(x.CallUUID, y.CallUUID) })
	return snap
}

func TestStoreConformance(t *testing.T) {
	for name, kind := range storeKinds {
		t.Run(name, func(t *testing.T) {
			reopen := kind(t)
			s := reopen()
			if snap := load(t, s); len(snap.Devices)+len(snap.Tombstones) != 0 {
				t.Fatalf("new store holds %v", snap)
			}
			apply := func(change func(Batch)) {
				t.Helper()
				b := newBatch()
				change(b)
				if err := s.Apply(b); err != nil {
					t.Fatal(err)
				}
			}
			restart := func() {
				t.Helper()
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = reopen()
			}
			one, two, tomb := someDevice(1), someDevice(2), someTombstone(1)
			twin := one // the same instance under another AOR is another device
			twin.AOR = "2001"
			apply(func(b Batch) {
				b.Devices[one.key()], b.Devices[two.key()], b.Devices[twin.key()] = &one, &two, &twin
				b.Tombstones[tomb.Key()] = &tomb
			})
			restart()
			want := Snapshot{[]Device{one, two, twin}, []Tombstone{tomb}}
			if got := load(t, s); !reflect.DeepEqual(got, want) {
				t.Fatalf("loaded\n%+v, want\n%+v", got, want)
			}
			one.Target.Environment = "production"
			apply(func(b Batch) {
				b.Devices[one.key()], b.Devices[two.key()] = &one, nil
				b.Tombstones[tomb.Key()] = nil
				b.Tombstones[TombstoneKey{"never", "was"}] = nil
			})
			restart()
			want = Snapshot{Devices: []Device{one, twin}}
			if got := load(t, s); !reflect.DeepEqual(got, want) {
				t.Fatalf("loaded\n%+v, want\n%+v", got, want)
			}
			if got := load(t, s).Devices[0].Target.PRID; got != one.Target.PRID {
				t.Fatalf("token became %q", got)
			}
			s.Close()
		})
	}
}

// TestBoltSurvivesKill kills a process that writes without pause: every write
// that it reported must be there, and the file must open.
func TestBoltSurvivesKill(t *testing.T) {
	if dir := os.Getenv("REVEILLE_BOLT_CHILD"); dir != "" {
		writeForEver(dir)
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestBoltSurvivesKill$")
	cmd.Env = append(os.Environ(), "REVEILLE_BOLT_CHILD="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acknowledged := -1
	lines := bufio.NewScanner(out)
	for acknowledged < 50 && lines.Scan() {
		if acknowledged, err = strconv.Atoi(lines.Text()); err != nil {
			t.Fatalf("child said %q", lines.Text())
		}
	}
	cmd.Process.Kill()
	for lines.Scan() { // what it had said before it died counts
		if n, err := strconv.Atoi(lines.Text()); err == nil {
			acknowledged = n
		}
	}
	cmd.Wait()
	if acknowledged < 50 {
		t.Fatal("child wrote nothing")
	}
	s, err := OpenBolt(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := len(load(t, s).Devices); got < acknowledged+1 {
		t.Fatalf("%d devices acknowledged, %d found", acknowledged+1, got)
	}
}

func writeForEver(dir string) {
	s, err := OpenBolt(dir)
	for n := 0; err == nil; n++ {
		d := someDevice(n)
		b := newBatch()
		b.Devices[d.key()] = &d
		if err = s.Apply(b); err == nil {
			fmt.Println(n)
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

func filledBolt(t *testing.T, devices int) (dir, path string) {
	t.Helper()
	dir = t.TempDir()
	s, err := OpenBolt(dir)
	if err != nil {
		t.Fatal(err)
	}
	b := newBatch()
	for n := range devices {
		d := someDevice(n)
		b.Devices[d.key()] = &d
	}
	if err := s.Apply(b); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, filepath.Join(dir, FileName)
}

func TestBoltFileIsPrivate(t *testing.T) {
	dir, path := filledBolt(t, 1)
	if err := os.Chmod(path, 0o644); err != nil { // as from a careless backup
		t.Fatal(err)
	}
	s, err := OpenBolt(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v", info.Mode())
	}
}

func TestBoltDamage(t *testing.T) {
	overwrite := func(from int64, data []byte) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt(data, from); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, damage := range map[string]func(*testing.T, string){
		"not a database": func(t *testing.T, path string) {
			if err := os.WriteFile(path, bytes.Repeat([]byte("hello\n"), 4000), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"both metas":  overwrite(0, bytes.Repeat([]byte{0xff}, 8192)),
		"data pages":  overwrite(8192, bytes.Repeat([]byte{0xff}, 200_000)),
		"zeroed data": overwrite(8192, make([]byte, 200_000)),
		"truncated": func(t *testing.T, path string) {
			if err := os.Truncate(path, 3*4096); err != nil {
				t.Fatal(err)
			}
		},
		"cut in half": func(t *testing.T, path string) {
			info, _ := os.Stat(path)
			if err := os.Truncate(path, info.Size()/2); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, path := filledBolt(t, 1000)
			damage(t, path)
			s, err := OpenBolt(dir)
			if err == nil {
				_, err = s.Load()
				s.Close()
			}
			if err == nil {
				t.Fatal("opened and loaded")
			}
			for _, want := range []string{path, "restore it from a backup, or move it away"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q lacks %q", err, want)
				}
			}
		})
	}
}

func TestBoltOpenErrors(t *testing.T) {
	t.Run("in use", func(t *testing.T) {
		dir, _ := filledBolt(t, 1)
		s, err := OpenBolt(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		_, err = OpenBolt(dir)
		if err == nil || !strings.Contains(err.Error(), "stop the other reveille") {
			t.Error(err)
		}
	})
	t.Run("newer schema", func(t *testing.T) {
		dir, path := filledBolt(t, 1)
		data, _ := os.ReadFile(path)
		// The schema row is the only place with this key and value.
		at := bytes.LastIndex(data, []byte("schema1"))
		if at < 0 {
			t.Fatal("no schema row")
		}
		if err := os.WriteFile(path, bytes.ReplaceAll(data, []byte("schema1"), []byte("schema9")), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := OpenBolt(dir)
		if err == nil || !strings.Contains(err.Error(), "run the version that wrote it") {
			t.Error(err)
		}
	})
	t.Run("no directory", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		os.WriteFile(file, nil, 0o600)
		_, err := OpenBolt(filepath.Join(file, "state"))
		if err == nil || !strings.Contains(err.Error(), "choose a directory") {
			t.Error(err)
		}
	})
}
