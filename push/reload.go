package push

import (
	"log/slog"
	"maps"
	"os"
	"slices"
	"time"
)

const (
	// drainMost is how long the providers of an old configuration are kept for
	// the pushes that still use them: longer than any call waits for one.
	drainMost = time.Minute
	// lookEvery is how often the credential files are looked at. A change is
	// acted on when the next look finds it the same, so that no half-written
	// file is read, nor a new certificate with the old password.
	lookEvery = 10 * time.Second
)

// Reload puts a new configuration in force: all its files are read and its
// providers made, then they replace the old ones at once. What has not changed
// goes on as it is: connections, provider tokens, the memory of accepted
// pushes. Pushes under way end as they began. On error nothing has changed.
func (s *Sender) Reload(cfg Config) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	return s.reload(cfg)
}

// reload is Reload; the caller holds s.reloading.
func (s *Sender) reload(cfg Config) error {
	next, err := newSet(cfg, s.options)
	if err != nil {
		return err
	}
	if !s.replace(next) {
		next.close()
		return errPoolClosed
	}
	s.metrics.stale(false)
	s.alarms.look(next.expiries, time.Now())
	s.watch()
	return nil
}

// replace puts next in force; false when the Sender is closed.
func (s *Sender) replace(next *set) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	old := s.now
	s.now = next
	old.retired = true
	if old.busy == 0 {
		close(old.idle)
	}
	s.tasks.Go(func() { s.drain(old) })
	return true
}

// drain closes a set when its pushes are over.
func (s *Sender) drain(old *set) {
	most := time.NewTimer(drainMost)
	defer most.Stop()
	select {
	case <-old.idle:
	case <-most.C:
	case <-s.stop:
	}
	old.close()
}

// files are the credential files that a configuration names, each once.
func (c Config) files() []string {
	names := []string{c.MasterKeyFile}
	for _, a := range c.APNs {
		names = append(names, a.files()...)
	}
	for _, f := range c.FCM {
		names = append(names, f.files()...)
	}
	for _, w := range c.Webhook {
		names = append(names, w.files()...)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == "" })
	slices.Sort(names)
	return slices.Compact(names)
}

// fileStamp is by what a changed file is known. Symbolic links are followed: a
// mounted Kubernetes secret changes by its link.
type fileStamp struct {
	info    os.FileInfo
	problem string // it cannot be looked at; info is nil
}

func stampsOf(names []string) map[string]fileStamp {
	stamps := make(map[string]fileStamp, len(names))
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			stamps[name] = fileStamp{problem: err.Error()}
			continue
		}
		stamps[name] = fileStamp{info: info}
	}
	return stamps
}

func (s fileStamp) equal(t fileStamp) bool {
	if s.info == nil || t.info == nil {
		return s.problem == t.problem && s.info == t.info
	}
	return os.SameFile(s.info, t.info) && s.info.ModTime().Equal(t.info.ModTime()) &&
		s.info.Size() == t.info.Size() && s.info.Mode() == t.info.Mode()
}

// watch starts looking at the credential files, once there are any.
func (s *Sender) watch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watching || s.closed || len(s.now.stamps) == 0 {
		return
	}
	s.watching = true
	s.tasks.Go(func() {
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		w := watcher{sender: s}
		for {
			select {
			case <-tick.C:
				w.look()
			case <-s.stop:
				return
			}
		}
	})
}

// watcher reloads the configuration in force when its files have changed.
type watcher struct {
	sender *Sender
	last   map[string]fileStamp // at the last look
	failed string               // what was wrong with the changed files, while they are
}

func (w *watcher) look() {
	s := w.sender
	s.reloading.Lock() // nobody else puts another configuration in force meanwhile
	defer s.reloading.Unlock()
	now := s.current()
	stamps := stampsOf(slices.Collect(maps.Keys(now.stamps)))
	settled := maps.EqualFunc(stamps, w.last, fileStamp.equal)
	w.last = stamps
	switch changed := changedFiles(now.stamps, stamps); {
	case len(changed) > 0 && settled:
		w.reload(now.cfg, changed)
	case len(changed) == 0 && w.failed != "": // the old files are back, or an administrator has reloaded
		w.recovered(nil)
	}
	s.alarms.look(now.expiries, time.Now())
}

func changedFiles(before, after map[string]fileStamp) []string {
	var names []string
	for name, s := range after {
		if !before[name].equal(s) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// reload reads the files again. Faulty ones are told of once, and tried again
// at each look: what is wrong may be outside of them.
func (w *watcher) reload(cfg Config, files []string) {
	err := w.sender.reload(cfg)
	if err == nil {
		w.recovered(files)
		return
	}
	if w.failed != err.Error() {
		w.failed = err.Error()
		w.sender.log.Error("changed push credentials cannot be used; the old ones stay in force", "err", err, slog.Any("files", files))
		w.sender.metrics.stale(true)
	}
}

func (w *watcher) recovered(files []string) {
	text := "push credentials reloaded"
	if w.failed != "" {
		text = "push credentials are in order again"
	}
	w.failed = ""
	w.sender.metrics.stale(false)
	w.sender.log.Info(text, slog.Any("files", files))
}
