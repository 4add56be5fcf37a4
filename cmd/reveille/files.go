package main

import (
	"errors"
	"io/fs"
	"os"

	"reveille/config"
)

// configFiles is where a configuration is looked for when none is named.
func configFiles() []string { return []string{"./reveille.yaml", "/etc/reveille/reveille.yaml"} }

// findConfig gives the first of them that is there, or "". A file that is
// there and can't be looked at counts: to pass over it in silence would run
// something else than its owner meant.
func findConfig() string {
	for _, name := range configFiles() {
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			return name
		}
	}
	return ""
}

func (p *process) load(file string) (*config.Config, error) { return config.Load(file, p.env) }
