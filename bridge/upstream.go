package bridge

import (
	"fmt"

	"reveille/sip"
)

// Upstreams are the extensions that register at a PBX as themselves.
func Upstreams(list []Extension) (out []sip.Upstream) {
	for _, e := range list {
		if !e.Upstream.IsZero() {
			out = append(out, sip.Upstream{Extension: e.Name, UpstreamConfig: e.Upstream})
		}
	}
	return out
}

func validateUpstreams(list []Extension, report func(path, problem string)) {
	type account struct{ trunk, username string }
	taken := map[account]string{}
	for i, e := range list {
		e.Upstream.Validate(func(path, problem string) { report(fmt.Sprintf("[%d].upstream.%s", i, path), problem) })
		at := account{e.Upstream.Trunk, e.Upstream.Username}
		if other, twice := taken[at]; twice && at.username != "" {
			report(fmt.Sprintf("[%d].upstream.username", i),
				fmt.Sprintf("extension %q registers as %q at that trunk already; an account can have one extension", other, at.username))
		}
		taken[at] = e.Name
	}
}
