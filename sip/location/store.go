package location

import "sync"

// Store keeps devices and tombstones across restarts.
type Store interface {
	// Load returns all that is stored. It is called once, first.
	Load() (Snapshot, error)
	// Apply makes a batch durable before it returns: all of it, or on error none.
	Apply(Batch) error
	Close() error
}

// Snapshot is the content of a store.
type Snapshot struct {
	Devices    []Device
	Tombstones []Tombstone
}

// Batch is a set of changes; a nil value deletes.
type Batch struct {
	Devices    map[DeviceKey]*Device
	Tombstones map[TombstoneKey]*Tombstone
}

func newBatch() Batch {
	return Batch{Devices: map[DeviceKey]*Device{}, Tombstones: map[TombstoneKey]*Tombstone{}}
}

func (b Batch) empty() bool { return len(b.Devices)+len(b.Tombstones) == 0 }

// under adds what an older batch says where this one says nothing.
func (b Batch) under(older Batch) {
	fill(b.Devices, older.Devices)
	fill(b.Tombstones, older.Tombstones)
}

func fill[K comparable, V any](into, from map[K]V) {
	for k, v := range from {
		if _, has := into[k]; !has {
			into[k] = v
		}
	}
}

// Memory is a Store that forgets when the process ends: `state_dir: ""`. It
// may be given to several Services one after the other.
type Memory struct {
	mu         sync.Mutex // guards the following
	devices    map[DeviceKey]Device
	tombstones map[TombstoneKey]Tombstone
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{devices: map[DeviceKey]Device{}, tombstones: map[TombstoneKey]Tombstone{}}
}

// Load implements Store.
func (m *Memory) Load() (Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var s Snapshot
	for _, d := range m.devices {
		s.Devices = append(s.Devices, d)
	}
	for _, t := range m.tombstones {
		s.Tombstones = append(s.Tombstones, t)
	}
	return s, nil
}

// Apply implements Store.
func (m *Memory) Apply(b Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	update(m.devices, b.Devices)
	update(m.tombstones, b.Tombstones)
	return nil
}

func update[K comparable, V any](table map[K]V, changes map[K]*V) {
	for k, v := range changes {
		if v == nil {
			delete(table, k)
		} else {
			table[k] = *v
		}
	}
}

// Close implements Store.
func (m *Memory) Close() error { return nil }
