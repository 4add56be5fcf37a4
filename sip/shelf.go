package sip

import "hash/maphash"

// Size of a shelf: it holds at most this many facts, in sets of shelfWays.
const (
	shelfSlots = 1 << 16
	shelfWays  = 8
)

// shelf keeps small facts about strangers in a table of fixed size, which is
// made with the first fact and never grows: whoever sends from many addresses
// makes us forget, not spend memory. A fact is forgotten when it expires; where
// its set is full, the one that would expire first makes room. The seed keeps
// others from choosing keys that fall into one set.
type shelf[V any] struct {
	seed  maphash.Seed
	slots []slot[V]
}

type slot[V any] struct {
	key     uint64
	expires int64 // Unix nanoseconds; a slot is free from then on
	value   V
}

func newShelf[V any]() *shelf[V] { return &shelf[V]{seed: maphash.MakeSeed()} }

// set is where a key may stand; empty before the first fact.
func (s *shelf[V]) set(key uint64) []slot[V] {
	if s.slots == nil {
		return nil
	}
	i := maphash.Comparable(s.seed, key) % (shelfSlots / shelfWays) * shelfWays
	return s.slots[i : i+shelfWays]
}

// find is the fact of a key; nil if there is none that is still true.
func (s *shelf[V]) find(key uint64, now int64) *slot[V] {
	set := s.set(key)
	for i := range set {
		if set[i].key == key && set[i].expires > now {
			return &set[i]
		}
	}
	return nil
}

// get is find, with a new and empty fact where there is none. Its owner sets
// when it expires.
func (s *shelf[V]) get(key uint64, now int64) *slot[V] {
	if found := s.find(key, now); found != nil {
		return found
	}
	if s.slots == nil {
		s.slots = make([]slot[V], shelfSlots)
	}
	set := s.set(key)
	oldest := &set[0]
	for i := range set {
		if set[i].expires < oldest.expires {
			oldest = &set[i]
		}
	}
	*oldest = slot[V]{key: key}
	return oldest
}

// count is how many facts hold that are still true.
func (s *shelf[V]) count(now int64, holds func(*V) bool) (n int) {
	for i := range s.slots {
		if s.slots[i].expires > now && holds(&s.slots[i].value) {
			n++
		}
	}
	return n
}
