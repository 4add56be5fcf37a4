package location

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// A phone that makes up a new instance and token at each REGISTER fills neither
// memory nor store; the devices in use stay.
func TestInventedDevicesCrowdOutTheOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := NewMemory()
		l := open(t, store)
		bound := ada()
		bound.register(t, l, 24*time.Hour)
		for i := range 3 * mostDevices {
			time.Sleep(time.Minute)
			p := ada()
			p.instance = fmt.Sprintf("urn:uuid:5a9f2f3e-0000-4000-8000-%012d", i)
			p.prid, p.flow, p.callID = fmt.Sprint("token", i), fmt.Sprint("tcp/", 10+i), fmt.Sprint("call", i)
			p.register(t, l, time.Second)
		}
		time.Sleep(time.Minute)
		devices := l.Devices("1001")
		if len(devices) != mostDevices {
			t.Errorf("%d devices, want %d", len(devices), mostDevices)
		}
		kept := map[string]bool{}
		for _, d := range devices {
			kept[d.Instance] = true
		}
		newest := fmt.Sprintf("urn:uuid:5a9f2f3e-0000-4000-8000-%012d", 3*mostDevices-1)
		if !kept[bound.instance] || !kept[newest] {
			t.Error("the bound device or the newest is gone")
		}
		l.Close()
		if s, _ := store.Load(); len(s.Devices) != mostDevices {
			t.Errorf("the store has %d devices, want %d", len(s.Devices), mostDevices)
		}
	})
}
