package bridge

import (
	"strings"
	"testing"
)

func TestRouteFindsExtension(t *testing.T) {
	r, err := newRoutes([]Extension{
		{Name: "1001", Numbers: []string{"+4930123456", "1001"}},
		{Name: "1002", Numbers: []string{"/\\+4930999[0-9]{2}/"}},
		{Name: "ada", Numbers: []string{"004940555666"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dialled string
		want    string // "" for none
	}{
		{"+4930123456", "1001"},
		{"004930123456", "1001"},
		{"4930123456", "1001"},
		{"+49 (30) 123-456", "1001"},
		{"1001", "1001"},
		{"+493099942", "1002"},
		{"+4930999421", ""}, // the expression is anchored
		{"+4940555666", "ada"},
		{"ada", "ada"},
		{"Ada", ""},
		{"0030123456", ""},
		{"", ""},
	} {
		got := ""
		if e := r.find([]string{c.dialled}); e != nil {
			got = e.Name
		}
		if got != c.want {
			t.Errorf("%q leads to %q, want %q", c.dialled, got, c.want)
		}
	}
	if e := r.find([]string{"unknown", "1002"}); e == nil || e.Name != "1002" {
		t.Errorf("the To header's user is not tried after the Request-URI's: %v", e)
	}
}

func TestValidateExtensionsNamesEveryFault(t *testing.T) {
	var got []string
	ValidateExtensions([]Extension{
		{Name: "1001", Password: "x", Numbers: []string{"1", "/(/", "/unclosed"}},
		{Name: "1001", HA1: map[string]string{"MD5": "zz", "CRC": "00"}, Numbers: []string{"2"}},
		{Name: "", Password: "x"},
		{Name: "a b", Fallback: "600x"},
		{Name: "1005", Password: "x", Numbers: []string{"1", ""}, Unregister: "sometimes"},
	}, func(path, problem string) { got = append(got, path+": "+problem) })
	all := strings.Join(got, "\n")
	for _, want := range []string{
		"[0].numbers[1]: \"/(/\" is no regular expression",
		"[0].numbers[2]: \"/unclosed\" begins like a regular expression",
		"[1].name: \"1001\" stands twice; entry 1 has it already",
		"[1].ha1.MD5: not a MD5 hash",
		"[1].ha1: \"CRC\" is no algorithm of ours",
		"[2].name: an extension needs a name",
		"[3].name: \"a b\" is no user part",
		"[3].password: the extension has no credentials",
		"[3].fallback: \"600x\" is not a SIP URI",
		"[4].numbers[0]: \"1\" already leads to extension \"1001\"",
		"[4].numbers[1]: an empty number",
		"[4].unregister: \"sometimes\" is not what an app can mean",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("missing %q in\n%s", want, all)
		}
	}
	if len(got) != 12 {
		t.Errorf("%d faults, want 12:\n%s", len(got), all)
	}
}

func TestConfigValidateRefusesTimersOutOfRange(t *testing.T) {
	c := DefaultConfig()
	c.Validate(func(path, problem string) { t.Errorf("the default is at fault: %s: %s", path, problem) })
	c.WakeTimeout, c.ProbeTimeout = 0, -1
	var paths []string
	c.Validate(func(path, _ string) { paths = append(paths, path) })
	if strings.Join(paths, " ") != "wake_timeout probe_timeout" {
		t.Errorf("faults at %v", paths)
	}
}
