//go:build amd64 || arm64

package kernel

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"os"
	"reflect"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// The committed object was made from the source beside it.
func TestObjectIsOfSource(t *testing.T) {
	var source []byte
	for _, name := range []string{"relay.c", "reception.h"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		source = append(source, text...)
	}
	file, err := elf.NewFile(bytes.NewReader(object))
	if err != nil {
		t.Fatal(err)
	}
	var made []byte
	if s := file.Section(".source"); s != nil {
		made, _ = s.Data()
	}
	sum := sha256.Sum256(source)
	if want := hex.EncodeToString(sum[:]); string(bytes.TrimRight(made, "\x00")) != want {
		t.Errorf("relay.o was made from source %s, and that beside it is %s: run go generate", made, want)
	}
}

// What user space writes is what the program reads: field by field in the same place.
func TestEntryLayout(t *testing.T) {
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		t.Fatal(err)
	}
	theirs := spec.Maps["streams"].Value
	compareLayout(t, "entry", theirs, reflect.TypeFor[entry]())
	if size := reflect.TypeFor[entry]().Size(); size%64 != 0 || 2*size > 1024 {
		t.Errorf("an entry has %d bytes, want whole cache lines and no more than 1 kB for the two of a call", size)
	}
}

func compareLayout(t *testing.T, name string, theirs btf.Type, ours reflect.Type) {
	t.Helper()
	if size, err := btf.Sizeof(theirs); err != nil || uintptr(size) != ours.Size() {
		t.Errorf("%s has %d bytes there (%v), %d here", name, size, err, ours.Size())
		return
	}
	s, ok := btf.As[*btf.Struct](theirs)
	if !ok {
		return
	}
	if len(s.Members) != ours.NumField() {
		t.Errorf("%s has %d fields there, %d here", name, len(s.Members), ours.NumField())
		return
	}
	for i, m := range s.Members {
		f := ours.Field(i)
		if m.Offset.Bytes() != uint32(f.Offset) {
			t.Errorf("%s.%s is at %d there, %s at %d here", name, m.Name, m.Offset.Bytes(), f.Name, f.Offset)
		}
		compareLayout(t, name+"."+m.Name, m.Type, f.Type)
	}
}
