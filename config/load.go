package config

import (
	"bytes"
	"fmt"
	"io/fs"
	"reflect"

	"reveille/bridge"
)

// Load reads, checks and completes the configuration file at path. env looks up ${NAME}; nil is the process environment.
// The error is Faults where the content is at fault, and plain where there is no such file.
func Load(path string, env func(name string) (value string, ok bool)) (*Config, error) {
	data, mode, err := readFile(path, maxFile)
	if err != nil {
		return nil, err
	}
	cfg, err := parse(path, data, mode, env)
	if err != nil {
		return nil, err
	}
	cfg.nameNode()
	return cfg, nil
}

// Parse is Load for text that is in memory. name stands in the faults, and its directory is where relative file names start.
func Parse(name string, data []byte, env func(name string) (value string, ok bool)) (*Config, error) {
	return parse(name, data, 0o600, env)
}

func parse(name string, data []byte, mode fs.FileMode, env func(string) (string, bool)) (*Config, error) {
	cfg := Default()
	main := newDocument(name, env)
	main.sections = sectionsOf(reflect.TypeFor[Config]())
	faults := main.read(data, mode, reflect.ValueOf(cfg).Elem())
	origins := make([]origin, len(cfg.Extensions))
	for i := range origins {
		origins[i] = origin{main, fmt.Sprintf("extensions[%d]", i)}
	}
	docs := []*document{main}
	if !faults {
		origins, docs = cfg.readExtensionFiles(main, origins)
		cfg.validateOrigins(origins)
		cfg.validate(main, origins)
	}
	return cfg.finish(docs)
}

// finish completes a configuration without faults.
func (c *Config) finish(docs []*document) (*Config, error) {
	var faults Faults
	for _, d := range docs {
		faults = append(faults, d.faults...)
	}
	if len(faults) > 0 {
		return nil, faults.sorted()
	}
	for i, t := range c.Trunks {
		c.Trunks[i] = t.WithDefaults()
	}
	return c, nil
}

// read decodes the document's text into v and tells whether there is nothing in it to go on with.
//
// A secret in a file that others can read is a fault of that file, told at the first such key.
func (d *document) read(data []byte, mode fs.FileMode, v reflect.Value) (hopeless bool) {
	d.last = bytes.Count(data, []byte("\n")) + 1
	root, fault := readYAML(data)
	if fault != nil {
		d.note(fault.Line, "", fault.Problem)
		return true
	}
	if root != nil {
		d.decode("", root, v)
	}
	if problem := tooOpen(d.name, mode); problem != "" && d.inline != "" {
		d.note(d.line(d.inline), d.inline, "the secret stands in a file that others can read: "+problem)
	}
	return d.nodes >= maxNodes
}

// origin says where an entry of the merged list of extensions was written.
type origin struct {
	doc  *document
	path string
}

func (c *Config) readExtensionFiles(main *document, origins []origin) ([]origin, []*document) {
	docs := []*document{main}
	for i, name := range c.ExtensionFiles {
		at := fmt.Sprintf("extension_files[%d]", i)
		if main.faulty(at) {
			continue
		}
		name = main.resolve(name)
		c.ExtensionFiles[i] = name
		data, mode, err := readFile(name, maxFile)
		if err != nil {
			main.fault(at, err.Error())
			continue
		}
		doc := newDocument(name, main.env)
		doc.sections = main.sections
		docs = append(docs, doc)
		var list []bridge.Extension
		if doc.read(data, mode, reflect.ValueOf(&list).Elem()) {
			continue
		}
		for j := range list {
			origins = append(origins, origin{doc, fmt.Sprintf("[%d]", j)})
		}
		c.Extensions = append(c.Extensions, list...)
	}
	return origins, docs
}
