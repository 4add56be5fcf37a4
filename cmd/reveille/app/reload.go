package app

import (
	"reflect"
	"slices"
	"strings"

	"reveille/bridge"
	"reveille/config"
)

// live are the keys of the configuration that Reload applies; all others wait
// for a restart.
var live = []string{"extensions", "extension_files", "drain_timeout", "push"}

// Reload puts a new configuration in force as far as that can be done without
// harm to live calls and registrations: extensions with their logins, numbers,
// fallbacks and upstream registrations, the push providers, the rtpengine
// daemons, and drain_timeout.
// It returns the keys that have changed and wait for a restart. On error
// nothing has changed.
func (a *App) Reload(next *config.Config) (waiting []string, err error) {
	upstreams := bridge.Upstreams(next.Extensions)
	if err := a.sip.CheckUpstreams(upstreams); err != nil {
		return nil, err
	}
	if _, err := bridge.NewAccounts(next.Extensions); err != nil {
		return nil, err // before anything has changed
	}
	if err := a.sender.Reload(next.Push); err != nil {
		return nil, err
	}
	if err := a.bridge.SetExtensions(next.Extensions); err != nil {
		return nil, err
	}
	if err := a.accounts.set(next.Extensions); err != nil {
		return nil, err
	}
	if err := a.sip.SetUpstreams(upstreams); err != nil {
		return nil, err
	}
	if err := a.relay.SetEngines(next.Media.RTPEngine); err != nil {
		return nil, err
	}
	now := *a.Config()
	now.Media.RTPEngine.Address, now.Media.RTPEngine.Drain = next.Media.RTPEngine.Address, next.Media.RTPEngine.Drain
	waiting = slices.DeleteFunc(changed(now, *next), func(key string) bool { return slices.Contains(live, key) })
	if now.Push.Header != next.Push.Header { // the bridge was made with it
		waiting = append(waiting, "push.header")
	}
	header := now.Push.Header
	now.Extensions, now.ExtensionFiles, now.DrainTimeout, now.Push = next.Extensions, next.ExtensionFiles, next.DrainTimeout, next.Push
	now.Push.Header = header
	a.config.Store(&now)
	return waiting, nil
}

// changed lists the top-level keys in which two configurations differ.
func changed(a, b config.Config) []string {
	var keys []string
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range va.NumField() {
		if !reflect.DeepEqual(va.Field(i).Interface(), vb.Field(i).Interface()) {
			key, _, _ := strings.Cut(va.Type().Field(i).Tag.Get("yaml"), ",")
			keys = append(keys, key)
		}
	}
	return keys
}
