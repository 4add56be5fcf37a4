package location

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

func filled(b *testing.B, store Store, accounts int) *Service {
	b.Helper()
	l, err := New(store, Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	for n := range accounts {
		p := ada()
		p.aor, p.instance, p.prid = fmt.Sprint(n), fmt.Sprint("i", n), fmt.Sprint("t", n)
		c, err := l.Put(context.Background(), p.update(time.Hour))
		if err != nil {
			b.Fatal(err)
		}
		c.Publish()
	}
	return l
}

func BenchmarkLookup(b *testing.B) {
	l := filled(b, NewMemory(), 10_000)
	b.ReportAllocs()
	for b.Loop() {
		if len(l.Lookup("5000")) != 1 {
			b.Fatal("not found")
		}
	}
}

// BenchmarkPutRefresh is the REGISTER of a device that is known: no disk.
func BenchmarkPutRefresh(b *testing.B) {
	l := filled(b, NewMemory(), 10_000)
	p := ada()
	p.aor, p.instance, p.prid, p.cseq = "5000", "i5000", "t5000", 1
	b.ReportAllocs()
	for b.Loop() {
		c, err := l.Put(context.Background(), p.update(time.Hour))
		if err != nil {
			b.Fatal(err)
		}
		c.Publish()
	}
}

// BenchmarkPutNewBolt is the REGISTER of an unknown device on a real disk, one
// at a time and in a storm.
func BenchmarkPutNewBolt(b *testing.B) {
	for _, parallel := range []int{1, 100} {
		b.Run(fmt.Sprint(parallel), func(b *testing.B) {
			store, err := OpenBolt(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			l := filled(b, store, 0)
			var n atomic.Int64
			b.SetParallelism(parallel)
			b.ResetTimer()
			put := func() {
				p := ada()
				i := n.Add(1)
				p.aor, p.instance, p.prid = fmt.Sprint(i), fmt.Sprint("i", i), fmt.Sprint("t", i)
				c, err := l.Put(context.Background(), p.update(time.Hour))
				if err != nil {
					b.Error(err)
					return
				}
				c.Publish()
			}
			if parallel == 1 {
				for range b.N {
					put()
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					put()
				}
			})
		})
	}
}

// BenchmarkStart is a restart with 10,000 devices on disk.
func BenchmarkStart(b *testing.B) {
	dir := b.TempDir()
	store, err := OpenBolt(dir)
	if err != nil {
		b.Fatal(err)
	}
	batch := newBatch()
	for n := range 10_000 {
		d := someDevice(n)
		d.Seen = time.Now()
		batch.Devices[d.key()] = &d
	}
	if err := store.Apply(batch); err != nil {
		b.Fatal(err)
	}
	store.Close()
	for b.Loop() {
		store, err := OpenBolt(dir)
		if err != nil {
			b.Fatal(err)
		}
		l, err := New(store, Options{})
		if err != nil {
			b.Fatal(err)
		}
		if len(l.AllDevices()) != 10_000 {
			b.Fatal("devices missing")
		}
		l.Close()
	}
}

// BenchmarkCheckKey is what a REGISTER with pn-key costs besides.
func BenchmarkCheckKey(b *testing.B) {
	key := someKey(1)
	for b.Loop() {
		if err := CheckKey(key); err != nil {
			b.Fatal(err)
		}
	}
}
