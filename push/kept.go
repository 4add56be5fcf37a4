package push

import (
	"reflect"
	"sync"
)

// kept are the providers in use whose configuration and files say all there is
// to know of them, so that a reload which does not change those takes them
// over, with their connections. APNs and FCM keep accounts, in a finer way.
type kept struct {
	mu   sync.Mutex // guards the following
	list []*keptProvider
}

type keptProvider struct {
	Provider
	cfg   any
	files digest // content
	users int    // sets that have it
}

// use gives the provider of a configuration, made by build where there is none
// yet. Who uses must release.
func (k *kept) use(cfg any, files []string, build func() (Provider, error)) (Provider, error) {
	var parts [][]byte
	for _, name := range files {
		content, _ := readPublic(name) // what cannot be read is build's to report
		parts = append(parts, []byte(name), content)
	}
	content := digestOf(parts...)
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, have := range k.list {
		if have.files == content && reflect.DeepEqual(have.cfg, cfg) {
			have.users++
			return have.Provider, nil
		}
	}
	p, err := build()
	if err != nil {
		return nil, err
	}
	k.list = append(k.list, &keptProvider{p, cfg, content, 1})
	return p, nil
}

// release closes a provider that no set has any more.
func (k *kept) release(p Provider) {
	k.mu.Lock()
	for i, have := range k.list {
		if have.Provider != p {
			continue
		}
		if have.users--; have.users > 0 {
			k.mu.Unlock()
			return
		}
		k.list = append(k.list[:i], k.list[i+1:]...)
		break
	}
	k.mu.Unlock()
	if c, ok := p.(closer); ok {
		c.Close()
	}
}
