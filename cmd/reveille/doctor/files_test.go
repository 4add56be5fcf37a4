package doctor

import (
	"strings"
	"testing"

	"reveille/config"
	"reveille/sip"
)

// The limit of open files is held against the calls that media.ports, or max_calls, let in.
func TestOpenFiles(t *testing.T) {
	for _, tt := range []struct {
		name, engine, ports string
		calls               []int // max_calls of each trunk
		limit               uint64
		says                string // "": nothing
	}{
		{"the default range", "builtin", "20000-29999", nil, 11200, ""},
		{"one too few", "builtin", "20000-29999", nil, 11199, "LimitNOFILE=11200"},
		{"odd ends", "builtin", "20001-20009", nil, 1207, "LimitNOFILE=1208"},
		{"trunks that bring less", "builtin", "20000-29999", []int{100, 50}, 1800, ""},
		{"one trunk without a limit", "builtin", "20000-29999", []int{100, 0}, 1800, "LimitNOFILE=11200"},
		{"rtpengine has the sockets", "rtpengine", "20000-29999", nil, 1200, ""},
		{"systemd's soft limit", "rtpengine", "20000-29999", nil, 1024, "may have 1024"},
	} {
		cfg := config.Default()
		cfg.Media.Engine, cfg.Media.Ports = tt.engine, tt.ports
		for _, most := range tt.calls {
			cfg.Trunks = append(cfg.Trunks, sip.TrunkConfig{MaxCalls: most})
		}
		found := (&examination{Config: cfg}).files(tt.limit)
		if tt.says == "" && len(found) != 0 || tt.says != "" && (len(found) != 1 || found[0].Status != Warn || !strings.Contains(found[0].Detail, tt.says)) {
			t.Errorf("%s: %+v", tt.name, found)
		}
	}
}
